"""Who plays: an engine holds a model's packed weights, its state is all that changes."""
