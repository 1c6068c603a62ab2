"""Whether a numeric mode keeps its promise for a model (`reference.modes.PROMISED_BITS`), measured before use."""

import logging
import math
from collections.abc import Mapping

import numpy as np

from samplernn_fast.backends.cpu import CpuBackend
from samplernn_fast.backends.int4 import kept
from samplernn_fast.backends.int4.making import four_bits_of
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.modes import INT4, PROMISED_BITS, FourBits
from samplernn_fast.reference.randomness import Drawing, Randomness
from samplernn_fast.terminal import waiting

_log = logging.getLogger(__name__)

_STREAMS, _STEPS = 8, 128  # how much audio the modes are compared on: streams, and samples of each
_LONG_STEPS = 1024  # the same for int4, whose errors take some time to add up in the hidden states
_CHOOSING_STREAMS, _CHOOSING_STEPS = 64, 1024  # how much audio four-bit weights are chosen on
_MARGIN = 0.7  # of its promise int4 takes this share at most on its own audio; on recordings it costs somewhat more


class Promise:
    """Compares the modes of one model on audio that the model itself makes, from its first sound on.

    What is measured is the mean divergence of a mode's distributions from float32's. Sums of int8 are exact and those
    of bfloat16 differ by rounding only, so what a mode costs is measured on the CPU whichever backend will run it.
    Engines that the comparison needs are made once: `made` hands them on to whoever wants one of the same mode.
    """

    def __init__(self, weights: PackedWeights, num_threads: int | None = None) -> None:
        self._weights, self._num_threads = weights, num_threads
        self._made: dict[str, CpuBackend] = {}
        self._levels: dict[tuple[int, int], np.ndarray] = {}

    def broken(self, mode: str) -> list[str]:
        """Why a mode would not keep its promise for this model; empty where it does."""
        try:
            cost = self._four_bits() if mode == INT4 else self._cost(self._engine(mode), _STEPS)
        except ValueError as error:  # a logit that is not finite
            return [f"the model cannot be checked ({error})"]
        most = PROMISED_BITS[mode] * (_MARGIN if mode == INT4 else 1)
        if cost <= most:
            return []
        return [f"it would cost {cost:.3g} bit a sample, more than {most:.4g}; use float32"]

    def made(self, mode: str) -> CpuBackend | None:
        """The engine of that mode on the CPU, where the comparison has made one."""
        return self._made.get(mode)

    def _engine(self, mode: str, four_bits: Mapping[str, FourBits] | None = None) -> CpuBackend:
        if mode not in self._made:
            self._made[mode] = CpuBackend(self._weights, "cpu", mode, self._num_threads, four_bits=four_bits)
        return self._made[mode]

    def _cost(self, fast: CpuBackend, steps: int) -> float:
        """The mean divergence from float32, in bits per sample. Levels that float32 never draws cost nothing."""
        exact, levels = self._engine("float32"), self._audio(_STREAMS, steps)
        total, count = 0.0, 0
        for row in range(len(levels)):  # one at a time, because scores of many levels take much memory
            p, q = (engine.score(engine.init_hidden(1), levels[row : row + 1]) for engine in (exact, fast))
            with np.errstate(invalid="ignore"):  # minus infinity less itself, where float32 never draws a level
                q = np.subtract(p, q, out=q)
                never = p == -math.inf
                np.exp(p, out=p)
                q[never] = 0
            total += float(np.einsum("btq,btq->", p, q, dtype=np.float64))
            count += p.shape[1]
        return total / count / math.log(2)

    def _audio(self, streams: int, steps: int) -> np.ndarray:
        """Levels (B, L + T) that the model makes in float32, behind silence, T about `steps`. ValueError where a logit
        is no number."""
        if (streams, steps) not in self._levels:
            exact, config = self._engine("float32"), self._weights.config
            whole = config.lookback * max(1, steps // config.lookback)
            streams = max(1, min(streams, streams * steps // whole))  # long frames make long audio of fewer streams
            silence, free = np.full((streams, config.lookback), config.q_zero), np.full((streams, whole), -1)
            randomness = Randomness(0, np.arange(streams, dtype=np.uint32))
            drawing = Drawing(randomness, np.ones((streams, whole), np.float32))
            drawn = exact.generate(exact.init_hidden(streams), silence, 0, drawing, free)
            self._levels[streams, steps] = np.concatenate((silence, drawn), axis=1)
        return self._levels[streams, steps]

    def _four_bits(self) -> float:
        """What int4 costs this model. Makes its engine, of weights that are chosen now or were chosen before."""
        name = kept.key(self._weights)
        chosen = kept.read(name, self._weights)
        if chosen is None:
            with waiting("choosing the four-bit weights of this model, once, which takes a minute for 1,024 units"):
                chosen = self._choose()
            kept.write(name, chosen)
        self._engine(INT4, chosen.four_bits)
        return chosen.cost

    def _choose(self) -> kept.Chosen:
        """Four-bit weights for this model. Where all matrices of four bits cost too much, those that cost the most for
        their size keep eight."""
        every = four_bits_of(self._weights, self._audio(_CHOOSING_STREAMS, _CHOOSING_STEPS))
        chosen, most = self._measured(every), _MARGIN * PROMISED_BITS[INT4]
        if chosen.cost <= most:
            return chosen
        dearest = sorted(every, key=lambda name: self._measured({name: every[name]}).cost / self._weights[name].size)
        while chosen.cost > most and len(dearest) > 1:
            _log.info("four bits would cost %.4f bit a sample; %s keeps eight", chosen.cost, dearest[-1])
            dearest.pop()
            chosen = self._measured({name: every[name] for name in dearest})
        return chosen

    def _measured(self, four_bits: dict[str, FourBits]) -> kept.Chosen:
        """These matrices, with what they cost."""
        engine = CpuBackend(self._weights, "cpu", INT4, self._num_threads, four_bits=four_bits)
        return kept.Chosen(four_bits, self._cost(engine, _LONG_STEPS))
