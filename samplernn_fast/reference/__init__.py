"""The definition, which every backend must equal: the fold and the randomness in NumPy, the rest in plain torch."""
