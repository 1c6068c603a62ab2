"""SampleRNN on block-sparse matrices: its blocks, its network, and how blocks go while it is trained."""
