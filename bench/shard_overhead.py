"""This measures what files cost a shard of `generate` on a GPU, where a stand-in makes the audio.

    python bench/shard_overhead.py [--pieces 2048] [--batch 512] [--seconds 4] [--speed 11.5e6] [--folder FOLDER]

The stand-in takes as long as a GPU of that speed (samples of all streams a second) and leaves the processor free
meanwhile, so no GPU is needed. What the shard takes beyond it is not hidden behind the audio.
"""

import argparse
import contextlib
import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))

from samplernn_fast.audio.takes import Names
from samplernn_fast.commands.generation.sharing import Sharing
from samplernn_fast.engine.engine import Engine
from samplernn_fast.jobs.shards import Shard
from samplernn_fast.models.stored.arrays import read_model


class StandIn:
    """A backend that waits as long as a GPU of some speed would take, and gives random levels."""

    name, dtype, device = "stand-in", "float32", "cuda:0"
    batch_invariant = mixes = hidden_on_device = False

    def __init__(self, levels: int, speed: float) -> None:
        self.speed, self.worked, self._levels, self._random = speed, 0.0, levels, np.random.default_rng(0)

    def init_hidden(self, streams: int, context: np.ndarray | None = None) -> list[np.ndarray]:
        """A hidden state of one number a stream."""
        return [np.zeros((1, streams, 1), np.float32)]

    def generate(self, hidden: object, history: object, t: int, drawing: object, forced: np.ndarray) -> np.ndarray:
        """Random levels (B, n), after the time that they would take."""
        began, takes = time.perf_counter(), forced.size / self.speed
        levels = self._random.integers(0, self._levels, forced.shape)
        time.sleep(max(0.0, began + takes - time.perf_counter()))
        self.worked += takes
        return levels


class Share(Sharing):
    """A share whose engine plays a stand-in."""

    backend: StandIn

    def _engine(self) -> Engine:
        return Engine.of(read_model("demo"), self.backend)


def main() -> None:
    args = parse()
    Share.backend = StandIn(256, args.speed)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:

        def settings_of(streams: range) -> dict:
            return {"backend": "stand-in", "num_samples": len(streams), "first_stream": streams.start}

        share = Share("demo", settings_of, ("1",), args.seconds, True, Shard(0, 1), args.batch)
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):  # It names every file.
            share.save(Names(Path(folder) / "piece.wav", range(args.pieces)))
        took = time.perf_counter() - began
    worked = Share.backend.worked
    print(f"{args.pieces} pieces: {took:.2f} s, the stand-in {worked:.2f} s, beyond it {took - worked:.2f} s")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """argv: the options, None for those of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pieces", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=512, help="pieces that are made at a time")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each piece, at 8 kHz")
    parser.add_argument("--speed", type=float, default=11.5e6, help="samples of all streams a second")
    parser.add_argument(
        "--folder", type=Path, help="where the files are written for a while; the system's own otherwise"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
