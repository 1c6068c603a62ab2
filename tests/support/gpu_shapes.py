"""The shapes that are tried on a real GPU: the shared cases and the paper's model in its own size, the most telling
ones first, so that a time limit loses the least."""

from cases import CASES

from samplernn_fast.models.config import SampleRNNConfig

TELLING = ("paper-1024", "dim-130-lstm", "reset-before-256", "theano-lstm-skips", "paper-3tier")
"""Blocks that share out all multiprocessors; units and levels that fill no row; both halves of a GRU; an LSTM whose
layers are all read; a model that fits into one block."""
_ALL = {"paper-1024": SampleRNNConfig()} | CASES
SHAPES: dict[str, SampleRNNConfig] = {name: _ALL[name] for name in (*TELLING, *_ALL)}
