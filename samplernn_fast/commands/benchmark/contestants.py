"""What `bench` times, after it was checked, and what is left out, with the reason."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from samplernn_fast.backends import registry
from samplernn_fast.backends.cpu import CpuBackend
from samplernn_fast.commands.benchmark.checks import (
    SCORED_STEPS,
    SCORED_STREAMS,
    CheckFailed,
    check_draws,
    check_scores,
)
from samplernn_fast.commands.benchmark.plain_torch import GraphedTorch, PlainTorch
from samplernn_fast.commands.benchmark.roofline import roofline
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import BackendUnavailable, ConfigError, SampleRNNError
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.config import SparseSampleRNNConfig
from samplernn_fast.models.registry import require_packed
from samplernn_fast.models.sparse.blocks import block_share
from samplernn_fast.reference.weights import pack


@dataclass(frozen=True)
class Options:
    """What is timed, and for how long. ConfigError where an option cannot be used."""

    batch_sizes: tuple[int, ...] = (1, 64)
    backends: tuple[str, ...] = ()
    """Names of backends; when empty, every backend that can run here."""
    dtypes: tuple[str, ...] = ()
    """Numeric modes; when empty, all that a backend has."""
    threads: tuple[int, ...] = ()
    """Numbers of threads for the cpu backend; when empty, one and as many as torch uses."""
    seconds: float = 0.3
    """About how long one round of one contestant lasts."""
    rounds: int = 5
    plain: bool = True
    """Whether plain torch is timed too."""
    compiled: bool = False
    """Whether plain torch is also timed through torch.compile."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.backends if name not in registry.BACKENDS]
        if unknown:
            raise ConfigError(f"backend must be one of {', '.join(registry.BACKENDS)}, got {unknown[0]!r}")
        offered = {dtype: None for name in self.backends or registry.BACKENDS for dtype in self.offered(name)}
        for dtype in self.dtypes:
            if dtype not in offered:
                where = f" on {', '.join(self.backends)}" if self.backends else ""
                raise ConfigError(f"dtype must be one of {', '.join(offered)}{where}, got {dtype!r}")
        if min(self.batch_sizes, default=0) < 1 or self.rounds < 1 or not 0 < self.seconds < float("inf"):
            raise ConfigError("batch size and rounds must be at least 1, and seconds above 0")
        if not all(1 <= threads <= 256 for threads in self.threads):
            raise ConfigError(f"threads must be 1 to 256, got {' '.join(map(str, self.threads))}")

    @staticmethod
    def offered(backend: str) -> list[str]:
        """The modes of a backend that are timed; float64 is what the others are compared with."""
        return [dtype for dtype in registry.BACKENDS[backend].dtypes if dtype != "float64"]

    def modes(self, backend: str) -> list[str]:
        """The numeric modes of a backend that are asked for."""
        return [dtype for dtype in self.offered(backend) if dtype in (self.dtypes or self.offered(backend))]


@dataclass(frozen=True)
class Contestant:
    """Something that makes samples."""

    name: str
    threads: int
    make: Callable[[int], object]
    """make(n) makes n more samples of every stream."""
    roofline: float = 0.0
    """Seconds that one step could take at best; 0 where that is not known."""
    partings: Callable[[], int] = lambda: 0
    """How often its team of threads has given up so far, after which one thread went on."""


@dataclass(frozen=True)
class LeftOut:
    """Something that is not timed."""

    name: str
    threads: int
    reason: str
    failed: bool
    """Whether it should have been timed; otherwise the model or the machine is not for it."""


