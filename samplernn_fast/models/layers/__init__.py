"""Layers that several systems are made of: memory cells and causal convolutions."""
