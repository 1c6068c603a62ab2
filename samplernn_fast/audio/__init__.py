"""Sound to levels and back: files (soundfile), sample rates (soxr), and the rules of quantization. No torch."""
