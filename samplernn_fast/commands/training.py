"""The `train` command: a preset and flags become a `TrainConfig`. `training.trainer` does the work."""

import copy
import dataclasses
import os
import re
import sys
from collections.abc import Sequence

import tyro

from samplernn_fast import terminal
from samplernn_fast.backends import names
from samplernn_fast.commands import COMMANDS
from samplernn_fast.commands.evaluation import score
from samplernn_fast.commands.flags import parse, with_example, with_long_out
from samplernn_fast.commands.standard_streams import USAGE_STATUS
from samplernn_fast.errors import ConfigError, Interrupted, did_you_mean, quoted
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.training.config import FROM_DATA, TrainConfig


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
    config = read_flags(args[0] if named else None, with_long_out(args[1:] if named else args), prog)
    with terminal.waiting("loading torch", shown=_is_first_process()):
        from samplernn_fast.data.folder import AudioData
        from samplernn_fast.training.process import Launch
        from samplernn_fast.training.trainer import train as run

    result = run(config, preset=args[0] if named else "")
    if Launch.from_environment().rank:
        return
    made = f"{terminal.counted(result.steps, 'step')} in {terminal.duration(result.seconds)}"
    print(f"{result.run}: {made}, stopped by {result.stopped}")
    if result.stopped == "signal":
        raise Interrupted("the run is saved; the same command goes on from here", result.signal)
    data = AudioData.open(config.data)
    if data.recordings("test"):
        print(score(result.run, data, "test", device=config.device).text("test"))


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def read_flags(name: str | None, args: Sequence[str], prog: str) -> TrainConfig:
    """The settings of the preset `name`, or of fine-tuning where it is None, under the flags in `args`.

    Where the run starts from a model, the flags are read once more over that model's settings, so that a flag which
    contradicts them can be told from a setting that nobody gave.
    """
    from samplernn_fast.training import starting
    from samplernn_fast.training.presets import FINE_TUNING, PRESETS

    for arg in args:
        flag = arg.partition("=")[0]
        if flag.startswith("--") and flag[2:].replace("-", "_") in FROM_DATA:
            raise ConfigError(f"{flag} cannot be set: train takes it from the data, or from the model of --init-from")
    text, preset = PRESETS[name] if name else ("Train on from another model, with other data.", FINE_TUNING)
    prog, text = f"{prog} {name}" if name else prog, with_example(text, "train")
    config = parse(TrainConfig, prog, args, description=text, default=_without_paths(preset))
    names.check_device(config.device)
    starting.check_early(config)
    if config.init_from is not None:
        from samplernn_fast.models.places import LAST_FILE, model_file, model_path

        if config.resume in ("auto", "never") and not (config.out / LAST_FILE).exists():
            model_file(model_path(config.init_from))  # refuses before torch is loaded; a run that goes on needs it not
        with terminal.waiting("loading torch and the model to start from", shown=_is_first_process()):
            model = starting.model_to_start_from(config)
        if name:
            starting.check_preset(name, preset.model, model, config.init_from)
        default = _without_paths(_over_model(preset, model, any_length=name is None))
        config = parse(TrainConfig, prog, args, description=text, default=default)
    if config.max_steps and not any(re.match("--max[-_]minutes", arg) for arg in args):
        config = dataclasses.replace(config, max_minutes=None)  # a number of steps replaces the preset's time limit
    return config


def _without_paths(settings: TrainConfig) -> TrainConfig:
    """Settings whose data and run folder the flags must say, which no TrainConfig that is made as usual can be."""
    copied = copy.copy(settings)
    for name in ("data", "out"):
        object.__setattr__(copied, name, tyro.MISSING)
    return copied


def _over_model(default: TrainConfig, model: AudioConfig, *, any_length: bool) -> TrainConfig:
    """A preset's settings with another model. any_length: subsequences take a length that suits its frames."""
    frame = model.top_frame
    length = max(1, default.seq_len // frame) * frame if any_length else default.seq_len
    return dataclasses.replace(default, model=model, seq_len=length)
