"""The `train` command: a preset and flags become a `TrainConfig`. `training.trainer` does the work."""

import dataclasses
import os
import re
import sys
from collections.abc import Sequence

import tyro

from samplernn_fast.commands.evaluation import score
from samplernn_fast.commands.flags import USAGE_STATUS, parse, with_long_out
from samplernn_fast.errors import ConfigError
from samplernn_fast.training.config import TrainConfig


def train(args: Sequence[str], prog: str) -> None:
    """Train a model: PRESET, then any setting of the run or the model as a flag. The same command resumes."""
    from samplernn_fast.training.presets import PRESETS

    if not args or args[0] in ("-h", "--help") or args[0] not in PRESETS:
        if args and args[0] not in ("-h", "--help"):
            raise ConfigError(f"train: the first argument is a preset, one of {', '.join(PRESETS)}; got {args[0]!r}")
        print(f"usage: {prog} PRESET --data FOLDER --out RUN [--help] ...\n\npresets:")
        for name, (text, _) in PRESETS.items():
            print(f"  {name:14} {text}")
        sys.exit(0 if args else USAGE_STATUS)
    text, preset = PRESETS[args[0]]
    default = dataclasses.replace(preset, data=tyro.MISSING, out=tyro.MISSING)
    config = parse(TrainConfig, f"{prog} {args[0]}", with_long_out(args[1:]), description=text, default=default)
    if config.max_steps and not any(re.match("--max[-_]minutes", arg) for arg in args):
        config = dataclasses.replace(config, max_minutes=None)  # a number of steps replaces the preset's time limit
    from samplernn_fast.data.folder import AudioData
    from samplernn_fast.training.trainer import train as run

    result = run(config)
    if int(os.environ.get("RANK", "0")):
        return
    print(f"{result.run}: {result.steps} steps in {result.seconds / 60:.1f} min, stopped by {result.stopped}")
    if result.stopped == "signal":
        print("the same command goes on from here")
        return
    data = AudioData.open(config.data)
    if data.recordings("test"):
        test = score(result.run, data, "test", device=config.device)
        print(f"test NLL {test.nll_bits:.4f} bits per sample over {test.n_samples} samples")
