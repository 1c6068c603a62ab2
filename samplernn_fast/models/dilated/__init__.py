"""Systems of dilated convolutions: WaveNet, and its hybrids with SampleRNN."""
