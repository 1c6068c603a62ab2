"""Results kept as JSON, and the modules of a peer, which the benchmarks share."""

import argparse
import importlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import torch

from samplernn_fast import files
from samplernn_fast.commands.benchmark.timing import processor


def append(path: Path, rows: list[dict], device: str = "cpu", instead_of_last: bool = False) -> None:
    """Adds a record of `rows`, with date, commit and versions, to the JSON list in `path`.

    instead_of_last: the record replaces the last one of the list.
    """
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": found.stdout.strip() or "unknown"}
    record |= {
        "processor": processor(device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "rows": rows,
    }
    runs = earlier(path)
    kept = runs[:-1] if instead_of_last else runs
    with files.replacing(path) as temporary:
        temporary.write_text(json.dumps([*kept, record], indent=1, allow_nan=False) + "\n")


def file(text: str) -> Path:
    """Parses the file of `append` on a command line, before anything is measured. ArgumentTypeError where it cannot be
    one."""
    path = Path(text)
    try:
        earlier(path)
    except (OSError, ValueError) as reason:
        raise argparse.ArgumentTypeError(f"no records can be added to {text}: {reason}") from None
    return path


def earlier(path: Path) -> list[dict]:
    """Returns the records that `path` has already. OSError or ValueError where it cannot have any."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}")
    runs = json.loads(path.read_text()) if path.exists() else []
    if not isinstance(runs, list):
        raise ValueError("it is no list")
    return runs


def peer_modules(clone: Path, *names: str) -> list[ModuleType]:
    """The modules of those names in a clone that is not a package, such as deepsound's `model`."""
    sys.path.insert(0, str(clone))
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(clone))