class Absences:
    """Collects what is left out, so that one contestant's failure costs the others nothing. say: prints a line."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.found: list[LeftOut] = []
        self.say = say

    @contextmanager
    def instead_of_failing(self, name: str, threads: int = 1, asked_for: bool = True) -> Iterator[None]:
        """Catches the errors of one contestant. asked_for: whether it was named; what was not may be unavailable."""
        try:
            yield
        except Exception as error:  # any library may have raised it
            told = isinstance(error, (SampleRNNError, CheckFailed))
            first = (str(error).strip() or "no message").splitlines()[0]
            reason = first if told else f"{type(error).__name__}: {first}"
            unavailable = isinstance(error, BackendUnavailable) and not asked_for
            self.found.append(LeftOut(name, threads, reason, failed=not unavailable))
            self.say(f"{name} is left out: {reason}")


@dataclass(frozen=True)
class Named:
    """An engine with its name in the results, and the threads that it was given."""

    name: str
    threads: int
    engine: Engine


Extra = Callable[["Lineup", int, Absences], Iterator[Contestant]]
"""Adds contestants of its own to a line-up, for a number of streams."""


class Lineup:
    """The contestants of one model for each number of streams. extra: adds some that no option of `bench` names."""

    def __init__(
        self,
        model: AudioModel,
        options: Options,
        device: str,
        say: Callable[[str], None],
        extra: Extra | None = None,
    ) -> None:
        self.options, self.device, self.say, self.extra = options, device, say, extra
        self.model = require_packed(model)
        self.config = self.model.config
        if not self.config.taps:
            raise ConfigError(
                f"bench times SampleRNN with a sample level, and the model's system is {self.config.system}; generate"
                " says how fast it is"
            )
        self.weights = pack(self.model)
        self.block_share = 1.0
        if isinstance(self.config, SparseSampleRNNConfig):
            self.block_share = block_share(self.config, self.weights.arrays)
        self.exact = Engine(self.model, backend="reference", dtype="float64", device="cpu")
        self._absent = Absences(say)
        self.engines = list(self._engines())

    def contestants(self, streams: int) -> tuple[list[Contestant], Absences]:
        """Those that are ready and right, and those that are not, of this and of every number of streams."""
        absent = Absences(self.say)
        absent.found += self._absent.found
        found = list(self.checked(self.engines, streams, absent))
        if self.extra is not None:
            found += self.extra(self, streams, absent)
        if self.options.plain:
            found += self._plain(streams, absent)
        return found, absent

    def checked(self, engines: Iterator[Named] | list[Named], streams: int, absent: Absences) -> Iterator[Contestant]:
        """Those engines as contestants whose draws are the reference's."""
        for named in engines:
            with absent.instead_of_failing(named.name, named.threads):
                check_draws(named.engine, self.exact, streams)
                yield engine_contestant(named, streams, self.block_share)

    def _engines(self) -> Iterator[Named]:
        """One for each backend, mode and number of threads that can run the model and scores as the reference."""
        options = self.options
        drawn = self.exact.run(self.exact.init_state(SCORED_STREAMS), SCORED_STEPS)
        silence = np.full((SCORED_STREAMS, self.config.lookback), self.config.q_zero)
        levels = np.concatenate((silence, drawn), axis=1)
        exact = self.exact.score(levels)
        for name in options.backends or registry.BACKENDS:
            backend = registry.BACKENDS[name]
            reasons = [] if options.backends else backend.unavailable_reasons(self.config, self.device)
            if reasons:
                self.say(f"{name}: not run ({'; '.join(reasons)})")
                continue
            of_torch = torch.get_num_threads()
            for dtype in options.modes(name):
                asked_for = bool(options.dtypes) or dtype not in backend.promised
                for threads in sorted({*(options.threads or (1, of_torch))}) if name == "cpu" else [of_torch]:
                    with self._absent.instead_of_failing(f"{name} {dtype}", threads, asked_for):
                        chosen = threads if name == "cpu" else None
                        engine = Engine(self.model, backend=name, dtype=dtype, device=self.device, num_threads=chosen)
                        check_scores(engine, levels, exact, min(options.batch_sizes))
                        yield Named(f"{name} {dtype}", threads, engine)

    def _plain(self, streams: int, absent: Absences) -> Iterator[Contestant]:
        """Plain torch in float32 and bfloat16, through torch.compile too, and on a GPU as a graph."""
        threads = torch.get_num_threads()
        for dtype in (torch.float32, torch.bfloat16):
            mode = str(dtype).removeprefix("torch.")
            for compiled in [False, True] if self.options.compiled else [False]:
                name = f"torch{'.compile' if compiled else ''} {mode}"
                with absent.instead_of_failing(name, threads, asked_for=False):
                    plain = PlainTorch(self.weights, streams, dtype, compiled, self.device)
                    yield Contestant(name, threads, plain.make)
            if self.device.startswith("cuda"):
                with absent.instead_of_failing(f"torch graph {mode}", threads, asked_for=False):
                    graphed = GraphedTorch(self.weights, streams, dtype, self.device)
                    yield Contestant(f"torch graph {mode}", threads, graphed.make)


def engine_contestant(named: Named, streams: int, block_share: float = 1.0) -> Contestant:
    """An engine whose state goes on from call to call. block_share: as in `roofline`."""
    engine, state = named.engine, named.engine.init_state(streams)
    found = Contestant(named.name, named.threads, lambda n: engine.run(state, n))
    backend = engine.backend
    if not isinstance(backend, CpuBackend):
        return found
    limit = roofline(backend, streams, named.threads, block_share)
    return replace(found, roofline=limit, partings=lambda: backend.native.partings)
