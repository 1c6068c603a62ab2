"""How fast audio is made: samples per second and x real time of every backend, beside plain torch and a peer.

    python bench/sampling_speed.py [--dim 256 1024] [--batch-size 1 64] [--device cuda] [--peer CLONE] [--json FILE]

Every backend's scores are compared with the reference in float64 first, and at every batch size what it has drawn with
the draws of the reference for the same past. One that differs, or cannot start, is left out with its reason, in print
and as a row; the others are timed, and the exit status is 1 in the end. Rounds alternate between the contestants of a
row; medians are reported, with the 20th and 80th percentiles.
"Plain torch" is bench/plain_torch.py in float32 and bfloat16, also through torch.compile unless --no-compile, and on a
GPU also as a CUDA graph. A GPU's times are those of its own events; --styles adds the triton backend with one style of
products (vector, tiles, library), whatever it would choose itself.
--peer times deepsound-project/samplernn-pytorch's own Generator, unmodified, on a model of the same size.
The share of the roofline is what a sample takes by the measured read bandwidth and multiply-add rate, whichever
is slower, over what it took.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import record
import torch
from contestants import ALL, Absences, Contestant, LeftOut, Lineup, exchanges
from peers import deepsound, deepsound_default
from wanted import Wanted

from samplernn_fast.backends import devices, registry
from samplernn_fast.backends.cuda import constants
from samplernn_fast.backends.cuda.backend import CudaBackend
from samplernn_fast.models.config import SampleRNNConfig

SAMPLE_RATE = 16000


def main() -> None:
    args = parse()
    torch.set_num_threads(max(args.threads))
    device = devices.resolve_device(args.device)
    print(f"{record.processor(device)}, torch {torch.__version__}, {torch.get_num_threads()} threads for torch")
    if not run(args, device):
        raise SystemExit("some of what was asked for was left out; see above")


def run(args: argparse.Namespace, device: torch.device) -> bool:
    """Times everything that was asked for, prints it, and keeps rows as soon as they are there: a time limit may end
    the process while a compiler runs, which nothing interrupts. False where something that should run was left out."""
    rows: list[dict] = []

    def keep(row: list[dict]) -> None:
        rows.extend(row)
        print_rows(row)
        if args.json:
            record.append(args.json, rows, device, instead_of_last=len(rows) > len(row))

    whole = True
    for dim in args.dim:
        config = config_of(dim, args)
        lineup = Lineup(config, args, device)
        for batch_size in args.batch_size:
            contestants, absent = lineup.contestants(batch_size)
            if args.peer:
                with absent.instead_of_failing("deepsound Generator", torch.get_num_threads()):
                    contestants.append(deepsound(args.peer, dim, batch_size))
            keep(measure(contestants, config, batch_size, args, device, absent))
            whole &= not any(one.failed for one in absent.found)
    if args.peer:
        contestants, config = deepsound_default(args.peer)
        absent = Absences()
        row = measure(contestants, config, 1, args, device, absent)
        print("deepsound's default model, dim 1024, ratios 16 4, two GRU layers, one stream, and accelerate() of it:")
        keep(row)
        whole &= not absent.found
    return whole


def config_of(dim: int, args: argparse.Namespace) -> SampleRNNConfig:
    return SampleRNNConfig(dim=dim, frame_sizes=tuple(args.frame_sizes), sample_rate=SAMPLE_RATE)


def kernels(args: argparse.Namespace) -> Iterator[Wanted]:
    """The kernels of the cuda backend that `run` asks for."""
    for dim in args.dim:
        for streams in args.batch_size:
            for dtype in args.dtype or CudaBackend.dtypes:
                ways = ["auto"] if "cuda" in (args.backend or registry.BACKENDS) else []
                for exchange in [*ways, *exchanges(args)]:
                    yield Wanted(config_of(dim, args), dtype, streams, exchange)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """argv: the options, None for those of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = list(registry.BACKENDS)
    parser.add_argument("--dim", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--backend", nargs="+", choices=names, help="those that can run when left out")
    parser.add_argument("--dtype", nargs="+", help="numeric modes; those that a backend has, all when left out")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, torch.get_num_threads()])
    parser.add_argument("--frame-sizes", type=int, nargs="+", default=[2, 2, 8])
    parser.add_argument("--seconds", type=float, default=0.3, help="time of one round of one contestant, about")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--styles", nargs="+", default=[], help="of the triton backend's products, each on its own")
    ways = (ALL, *constants.CHOICES)
    parser.add_argument("--exchanges", nargs="+", default=[], choices=ways, help="of the cuda backend, each on its own")
    parser.add_argument("--no-plain", action="store_true", help="leave plain torch out")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--peer", type=Path, help="a clone of deepsound-project/samplernn-pytorch")
    parser.add_argument("--json", type=Path, help="append the rows to this file")
    return parser.parse_args(argv)


