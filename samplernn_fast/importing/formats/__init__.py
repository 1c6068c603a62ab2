"""Readers of file formats that other projects write, which run no code of the file."""
