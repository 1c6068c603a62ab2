"""The commands that only tell: `info` about a model, `doctor` about this machine."""

import json as json_module
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro

from samplernn_fast import files, terminal
from samplernn_fast.errors import CheckpointError, ConfigError, one_line
from samplernn_fast.stores.addresses import spelled


def info(
    model: tyro.conf.Positional[str] = "demo",
    /,
    *,
    json: bool = False,
    plot: Path | None = None,
    overwrite: bool = False,
) -> None:
    """What a model is: its settings, size, hash and how it was trained.

    Args:
        model: Run folder, .safetensors file, hf:OWNER/NAME of the Hub, or a bundled model: demo or demo-piano.
        json: Print one JSON object instead of text.
        plot: A PNG file for the curve of a run folder's bits per sample.
        overwrite: Replace a picture that exists.
    """
    from samplernn_fast.models.places import kept_models, model_file, model_path

    file = model_file(model)
    from samplernn_fast.models.stored.arrays import describe

    described = describe(file)
    _check_other_systems(file, described["config"])
    if plot is not None:
        if plot.suffix.lower() != ".png":
            raise ConfigError(f"plot must name a .png file, got {plot}")
        files.check_free(plot, CheckpointError, overwrite=overwrite)
    if json:
        print(json_module.dumps(described))
    if plot is not None:
        _draw_curve(model_path(model), plot)
    if json:
        return
    for name, value in _readable(described):
        print(f"{name:20} {value}")
    for kept in kept_models(model_path(model)):
        bits = "" if kept.bits is None else f", {kept.bits:.3f} bits per sample"
        print(f"{'kept':20} {one_line(kept.path)} (step {kept.step}{bits})")
    for name, text in _curves(model_path(model)):
        print(f"{name:20} {text}")


def _curves(run: Path) -> Iterator[tuple[str, str]]:
    """The curves of a run folder as lines of text; none for another model, or where it has no log."""
    from samplernn_fast.models.places import LOG_FILE

    if not (run / LOG_FILE).is_file():
        return
    from samplernn_fast.training.pictures.curves import curves_of, sparkline
    from samplernn_fast.training.run_log import read_log

    try:
        rows = read_log(run / LOG_FILE)
    except CheckpointError as error:  # the model beside it may be whole
        yield "curve", str(error)
        return
    for name, curve in curves_of(rows).items():
        if curve.bits:
            yield f"{name} bits", f"{sparkline(curve)} {curve.bits[0]:.3f} to {curve.bits[-1]:.3f}"


def _draw_curve(run: Path, path: Path) -> None:
    """Draws the curve of a run folder as a PNG file.

    Raises ConfigError without matplotlib, CheckpointError where there is no curve or the file cannot be written.
    """
    from samplernn_fast.models.places import LOG_FILE
    from samplernn_fast.training.pictures.curves import curves_of, draw, load_figure
    from samplernn_fast.training.run_log import read_log

    load_figure()
    if not (run / LOG_FILE).is_file():
        raise CheckpointError(f"{run}: has no {LOG_FILE}, and so no curve; name a run folder that `train` made")
    found = curves_of(read_log(run / LOG_FILE))
    if not any(curve.bits for curve in found.values()):
        raise CheckpointError(f"{run / LOG_FILE}: has no bits per sample yet; wait for the first row of the run")
    try:
        draw(found, path, run.resolve().name)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}") from None


def _check_other_systems(file: Path, config: dict[str, Any]) -> None:
    """Raises CheckpointError where the weights in a file are not those of its system. `describe` has checked systems
    with packed weights; whether others fit, their network knows, which is made of torch."""
    from samplernn_fast.models.other_configs import config_from_dict

    if not config_from_dict(config).packed:
        with terminal.waiting("loading torch"):
            from samplernn_fast.models.checkpoint import load_model
        load_model(file)


def _readable(described: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What `stored.arrays.describe` says, as names and values for people; what a model does not have is left out."""
    count, learnt = described["parameters"], described["info"]
    yield "file", one_line(spelled(described["file"]))
    yield "made by", str(described["made_by"])
    yield "parameters", f"{count:,}" if count < 10**6 else f"{count:,} ({count / 1e6:.3g} million)"
    yield "SHA-256", described["model_sha256"]
    for name, value in described["config"].items():
        yield f"  {name}", _value(value) + (" Hz" if name == "sample_rate" else "")
    if "block_share" in described:
        yield "blocks", f"{described['block_share']:.1%} of them are not zero"
        yield "plays", "by its blocks on a CPU in int8 and float32; other modes and GPUs take it for a dense model"
    origin = learnt.get("initialized_from")
    if isinstance(origin, dict):
        file, model_hash = origin.get("file", "a model"), str(origin.get("model_sha256", "unknown"))
        yield "started from", one_line(f"{file} ({model_hash[:8]})")
    for name, label, unit in _LEARNT:
        if learnt.get(name) is not None:
            yield label, _value(learnt[name]) + unit
    settings = learnt.get("training")
    if isinstance(settings, dict) and settings.get("ema"):
        yield "weights", f"averaged over updates (ema {_value(settings['ema'])})"
    if isinstance(learnt.get("seconds"), int | float):
        yield "trained for", terminal.duration(learnt["seconds"])


_LEARNT = (
    ("imported", "imported from", ""),
    ("data", "data", ""),
    ("step", "steps", ""),
    ("train_bits", "training", " bits per sample"),
    ("valid_bits", "validation", " bits per sample"),
)


def _value(value: Any) -> str:
    """A setting or a number as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return one_line(value)


def doctor(*, json: bool = False) -> None:
    """What this machine can run, and why not the rest.

    Args:
        json: Print one JSON object instead of text.
    """
    with terminal.waiting("loading torch"):
        from samplernn_fast.backends.diagnosis import diagnose
    report = diagnose()
    if json:
        print(json_module.dumps(report))
        return
    for value in report.pop("summary").values():
        print(f"{value[0].upper()}{value[1:]}.")
    width = max(len(name) for values in report.values() for name in values)
    for section, values in report.items():
        print(section)
        for name, value in values.items():
            print(f"  {name:{width}} {value}")