def measure(
    contestants: list[Contestant],
    config: SampleRNNConfig,
    batch_size: int,
    args: argparse.Namespace,
    device: torch.device,
    absent: Absences,
) -> list[dict]:
    """One row for each contestant: rounds alternate, so that a busy machine disturbs all of them alike. Those that fail
    meanwhile are left out from then on."""
    parted = {contestant: contestant.partings() for contestant in contestants}
    steps: dict[Contestant, int] = {}
    for contestant in contestants:
        with absent.instead_of_failing(contestant.name, contestant.threads):
            steps[contestant] = fitting_steps(contestant.make, args.seconds, device)
    times: dict[Contestant, list[float]] = {contestant: [] for contestant in steps}
    for done in range(args.rounds):
        for contestant, values in times.items():
            if len(values) == done:
                with absent.instead_of_failing(contestant.name, contestant.threads):
                    values.append(timed(contestant.make, steps[contestant], device) / steps[contestant])
    about = {"dim": config.dim, "batch_size": batch_size, "frame_sizes": list(config.frame_sizes)}
    rows = [
        row_of(contestant, values, parted[contestant], about)
        for contestant, values in times.items()
        if len(values) == args.rounds
    ]
    return rows + [row_of_absent(one, about) for one in absent.found]


def row_of(contestant: Contestant, values: list[float], parted_before: int, about: dict) -> dict:
    """values: seconds of a step, in every round."""
    ordered, middle = sorted(values), statistics.median(values)
    row = {"contestant": contestant.name, "threads": contestant.threads} | about
    row |= {
        "samples_per_second": about["batch_size"] / middle,
        "x_real_time_per_stream": 1 / middle / SAMPLE_RATE,
        "seconds_per_step_p20_p50_p80": [ordered[len(ordered) // 5], middle, ordered[len(ordered) * 4 // 5]],
        "share_of_roofline": contestant.roofline / middle or None,
        "partings": contestant.partings() - parted_before,
    }
    return row


def row_of_absent(one: LeftOut, about: dict) -> dict:
    return {"contestant": one.name, "threads": one.threads} | about | {"left_out": one.reason, "failed": one.failed}


def fitting_steps(make: Callable[[int], object], seconds: float, device: torch.device) -> int:
    """How many steps take about `seconds`, after a warm-up; whole periods of the usual frame sizes."""
    make(16)
    steps = 16
    while (took := timed(make, steps, device)) < seconds / 4:
        steps *= 2
    return max(16, int(steps * seconds / took) // 16 * 16)


def timed(make: Callable[[int], object], steps: int, device: torch.device) -> float:
    """Seconds that `steps` steps take; on a GPU by its own events, from its being idle to its being done."""
    if device.type == "cuda":
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        began.record()
        make(steps)
        ended.record()
        ended.synchronize()
        return began.elapsed_time(ended) / 1000
    start = time.perf_counter()
    make(steps)
    return time.perf_counter() - start


def print_rows(rows: list[dict]) -> None:
    """A line for each row that was timed, beside the best of plain torch."""
    timed_rows = [row for row in rows if "left_out" not in row]
    plain = [row["samples_per_second"] for row in timed_rows if row["contestant"].startswith("torch")]
    for row in timed_rows:
        speed, real_time, share = row["samples_per_second"], row["x_real_time_per_stream"], row["share_of_roofline"]
        print(
            f"dim {row['dim']:5d}  batch {row['batch_size']:4d}  {row['contestant']:22} {row['threads']:3d} threads"
            f"  {speed:12,.0f} samples/s  {real_time:8.3f}x real time (RTF {1 / real_time:.4g})"
            + (f"  {speed / max(plain):6.2f}x best torch" if plain else "")
            + (f"  {share:4.0%} of roofline" if share else "")
            + (f"  its threads parted {row['partings']}x" if row["partings"] else ""),
            flush=True,
        )


if __name__ == "__main__":
    main()
