"""The contestants of bench/sampling_speed.py: what is timed, after it was checked, and what is left out and why."""

import argparse
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from checks import CheckFailed, check_draws
from plain_torch import GraphedTorch, PlainTorch
from roofline import roofline

from samplernn_fast.backends import interface, registry
from samplernn_fast.backends.cuda import constants
from samplernn_fast.backends.cuda.backend import CudaBackend
from samplernn_fast.backends.triton import TritonBackend
from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.state import EngineState
from samplernn_fast.errors import SampleRNNError
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.models.sample_rnn import SampleRNN
from samplernn_fast.reference.weights import PackedWeights, pack

PARITY_STEPS, PARITY_STREAMS = 64, 2
# Largest difference of log-probabilities from the reference in float64; for modes that round weights, the mean square
# difference in standard deviations of the log-probabilities (8-bit weights of an untrained model make 0.01).
PARITY_BOUNDS = {"float32": 1e-4, "bfloat16": 0.05, "int8": 0.05}
ALL = "all"


@dataclass(frozen=True)
class Contestant:
    """`make(n)` makes n more samples of every stream. roofline: seconds a step could take, 0 if unknown. partings():
    how often its team of threads has given up so far, after which one thread went on."""

    name: str
    threads: int
    make: Callable[[int], object]
    roofline: float = 0.0
    partings: Callable[[], int] = lambda: 0


@dataclass(frozen=True)
class LeftOut:
    """What is not timed. failed: it should have been; else the model or the machine is not for it."""

    name: str
    threads: int
    reason: str
    failed: bool


class Absences:
    """Collects what is left out, so that one contestant's failure costs the others nothing."""

    def __init__(self) -> None:
        self.found: list[LeftOut] = []

    @contextmanager
    def instead_of_failing(self, name: str, threads: int = 1, asked_for: bool = True) -> Iterator[None]:
        """What goes on inside is about one contestant. asked_for: by name; what was not may be unavailable."""
        try:
            yield
        except Exception as error:  # of whatever library it uses
            told = isinstance(error, (SampleRNNError, CheckFailed))
            first = (str(error).strip() or "no message").splitlines()[0]
            reason = first if told else f"{type(error).__name__}: {first}"
            unavailable = isinstance(error, registry.BackendUnavailable) and not asked_for
            self.found.append(LeftOut(name, threads, reason, failed=not unavailable))
            print(f"{name} is left out: {reason}", flush=True)


@dataclass(frozen=True)
class Named:
    """An engine, and the threads that it was given."""

    name: str
    threads: int
    engine: Engine


class Lineup:
    """The contestants of one model for each number of streams. exact: the reference in float64."""

    def __init__(self, config: SampleRNNConfig, args: argparse.Namespace, device: torch.device) -> None:
        self.config, self.args, self.device = config, args, device
        self.model = SampleRNN(config)
        self.weights = pack(self.model)
        self.exact = Engine(self.model, backend="reference", dtype="float64", device="cpu")
        self._absent = Absences()
        self.engines = list(self._engines())

    def contestants(self, batch_size: int) -> tuple[list[Contestant], Absences]:
        """Those that are ready and right, and those that are not, of this and of every number of streams."""
        absent = Absences()
        absent.found += self._absent.found
        found: list[Contestant] = []
        for named in itertools.chain(self.engines, self._styled(absent), self._exchanging(absent)):
            with absent.instead_of_failing(named.name, named.threads):
                check_draws(named.engine, self.exact, batch_size)
                found.append(engine_contestant(named.engine, batch_size, named.threads, named.name))
        if not self.args.no_plain:
            found += plain_contestants(self.weights, batch_size, self.args.no_compile, self.device, absent)
        return found, absent

    def _engines(self) -> Iterator[Named]:
        """One for each backend, mode and number of threads that can run the model and scores as the reference."""
        levels = torch.randint(0, self.config.q_levels, (PARITY_STREAMS, self.config.lookback + PARITY_STEPS))
        exact = self.exact.score(levels)
        for name in self.args.backend or registry.BACKENDS:
            backend = registry.BACKENDS[name]
            reasons = [] if self.args.backend else backend.unavailable_reasons(self.config, self.device)
            if reasons:
                print(f"{name}: not run ({'; '.join(reasons)})")
                continue
            for dtype in self._modes(backend.dtypes):
                for threads in sorted(set(self.args.threads)) if name == "cpu" else [torch.get_num_threads()]:
                    with self._absent.instead_of_failing(f"{name} {dtype}", threads):
                        chosen = threads if name == "cpu" else None
                        engine = Engine(self.model, backend=name, dtype=dtype, device=self.device, num_threads=chosen)
                        check_scores(engine, levels, exact, min(self.args.batch_size))
                        yield Named(f"{name} {dtype}", threads, engine)

    def _styled(self, absent: Absences) -> Iterator[Named]:
        """The triton backend with one style of products each."""
        for style, dtype in itertools.product(self.args.styles, self._modes(TritonBackend.dtypes)):
            name = f"triton {dtype} {style}"
            with absent.instead_of_failing(name):
                yield self._with(name, TritonBackend(self.weights, self.device, dtype, style=style))

    def _exchanging(self, absent: Absences) -> Iterator[Named]:
        """The cuda backend with one way of exchange each."""
        for exchange, dtype in itertools.product(exchanges(self.args), self._modes(CudaBackend.dtypes)):
            name = f"cuda {dtype} {exchange}"
            with absent.instead_of_failing(name, asked_for=ALL not in self.args.exchanges):
                yield self._with(name, CudaBackend(self.weights, self.device, dtype, exchange=exchange))

    def _with(self, name: str, backend: interface.Backend) -> Named:
        """A backend that no name of `Engine` stands for. It is not compared at its first use, but by `check_draws`."""
        return Named(name, torch.get_num_threads(), Engine.of(self.model, backend))

    def _modes(self, offered: tuple[str, ...]) -> list[str]:
        return [dtype for dtype in offered if dtype != "float64" and dtype in (self.args.dtype or offered)]


