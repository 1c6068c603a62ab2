"""What is known of a model: its settings and size, what it heard, how it was trained, how well it predicts.

A file may come from anywhere, so what it says of itself is taken where it can be true, and left out where it cannot.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samplernn_fast import hub
from samplernn_fast.data.batches import data_id
from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.manifest import SPLITS, Recording
from samplernn_fast.errors import CheckpointError, ConfigError, DataError, one_line
from samplernn_fast.evaluation.likelihood import EvalResult, evaluate
from samplernn_fast.models import checkpoint
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.models.places import LAST_FILE, kept_models, model_file
from samplernn_fast.models.stored.arrays import describe
from samplernn_fast.models.stored.header import read_header
from samplernn_fast.stores.addresses import address_of, path_of
from samplernn_fast.training.config import check_fit
from samplernn_fast.untrusted import Fields, Unreadable

_FOLDERS = ("data", "out", "init_from", "resume")
_LARGEST = 2.0**53
Progress = Callable[[int], object]
"""A function that is told how many more samples were scored."""


@dataclass(frozen=True)
class Split:
    """How much audio one split of the data has."""

    name: str
    """train, valid or test."""
    seconds: float
    recordings: int
    """How many input files it has, or has parts of."""


@dataclass(frozen=True)
class Facts:
    """What a card says of a model. What is not known is None, or empty."""

    config: AudioConfig
    parameters: int
    """How many numbers are learnt."""
    sha256: str
    """The model's identity, as `info` tells it."""
    settings: Fields
    """The settings of the run, as its header has them."""
    data: str = ""
    """What the recordings are called: the name of the data folder."""
    splits: tuple[Split, ...] = ()
    """Those that have recordings."""
    steps: int | None = None
    seconds: float | None = None
    """How long the run took until then."""
    valid_bits: float | None = None
    """Bits per sample of the validation that chose the model."""
    test: EvalResult | None = None
    """The score of the test split."""
    origin: str = ""
    """Where the weights come from, if not from this run alone, as a clause."""
    base: str = ""
    """The repository of the Hub, as owner/name, that has the model from which this one was trained on."""

    @property
    def seconds_heard(self) -> float:
        """How much audio the training split has; 0 where that is not known."""
        return sum(split.seconds for split in self.splits if split.name == "train")

    def setting(self, name: str, low: float = 0, high: float = _LARGEST) -> float | None:
        """A number among the settings of the run; None where there is none from `low` to `high`."""
        return _number(self.settings, name, low, high)


def facts_of(
    model: AudioModel | str | Path, data: Path | None = None, *, test: bool = False, progress: Progress | None = None
) -> Facts:
    """What is known of a model. data: the data folder that it was trained on, where the run does not lead there.

    test: score the test split of that folder. progress: see `evaluation.likelihood.evaluate`.
    Raises CheckpointError, DataError for a folder that is another one, and ConfigError where there is no test split.
    """
    if isinstance(model, AudioModel):
        source = None
        arrays = checkpoint.arrays_of(model)
        config, size, sha256, learnt = arrays.config, arrays.size, arrays.sha256, Fields({}, "the model")
    else:
        source = model_file(model)
        described = describe(source)
        config = checkpoint.load_model(source).config
        size, sha256 = described["parameters"], described["model_sha256"]
        learnt = Fields(described["info"], "the header")
    if config.sample_rate == 0:
        raise ConfigError("this model has no sample rate yet: train it, or give its config one")
    settings = _fields(learnt, "training")
    folder = _data_of(source, settings, config, data)
    scored = None
    if test:
        if folder is None or not folder.recordings("test"):
            raise ConfigError(
                "data must name the data folder with the test split to score; it is not found, or has none"
            )
        scored = evaluate(model, folder, "test", progress=progress)
    steps = _number(learnt, "step", 1, _LARGEST)
    return Facts(
        config,
        size,
        sha256,
        settings,
        data=_name_of(_text(settings, "data") if data is None else address_of(data) or data.resolve().name),
        splits=() if folder is None else tuple(_splits(folder)),
        steps=None if steps is None else int(steps),
        seconds=_number(learnt, "seconds", 1, _LARGEST),
        valid_bits=_valid_bits(source, learnt),
        test=scored,
        origin=_origin(learnt),
        base=_base(settings),
    )


