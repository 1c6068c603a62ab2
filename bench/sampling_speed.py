"""How fast audio is made: samples per second and x real time of every backend, beside plain torch and a peer.

    python bench/sampling_speed.py [--dim 256 1024] [--batch-size 1 16 64] [--peer CLONE] [--json FILE]

Every backend's scores are compared with the reference in float64 first, and nothing is timed when they differ.
Rounds alternate between the contestants of a row; medians are reported, with the 20th and 80th percentiles.
--peer times deepsound-project/samplernn-pytorch's own Generator, unmodified, on a model of the same size.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import record
import torch

from samplernn_fast import backends
from samplernn_fast.config import SampleRNNConfig
from samplernn_fast.engine import Engine
from samplernn_fast.model import SampleRNN

SAMPLE_RATE = 16000
PARITY_STEPS, PARITY_BOUND = 64, 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dim", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--backend", nargs="+", default=list(backends.BACKENDS))
    parser.add_argument("--frame-sizes", type=int, nargs="+", default=[2, 2, 8])
    parser.add_argument("--seconds", type=float, default=0.5, help="time of one round of one contestant, about")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="torch's threads; 0 leaves its choice")
    parser.add_argument("--peer", type=Path, help="a clone of deepsound-project/samplernn-pytorch")
    parser.add_argument("--json", type=Path, help="append the rows to this file")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = []
    print(f"{record.processor()}, torch {torch.__version__}, {torch.get_num_threads()} threads for torch")
    for dim in args.dim:
        config = SampleRNNConfig(dim=dim, frame_sizes=tuple(args.frame_sizes), sample_rate=SAMPLE_RATE)
        engines = checked_engines(config, args.backend, args.device)
        for batch_size in args.batch_size:
            row = measure(engines, batch_size, args)
            rows += row
            print_rows(row)
    if args.json:
        record.append(args.json, rows)


def checked_engines(config: SampleRNNConfig, names: list[str], device: str) -> dict[str, Engine]:
    """An engine for each backend that can run the model, after its scores were compared with the reference."""
    model = SampleRNN(config)
    levels = torch.randint(0, config.q_levels, (2, config.lookback + PARITY_STEPS))
    exact = Engine(model, backend="reference", dtype="float64", device="cpu").score(levels)
    engines = {}
    for name in names:
        reasons = backends.BACKENDS[name].unavailable_reasons(config, backends.resolve_device(device))
        if reasons:
            print(f"{name}: not run ({'; '.join(reasons)})")
            continue
        engine = Engine(model, backend=name, device=device)
        gap = (engine.score(levels).cpu().double() - exact).abs().max().item()
        if gap > PARITY_BOUND:
            raise SystemExit(f"{name}, dim {config.dim}: scores differ by {gap:.2g}; nothing was timed")
        engines[name] = engine
    return engines


def measure(engines: dict[str, Engine], batch_size: int, args: argparse.Namespace) -> list[dict]:
    """One row for each contestant: rounds alternate, so that a busy machine disturbs all of them alike."""
    config = next(iter(engines.values())).config
    contestants = {f"{name} {engine.dtype}": sampler(engine, batch_size) for name, engine in engines.items()}
    if args.peer:
        contestants["deepsound Generator"] = deepsound_sampler(args.peer, config.dim, batch_size)
    steps = {name: fitting_steps(make, args.seconds) for name, make in contestants.items()}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(args.rounds):
        for name, make in contestants.items():
            times[name].append(timed(make, steps[name]) / steps[name])
    medians = {name: statistics.median(values) for name, values in times.items()}
    rows = []
    for name, values in times.items():
        ordered = sorted(values)
        middle = medians[name]
        rows.append(
            {
                "contestant": name,
                "dim": config.dim,
                "batch_size": batch_size,
                "frame_sizes": list(config.frame_sizes),
                "samples_per_second": batch_size / middle,
                "x_real_time_per_stream": 1 / middle / SAMPLE_RATE,
                "seconds_per_step_p20_p50_p80": [ordered[len(ordered) // 5], middle, ordered[len(ordered) * 4 // 5]],
            }
        )
    return rows


def sampler(engine: Engine, batch_size: int) -> Callable[[int], object]:
    """Makes n more samples of `batch_size` streams; the state goes on from call to call."""
    state = engine.init_state(batch_size)
    return lambda n: engine.run(state, n)


def deepsound_sampler(clone: Path, dim: int, batch_size: int) -> Callable[[int], object]:
    """Their own Generator on their own model of the paper's shape: ratios 2 4 are frames of 2 and 8 samples."""
    (their_model,) = record.peer_modules(clone, "model")
    model = their_model.SampleRNN(frame_sizes=[2, 4], n_rnn=1, dim=dim, learn_h0=True, q_levels=256, weight_norm=True)
    generator = their_model.Generator(model)

    def make(n: int) -> object:
        with torch.no_grad():
            return generator(batch_size, n)

    return make


def fitting_steps(make: Callable[[int], object], seconds: float) -> int:
    """How many steps take about `seconds`, after a warm-up."""
    make(16)
    steps = 16
    while (took := timed(make, steps)) < seconds / 4:
        steps *= 2
    return max(16, int(steps * seconds / took))


def timed(make: Callable[[int], object], steps: int) -> float:
    began = time.perf_counter()
    make(steps)
    return time.perf_counter() - began


def print_rows(rows: list[dict]) -> None:
    slowest = min(row["samples_per_second"] for row in rows)
    for row in rows:
        speed, real_time = row["samples_per_second"], row["x_real_time_per_stream"]
        print(
            f"dim {row['dim']:5d}  batch {row['batch_size']:4d}  {row['contestant']:22}  {speed:12,.0f} samples/s"
            f"  {real_time:8.3f}x real time (RTF {1 / real_time:.4g})  {speed / slowest:6.1f}x the slowest",
            flush=True,
        )


if __name__ == "__main__":
    main()
