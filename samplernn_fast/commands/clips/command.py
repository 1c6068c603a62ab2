"""The `clips` command: measures and faults of audio files, one line a file."""

import json as json_module
import statistics
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from samplernn_fast import terminal
from samplernn_fast.commands.clips.choosing import measured
from samplernn_fast.errors import AudioError, ConfigError, one_line

if TYPE_CHECKING:
    from samplernn_fast.evaluation.clips.judging import JudgedClip
    from samplernn_fast.models.base import AudioModel

_COLUMNS = {
    "seconds": "{:8.2f}",
    "active": "{:6.2f}",
    "silence": "{:7.2f}",
    "clipped": "{:8.2%}",
    "offset": "{:6.3f}",
    "loop": "{:5.1f}",
    "noise": "{:5.2f}",
    "clicks": "{:6.0f}",
    "flatness": "{:8.3f}",
    "bits": "{:7.3f}",
}
"""How the text shows each measure."""


def clips(paths: tyro.conf.Positional[tuple[Path, ...]], /, *, model: str | None = None, json: bool = False) -> None:
    """What is wrong with generated audio: silence, clipping, an offset, loops, noise, clicks; one line a file.

    Args:
        paths: Audio files, and folders of them.
        model: Run folder or .safetensors file; also tells how likely the audio is under it, in bits per sample. The
            audio must be as loud as the model makes it.
        json: Print one JSON object instead of text.
    """
    from samplernn_fast.audio.finding import find_audio

    if not paths:
        raise ConfigError("name audio files, or folders of them")
    found = find_audio(paths)
    if not found:
        raise AudioError(f"{one_line(paths[0])}: holds no audio")
    loaded = None if model is None else _load(model)
    judged: dict[str, JudgedClip] = {}
    unread = 0
    with terminal.Bar(len(found), " file", title="clips") as bar:
        for path in found:
            try:
                judged[str(path)] = _judge(path, loaded)
            except AudioError as error:
                unread += 1
                bar.say(f"samplernn-fast: left out {error}")
            bar.advance()
    rows = [_row(path, clip) for path, clip in judged.items()]
    medians = {name: _median(rows, name) for name in _COLUMNS}
    counts = Counter(name for row in rows for name in row["faults"])
    if json:
        print(json_module.dumps({"files": rows, "medians": medians, "faults": dict(counts)}))
    else:
        _print(rows, medians, counts)
    if unread:
        raise AudioError(f"{unread} of {len(found)} files could not be measured")


def _load(model: str) -> "AudioModel":
    from samplernn_fast.models.places import model_file

    model_file(model)  # refuses before torch is loaded
    with terminal.waiting("loading torch"):
        from samplernn_fast.models.checkpoint import as_model
    return as_model(model)


def _judge(path: Path, model: "AudioModel | None") -> "JudgedClip":
    """Reads and judges a file, block by block. Raises AudioError where it cannot be."""
    from samplernn_fast.audio import reading
    from samplernn_fast.evaluation.clips.judging import judge

    rate = reading.probe(path).sample_rate if model is None else model.config.sample_rate
    try:
        return judge(reading.read_blocks(path, rate), rate, model)
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise AudioError(f"{path}: {error}") from None


def _row(path: str, clip: "JudgedClip") -> dict[str, Any]:
    return {"file": path, "faults": clip.faults, **measured(clip), "bits": clip.bits}


def _median(rows: list[dict[str, Any]], name: str) -> float | None:
    """The median over the files that have this measure; None where none has."""
    values = [row[name] for row in rows if row[name] is not None]
    return statistics.median(values) if values else None


def _print(rows: list[dict[str, Any]], medians: dict[str, Any], counts: Counter[str]) -> None:
    shown = [name for name in _COLUMNS if medians[name] is not None]
    width = {name: len(_COLUMNS[name].format(0)) for name in shown}
    print(" ".join(name.rjust(width[name]) for name in shown) + "  file")
    for row in [*rows, {"file": f"median of {len(rows)}", "faults": {}, **medians}]:
        cells = ["-".rjust(width[name]) if row[name] is None else _COLUMNS[name].format(row[name]) for name in shown]
        words = "".join(f"  {name}: {reason}" for name, reason in row["faults"].items())
        print(" ".join(cells) + f"  {one_line(row['file'])}{words}")
    faulty = sum(bool(row["faults"]) for row in rows)
    kinds = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    print(f"{faulty} of {len(rows)} files have a fault" + (f": {kinds}" if kinds else ""))
