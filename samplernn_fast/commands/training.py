"""The `train` command: a preset and flags become a `TrainConfig`. `training.trainer` does the work."""

import copy
import dataclasses
import os
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import tyro

from samplernn_fast import terminal
from samplernn_fast.backends import names
from samplernn_fast.commands import COMMANDS
from samplernn_fast.commands.evaluation import score
from samplernn_fast.commands.flags import parse, with_example, with_long_out
from samplernn_fast.commands.standard_streams import USAGE_STATUS
from samplernn_fast.errors import ConfigError, Interrupted, did_you_mean, quoted
from samplernn_fast.models.config import AudioConfig, SparseSampleRNNConfig
from samplernn_fast.stores.addresses import spelled
from samplernn_fast.training.config import FROM_DATA, TrainConfig

_WITHOUT_PRESET = {
    "train": "Train on from another model, with other data.",
    "sparsify": COMMANDS["sparsify"].summary,
}
"""How the help of each command begins where no preset is named."""


def train(args: Sequence[str], prog: str) -> None:
    """Train a model: PRESET, then any setting of the run or the model as a flag. The same command resumes."""
    from samplernn_fast.training.presets import PRESETS

    named = bool(args) and args[0] in PRESETS
    if not named and not any(re.match("--init[-_]from", arg) for arg in args):
        if args and args[0] not in ("-h", "--help"):
            got = f"{quoted(args[0])}{did_you_mean(args[0], PRESETS)}"
            raise ConfigError(f"train: the first word is a preset, one of {', '.join(PRESETS)}, got {got}")
        width = max(map(len, PRESETS))
        rows = "\n".join(f"  {name:{width}}  {text}" for name, (text, _) in PRESETS.items())
        usage = (
            f"usage: {prog} PRESET --data FOLDER --out RUN [--help] ...\n"
            f"       {prog} --init-from RUN|MODEL.safetensors|demo --data FOLDER --out RUN [--help] ..."
        )
        shown = f"{usage}\n\nExample: {COMMANDS['train'].example}\n\npresets:\n{rows}"
        print(shown, file=sys.stdout if args else sys.stderr)
        sys.exit(0 if args else USAGE_STATUS)
    preset, flags = (args[0], args[1:]) if named else (None, args)
    run_training(read_flags(preset, with_long_out(flags), prog), preset or "")


def sparsify(args: Sequence[str], prog: str) -> None:
    """Make a model faster: train on from it while most of its weights become zero. The same command resumes."""
    if not args or args[0].startswith("-"):
        if args and args[0] not in ("-h", "--help"):
            raise ConfigError(f"sparsify: the first word is the model to make sparse, got {quoted(args[0])}")
        text = with_example(COMMANDS["sparsify"].summary, "sparsify")
        usage = f"usage: {prog} RUN|MODEL.safetensors|demo --data FOLDER --out RUN [--density SHARE] [--help] ..."
        listed = f"{prog} demo --help lists all flags."
        print(f"{usage}\n\n{text}\n\n{listed}", file=sys.stdout if args else sys.stderr)
        sys.exit(0 if args else USAGE_STATUS)
    if any(re.match("--init[-_]from", arg) for arg in args):
        raise ConfigError("sparsify: the first word is the model to make sparse; leave out --init-from")
    given = args[1:] if _has_density(args) else [*args[1:], f"--density={SparseSampleRNNConfig.density}"]
    flags = [f"--init-from={args[0]}", *with_long_out(given)]
    run_training(read_flags(None, flags, f"{prog} {shlex.quote(args[0])}", command="sparsify"), "")


