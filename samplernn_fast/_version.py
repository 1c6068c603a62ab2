"""The version, in one place: the build and the command line read it, and what was made carries it."""

__version__ = "0.1.0"
