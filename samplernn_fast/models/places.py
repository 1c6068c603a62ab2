"""Where models lie: the files of a run folder, and the bundled model. No torch, so that a command can refuse before it
loads.
"""

import os
from pathlib import Path

from samplernn_fast.errors import CheckpointError

MODEL_FILE, LAST_FILE, CONFIG_FILE = "model.safetensors", "last.safetensors", "config.json"
DEMO = "demo"
"""The name of the bundled model."""
_DEMO_FILE = Path(__file__).parents[1] / "bundled" / MODEL_FILE


def model_path(name: str | Path) -> Path:
    """Where a model lies: the bundled file for "demo" (a run folder of that name is ./demo)."""
    return _DEMO_FILE if str(name) == DEMO else Path(name)


def model_file(path: Path) -> Path:
    """The file of a model: `path` itself, or the one in a run folder. Raises CheckpointError where there is none."""
    if os.path.isdir(path):  # unlike Path's, it answers for a name that is too long, too
        for name in (MODEL_FILE, LAST_FILE):
            if os.path.isfile(path / name):
                return path / name
        raise CheckpointError(f"{path}: a folder without {MODEL_FILE}; is it a run folder that `train` made?")
    if not os.path.exists(path):
        raise CheckpointError(f"{path}: no such run folder or .safetensors file")
    return path
