"""Where models lie: the files of a run folder, and the bundled model. No torch, so that a command can refuse before it
loads.
"""

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
    if path.is_dir():
        for name in (MODEL_FILE, LAST_FILE):
            if (path / name).is_file():
                return path / name
        raise CheckpointError(f"{path}: a folder without {MODEL_FILE}; is it a run folder that `train` made?")
    if not path.exists():
        raise CheckpointError(f"{path}: no such run folder or .safetensors file")
    return path
