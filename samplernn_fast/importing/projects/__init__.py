"""A file for each project whose checkpoints can be read. Its `read` gives a config and the tensors under our names.

A project's names, shapes, order of gates and settings are known in its own file only. Read `deepsound` first.
"""
