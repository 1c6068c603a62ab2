"""The folder of a published model: what it holds, and when it may be written. No torch, so that a command can refuse
before it loads.
"""

from pathlib import Path

from samplernn_fast.errors import CheckpointError, ConfigError, exists
from samplernn_fast.models.places import CONFIG_FILE, LAST_FILE, MODEL_FILE
from samplernn_fast.stores.addresses import address_of

CARD_FILE = "README.md"
WRITTEN = (MODEL_FILE, CONFIG_FILE, CARD_FILE)
"""A published model consists of these files."""
_BEFORE_A_MODEL = (CARD_FILE, "LICENSE", "LICENSE.md", "LICENSE.txt")


def check_folder(name: str | Path, overwrite: bool) -> Path:
    """Returns the folder of that name. Raises ConfigError where it is an address or none, or holds a run or something
    else than a model, and CheckpointError where it has one of the files to write and `overwrite` is False.

    Anything may lie beside a model or its settings. Without them there may be a card, a licence and hidden files.
    """
    if address_of(name) is not None:
        raise ConfigError(f"folder must lie on this machine, and {name} is an address; copy it there afterwards")
    folder = Path(name)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"folder must be a folder, and {folder} is none")
    if (folder / LAST_FILE).exists():
        raise ConfigError(f"{folder} holds a training run, which is never overwritten; give a new or an empty folder")
    names = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    other = sorted(name for name in names.difference(_BEFORE_A_MODEL) if not name.startswith("."))
    if other and names.isdisjoint((MODEL_FILE, CONFIG_FILE)):
        raise ConfigError(f"{folder} holds something else than a model ({other[0]}); give a new or an empty folder")
    found = [name for name in WRITTEN if (folder / name).exists()]
    if found and not overwrite:
        raise CheckpointError(exists(folder / found[0]))
    return folder
