"""A kernel of the cuda backend that a benchmark or a test asks for; `compile_ahead` compiles lists of them."""

from typing import NamedTuple

from samplernn_fast.models.config import SampleRNNConfig


class Wanted(NamedTuple):
    """The arguments of `backends.cuda.program.Program.build`."""

    config: SampleRNNConfig
    dtype: str
    streams: int
    exchange: str = "auto"
    profile: bool = False
