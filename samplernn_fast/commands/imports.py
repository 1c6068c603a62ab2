"""The `import` command: another project's checkpoint becomes a run folder. `importing` does the work."""

import json as json_module
from pathlib import Path
from typing import Annotated, Literal

import tyro

from samplernn_fast import terminal
from samplernn_fast.audio.limits import RATES
from samplernn_fast.commands.flags import Output
from samplernn_fast.errors import CheckpointError, ConfigError, exists


def import_(
    path: tyro.conf.Positional[Path],
    /,
    *,
    output: Output,
    format: Literal["auto", "deepsound", "prism", "s4", "theano"] = "auto",
    config: Path | None = None,
    quantization: Literal["linear", "mu-law"] | None = None,
    sample_rate: Annotated[int | None, RATES] = None,
    json: bool = False,
    overwrite: bool = False,
) -> None:
    """Make a run folder of another project's checkpoint: deepsound, PRiSM, s4 or the authors' Theano code.

    Settings beside the checkpoint are read, no code in it is run, and a parity check is printed at the end.

    Args:
        path: Checkpoint file, or a folder that holds one; for PRiSM also the prefix.
        output: The run folder to make.
        format: Which project wrote it; auto looks at the file.
        config: JSON or YAML file of what the checkpoint does not say, such as quantization and sample_rate.
        quantization: linear or mu-law, where the checkpoint does not say it.
        sample_rate: Samples per second of the audio that the model learnt from; no checkpoint holds it.
        json: Print one JSON object instead of text.
        overwrite: Replace a model that is in the run folder.
    """
    from samplernn_fast.importing import detection
    from samplernn_fast.importing.settings import given_settings
    from samplernn_fast.models.places import LAST_FILE, MODEL_FILE

    if (output / LAST_FILE).exists():
        raise ConfigError(f"{output} holds a training run, which is never overwritten; give a new or an empty folder")
    if (output / MODEL_FILE).exists() and not overwrite:
        raise CheckpointError(exists(output / MODEL_FILE))
    if output.exists() and not output.is_dir():
        raise ConfigError(f"output must be a folder, and {output} is none")
    _check_folder(output)
    given_settings(config)  # refuses before torch is loaded, as do the next lines
    file = detection.resolve(path)
    if format == "auto":
        detection.recognize(file)
    with terminal.waiting("loading torch"):
        from samplernn_fast.importing.foreign import read_checkpoint
        from samplernn_fast.models import checkpoint
    found = read_checkpoint(path, format, config, quantization, sample_rate)
    info = {"imported": f"{path.name} of {found.format}", "notes": found.notes}
    checkpoint.save_model(output / checkpoint.MODEL_FILE, found.model, info)
    settings = found.model.config.to_dict()
    checkpoint.write_text(
        output / checkpoint.CONFIG_FILE, json_module.dumps(info | {"model": settings}, indent=1) + "\n"
    )
    parity = {"samples": found.parity.samples, "reference": found.parity.reference, "cpu": found.parity.cpu}
    if json:
        print(json_module.dumps(info | {"run": str(output), "config": settings, "parity": parity}))
        return
    shape = found.model.config
    print(f"{output}: {info['imported']}")
    print(
        f"frame sizes {', '.join(map(str, shape.frame_sizes))}; {shape.n_rnn} x {shape.rnn.upper()} of {shape.dim};"
        f" {shape.q_levels} levels, {shape.quantization}; {shape.sample_rate} Hz"
    )
    for line in [*found.notes, *found.parity.lines()]:
        print(line)


def _check_folder(output: Path) -> None:
    """Raises ConfigError where the folder holds anything that no import made: a run's log, audio, a data folder."""
    from samplernn_fast.models.places import CONFIG_FILE, MODEL_FILE

    names = {entry.name for entry in output.iterdir() if not entry.name.startswith(".")} if output.is_dir() else set()
    foreign = names - {MODEL_FILE, CONFIG_FILE}
    if foreign or names == {CONFIG_FILE}:
        shown = min(foreign, default=CONFIG_FILE)
        raise ConfigError(f"{output} holds something else than a model ({shown}); give a new or an empty folder")
