"""A live server for simulated hours: its memory stays, and every stream is what it is alone.

    python bench/live_soak.py [MODEL] [--hours 2] [--listeners 8] [--dtype fastest] [--json FILE]

Each listener hears so many hours of sound, as fast as the server makes it, in streams of 5 to 120 seconds with blocks
of 64 to 1,024 samples. They change settings, freeze, reset, go on from a recording, and leave for another stream, by
closing the connection or by dropping it. Half of the changes fall into sound that they have got already. Every sample
of every stream is compared with that of a slot of this process. `memory_mb` is the largest memory of the server in each
quarter of the time. `bench/live_latency.py` has listeners in real time.
"""

import argparse
import io
import json
import multiprocessing
import queue
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tqdm import tqdm

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.common import record
from bench.live import visitor
from bench.live.expected import Stream, check
from bench.live.server import Server
from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.prompt import prompt_levels
from samplernn_fast.errors import SampleRNNError

_TOGETHER = 8  # streams that are compared at a time
_PROMPT_SECONDS = 2.0
_MOST_LISTENERS = 75  # half of the places that a server may have


def soak(model: str, hours: float, listeners: int, dtype: str = "auto") -> dict[str, Any]:
    """Returns what happened. Raises SystemExit where a stream is not what it is alone, or the server ends one."""
    engine = Engine(model, dtype=dtype)
    rate, began = engine.config.sample_rate, time.monotonic()
    recording = _recording(round(_PROMPT_SECONDS * rate))
    levels = prompt_levels(engine.config, recording)
    visits = samples = changes = 0
    # One place more for each, because a connection that is dropped keeps its own until the server notices.
    with Server(model, 2 * listeners, ["--dtype", dtype]) as server:
        prompt = _uploaded(server.place, recording, rate)
        party = visitor.Party(server.place, server.model, prompt, range(listeners), 3600 * hours)
        with tqdm(total=round(listeners * 3600 * hours), unit=" s", disable=None) as shown:
            for some in _visits(party):
                check(engine, (_as_stream(visit, levels) for visit in some))
                visits += len(some)
                changes += sum(len(visit.score) for visit in some)
                samples += sum(len(visit.sound) for visit in some)
                shown.update(samples // rate - shown.n)
    seconds = time.monotonic() - began
    row = {"model": model, "listeners": listeners, "hours": hours, "seconds": round(seconds), "streams": visits}
    return row | {"samples": samples, "changes": changes, "memory_mb": server.memory_by_quarter()}


def _as_stream(visit: visitor.Visit, prompt: np.ndarray) -> Stream:
    return Stream(visit.listener, visit.seed, visit.sound, visit.score, prompt if visit.prompted else None)


def _visits(party: visitor.Party) -> Iterator[list[visitor.Visit]]:
    """Yields the streams of a party in lots, in the order in which they end."""
    context = multiprocessing.get_context("spawn")
    heard: multiprocessing.Queue[visitor.Visit] = context.Queue()
    process = context.Process(target=visitor.stay, args=(party, heard.put), daemon=True)
    process.start()
    some: list[visitor.Visit] = []
    while process.is_alive() or not heard.empty():
        try:
            some.append(heard.get(timeout=1))
        except queue.Empty:
            continue
        if len(some) == _TOGETHER:
            yield some
            some = []
    if some:
        yield some
    if process.exitcode:
        raise SystemExit("the listeners ended early")


def _recording(length: int) -> np.ndarray:
    """Returns (length,) float32: a tone that falls, with noise, in the 16 bits of a file."""
    time_of = np.linspace(0, 1, length)
    sound = 0.4 * np.sin(300 * np.exp(-time_of)) + 0.05 * np.random.default_rng(1).standard_normal(length)
    return (np.rint(32767 * sound) / 32768).astype(np.float32)


def _uploaded(place: str, recording: np.ndarray, rate: int) -> str:
    """Returns the name by which the server knows a recording."""
    content = io.BytesIO()
    soundfile.write(content, recording, rate, format="WAV", subtype="PCM_16")
    request = urllib.request.Request(f"http://{place}/api/prompts?name=prompt.wav", content.getvalue())
    with urllib.request.urlopen(request) as answer:
        return str(json.loads(answer.read())["prompt"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="demo", help="a run folder, a model file, or a bundled model")
    parser.add_argument("--hours", type=float, default=2.0, help="of sound that each listener hears")
    parser.add_argument("--listeners", type=int, default=8, help="at the same time")
    parser.add_argument("--dtype", default="auto", help="numeric mode of the server")
    parser.add_argument("--json", type=record.file, help="a file to which the row is added")
    args = parser.parse_args()
    if not args.hours > 0:
        parser.error(f"--hours must be above 0, got {args.hours:g}")
    if not 1 <= args.listeners <= _MOST_LISTENERS:
        parser.error(f"--listeners must be 1 to {_MOST_LISTENERS}, got {args.listeners}")
    if args.json and not args.json.parent.is_dir():
        parser.error(f"--json: there is no folder {args.json.parent}")
    try:
        row = soak(args.model, args.hours, args.listeners, args.dtype)
    except SampleRNNError as error:
        raise SystemExit(str(error)) from None
    print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    if args.json:
        record.append(args.json, [row])


if __name__ == "__main__":
    main()
