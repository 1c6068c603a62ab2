"""The time from the shell to a written file of sound, beside Python's own start and the time that loading torch takes.

    python bench/first_sound.py
    python bench/first_sound.py --model runs/album --dtype fastest --json bench/results/first_sound.json

Every command runs in a process of its own, the kinds in turn, so that a busy machine disturbs all of them alike.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.common import record

FIRST_SOUND, PYTHON, TORCH = "first sound", "python", "import torch"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the options `argv`, or those of the command line where it is None."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo", help="the bundled model, a run folder or a .safetensors file")
    parser.add_argument("--duration", type=float, default=4.0, help="seconds of sound")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--rounds", type=int, default=11, help="how often each command runs; the median counts")
    parser.add_argument("--json", type=record.file, help="append the rows to this file")
    return parser.parse_args(argv)


def commands(args: argparse.Namespace, folder: str) -> dict[str, list[str]]:
    """What is timed. The first command makes the sound."""
    make = ["-m", "samplernn_fast", "generate", args.model, "--duration", str(args.duration), "--dtype", args.dtype]
    make += ["--overwrite", "--output", str(Path(folder) / "first.wav")]
    programs = {FIRST_SOUND: make, PYTHON: ["-c", "pass"], TORCH: ["-c", "import torch"]}
    return {name: [sys.executable, *program] for name, program in programs.items()}


def seconds(command: list[str]) -> float:
    """How long a command takes, by the clock. Ends the program where the command fails."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    took = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
    return took


def rows_of(args: argparse.Namespace) -> list[dict]:
    """A row for each command: the median of its times, and their quartiles."""
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.rounds + 1):
            for name, command in commands(args, folder).items():
                took = seconds(command)
                if number:  # the first round fills the system's caches
                    times.setdefault(name, []).append(took)
    about = {"model": args.model, "duration": args.duration, "dtype": args.dtype, "rounds": args.rounds}
    return [
        {"command": name, "seconds": statistics.median(values), "quartiles": statistics.quantiles(values)[::2]} | about
        for name, values in times.items()
    ]


def main() -> None:
    args = parse()
    if args.rounds < 2:
        raise SystemExit("--rounds must be at least 2")
    rows = rows_of(args)
    for row in rows:
        low, high = row["quartiles"]
        print(f"{row['command']:12} {row['seconds']:6.3f} s  (half of the runs between {low:.3f} and {high:.3f})")
    beyond = rows[0]["seconds"] - rows[1]["seconds"]
    print(f"{args.duration:g} s of sound are written {beyond:.3f} s after Python has started")
    if args.json:
        record.append(args.json, rows)


if __name__ == "__main__":
    main()
