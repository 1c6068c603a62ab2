"""deepsound-project/samplernn-pytorch as a contestant of bench/sampling_speed.py, unmodified."""

from pathlib import Path
from types import ModuleType

import torch

from bench.common import record
from samplernn_fast.commands.benchmark.contestants import Contestant, Named, engine_contestant
from samplernn_fast.errors import BackendUnavailable
from samplernn_fast.importing.live import accelerate
from samplernn_fast.models.config import SampleRNNConfig

NAME = "deepsound Generator"
"""The peer's name in the results."""


def deepsound(clone: Path, dim: int, streams: int) -> Contestant:
    """Their own Generator on their own model of the paper's shape: ratios 2 4 are frames of 2 and 8 samples."""
    return generator(*their_model(clone, dim=dim, frame_sizes=[2, 4], n_rnn=1), streams)


def deepsound_default(clone: Path) -> tuple[list[Contestant], SampleRNNConfig]:
    """deepsound's Generator on its default model, and `accelerate` of that very module."""
    file, module = their_model(clone, dim=1024, frame_sizes=[16, 4], n_rnn=2)
    found = [generator(file, module, 1)]
    for dtype in ("float32", "int8", "int4"):
        try:
            engine = accelerate(module, dtype=dtype).engine
        except BackendUnavailable as reason:  # a mode that would cost this untrained model too much
            print(f"accelerate {dtype}: not run ({reason})")
            continue
        threads = engine.backend.native.threads(1)
        found.append(engine_contestant(Named(f"accelerate {dtype}", threads, engine), 1))
    return found, engine.config


def their_model(clone: Path, **shape: int | list[int]) -> tuple[ModuleType, torch.nn.Module]:
    """The file with their model, and a model of that shape."""
    (file,) = record.peer_modules(clone, "model")
    return file, file.SampleRNN(learn_h0=True, q_levels=256, weight_norm=True, **shape)


def generator(file: ModuleType, module: torch.nn.Module, streams: int) -> Contestant:
    """Their Generator of a model."""
    theirs = file.Generator(module)

    def make(n: int) -> object:
        with torch.no_grad():
            return theirs(streams, n)

    return Contestant(NAME, torch.get_num_threads(), make)
