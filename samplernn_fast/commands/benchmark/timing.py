"""How long contestants take: rounds in turn, one row for each, and the table that people read.

bench/sampling_speed.py needs this on machines without tyro, so that nothing here may import the command line's flags.
"""

import functools
import os
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from samplernn_fast.commands.benchmark.contestants import Absences, Contestant, Extra, LeftOut, Lineup, Options
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.config import PackedConfig, SparseSampleRNNConfig

Row = dict[str, Any]

_WARM_UP = 16  # steps, a whole number of periods of the usual frame sizes


def run(
    models: Iterable[AudioModel],
    options: Options,
    device: str,
    keep: Callable[[list[Row]], None],
    say: Callable[[str], None] = print,
    extra: Extra | None = None,
) -> list[LeftOut]:
    """Checks and times every model at every number of streams; returns what failed.

    keep: takes the rows of one model and one number of streams as soon as they are there, because a time limit may end
    the process later. say: prints a line about what is left out. extra: adds contestants.
    """
    failed: list[LeftOut] = []
    for model in models:
        lineup = Lineup(model, options, device, say, extra)
        for streams in options.batch_sizes:
            contestants, absent = lineup.contestants(streams)
            keep(measure(contestants, lineup.config, streams, options, device, absent))
            failed += [one for one in absent.found if one.failed]
    return failed


def measure(
    contestants: list[Contestant],
    config: PackedConfig,
    streams: int,
    options: Options,
    device: str,
    absent: Absences,
) -> list[Row]:
    """One row for each contestant. Their rounds alternate, so that a busy machine disturbs all of them alike. One that
    fails meanwhile is left out from then on."""
    parted = {contestant: contestant.partings() for contestant in contestants}
    steps: dict[Contestant, int] = {}
    for contestant in contestants:
        with absent.instead_of_failing(contestant.name, contestant.threads):
            steps[contestant] = fitting_steps(contestant.make, options.seconds, device)
    times: dict[Contestant, list[float]] = {contestant: [] for contestant in steps}
    for done in range(options.rounds):
        for contestant, values in times.items():
            if len(values) == done:
                with absent.instead_of_failing(contestant.name, contestant.threads):
                    took = seconds(device, functools.partial(contestant.make, steps[contestant]))
                    values.append(took / steps[contestant])
    about = {"dim": config.dim, "batch_size": streams, "frame_sizes": list(config.frame_sizes)}
    about |= {"density": config.density} if isinstance(config, SparseSampleRNNConfig) else {}
    rows = [
        row_of(contestant, values, parted[contestant], about, config.sample_rate)
        for contestant, values in times.items()
        if len(values) == options.rounds
    ]
    plain = max((row["samples_per_second"] for row in rows if row["contestant"].startswith("torch")), default=None)
    for row in rows:
        row["x_best_torch"] = row["samples_per_second"] / plain if plain else None
    return rows + [row_of_absent(one, about) for one in absent.found]


def row_of(contestant: Contestant, values: list[float], parted_before: int, about: Row, sample_rate: int) -> Row:
    """The row of a contestant that was timed. values: the seconds of a step, for every round."""
    ordered, middle = sorted(values), statistics.median(values)
    real_time = 1 / middle / sample_rate
    return {
        "contestant": contestant.name,
        "threads": contestant.threads,
        **about,
        "samples_per_second": about["batch_size"] / middle,
        "x_real_time_per_stream": real_time,
        "rtf": 1 / real_time,
        "seconds_per_step_p20_p50_p80": [ordered[len(ordered) // 5], middle, ordered[len(ordered) * 4 // 5]],
        "share_of_roofline": contestant.roofline / middle or None,
        "partings": contestant.partings() - parted_before,
    }


def row_of_absent(one: LeftOut, about: Row) -> Row:
    """The row of a contestant that was left out."""
    return {"contestant": one.name, "threads": one.threads} | about | {"left_out": one.reason, "failed": one.failed}


def fitting_steps(make: Callable[[int], object], wanted: float, device: str) -> int:
    """How many steps take about `wanted` seconds after a warm-up, in whole periods of the usual frame sizes."""
    make(_WARM_UP)
    steps = _WARM_UP
    while (took := seconds(device, functools.partial(make, steps))) < wanted / 4:
        steps *= 2
    return max(_WARM_UP, int(steps * wanted / took) // _WARM_UP * _WARM_UP)


def seconds(device: str, work: Callable[[], object]) -> float:
    """The seconds that work() takes. On a GPU its own events say so, from when it is idle to when it is done."""
    if not device.startswith("cuda"):  # also where a library plays the GPU in tests
        began = time.perf_counter()
        work()
        return time.perf_counter() - began
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start.record(torch.cuda.current_stream(device))
    work()
    end.record(torch.cuda.current_stream(device))
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def processor(device: str = "cpu") -> str:
    """The name of the processor that computes, and for a CPU the instruction set that torch uses."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown processor'} ({torch.backends.cpu.get_cpu_capability()})"


def print_rows(rows: list[Row]) -> None:
    """Prints a line for each row that was timed."""
    for row in rows:
        if "left_out" in row:
            continue
        print(
            f"dim {row['dim']:5d}"
            + (f"  density {row['density']:4g}" if "density" in row else "")
            + f"  batch {row['batch_size']:4d}  {row['contestant']:22} {row['threads']:3d} threads"
            f"  {row['samples_per_second']:12,.0f} samples/s"
            f"  {row['x_real_time_per_stream']:8.3f}x real time (RTF {row['rtf']:.4g})"
            + (f"  {row['x_best_torch']:6.2f}x best torch" if row["x_best_torch"] else "")
            + _roofline_in_words(row["share_of_roofline"])
            + (f"  its threads parted {row['partings']}x" if row["partings"] else ""),
            flush=True,
        )


def _roofline_in_words(share: float | None) -> str:
    """A share above all says that the limit was measured while other programs slowed the machine down."""
    if not share:
        return ""
    return f"  {share:4.0%} of roofline" if share <= 1.005 else "  above its roofline, which was measured too low"


def disturbance() -> str:
    """How many processors other programs keep busy before anything is timed; "" where they leave the machine alone.

    The load average of the last minute counts what waits for a processor, too. Not every system has one.
    """
    try:
        load, processors = os.getloadavg()[0], os.cpu_count() or 1
    except (AttributeError, OSError):
        return ""
    if load < max(0.5, 0.1 * processors):
        return ""
    return (
        f"other programs keep {load:.1f} of {processors} processors busy: times will be too long, those of plain torch"
        " most of all, and rooflines too low; time again on a quiet machine"
    )
