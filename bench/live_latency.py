"""How soon a live server obeys, and how even its sound is: block sizes and listeners, on loopback.

    python bench/live_latency.py [MODEL] [--listeners 1 4 16 64] [--blocks 64 128 256] [--seconds 10]
        [--lead 2] [--reserve 0] [--clients 16] [--check-all] [--realtime-priority] [--busy 0]
        [--flags '--dtype fastest'] [--json FILE]

Each listener is a WebSocket client that plays in real time as the page does: it wants what was played, and `--lead`
blocks besides, and moves the temperature twice a second. With a `--reserve` so many seconds of sound are made ahead,
and those behind a change are made again, from `--lead` blocks ahead on. `--clients` of them share a process. Three
times are reported.

  block       how long the engine took for a block, in the time that it sounds; below 1 sound can go on
  to block    from a setting that is sent to the arrival of the first block that obeys it
  to sound    from there to the moment at which that block's first sample is played; the page's audio device comes
              on top of it

`late` counts how often, with a reserve, a client played old samples because those that take their place had not come.
An underrun is a moment at which it has to play a sample that it does not have at all. Every client's sound is compared
with that of a slot that is alone, made from the changes that the server reported. The server rounds blocks up to what
the model's frames allow; a row of listeners has the size that was played. What a call of the engine costs beside its
samples is measured first, without the server. `memory_mb` is the largest memory of the server in each quarter of the
time. On each core a process only sleeps: `late_wakes` counts how often one woke more than 4 ms late, at most by
`latest_wake_ms`, because of the machine or of what else is busy on it. `underruns_at` has the first underruns: the
seconds since the beginning, and by how many ms a sleeper woke late within 0.1 s of it. `--realtime-priority` gives one
to server, clients and sleepers, as the audio thread of a browser has it. `--busy` processes compute beside them.
"""

import argparse
import multiprocessing
import shlex
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.common import record
from bench.live import client
from bench.live.expected import Stream, check
from bench.live.machine import Wakes, busy, cores, late_wakes, merged
from bench.live.server import Server
from samplernn_fast.engine.engine import Engine
from samplernn_fast.reference.randomness import MixedDrawing

_CHECKED = 4096  # samples of each client that are compared
_SHOWN = 20  # moments of underruns


def measure(args: argparse.Namespace, listeners: int, block: int) -> dict[str, Any]:
    """One row of the table: so many listeners with blocks of this size."""
    flags = [*args.flags, *(["--realtime-priority"] if args.realtime_priority else [])]
    with Server(args.model, listeners, flags) as server, busy(args.busy):
        heard, wakes = heard_by_all(args, server, listeners, block)
        loads = {f"load_p{part}": server.load(part) for part in (50, 99)}
    compared = None if args.check_all else _CHECKED
    streams = [Stream(one.seed, one.seed, one.sound[:compared], one.score) for one in heard]
    engine = Engine(args.model, dtype=flag(args.flags, "--dtype"))
    for one, stream in zip(heard, streams, strict=True):
        if len(one.sound) <= args.lead * one.block:
            raise SystemExit(f"listener {one.seed} heard next to nothing")
        check(engine, [stream])
    row = {
        "model": args.model,
        "listeners": listeners,
        "block": heard[0].block,
        "block_ms": round(1e3 * heard[0].block / heard[0].rate, 2),
        "lead": args.lead,
        "reserve": args.reserve,
        "seconds": args.seconds,
        "changes": sum(len(one.to_block) for one in heard),
        **loads,
        **percentiles("to_block_ms", [time for one in heard for time in one.to_block]),
        **percentiles("to_sound_ms", [time for one in heard for time in one.to_sound]),
        "late": sum(one.late for one in heard),
        "underruns": sum(len(one.underruns) for one in heard),
        "underruns_at": [
            [round(moment - wakes.began, 1), round(1e3 * wakes.latest(moment))]
            for moment in sorted(moment for one in heard for moment in one.underruns)[:_SHOWN]
        ],
        "busy": args.busy,
        "realtime_priority": args.realtime_priority,
        "late_wakes": len(wakes.late),
        "latest_wake_ms": round(1e3 * wakes.latest(), 1),
    }
    return row | {"memory_mb": server.memory_by_quarter()}


