"""How fast audio is made: samples per second and x real time of every backend, beside plain torch and a peer.

    python bench/sampling_speed.py [--dim 256 1024] [--batch-size 1 64] [--density 0.2 0.1] [--device cuda]
        [--peer CLONE] [--json FILE]

`samplernn-fast bench` is the same function; this script adds contestants for development, needs no package of the
command line, and appends its rows to a file as soon as they are there. See bench/README.md.

--isa adds the cpu backend with the instructions of one set (avx2, on a processor that has more), --styles the triton
backend with one style of products (vector, tiles, library), --exchanges the cuda backend with one exchange, whatever
they would choose themselves. --peer times deepsound-project/samplernn-pytorch's own Generator, unmodified, on a model
of the same size. The exit status is 1 where something that was asked for was left out.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.common import contestants, peers, record
from bench.gpu.wanted import Wanted
from samplernn_fast.backends import devices, registry
from samplernn_fast.backends.cuda import constants
from samplernn_fast.backends.cuda.backend import CudaBackend
from samplernn_fast.commands.benchmark import timing
from samplernn_fast.commands.benchmark.contestants import Absences, Contestant, Lineup, Options
from samplernn_fast.errors import BackendUnavailable, ConfigError
from samplernn_fast.models.config import SampleRNNConfig, SparseSampleRNNConfig
from samplernn_fast.models.sample_rnn import SampleRNN
from samplernn_fast.models.sparse.network import SparseSampleRNN
from samplernn_fast.models.sparse.pruning import Pruning


def main() -> None:
    args = parse()
    torch.set_num_threads(max(args.threads))
    try:
        device = devices.resolve_device(args.device)
        print(f"{timing.processor(device)}, torch {torch.__version__}, {torch.get_num_threads()} threads for torch")
        whole = run(args, device)
    except (BackendUnavailable, ConfigError) as error:
        raise SystemExit(str(error)) from None
    if not whole:
        raise SystemExit("some of what was asked for was left out; see above")


def run(args: argparse.Namespace, device: str) -> bool:
    """Times all that was asked for, prints it, and writes rows to args.json. False where something failed."""
    rows: list[dict] = []

    def keep(row: list[dict]) -> None:
        rows.extend(row)
        timing.print_rows(row)
        if args.json:
            record.append(args.json, rows, device, instead_of_last=len(rows) > len(row))

    def extra(lineup: Lineup, streams: int, absent: Absences) -> Iterator[Contestant]:
        yield from contestants.with_choices(args, lineup, streams, absent)
        if args.peer:
            with absent.instead_of_failing(peers.NAME, torch.get_num_threads()):
                yield peers.deepsound(args.peer, lineup.config.dim, streams)

    options = options_of(args)
    dense = (SampleRNN(config_of(dim, args)) for dim in args.dim)
    sparse = (sparse_model(config_of(dim, args), density) for dim in args.dim for density in args.density)
    models = itertools.chain(dense, sparse)
    whole = not timing.run(models, options, device, keep, say, extra)
    if args.peer:
        absent = Absences(say)
        found, config = peers.deepsound_default(args.peer)
        row = timing.measure(found, config, 1, options, device, absent)
        print("deepsound's default model, dim 1024, ratios 16 4, two GRU layers, one stream, and accelerate() of it:")
        keep(row)
        whole &= not absent.found
    return whole


def say(line: str) -> None:
    """Prints a line at once: a time limit may end the process while a compiler runs, which nothing interrupts."""
    print(line, flush=True)


def options_of(args: argparse.Namespace) -> Options:
    """What the command line asks for, without what only this script adds."""
    return Options(
        batch_sizes=tuple(args.batch_size),
        backends=tuple(args.backend or ()),
        dtypes=tuple(args.dtype or ()),
        threads=tuple(args.threads),
        seconds=args.seconds,
        rounds=args.rounds,
        plain=not args.no_plain,
        compiled=not args.no_compile,
    )


def config_of(dim: int, args: argparse.Namespace) -> SampleRNNConfig:
    """The paper's model in that size."""
    return SampleRNNConfig(dim=dim, frame_sizes=tuple(args.frame_sizes))


def sparse_model(config: SampleRNNConfig, density: float) -> SparseSampleRNN:
    """An untrained model of that size with as many blocks as the density means."""
    model = SparseSampleRNN(SparseSampleRNNConfig.of(config, density))
    Pruning(model, until=0.0).after_update(1, done=1.0)
    return model


def kernels(args: argparse.Namespace) -> Iterator[Wanted]:
    """The kernels of the cuda backend that `run` asks for."""
    for dim in args.dim:
        for streams in args.batch_size:
            for dtype in args.dtype or CudaBackend.dtypes:
                ways = ["auto"] if "cuda" in (args.backend or registry.BACKENDS) else []
                for exchange in [*ways, *contestants.exchanges(args)]:
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
    parser.add_argument("--density", type=float, nargs="+", default=[], help="time sparse models too")
    parser.add_argument("--seconds", type=float, default=0.3, help="about how long a round of one contestant lasts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--isa", nargs="+", default=[], help="instruction sets of the cpu backend, each on its own")
    parser.add_argument("--styles", nargs="+", default=[], help="of the triton backend's products, each on its own")
    ways = (contestants.ALL, *constants.CHOICES)
    parser.add_argument("--exchanges", nargs="+", default=[], choices=ways, help="of the cuda backend, each on its own")
    parser.add_argument("--no-plain", action="store_true", help="leave plain torch out")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--peer", type=Path, help="a clone of deepsound-project/samplernn-pytorch")
    parser.add_argument("--json", type=record.file, help="append the rows to this file")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
