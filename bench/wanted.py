"""A kernel of the cuda backend that a benchmark or a test asks for; bench/compile_ahead.py compiles lists of them."""

from typing import NamedTuple

from samplernn_fast.models.config import SampleRNNConfig


class Wanted(NamedTuple):
    """As `cuda_device.Program.build` takes it."""

    config: SampleRNNConfig
    dtype: str
    streams: int
    exchange: str = "auto"
    profile: bool = False