def heard_by_all(
    args: argparse.Namespace, server: Server, listeners: int, block: int
) -> tuple[list[client.Heard], Wakes]:
    """Returns what all clients noticed, which play at the same time in processes of `--clients` each, and how late
    processes woke that only slept."""
    seeds = [range(first, min(first + args.clients, listeners)) for first in range(0, listeners, args.clients)]
    how = block, args.lead, args.reserve, args.seconds, args.realtime_priority
    sessions = [client.Session(server.place, server.model, own, *how) for own in seeds]
    processes, sleepers = multiprocessing.get_context("spawn"), cores()
    with processes.Manager() as manager:
        wait = manager.Barrier(len(sessions) + len(sleepers)).wait
        with ProcessPoolExecutor(len(sessions) + len(sleepers), mp_context=processes) as pool:
            try:
                late = [pool.submit(late_wakes, core, args.seconds, args.realtime_priority, wait) for core in sleepers]
                parts = [pool.submit(client.play, session, wait) for session in sessions]
                # Where one fails before it begins, the others would wait for it, so it is noticed first.
                for ended in as_completed([*parts, *late]):
                    ended.result()
                return [one for part in parts for one in part.result()], merged(part.result() for part in late)
            except BaseException:
                for child in multiprocessing.active_children():
                    child.kill()  # else they would play to their end first
                raise


def flag(flags: list[str], name: str) -> str:
    """The value of a flag, or "auto"."""
    return flags[flags.index(name) + 1] if name in flags else "auto"


def percentiles(name: str, seconds: list[float]) -> dict[str, float]:
    """The median and the 99th percentile, in milliseconds."""
    if not seconds:
        return {}
    return {f"{name}_p{part}": round(1e3 * float(np.percentile(seconds, part)), 2) for part in (50, 99)}


def cost_of_a_call(args: argparse.Namespace, block: int) -> dict[str, Any]:
    """What a call of `Engine.run` takes beside its samples: in all, and in the time of a block."""
    engine = Engine(args.model, dtype=flag(args.flags, "--dtype"), num_threads=1)
    state = engine.init_state()
    whole, none = [], []
    for _ in range(200):
        began = time.perf_counter()
        engine.run(state, block)
        whole.append(time.perf_counter() - began)
    native = engine.backend.native  # type: ignore[attr-defined]
    how = MixedDrawing.of(state.drawing(0), state.t)
    arrays = how.seeds, how.streams, how.times, how.temperature, how.top_k, how.top_p

    class Nothing:
        """Takes the place of the C++ engine: its fixed cost, and no samples."""

        def generate(self, hidden: Any, levels: np.ndarray, t: int, *_: Any) -> None:
            native.generate(hidden, np.ascontiguousarray(levels[:, : engine.config.lookback]), t, *arrays)
            levels[levels < 0] = 0

    engine.backend.native = Nothing()  # type: ignore[attr-defined]
    for _ in range(200):
        began = time.perf_counter()
        engine.run(state, block)
        none.append(time.perf_counter() - began)
    took, beside = statistics.median(whole), statistics.median(none)
    return {"block": block, "call_us": round(1e6 * took, 1), "beside_samples_us": round(1e6 * beside, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="demo", help="a run folder, a model file, or a bundled model")
    parser.add_argument("--listeners", type=int, nargs="+", default=[1, 4, 16, 64], help="at the same time")
    parser.add_argument("--blocks", type=int, nargs="+", default=[64, 128, 256], help="samples of a block")
    parser.add_argument("--seconds", type=float, default=10.0, help="that each row plays")
    parser.add_argument("--lead", type=int, default=2, help="blocks that are wanted ahead of the ears")
    parser.add_argument("--reserve", type=float, default=0.0, help="seconds made ahead, and again behind a change")
    parser.add_argument("--clients", type=int, default=16, help="in a process")
    parser.add_argument("--check-all", action="store_true", help="compare all of the sound, and not its beginning only")
    parser.add_argument("--realtime-priority", action="store_true", help="for server and clients, on Linux")
    parser.add_argument("--busy", type=int, default=0, help="processes that compute beside server and clients")
    parser.add_argument("--json", type=record.file, help="a file to which the rows are added")
    parser.add_argument("--flags", type=shlex.split, default=[], help="for serve, as one word: '--dtype fastest'")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for row in (cost_of_a_call(args, block) for block in args.blocks):
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        rows.append(row)
    for listeners in args.listeners:
        for block in args.blocks:
            row = measure(args, listeners, block)
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
            rows.append(row)
    if args.json:
        record.append(args.json, rows)


if __name__ == "__main__":
    main()
