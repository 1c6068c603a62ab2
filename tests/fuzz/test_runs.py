"""A run folder and the state of an engine in every kind of damage: refused in one line, with nothing overwritten."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engines import engine
from fuzzing import fuzz, fuzz_cases, write_case
from mutations import mutate, mutate_value, odd_value
from runs import tiny, trainer
from safetensors.torch import save

from samplernn_fast.models import checkpoint
from samplernn_fast.models.config import OneTierConfig
from samplernn_fast.models.places import LOG_FILE
from samplernn_fast.models.stored.header import KEY
from samplernn_fast.training import resuming
from samplernn_fast.training.run_log import read_log
from samplernn_fast.training.trainer import train

ODD_TENSORS = (
    lambda t: t.double(),
    lambda t: t.float(),
    lambda t: t.long(),
    lambda t: t.to(torch.float8_e5m2),
    lambda t: t[..., :1].contiguous() if t.dim() else t[None],
    lambda t: t.reshape(-1),
    lambda t: torch.full_like(t, 255 if t.dtype == torch.uint8 else -1),
    lambda t: torch.zeros_like(t),
    lambda t: torch.full(t.shape, torch.nan),
    lambda t: torch.full(t.shape, torch.inf, dtype=t.dtype if t.is_floating_point() else torch.float32),
    lambda t: torch.zeros(0),
)


def damaged_tensors(source: random.Random, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A few tensors replaced, left out or renamed."""
    changed = dict(tensors)
    for _ in range(source.choice((1, 1, 3))):
        name = source.choice(sorted(changed))
        action = source.randrange(8)
        if action == 0:
            del changed[name]
        elif action == 1:
            changed[f"{name}."] = changed.pop(name)
        else:
            changed[name] = source.choice(ODD_TENSORS)(changed[name])
    return changed


@fuzz_cases
def test_training_states(cases: int, data_folder: Path, tmp_path: Path) -> None:
    few = OneTierConfig(sample_rate=0, gain=0.0, dim=8, emb_size=4, q_levels=16, mlp_hidden=1, weight_norm="none")
    config = tiny(data_folder, tmp_path / "run", steps=4, model=few, sample_every=0)
    train(config)
    config = replace(config, max_steps=6)
    last = config.out / checkpoint.LAST_FILE
    tensors, header = checkpoint.read(last)
    whole = last.read_bytes()

    def make(source: random.Random) -> Any:
        kind = source.randrange(4)
        if kind == 0:
            return mutate(source, whole)
        values = mutate_value(source, header) if kind < 3 else header
        return (damaged_tensors(source, tensors) if kind == 3 else tensors), values

    run = trainer(config)

    def target(case: Any) -> None:
        content = case
        if not isinstance(case, bytes):
            content = save(case[0], {KEY: json.dumps(case[1])})
        write_case(last, content)
        saved = resuming.find(config)
        assert saved is not None
        run._resume(saved)  # takes everything that a run goes on from
        assert last.read_bytes() == content

    fuzz(target, make, cases, valid=[whole, (tensors, header)])


@fuzz_cases
def test_logs(cases: int, tmp_path: Path) -> None:
    rows = "".join(f"{step},0,{step}.5,0.001,{2.5 + step!r},,1.5\n" for step in range(2, 40, 2))
    whole = f"step,epoch,audio_seconds,lr,train_bits,valid_bits,seconds\n{rows}".encode()
    file = tmp_path / LOG_FILE
    fuzz(lambda case: read_log(write_case(file, case)), lambda source: mutate(source, whole), cases, valid=[whole])


def odd_array(source: random.Random, array: np.ndarray) -> Any:
    """An array of another kind, or a tensor, which version 0.1.0 saved."""
    tensor = source.choice(ODD_TENSORS)(torch.from_numpy(array.copy()))
    return tensor if tensor.dtype == torch.float8_e5m2 or source.random() < 0.5 else tensor.numpy()


@fuzz_cases
def test_engine_states(cases: int) -> None:
    sampler = engine("paper-3tier", "reference", "float32")
    state = sampler.init_state(2, seed=3, temperature=[0.5, 1.0], prompt=np.zeros(5, int))
    good = state.state_dict()
    tensors = {"hidden": [torch.from_numpy(h) for h in good["hidden"]], "history": torch.from_numpy(good["history"])}
    mine = sampler.init_state(2)
    unlike = {name: value for name, value in good.items() if name not in ("hidden", "history")}

    def make(source: random.Random) -> Any:
        damaged = good | dict(hidden=list(good["hidden"]))
        if source.random() < 0.5:
            values = mutate_value(source, unlike)
            return damaged | values if isinstance(values, dict) else values
        odd = source.choice((odd_array(source, good["history"]), odd_value(source)))
        if source.random() < 0.5:
            return damaged | {"history": odd}
        damaged["hidden"][source.randrange(2)] = source.choice((odd, odd_array(source, good["hidden"][0])))
        return damaged

    def target(case: Any) -> None:
        before = (mine.t, mine.seed, mine.streams.tolist(), mine.temperature, mine.top_k, mine.top_p)
        hidden, history = mine.hidden, mine.history
        try:
            mine.load_state_dict(case)
        except Exception:
            assert before == (mine.t, mine.seed, mine.streams.tolist(), mine.temperature, mine.top_k, mine.top_p)
            assert mine.hidden is hidden and mine.history is history
            raise
        sampler.run(mine, 2)

    fuzz(target, make, cases, valid=[good, good | tensors])
