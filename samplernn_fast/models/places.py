"""Where models lie: the files of a run folder, the bundled models, those of the Hub. No torch, so that a command can
refuse before it loads.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from samplernn_fast import hub
from samplernn_fast.errors import CheckpointError, did_you_mean, quoted
from samplernn_fast.stores.reading import left_in_store, local

MODEL_FILE, LAST_FILE, CONFIG_FILE = "model.safetensors", "last.safetensors", "config.json"
TEACHER_FILE = "teacher.safetensors"
"""The dense model whose probabilities a sparse one learns, in the run folder of that."""
LOG_FILE, PLOT_FILE = "log.csv", "loss.png"
SAMPLES_FOLDER, MODELS_FOLDER, BOARD_FOLDER = "samples", "models", "tensorboard"
RUN_FILES = frozenset(
    (CONFIG_FILE, LOG_FILE, PLOT_FILE, MODEL_FILE, TEACHER_FILE, SAMPLES_FOLDER, MODELS_FOLDER, BOARD_FOLDER)
)
"""What a run folder may hold that was stopped before its first checkpoint."""
MARKS = (MODEL_FILE, LAST_FILE)
"""The files that say where a run stands, in the order in which a store is given them, behind all others."""
DEMO = "demo"
"""The name of the bundled model that is used where none is named: spoken digits at 8 kHz."""
_BUNDLED_FOLDER = Path(__file__).parents[1] / "bundled"
BUNDLED = {DEMO: _BUNDLED_FOLDER / "speech.safetensors", "demo-piano": _BUNDLED_FOLDER / "piano.safetensors"}
"""Name of a bundled model -> its file. `bundled/MODEL_CARD.md` says what they are."""

_KEPT = re.compile(r"step-(\d+)(?:-(\d+\.\d{3}))?\.safetensors")  # as in step-002500-4.123.safetensors


def model_path(name: str | Path) -> Path:
    """Where a model lies: a bundled file for "demo" and "demo-piano" (a run folder of that name is ./demo), and for
    hf:owner/name or an address a copy of the model, and of what tells of it. Raises CheckpointError or StoreError where
    that cannot be fetched."""
    if hub.is_named(name):
        return hub.fetched(hub.repository(name), MODEL_FILE, (CONFIG_FILE,))
    return BUNDLED[str(name)] if str(name) in BUNDLED else local(name, _of_model)


def _of_model(names: list[str]) -> list[str]:
    """The files of a run folder in a store that whoever reads its model needs."""
    model = next((name for name in (MODEL_FILE, LAST_FILE) if name in names), None)
    return [] if model is None else [name for name in (model, CONFIG_FILE, LOG_FILE) if name in names]


def is_no_path(name: str | Path) -> bool:
    """Whether a model is named otherwise than by where it lies: a bundled one, or one of the Hub."""
    return str(name) in BUNDLED or hub.is_named(name)


def short_name(name: str | Path) -> str:
    """What a model is called beside others: a bundled one by its name, a run folder or a file by its own, without the
    suffix, and one of the Hub without its owner."""
    if hub.is_named(name):
        return hub.repository(name).short_name
    place = model_path(name).resolve()
    return str(name) if str(name) in BUNDLED else place.name if place.is_dir() else place.stem


def model_file(name: str | Path) -> Path:
    """The file of a model: a bundled one, `name` itself, or the one in a run folder. Raises CheckpointError where there
    is none.
    """
    path = model_path(name)
    if os.path.isdir(path):  # unlike Path's, it answers for a name that is too long, too
        for name in (MODEL_FILE, LAST_FILE):
            if os.path.isfile(path / name):
                return path / name
        raise CheckpointError(f"{path}: a folder without {MODEL_FILE}; is it a run folder that `train` made?")
    if not os.path.exists(path):
        shown = str(path) if len(str(path)) <= 200 else quoted(str(path))
        raise CheckpointError(f"{shown}: no such run folder or .safetensors file{did_you_mean(str(path), BUNDLED)}")
    return path


@dataclass(frozen=True)
class Kept:
    """A model in models/."""

    path: Path
    step: int
    bits: float | None
    """Bits per sample of the validation, to three digits; None where there was none at this step."""


def kept_models(run: Path) -> list[Kept]:
    """The models in a run's models/, by step. Those of a run at an address stay there until one is read."""
    here = [path for path in (run / MODELS_FOLDER).glob("step-*.safetensors") if path.is_file()]
    found = ((path, _KEPT.fullmatch(path.name)) for path in [*here, *left_in_store(run, MODELS_FOLDER)])
    files = [(path, name) for path, name in found if name]
    kept = [Kept(path, int(name[1]), None if name[2] is None else float(name[2])) for path, name in files]
    return sorted(kept, key=lambda one: one.step)
