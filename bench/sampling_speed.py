"""How fast audio is made: samples per second and x real time of every backend, beside plain torch and a peer.

    python bench/sampling_speed.py [--dim 256 1024] [--batch-size 1 64] [--device cuda] [--peer CLONE] [--json FILE]

Every backend's scores are compared with the reference in float64 first, and at every batch size what it has drawn with
the draws of the reference for the same past; nothing is timed when they differ. Rounds alternate between the
contestants of a row; medians are reported, with the 20th and 80th percentiles.
"Plain torch" is bench/plain_torch.py in float32 and bfloat16, also through torch.compile unless --no-compile, and on a
GPU also as a CUDA graph. A GPU's times are those of its own events; --styles adds the triton backend with one style of
products (vector, tiles, library), whatever it would choose itself.
--peer times deepsound-project/samplernn-pytorch's own Generator, unmodified, on a model of the same size.
The share of the roofline is what a sample takes by the measured read bandwidth and multiply-add rate, whichever
is slower, over what it took.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import record
import torch
from checks import check_draws
from plain_torch import GraphedTorch, PlainTorch

from samplernn_fast import backends, cuda_plan
from samplernn_fast.config import SampleRNNConfig
from samplernn_fast.cuda_backend import CudaBackend
from samplernn_fast.engine import Engine, EngineState
from samplernn_fast.errors import BackendUnavailable
from samplernn_fast.importing.live import accelerate
from samplernn_fast.model import SampleRNN
from samplernn_fast.triton_backend import TritonBackend
from samplernn_fast.weights import pack, packed_hidden

SAMPLE_RATE = 16000
PARITY_STEPS = 64
# Largest difference of log-probabilities from the reference in float64; for modes that round weights, the mean square
# difference in standard deviations of the log-probabilities (8-bit weights of an untrained model make 0.01).
PARITY_BOUNDS = {"float32": 1e-4, "bfloat16": 0.05, "int8": 0.05}
WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


@dataclass(frozen=True)
class Contestant:
    """`make(n)` makes n more samples of every stream. roofline: seconds a step could take, 0 if unknown. partings():
    how often its team of threads has given up so far, after which one thread went on."""

    name: str
    threads: int
    make: Callable[[int], object]
    roofline: float = 0.0
    partings: Callable[[], int] = lambda: 0


def main() -> None:
    args = parse()
    torch.set_num_threads(max(args.threads))
    device = backends.resolve_device(args.device)
    print(f"{record.processor(device)}, torch {torch.__version__}, {torch.get_num_threads()} threads for torch")
    run(args, device)


def run(args: argparse.Namespace, device: torch.device) -> None:
    """Times everything that was asked for, prints it, and keeps rows as soon as they are there: a time limit may end
    the process while a compiler runs, which nothing interrupts."""
    rows: list[dict] = []

    def keep(row: list[dict]) -> None:
        rows.extend(row)
        print_rows(row)
        if args.json:
            record.append(args.json, rows, device, instead_of_last=len(rows) > len(row))

    for dim in args.dim:
        config = SampleRNNConfig(dim=dim, frame_sizes=tuple(args.frame_sizes), sample_rate=SAMPLE_RATE)
        model = SampleRNN(config)
        engines = checked_engines(model, args)
        exact = Engine(model, backend="reference", dtype="float64", device="cpu")
        for batch_size in args.batch_size:
            for _, engine in engines:
                check_draws(engine, exact, batch_size)
            contestants = engine_contestants(engines, batch_size)
            contestants += styled_contestants(model, batch_size, args, exact)
            contestants += exchange_contestants(model, batch_size, args, exact)
            contestants += plain_contestants(model, batch_size, args, device)
            if args.peer:
                contestants.append(deepsound(args.peer, dim, batch_size))
            keep(measure(contestants, config, batch_size, args, device))
    if args.peer:
        contestants, config = deepsound_default(args.peer)
        row = measure(contestants, config, 1, args, device)
        print("deepsound's default model, dim 1024, ratios 16 4, two GRU layers, one stream, and accelerate() of it:")
        keep(row)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dim", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--backend", nargs="+", default=list(backends.BACKENDS))
    parser.add_argument("--dtype", nargs="+", help="numeric modes; those that a backend has, all when left out")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, torch.get_num_threads()])
    parser.add_argument("--frame-sizes", type=int, nargs="+", default=[2, 2, 8])
    parser.add_argument("--seconds", type=float, default=0.3, help="time of one round of one contestant, about")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--styles", nargs="+", default=[], help="of the triton backend's products, each on its own")
    parser.add_argument(
        "--exchanges", nargs="+", default=[], choices=cuda_plan.CHOICES, help="of the cuda backend, each on its own"
    )
    parser.add_argument("--no-plain", action="store_true", help="leave plain torch out")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--peer", type=Path, help="a clone of deepsound-project/samplernn-pytorch")
    parser.add_argument("--json", type=Path, help="append the rows to this file")
    return parser.parse_args()


def checked_engines(model: SampleRNN, args: argparse.Namespace) -> list[tuple[int, Engine]]:
    """(threads, engine) for each backend, mode and thread count that can run the model, after its scores were
    compared with the reference."""
    config = model.config
    levels = torch.randint(0, config.q_levels, (2, config.lookback + PARITY_STEPS))
    exact = Engine(model, backend="reference", dtype="float64", device="cpu").score(levels)
    engines = []
    for name in args.backend:
        backend = backends.BACKENDS[name]
        reasons = backend.unavailable_reasons(config, backends.resolve_device(args.device))
        if reasons:
            print(f"{name}: not run ({'; '.join(reasons)})")
            continue
        for dtype in backend.dtypes:
            if dtype == "float64" or (args.dtype and dtype not in args.dtype):
                continue
            for threads in sorted(set(args.threads)) if name == "cpu" else [torch.get_num_threads()]:
                chosen = threads if name == "cpu" else None
                engine = Engine(model, backend=name, dtype=dtype, device=args.device, num_threads=chosen)
                gap = difference(engine.score(levels).cpu().double(), exact, dtype)
                if not gap <= PARITY_BOUNDS[dtype]:
                    raise SystemExit(f"{name} {dtype}, dim {config.dim}: scores differ by {gap:.2g}; nothing was timed")
                engines.append((threads, engine))
    return engines


def difference(scores: torch.Tensor, exact: torch.Tensor, dtype: str) -> float:
    """How far scores are from the exact ones, in the unit of PARITY_BOUNDS."""
    if dtype == "float32":
        return (scores - exact).abs().max().item()
    return ((scores - exact).square().mean().sqrt() / exact.std()).item()


def engine_contestants(engines: list[tuple[int, Engine]], batch_size: int) -> list[Contestant]:
    """One contestant for each engine, its state going on from call to call."""
    found = []
    for threads, engine in engines:
        state = engine.init_state(batch_size)

        def make(n: int, engine: Engine = engine, state: EngineState = state) -> object:
            return engine.run(state, n)

        def partings(engine: Engine = engine) -> int:
            return engine.backend.native.partings if engine.backend.name == "cpu" else 0

        best = roofline(engine, batch_size, threads) if engine.backend.name == "cpu" else 0.0
        found.append(Contestant(f"{engine.backend.name} {engine.dtype}", threads, make, best, partings))
    return found


def styled_contestants(model: SampleRNN, batch_size: int, args: argparse.Namespace, exact: Engine) -> list[Contestant]:
    """The triton backend with one style of products each, after their draws were checked."""
    found = []
    for style in args.styles:
        for dtype in TritonBackend.dtypes:
            if args.dtype and dtype not in args.dtype:
                continue
            engine = Engine(model, backend="triton", dtype=dtype, device=args.device)
            engine.backend = TritonBackend(pack(model), engine.device, dtype, style=style)
            check_draws(engine, exact, batch_size)
            (contestant,) = engine_contestants([(torch.get_num_threads(), engine)], batch_size)
            found.append(replace(contestant, name=f"{contestant.name} {style}"))
    return found


def exchange_contestants(
    model: SampleRNN, batch_size: int, args: argparse.Namespace, exact: Engine
) -> list[Contestant]:
    """The cuda backend with one way of exchange each (`Program.build`), after their draws were checked."""
    found = []
    for exchange, dtype in itertools.product(args.exchanges, args.dtype or CudaBackend.dtypes):
        engine = Engine(model, backend="cuda", dtype=dtype, device=args.device)
        try:
            engine.backend = CudaBackend(pack(model), engine.device, dtype, exchange=exchange)
            engine.backend.program(batch_size)
        except BackendUnavailable as reason:
            print(f"cuda {dtype} {exchange} is left out: {reason}")
            continue
        check_draws(engine, exact, batch_size)
        (contestant,) = engine_contestants([(torch.get_num_threads(), engine)], batch_size)
        found.append(replace(contestant, name=f"{contestant.name} {exchange}"))
    return found


def plain_contestants(
    model: SampleRNN, batch_size: int, args: argparse.Namespace, device: torch.device
) -> list[Contestant]:
    """Plain torch in float32 and bfloat16."""
    if args.no_plain:
        return []
    weights, threads = pack(model), torch.get_num_threads()
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        for compiled in [False] if args.no_compile else [False, True]:
            plain = PlainTorch(weights, batch_size, dtype, compiled, device)
            found.append(Contestant(f"torch{'.compile' if compiled else ''} {name}", threads, plain.make))
        if device.type == "cuda":
            found.append(
                Contestant(f"torch graph {name}", threads, GraphedTorch(weights, batch_size, dtype, device).make)
            )
    return found


def deepsound(clone: Path, dim: int, batch_size: int) -> Contestant:
    """Their own Generator on their own model of the paper's shape: ratios 2 4 are frames of 2 and 8 samples."""
    (their_model,) = record.peer_modules(clone, "model")
    model = their_model.SampleRNN(frame_sizes=[2, 4], n_rnn=1, dim=dim, learn_h0=True, q_levels=256, weight_norm=True)
    generator = their_model.Generator(model)

    def make(n: int) -> object:
        with torch.no_grad():
            return generator(batch_size, n)

    return Contestant("deepsound Generator", torch.get_num_threads(), make)


