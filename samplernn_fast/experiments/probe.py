"""How long one update of a run takes, and how much memory, measured in a process of its own.

`measure` starts `python -m samplernn_fast.experiments.probe` and hands it the settings as JSON. In a process that has
trained other models, neither figure would be that of this model.
"""

import json
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from samplernn_fast.errors import SampleRNNError
from samplernn_fast.training.config import TrainConfig

if TYPE_CHECKING:
    import torch

_TIMED = 5  # updates that are timed, after one that is not
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Cost:
    """What one update costs."""

    seconds: float
    """The median time of an update."""
    memory_bytes: int | None
    """The most memory that was held during updates, less what the process had before: of the GPU, or of the process.
    None where the system does not tell."""


def measure(config: TrainConfig) -> Cost:
    """The cost of an update of a run with these settings; nothing is written. Raises SampleRNNError where it fails."""
    child = subprocess.run(
        [sys.executable, "-m", __name__], input=json.dumps(config.to_dict()), capture_output=True, text=True
    )
    if child.returncode:
        reason = (child.stderr.strip().splitlines() or ["the process was killed, perhaps for want of memory"])[-1]
        raise SampleRNNError(f"an update of {config.out.name} could not be measured: {reason}")
    return Cost(**json.loads(child.stdout.splitlines()[-1]))


def main(given: TextIO, told: TextIO) -> None:
    """Reads settings as JSON, makes a few updates, and tells their cost as JSON."""
    import torch

    from samplernn_fast.models.other_configs import config_from_dict
    from samplernn_fast.training.process import fast_cpu_training, process_group
    from samplernn_fast.training.trainer import Trainer

    values = json.loads(given.read())
    config = TrainConfig(**values | {"model": config_from_dict(values["model"])})
    with process_group(config.device) as (rank, world_size, device), fast_cpu_training():
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        trainer = Trainer(config, rank, world_size, device)
        before = _start_of_peak(device)
        times = []
        for _ in range(1 + _TIMED):
            batch, began = next(trainer.batches), time.perf_counter()
            trainer.update(batch)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - began)
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident_bytes("VmHWM")
    memory = None if before is None or peak is None else max(0, peak - before)
    print(json.dumps({"seconds": statistics.median(times[1:]), "memory_bytes": memory}), file=told)


def _start_of_peak(device: "torch.device") -> int | None:
    """How many bytes are held now, from where the system counts the most that are held."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to what is resident now
    return _resident_bytes("VmRSS")


def _resident_bytes(name: str) -> int | None:
    """A figure of /proc/self/status in bytes; None on a system without it."""
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return 1024 * int(line.split()[1])
    return None


if __name__ == "__main__":
    main(sys.stdin, sys.stdout)
