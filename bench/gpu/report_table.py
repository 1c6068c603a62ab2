"""Prints the short table at the end of bench/gpu_report.sh: which parts ran, and what they measured.

python bench/gpu/report_table.py OUTDIR
"""

import itertools
import json
import sys
from pathlib import Path
from xml.etree import ElementTree


def main(folder: Path) -> None:
    print(f"{'part':28} {'exit':>7} {'seconds':>8}")
    for line in (folder / "status.tsv").read_text().splitlines():
        name, code, seconds = line.split("\t")
        notes = [tests(folder / f"{name}.xml"), "" if code == "0" else "see its log"]
        print(f"{name:28} {code:>7} {seconds:>8}" + "".join(f"   {note}" for note in notes if note))
    for machine, found in itertools.groupby(records(folder / "sampling_speed.json"), key=machine_of):
        print(f"\nSampling, samples per second of all streams, {machine}")
        sampling([row for record in found for row in record["rows"]])
    for record in records(folder / "stage_times.json"):
        stages(record["rows"])
    for record in records(folder / "training_speed.json"):
        print(f"\nTraining, samples per second, {record['processor']}")
        for row in record["rows"]:
            speeds = ", ".join(f"{name} {speed:,.0f}" for name, speed in row["samples_per_second"].items())
            print(f"dim {row['dim']:5d}  {speeds}")


def machine_of(record: dict) -> str:
    return f"{record['processor']}, torch {record['torch']}"


def tests(path: Path) -> str:
    """Return how many tests of a suite passed, failed and were skipped; "" where there is no record of it."""
    if not path.exists():
        return ""
    counts = {"all": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):
        for name in counts:
            counts[name] += int(suite.get("tests" if name == "all" else name, 0))
    failed, skipped = counts["failures"] + counts["errors"], counts["skipped"]
    return f"{counts['all'] - failed - skipped} passed, {failed} failed, {skipped} skipped"


def records(path: Path) -> list[dict]:
    return json.loads(path.read_text()) if path.exists() else []


def sampling(rows: list[dict]) -> None:
    """Prints a line for each contestant, with a column for each number of streams."""
    streams = sorted({row["batch_size"] for row in rows})
    for dim in sorted({row["dim"] for row in rows}):
        print(f"dim {dim:<24}" + "".join(f"{n:>14}" for n in streams))
        of_dim = [row for row in rows if row["dim"] == dim]
        of_dim.sort(key=lambda row: "left_out" not in row)  # a run that was left out takes no other's place
        for name in sorted({row["contestant"] for row in of_dim}):
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
