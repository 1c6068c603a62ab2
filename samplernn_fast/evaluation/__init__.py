"""How good a model is. `likelihood` measures it in bits per sample."""
