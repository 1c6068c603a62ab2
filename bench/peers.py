"""deepsound-project/samplernn-pytorch as a contestant of bench/sampling_speed.py, unmodified."""

from pathlib import Path

import record
import torch
from contestants import Contestant, engine_contestant

from samplernn_fast.config import SampleRNNConfig
from samplernn_fast.importing.live import accelerate


def deepsound(clone: Path, dim: int, batch_size: int) -> Contestant:
    """Their own Generator on their own model of the paper's shape: ratios 2 4 are frames of 2 and 8 samples."""
    (their_model,) = record.peer_modules(clone, "model")
    model = their_model.SampleRNN(frame_sizes=[2, 4], n_rnn=1, dim=dim, learn_h0=True, q_levels=256, weight_norm=True)
    generator = their_model.Generator(model)

    def make(n: int) -> object:
        with torch.no_grad():
            return generator(batch_size, n)

    return Contestant("deepsound Generator", torch.get_num_threads(), make)


def deepsound_default(clone: Path) -> tuple[list[Contestant], SampleRNNConfig]:
    """deepsound's Generator on its default model, and `accelerate` of that very module."""
    (their_model,) = record.peer_modules(clone, "model")
    module = their_model.SampleRNN(
        frame_sizes=[16, 4], n_rnn=2, dim=1024, learn_h0=True, q_levels=256, weight_norm=True
    )
    generator = their_model.Generator(module)

    def theirs(n: int) -> object:
        with torch.no_grad():
            return generator(1, n)

    found = [Contestant("deepsound Generator", torch.get_num_threads(), theirs)]
    for dtype in ("float32", "int8"):
        engine = accelerate(module, dtype=dtype).engine
        threads = engine.backend.native.threads(1)
        found.append(engine_contestant(engine, 1, threads, f"accelerate {dtype}"))
    return found, engine.config