def deepsound_default(clone: Path) -> tuple[list[Contestant], SampleRNNConfig]:
    """deepsound's Generator on its default model, and `accelerate` of that very module."""
    (their_model,) = record.peer_modules(clone, "model")
    module = their_model.SampleRNN(
        frame_sizes=[16, 4], n_rnn=2, dim=1024, learn_h0=True, q_levels=256, weight_norm=True
    )
    generator = their_model.Generator(module)

    def theirs(n: int) -> object:
        with torch.no_grad():
            return generator(1, n)

    found = [Contestant("deepsound Generator", torch.get_num_threads(), theirs)]
    for dtype in ("float32", "int8"):
        engine = accelerate(module, dtype=dtype).engine
        state = engine.init_state(1)

        def make(n: int, engine: Engine = engine, state: EngineState = state) -> object:
            return engine.run(state, n)

        found.append(Contestant(f"accelerate {dtype}", engine.backend.native.threads(1), make))
    return found, engine.config


def matrix_work(config: SampleRNNConfig) -> tuple[float, float]:
    """Multiply-adds of the matrix products of one sample of one stream, and the weights of all matrices."""
    dim, square, layers = config.dim, config.dim**2, config.n_rnn
    gates = (3 if config.rnn == "gru" else 4) * square
    readers = layers if config.skip == "full" else 1
    work = stored = float(packed_hidden(config) * square + config.q_levels * dim)
    for tier, ratio in enumerate(config.ratios):
        size = config.frame_sizes[tier + 1]
        step = layers * gates + (layers - 1) * gates + (layers * square if config.skip != "none" else 0)
        below = square if tier == 0 else readers * gates
        work += (step + ratio * below) / size
        stored += step + ratio * below
    return work, stored


