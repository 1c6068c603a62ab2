"""A folder of sound to batches of levels."""
