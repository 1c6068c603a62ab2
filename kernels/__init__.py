"""Kernels for accelerators; installed as samplernn_fast.kernels."""
