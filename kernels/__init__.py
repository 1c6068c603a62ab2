"""Triton kernels; installed as samplernn_fast.kernels. Nothing outside this folder imports triton.

Letters as in `samplernn_fast.reference.weights`: B streams, D dim, Q levels, G gates, F frame size, r ratio, n layers.
"""
