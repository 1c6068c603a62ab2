"""Choosing by ear: checkpoints by temperatures by seeds, as clips on a page."""
