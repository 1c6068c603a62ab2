"""The time of every stage of a sample on its own, where each is a kernel (the cuda backend's exchange "launches").

    python bench/stage_times.py [--dim 1024] [--batch-size 1 8 64] [--dtype float32 int8] [--json FILE]

Each stage is launched many times in a row between two events of the GPU, in the state that some samples left behind,
so its time has the gap between two launches in it. "walk" is what a sample takes when all are launched in turn. The
levels are compared with the reference's draws first; nothing is timed when they differ.
"""

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import record
import torch
from checks import check_draws

from samplernn_fast import backends
from samplernn_fast.config import SampleRNNConfig
from samplernn_fast.cuda_backend import CudaBackend, launch_steps
from samplernn_fast.cuda_device import Program
from samplernn_fast.cuda_stages import Stage, Walk
from samplernn_fast.engine import Engine
from samplernn_fast.model import SampleRNN
from samplernn_fast.sampling import Randomness
from samplernn_fast.weights import PackedWeights, pack


class TimedStages(CudaBackend):
    """The cuda backend by launches, which can be told to time its stages instead of making samples."""

    def __init__(self, weights: PackedWeights, device: torch.device, dtype: str) -> None:
        self._repeats, self._times = 0, {}  # 0: it makes samples
        super().__init__(weights, device, dtype, exchange="launches")

    def put(self, program: Program, stream: int, params: bytes, t: int, steps: int) -> None:
        """As in the backend, or the first samples and then each stage of the next one many times."""
        if self._repeats == 0:
            return super().put(program, stream, params, t, steps)
        walk, made = Walk.of(self.config), steps - 1
        begin = walk.period[(t + made) % len(walk.period)][0]

        def launch(stages: list[Stage], samples: int = 0) -> Callable[[], None]:
            # The walk is laid out before the clock starts.
            part = program.along(Walk(stages, walk.period, []))
            return lambda: part.launch(stream, params, t, samples)

        self._times = {"walk": seconds(self.device, launch(walk.before, made)) / made}
        launch([begin])()
        for stage in per_sample(self.config):
            again = launch([stage] * self._repeats)
            again()
            rounds = [seconds(self.device, again) / self._repeats for _ in range(3)]
            self._times[name_of(stage)] = statistics.median(rounds)

    def time_stages(self, streams: int, samples: int, repeats: int) -> dict[str, float]:
        """Seconds of every stage and of a sample of the whole walk, by `samples` samples of that many streams, or as
        many as one launch makes."""
        samples = min(samples, launch_steps(streams) - 1)
        silence = torch.full((streams, self.config.lookback), self.config.q_zero)
        free, heat = torch.full((streams, samples + 1), -1), torch.ones(streams, samples + 1)
        randomness = Randomness(0, np.arange(streams, dtype=np.uint32))
        self._repeats = repeats
        try:
            self.generate(self.init_hidden(streams), silence, 0, randomness, heat, 0, 1.0, free)
        finally:
            self._repeats = 0
        return self._times


def per_sample(config: SampleRNNConfig) -> dict[Stage, float]:
    """Every stage but loading and saving, and how often it is launched for a sample."""
    period = Walk.of(config).period
    counts = Counter(stage._replace(begins=False) for sample in period for stage in sample)
    return {stage: count / len(period) for stage, count in counts.items()}


def name_of(stage: Stage) -> str:
    """Its kernel, tier and layer, such as "gru_cell 1 0"."""
    return f"{stage.kernel.removeprefix('srnn_')} {stage.tier} {stage.layer}"


def seconds(device: torch.device, run: Callable[[], None]) -> float:
    """What the GPU takes for all that run() puts into its stream."""
    if device.type != "cuda":  # a library plays the GPU, and waits
        began = time.perf_counter()
        run()
        return time.perf_counter() - began
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def rows_of(backend: TimedStages, streams: int, samples: int = 256, repeats: int = 200) -> list[dict]:
    """A row for each stage and one for the walk, times in microseconds."""
    times = backend.time_stages(streams, samples, repeats)
    often = {name_of(stage): share for stage, share in per_sample(backend.config).items()} | {"walk": 1.0}
    about = {"dim": backend.config.dim, "dtype": backend.dtype, "batch_size": streams}
    return [about | {"stage": name, "us": 1e6 * times[name], "per_sample": often[name]} for name in often]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dim", type=int, nargs="+", default=[1024])
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--dtype", nargs="+", default=list(CudaBackend.dtypes))
    parser.add_argument("--json", type=Path, help="append the rows to this file")
    args = parser.parse_args()
    device = backends.resolve_device("cuda")
    for dim in args.dim:
        model = SampleRNN(SampleRNNConfig(dim=dim))
        exact = Engine(model, backend="reference", dtype="float64", device="cpu")
        for dtype in args.dtype:
            engine = Engine(model, backend="reference", device="cuda")  # no persistent kernel is compiled
            timed = TimedStages(pack(model), device, dtype)
            engine.backend, engine.dtype = timed, dtype
            for streams in args.batch_size:
                check_draws(engine, exact, streams)
                rows = rows_of(timed, streams)
                for row in rows:
                    print(f"dim {dim}, {dtype}, {streams} streams: {row['stage']:24} {row['us']:9.2f} us")
                if args.json:
                    record.append(args.json, rows, device)


if __name__ == "__main__":
    main()
