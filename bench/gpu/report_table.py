"""Prints the short table at the end of bench/gpu_report.sh: which parts ran, and what they measured.

python bench/gpu/report_table.py OUTDIR
"""

import json
import sys
from pathlib import Path


def main(folder: Path) -> None:
    print(f"{'part':14} {'exit':>7} {'seconds':>8}")
    for line in (folder / "status.tsv").read_text().splitlines():
        name, code, seconds = line.split("\t")
        print(f"{name:14} {code:>7} {seconds:>8}" + ("" if code == "0" else "   see its log"))
    for record in records(folder / "sampling_speed.json"):
        print(f"\nSampling, samples per second of all streams, {record['processor']}, torch {record['torch']}")
        sampling(record["rows"])
    for record in records(folder / "stage_times.json"):
        stages(record["rows"])
    for record in records(folder / "training_speed.json"):
        print(f"\nTraining, samples per second, {record['processor']}")
        for row in record["rows"]:
            speeds = ", ".join(f"{name} {speed:,.0f}" for name, speed in row["samples_per_second"].items())
            print(f"dim {row['dim']:5d}  {speeds}")


def records(path: Path) -> list[dict]:
    return json.loads(path.read_text()) if path.exists() else []


def sampling(rows: list[dict]) -> None:
    """Prints a line for each contestant, with a column for each number of streams."""
    streams = sorted({row["batch_size"] for row in rows})
    for dim in sorted({row["dim"] for row in rows}):
        print(f"dim {dim:<24}" + "".join(f"{n:>14}" for n in streams))
        of_dim = [row for row in rows if row["dim"] == dim]
        for name in dict.fromkeys(row["contestant"] for row in of_dim):
            speeds = {row["batch_size"]: speed_of(row) for row in of_dim if row["contestant"] == name}
            print(f"{name:28}" + "".join(f"{speeds.get(n, '-'):>14}" for n in streams))
    for name, reason in dict.fromkeys((row["contestant"], row["left_out"]) for row in rows if "left_out" in row):
        print(f"left out: {name}: {reason}")


def speed_of(row: dict) -> str:
    return "left out" if "left_out" in row else f"{row['samples_per_second']:,.0f}"


def stages(rows: list[dict]) -> None:
    """Prints the microseconds of a sample in every stage of a profiled kernel, and how many of them are exchanges.
    Where each stage is a kernel of its own, prints the microseconds of one launch and its launches in a sample."""
    first = rows[0]
    about = f"\nStages, dim {first['dim']}, {first['dtype']}, {first['batch_size']} streams"
    if "exchange_us" in first:
        print(f"{about}, exchange {first['exchange']}: us of a sample, of them exchanges")
    else:
        print(f"{about}: us, times a sample")
    for row in rows:
        print(f"{row['stage']:28}{row['us']:14,.3f}{row.get('exchange_us', row.get('per_sample')):14.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
