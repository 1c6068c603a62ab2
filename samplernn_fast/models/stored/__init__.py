"""Models on disk, read without torch: the header of a file, its arrays, and which arrays a model must have."""
