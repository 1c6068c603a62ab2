"""How long training and evaluation take to their first batch, and how much memory, on data folders of any size.

    python bench/large_data.py
    python bench/large_data.py --hours 10 1000 10000 --recordings 1000 1000000 --json bench/results/large_data.json

The folders are made here. Their audio is a sparse file, so 10,000 hours need no room on the disk. Each measurement is a
process of its own, and says what the imports took, torch's among them, and what came after them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import numpy as np

RATE = 16000
NOISE = 1 << 16  # samples at the beginning that are no silence, so that training does not look for sound everywhere


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the options `argv`, or those of the command line where it is None."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, nargs="+", default=[10, 10_000], help="hours of audio at 16 kHz")
    parser.add_argument("--recordings", type=int, nargs="+", default=[1000, 1_000_000], help="one number for each")
    parser.add_argument("--folder", type=Path, help="where the data folders are made; a temporary folder without it")
    parser.add_argument("--json", type=Path, help="append the rows to this file")
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)  # what a measured process does
    parser.add_argument("--what", choices=("train", "evaluate"), default="train", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def make_folder(folder: Path, hours: float, recordings: int) -> None:
    """Writes a data folder as `prepare` does, but for the audio, which is silence behind some noise."""
    from samplernn_fast.data.folder import AUDIO_FILE
    from samplernn_fast.data.index import write_manifest
    from samplernn_fast.data.manifest import SPLITS, Manifest, Recording

    draw = np.random.default_rng(0)
    total = round(hours * 3600 * RATE)
    shares = draw.uniform(0.5, 1.5, recordings)
    lengths = np.maximum(1, total * (shares / shares.sum())).astype(np.int64)
    splits = draw.choice(3, recordings, p=(0.88, 0.06, 0.06))
    splits[:3] = 0, 1, 2
    offsets = np.cumsum(lengths) - lengths
    rows = zip(splits.tolist(), offsets.tolist(), lengths.tolist(), strict=True)
    entries = tuple(
        Recording(f"speaker-{n % 5000:04}/recording-{n:07}.flac", SPLITS[split], offset, length, draw.bytes(32).hex())
        for n, (split, offset, length) in enumerate(rows)
    )
    folder.mkdir(parents=True)
    with open(folder / AUDIO_FILE, "wb") as file:
        file.write(draw.integers(-9999, 9999, min(NOISE, total)).astype("<i2").tobytes())
        file.truncate(2 * int(lengths.sum()))
    write_manifest(folder, Manifest(RATE, 1.0, 8.0, entries))


def start(folder: Path, what: str) -> dict:
    """Imports what a command imports, then does all that it does before its first update or first score."""
    began = time.perf_counter()
    import torch

    loaded, torch_memory = time.perf_counter(), peak_megabytes()
    from samplernn_fast.data.batches import whole_recordings
    from samplernn_fast.data.folder import AudioData
    from samplernn_fast.models.config import SampleRNNConfig
    from samplernn_fast.training.config import TrainConfig
    from samplernn_fast.training.progress import opening
    from samplernn_fast.training.trainer import Trainer

    imported = time.perf_counter()
    before = peak_megabytes()
    model = SampleRNNConfig(sample_rate=RATE, frame_sizes=(2, 8), dim=64)
    if what == "train":
        config = TrainConfig(data=folder, out=folder / "run", model=model, batch_size=8, seq_len=512)
        trainer = Trainer(config, 0, 1, torch.device("cpu"))
        opening(trainer.config, trainer.data, trainer.model, trainer.device, trainer.origin, "", "")
        next(trainer.batches)
    else:
        next(whole_recordings(AudioData.open(folder), model, "valid", 8, 512))
    done = time.perf_counter()
    seconds = {"torch": loaded - began, "imports": imported - loaded, "data": done - imported}
    memory = {"torch": torch_memory, "imports": before - torch_memory, "data": peak_megabytes() - before}
    return {"seconds": seconds, "megabytes": memory}


def peak_megabytes() -> float:
    """The most memory that this process has had. The system's other count begins with that of the parent process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def measure(folder: Path, what: str) -> dict:
    """What `start` says in a process of its own, with the whole time and memory of that."""
    began = time.perf_counter()
    command = [sys.executable, __file__, "--start", str(folder), "--what", what]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    found = json.loads(done.stdout)
    found["seconds"]["process"] = time.perf_counter() - began
    found["megabytes"]["process"] = sum(found["megabytes"].values())
    return found


def main() -> None:
    """Makes the folders, measures, prints and records."""
    args = parse()
    if args.start:
        print(json.dumps(start(args.start, args.what)))
        return
    rows = []
    with tempfile.TemporaryDirectory(dir=args.folder) as place:
        for hours in args.hours:
            for recordings in args.recordings:
                folder = Path(place) / f"{hours:g}-{recordings}"
                began = time.perf_counter()
                make_folder(folder, hours, recordings)
                took = time.perf_counter() - began
                size = sum(file.stat().st_size for file in folder.glob("manifest*"))
                print(f"{hours:g} h, {recordings} recordings: made in {took:.1f} s, manifest and index {size} bytes")
                for what in ("train", "evaluate"):
                    measure(folder, what)  # the first process fills the system's caches
                    found = measure(folder, what)
                    rows.append({"hours": hours, "recordings": recordings, "what": what, **found})
                    print(f"  {what}: " + "; ".join(f"{unit} {shown(found[unit])}" for unit in found))
                os.truncate(folder / "audio.i16", 0)
    if args.json:
        from bench.common import record  # it loads torch, which is measured above

        record.append(args.json, rows)


def shown(values: dict) -> str:
    """The parts of a time or of memory, in a line."""
    return ", ".join(f"{name} {value:.2f}" for name, value in values.items())


if __name__ == "__main__":
    main()
