"""Who computes the definition: the native CPU engine, CUDA, Triton, and the reference itself."""