def run_training(config: TrainConfig, preset: str) -> None:
    """Trains, or goes on, and prints how it ended and how the model scores. Raises Interrupted for a signal."""
    with terminal.waiting("loading torch", shown=_is_first_process()):
        from samplernn_fast.data.folder import AudioData
        from samplernn_fast.training.process import Launch
        from samplernn_fast.training.trainer import train as run

    result = run(config, preset=preset)
    if Launch.from_environment().rank:
        return
    made = f"{terminal.counted(result.steps, 'step')} in {terminal.duration(result.seconds)}"
    print(f"{spelled(result.run)}: {made}, stopped by {result.stopped}")
    if result.stopped == "signal":
        raise Interrupted("the run is saved; the same command goes on from here", result.signal)
    data = AudioData.open(config.data)
    if data.recordings("test"):
        print(score(result.run, data, "test", device=config.device).text("test"))


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _has_density(args: Sequence[str]) -> bool:
    """Returns whether the flags ask for a sparse model."""
    return any(arg.partition("=")[0] == "--density" for arg in args)


def read_flags(name: str | None, args: Sequence[str], prog: str, command: str = "train") -> TrainConfig:
    """The settings of the preset `name`, or of fine-tuning where it is None, under the flags in `args`.

    Where the run starts from a model, the flags are read once more over that model's settings, so that a flag which
    contradicts them can be told from a setting that nobody gave. A density makes the model sparse.
    """
    from samplernn_fast.training import starting
    from samplernn_fast.training.presets import FINE_TUNING, PRESETS, SPARSIFYING

    for arg in args:
        flag = arg.partition("=")[0]
        if flag.startswith("--") and flag[2:].replace("-", "_") in FROM_DATA:
            raise ConfigError(f"{flag} cannot be set: train takes it from the data, or from the model of --init-from")
    sparse = _has_density(args)
    text, preset = PRESETS[name] if name else (_WITHOUT_PRESET[command], SPARSIFYING if sparse else FINE_TUNING)
    if sparse and name:
        model = starting.sparse_config(preset.model, SparseSampleRNNConfig.density, f"the preset {name}")
        preset = _changed(preset, model=model)  # the flags say how long the run is, where the preset does not
    elif not sparse and isinstance(preset.model, starting.CAN_BE_SPARSE):
        text += " With --density SHARE (0.01 to 1), such as 0.2, the model becomes sparse, and faster on a CPU."
    prog, text = f"{prog} {name}" if name else prog, with_example(text, command)
    config = parse(TrainConfig, prog, args, description=text, default=_without_paths(preset))
    names.check_device(config.device)
    starting.check_early(config)
    if config.init_from is not None:
        from samplernn_fast.models.places import LAST_FILE, model_file, model_path

        if config.resume in ("auto", "never") and not (config.out / LAST_FILE).exists():
            model_file(model_path(config.init_from))  # refuses before torch is loaded; a run that goes on needs it not
        with terminal.waiting("loading torch and the model to start from", shown=_is_first_process()):
            known = starting.model_to_start_from(config)
        if isinstance(config.model, SparseSampleRNNConfig):
            known = starting.sparse_config(known, config.model.density, config.init_from)
        if name:
            starting.check_preset(name, preset.model, known, config.init_from)
        default = _without_paths(_over_model(preset, known, any_length=name is None))
        config = parse(TrainConfig, prog, args, description=text, default=default)
    if config.max_steps and not any(re.match("--max[-_]minutes", arg) for arg in args):
        config = dataclasses.replace(config, max_minutes=None)  # a number of steps replaces the preset's time limit
    return config


def _without_paths(settings: TrainConfig) -> TrainConfig:
    """Settings whose data and run folder the flags must say."""
    return _changed(settings, data=tyro.MISSING, out=tyro.MISSING)


def _changed(settings: TrainConfig, **values: Any) -> TrainConfig:
    """Settings with other values, which a TrainConfig that is made as usual refuses as long as flags are missing."""
    copied = copy.copy(settings)
    for name, value in values.items():
        object.__setattr__(copied, name, value)
    return copied


def _over_model(default: TrainConfig, model: AudioConfig, *, any_length: bool) -> TrainConfig:
    """A preset's settings with another model. any_length: subsequences take a length that suits its frames."""
    frame = model.top_frame
    length = max(1, default.seq_len // frame) * frame if any_length else default.seq_len
    return _changed(default, model=model, seq_len=length)
