"""Where the runs of an experiment lie: OUT/DATA/SYSTEM/seedN. No torch, so that a command can refuse before it."""

import re
from collections.abc import Sequence
from pathlib import Path

from samplernn_fast import files
from samplernn_fast.errors import ConfigError

PLAN_FILE = "plan.json"
"""What every folder of experiments has in which something was trained."""
_MARKS = (PLAN_FILE, "memory.md")


def data_name(folder: Path) -> str:
    """What a data folder is called in tables: its own name, or its parent's where it is just "data"."""
    folder = folder.resolve()
    return folder.parent.name if folder.name == "data" and folder.parent.name else folder.name


def check_names(folders: Sequence[Path]) -> None:
    """Raises ConfigError where there is no data folder, or where two would have one name."""
    if not folders:
        raise ConfigError("data must name at least one data folder")
    names = [data_name(folder) for folder in folders]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"data has two folders that would both be called {twice}; rename one of them")


def check_out(out: Path) -> None:
    """Raises ConfigError where the folder of all experiments holds something else."""
    other = files.something_else(out, _MARKS)
    if other is not None:
        raise ConfigError(
            f"{out} holds something else than experiments ({other}); out must be a new folder, an empty one, or that of"
            " experiments to go on with"
        )


def run_folder(out: Path, data: Path, system: str, seed: int) -> Path:
    """The run of a system (the name of a variant) on a data folder."""
    return out / data_name(data) / system / f"seed{seed}"


def run_name(run: Path) -> str:
    """What a run is called in tables: its folder, or the system's where that is only the number of a seed."""
    run = run.resolve()
    return run.parent.name if re.fullmatch(r"seed\d+", run.name) and run.parent.name else run.stem