def public_info(file: Path) -> dict[str, Any]:
    """What a model's file says of its making, for others to read: folders by their names alone, because where they lie
    is nobody's business. The rows and tensors of a run that could go on are left out."""
    header = read_header(file)
    known = header.get("info") or header.get("progress", {})
    info = {name: value for name, value in known.items() if name not in ("batches", "pending")}
    places = [info, *(info[name] for name in ("training", "initialized_from") if isinstance(info.get(name), dict))]
    for place in places:
        for name in (*_FOLDERS, "file"):
            if isinstance(place.get(name), str):
                place[name] = place[name] if hub.is_named(place[name]) else _last_part(place[name])
    return info


def _data_of(source: Path | None, settings: Fields, config: AudioConfig, given: Path | None) -> AudioData | None:
    """The data folder of a model, given or where its run read it; None where that is not there, or not known to be the
    same. Raises DataError for a given one that is another.

    A file that came from elsewhere must not choose whom this machine asks, so an address that it names is not opened.
    """
    named, known = _text(settings, "data"), None if source is None else _data_id(source)
    if given is None and (known is None or not named or _address_in(named) is not None):
        return None
    try:
        data = AudioData.open(given if given is not None else path_of(named))
        check_fit(config, data, config.gain)
    except (DataError, ConfigError):
        if given is None:
            return None
        raise
    same = known is not None and data_id(data, data.recordings("train")) == known
    if given is not None and known is not None and not same:
        raise DataError(f"{given}: the model was trained on other data; data must be the folder that the run read")
    return data if same or given is not None else None  # without the run nobody knows whether the folder has changed


def _data_id(source: Path) -> str | None:
    """The identity of the training audio, which the checkpoint of a run keeps; None where there is no run."""
    for folder in (source.parent, source.parent.parent):  # a kept model lies in models/
        if (folder / LAST_FILE).is_file():
            try:
                progress = Fields(read_header(folder / LAST_FILE), "the header").fields("progress")
                return progress.fields("batches").text("data")
            except (Unreadable, CheckpointError):
                return None
    return None


def _splits(data: AudioData) -> Sequence[Split]:
    found = [(name, data.recordings(name)) for name in SPLITS]
    rate = data.sample_rate
    return [Split(name, sum(one.length for one in some) / rate, _files(some)) for name, some in found if some]


def _files(recordings: Sequence[Recording]) -> int:
    return len(
        {part.path for one in recordings for part in one.parts} | {one.path for one in recordings if not one.parts}
    )


def _valid_bits(source: Path | None, learnt: Fields) -> float | None:
    """The bits of the validation that chose the model. The last validation may be one of an earlier model, in the
    checkpoint of a run and in models that were kept without one, whose names have no bits."""
    if source is None or source.name == LAST_FILE:
        return None
    for kept in kept_models(source.parent.parent):
        if kept.path == source:
            return kept.bits
    last, best = (_number(learnt, name, 0, 64) for name in ("valid_bits", "best_bits"))
    return last if best is None or last == best else None


def _origin(learnt: Fields) -> str:
    imported, begun = _text(learnt, "imported"), _fields(learnt, "initialized_from")
    if imported:
        return f"imported from {imported}"
    known = _text(begun, "model_sha256")[:12]
    return f"trained on from another model, whose SHA-256 begins with {known}" if known else ""


def _base(settings: Fields) -> str:
    name = _text(settings, "init_from")
    try:
        return hub.repository(name).name if hub.is_named(name) else ""
    except ConfigError:
        return ""


def _fields(values: Fields, name: str) -> Fields:
    try:
        return values.fields(name)
    except Unreadable:
        return Fields({}, name)


def _text(values: Fields, name: str) -> str:
    """A short text of a header; empty where there is none."""
    try:
        return one_line(values.text(name))[:200]
    except Unreadable:
        return ""


def _number(values: Fields, name: str, low: float, high: float) -> float | None:
    """A number of a header; None where there is none from `low` to `high`."""
    try:
        return values.number(name, low, high)
    except Unreadable:
        return None


def _name_of(folder: str) -> str:
    """What recordings are called by their data folder; a folder that is called "data" names none."""
    name = one_line(_last_part(folder))
    return "" if name in ("data", "dataset") else name


def _last_part(path: str) -> str:
    """The name of a file or folder without where it lies. That of an address has nothing of its user, its password, its
    query or its fragment."""
    address = _address_in(path)
    if address is not None:
        path, *behind = re.split(r"[?#]", re.split(r":/{1,2}", address, maxsplit=1)[1])
        if any("@" in part for part in behind):  # a password may have such a character too
            return ""
        before, at, after = path.rpartition("@")
        path = after if at and (":" in before or "/" not in before) else path
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _address_in(text: str) -> str | None:
    """The address that a header names, also one that is refused wherever it is asked for; None for a path."""
    try:
        return address_of(text)
    except ConfigError:
        return text