def roofline(engine: Engine, batch_size: int, threads: int) -> float:
    """Seconds of one step at best: its weights read once by every thread that makes streams, or its multiply-adds."""
    work, stored = matrix_work(engine.config)
    native = engine.backend.native
    size = WEIGHT_BYTES[engine.dtype]
    shared = batch_size < threads  # then the threads share each step, and each reads its part
    bandwidth = native.read_bandwidth(int(stored * size) * (1 if shared else threads), threads)
    reading = work * size * (1 if shared else threads) / bandwidth
    return max(reading, work * batch_size / native.peak_rate(threads))


def measure(
    contestants: list[Contestant],
    config: SampleRNNConfig,
    batch_size: int,
    args: argparse.Namespace,
    device: torch.device,
) -> list[dict]:
    """One row for each contestant: rounds alternate, so that a busy machine disturbs all of them alike."""
    steps = [fitting_steps(contestant.make, args.seconds, device) for contestant in contestants]
    times: list[list[float]] = [[] for _ in contestants]
    parted = [contestant.partings() for contestant in contestants]
    for _ in range(args.rounds):
        for index, contestant in enumerate(contestants):
            times[index].append(timed(contestant.make, steps[index], device) / steps[index])
    rows = []
    for contestant, values, before in zip(contestants, times, parted, strict=True):
        ordered, middle = sorted(values), statistics.median(values)
        rows.append(
            {
                "contestant": contestant.name,
                "threads": contestant.threads,
                "dim": config.dim,
                "batch_size": batch_size,
                "frame_sizes": list(config.frame_sizes),
                "samples_per_second": batch_size / middle,
                "x_real_time_per_stream": 1 / middle / SAMPLE_RATE,
                "seconds_per_step_p20_p50_p80": [ordered[len(ordered) // 5], middle, ordered[len(ordered) * 4 // 5]],
                "share_of_roofline": contestant.roofline / middle or None,
                "partings": contestant.partings() - before,
            }
        )
    return rows


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
    """A line for each row, and the best row of the engines beside the best of plain torch."""
    plain = [row["samples_per_second"] for row in rows if row["contestant"].startswith("torch")]
    for row in rows:
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
