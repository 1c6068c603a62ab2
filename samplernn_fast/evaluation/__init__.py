"""How good a model is: likelihood in bits per sample."""
