"""Trains every system of the paper for equal minutes on one data folder, and scores each on its test split.

The budget of a system is the number of updates that take `--minutes` of this machine, at the median time of an update.
All systems are timed first, by turns and before anything is trained, and the numbers are kept in OUT/plan.json. So
another process that holds a core for a while costs no system a part of its training. Validation comes on top.

Every run is a run folder in OUT and resumes exactly: the same command goes on after it was stopped. The networks are
those of the presets, made small so that minutes of two cores are enough to learn something; the widths and the rate
are ours. A seed is the same for all.
"""

import argparse
import json
import shlex
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import record

from samplernn_fast.data.folder import AudioData
from samplernn_fast.evaluation.likelihood import evaluate
from samplernn_fast.models.checkpoint import load_model
from samplernn_fast.training.config import TrainConfig
from samplernn_fast.training.presets import PRESETS
from samplernn_fast.training.process import fast_cpu_training
from samplernn_fast.training.trainer import Trainer, train

RECURRENT = {"dim": 128, "batch_size": 16, "lr": 3e-3}
CONVOLUTIONAL = {"dim": 24, "batch_size": 8, "lr": 2e-3}
SYSTEMS: dict[str, dict[str, Any]] = {
    "rnn": RECURRENT,
    "paper-2tier": RECURRENT,
    "wavenet": CONVOLUTIONAL,
    "multi-softmax": RECURRENT,
    "no-embedding-real": RECURRENT,
    "rnn-gmm": RECURRENT,
    "samplernn-gmm": RECURRENT,
    "hybrid-rnn-wavenet": RECURRENT,
    "hybrid-wavenet": CONVOLUTIONAL,
    "no-embedding-onehot": RECURRENT,
    "wavenet-tuned": CONVOLUTIONAL | {"batch_size": 2, "quantization": "linear"},
    "paper-3tier": RECURRENT,
}
"""Preset -> what is set besides. All have linear levels, without which bits do not compare, and `wavenet-tuned` smaller
batches of its long targets, without which it would make a hundred updates."""
_OF_THE_MODEL = ("dim", "quantization")
_SCHEDULE = {"lr_schedule": "cosine", "warmup_steps": 50, "max_minutes": None}
_TIMED = 5  # updates of each system that are timed, after one that is not


def changes(name: str, steps: int, seed: int) -> dict[str, Any]:
    """Gives the settings of a run that differ from its preset's."""
    often = {"eval_every": max(1, steps // 5), "save_every": max(1, steps // 20), "sample_every": 0, "keep": 0}
    return SYSTEMS[name] | _SCHEDULE | often | {"max_steps": steps, "seed": seed}


def settings(name: str, data: Path, out: Path, steps: int, seed: int) -> TrainConfig:
    """Makes the run of a system: its preset, made small, for so many updates."""
    given, preset = changes(name, steps, seed), PRESETS[name][1]
    model = replace(preset.model, **{key: given.pop(key) for key in _OF_THE_MODEL if key in given})
    return replace(preset, data=data, out=out / name, model=model, **given)


def command(name: str, steps: int, seed: int) -> str:
    """Spells the run for the command line, but for its folders."""
    given = changes(name, steps, seed).items()
    words = [f"--{key.replace('_', '-')}={value}" for key, value in given if value is not None]
    return shlex.join(["samplernn-fast", "train", name, *words])


def plan(names: list[str], data: Path, out: Path, minutes: float, seed: int) -> dict[str, int]:
    """Says how many updates of each system take so many minutes. It is measured once, and kept in the folder."""
    file = out / "plan.json"
    known: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    missing = [name for name in names if name not in known]
    if missing:
        cpu = torch.device("cpu")
        runs = {name: Trainer(settings(name, data, out / "timed", 1, seed), 0, 1, cpu) for name in missing}
        times: dict[str, list[float]] = {name: [] for name in missing}
        for _ in range(_TIMED + 1):
            for name, run in runs.items():
                batch, began = next(run.batches), time.perf_counter()
                run.update(batch)
                times[name].append(time.perf_counter() - began)
        known |= {name: max(1, round(60 * minutes / statistics.median(times[name][1:]))) for name in missing}
        out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(known, indent=1) + "\n")
    return {name: known[name] for name in names}


def result(name: str, config: TrainConfig, data: AudioData) -> dict[str, Any]:
    """Trains a system to its end, scores its best model, and says what it is."""
    ended = train(config)
    if ended.stopped == "signal":
        sys.exit(130)
    model = load_model(config.out)
    scored = evaluate(model, data, "test")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    seen = ended.steps * config.batch_size * config.seq_len / data.sample_rate
    row: dict[str, Any] = {"system": name, "test_bits": scored.nll_bits, "test_nats": scored.nll_nats}
    row |= {"parameters": parameters, "steps": ended.steps, "train_seconds": ended.seconds, "audio_seconds_seen": seen}
    return row | {"command": command(name, ended.steps, config.seed)}


def main() -> None:
    """Parses the flags, plans, trains, scores, prints a table, and keeps a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a data folder that prepare made, with a test split")
    parser.add_argument("--out", type=Path, required=True, help="the folder of all run folders")
    parser.add_argument("--minutes", type=float, default=10, help="the budget of each system (default: 10)")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), metavar="PRESET")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="append a record to this file")
    args = parser.parse_args()
    data, rows = AudioData.open(args.data), []
    with fast_cpu_training():
        steps = plan(args.systems, args.data, args.out, args.minutes, args.seed)
        for name in args.systems:
            rows.append(result(name, settings(name, args.data, args.out, steps[name], args.seed), data))
            row = rows[-1]
            nats = "" if row["test_nats"] is None else f"  {row['test_nats']:7.3f} nats"
            about = f"{row['parameters']:>10,} parameters  {row['steps']} steps"
            print(f"{name:20} {row['test_bits']:7.4f} bits{nats}  {about}")
            if args.json:
                kept = [{"minutes": args.minutes, "seed": args.seed, **one} for one in rows]
                record.append(args.json, kept, instead_of_last=len(rows) > 1)


if __name__ == "__main__":
    main()
