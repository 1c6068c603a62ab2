"""One file for each project whose checkpoints can be read."""
