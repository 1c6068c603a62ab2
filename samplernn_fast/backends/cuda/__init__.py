"""The `cuda` backend: kernels compiled at first use, one launch for thousands of samples."""
