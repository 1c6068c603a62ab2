"""What both benchmarks share: the machine's name, results kept as JSON, and a peer's modules."""

import importlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import torch

from samplernn_fast import files


def append(path: Path, rows: list[dict], device: torch.device | None = None, instead_of_last: bool = False) -> None:
    """Add a record of `rows`, with date, commit and versions, to the JSON list in `path`, or put it in the place of the
    list's last one."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": found.stdout.strip() or "unknown"}
    record |= {
        "processor": processor(device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "rows": rows,
    }
    runs = json.loads(path.read_text()) if path.exists() else []
    kept = runs[:-1] if instead_of_last else runs
    with files.replacing(path) as temporary:
        temporary.write_text(json.dumps([*kept, record], indent=1) + "\n")


def processor(device: torch.device | None = None) -> str:
    """The name of the processor that computes, and what torch makes of a CPU."""
    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown processor'} ({torch.backends.cpu.get_cpu_capability()})"


def peer_modules(clone: Path, *names: str) -> list[ModuleType]:
    """Modules of a clone that is no package, such as deepsound's `model`."""
    sys.path.insert(0, str(clone))
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(clone))