def exchanges(args: argparse.Namespace) -> list[str]:
    """Those that are asked for by name, or all that a model may have."""
    return list(constants.CHOICES[1:]) if ALL in args.exchanges else args.exchanges


def check_scores(engine: Engine, levels: torch.Tensor, exact: torch.Tensor, streams: int) -> None:
    """CheckFailed where scores are not `exact`, those of the reference for the levels. streams: of a batch that is
    timed too, so that no kernel is compiled for the check alone."""
    rows = min(streams, len(levels))
    scores = engine.score(levels[torch.arange(streams) % rows])[:rows]
    gap = difference(scores.cpu().double(), exact[:rows], engine.dtype)
    if not gap <= PARITY_BOUNDS[engine.dtype]:
        raise CheckFailed(f"scores differ by {gap:.2g} from the reference's; nothing was timed")


def difference(scores: torch.Tensor, exact: torch.Tensor, dtype: str) -> float:
    """How far scores are from the exact ones, in the unit of PARITY_BOUNDS."""
    if dtype == "float32":
        return (scores - exact).abs().max().item()
    return ((scores - exact).square().mean().sqrt() / exact.std()).item()


def engine_contestant(engine: Engine, batch_size: int, threads: int, name: str) -> Contestant:
    """An engine, its state going on from call to call."""
    state = engine.init_state(batch_size)

    def make(n: int, engine: Engine = engine, state: EngineState = state) -> object:
        return engine.run(state, n)

    found = Contestant(name, threads, make)
    if engine.backend.name != "cpu":
        return found
    native = engine.backend.native
    return replace(found, roofline=roofline(engine, batch_size, threads), partings=lambda: native.partings)


def plain_contestants(
    weights: PackedWeights, batch_size: int, no_compile: bool, device: torch.device, absent: Absences
) -> list[Contestant]:
    """Plain torch in float32 and bfloat16, through torch.compile too, and on a GPU as a graph."""
    threads, found = torch.get_num_threads(), []
    for dtype in (torch.float32, torch.bfloat16):
        mode = str(dtype).removeprefix("torch.")
        for compiled in [False] if no_compile else [False, True]:
            name = f"torch{'.compile' if compiled else ''} {mode}"
            with absent.instead_of_failing(name, threads):
                found.append(Contestant(name, threads, PlainTorch(weights, batch_size, dtype, compiled, device).make))
        if device.type == "cuda":
            with absent.instead_of_failing(f"torch graph {mode}", threads):
                graphed = GraphedTorch(weights, batch_size, dtype, device)
                found.append(Contestant(f"torch graph {mode}", threads, graphed.make))
    return found
