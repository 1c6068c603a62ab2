"""Pieces that many processes of `generate` make together: a ledger says which there are, and which are right.

A process takes its share, leaves out what is made, and makes the rest in batches. A piece becomes a file when it is
whole, so a process that dies loses what it is making, a batch or on a GPU two, and any number of shards, processes and
restarts makes the same files.
"""

import contextlib
import functools
import itertools
import json as json_module
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from samplernn_fast import files, terminal
from samplernn_fast.commands.generation.faster import tell_of_faster
from samplernn_fast.commands.generation.places import make_folder
from samplernn_fast.errors import ConfigError, Interrupted
from samplernn_fast.jobs.ledger import Ledger, Plan, job_folder
from samplernn_fast.jobs.shards import Shard

if TYPE_CHECKING:
    from samplernn_fast.audio.takes import Names
    from samplernn_fast.engine.engine import Engine

# A backend that is not batch-invariant makes so many pieces at a time, because all shards must take the same number. On
# a GPU large batches are several times as fast, but many shards should find some to do.
_BATCH, _GPU_BATCH, _MOST_GPU_BATCH, _GPU_BATCHES = 16, 64, 512, 64
_WAITING = 60.0  # seconds after which a batch that waits for its turn shows that it is still there


@dataclass(frozen=True)
class Sharing:
    """A share of the pieces of one command."""

    model: str
    settings: Callable[[range], dict[str, Any]]
    """The arguments of `api.stream` for some of the pieces."""
    temperature: Sequence[str]
    """As the flag says it, for the plan."""
    duration: float
    json: bool
    shard: Shard
    batch: int | Literal["auto"]

    def check(self, seed: int | str, overwrite: bool) -> None:
        """Raises ConfigError for flags that make no sense where work is shared."""
        if seed == "random":
            raise ConfigError("seed must be a number where work is shared: every shard would draw its own")
        if overwrite:
            raise ConfigError(
                "overwrite=True makes no sense where work is shared: pieces that are there and right are kept; remove"
                " the job's folder, which ends in .job, and the files to begin again"
            )

    def save(self, names: "Names") -> None:
        """Makes the share's pieces that are not there yet, and prints their names as they appear.

        names: of all pieces. ctrl-C and SIGTERM keep the pieces that are whole.
        """
        units = [path.name for path in replace(names, overwrite=True).paths()]
        if not self.shard.share(units):
            terminal.say("nothing to do: this shard has no pieces")
            return
        if self.shard.told_by:
            terminal.say(f"{self.shard}; --num-shards 1 makes all pieces here")
        with terminal.waiting("loading the model"):
            engine = self._engine()
        tell_of_faster(engine, self.settings(range(1))["backend"], len(units))
        make_folder(names.path.parent)
        fixed = not engine.backend.batch_invariant
        batch = self._fixed_batch(engine, len(units))
        ledger = Ledger.begin(job_folder(names.path), self._plan(engine, units, batch if fixed else None))
        groups = [range(start, min(start + batch, len(units))) for start in range(0, len(units), batch)]
        mine = list(self.shard.share(groups)) if fixed else [self.shard.numbers(len(units))]
        if not mine:
            terminal.say(
                f"nothing to do: this shard has none of the {len(groups)} batches of {batch} pieces; see --batch"
            )
            return
        with terminal.waiting("looking at the pieces that are there"):
            wanted = set(ledger.to_make([units[stream] for group in mine for stream in group], terminal.say))
        left = {stream for group in mine for stream in group if units[stream] in wanted}
        if not fixed and left:
            batch = self._measured_batch(engine, len(left))
        work = [one for one in mine if left & set(one)] if fixed else list(_runs(sorted(left), batch))
        there = sum(map(len, mine)) - len(left)
        self._work(engine, ledger, units, work, left, there, batch)

    def _work(
        self,
        engine: "Engine",
        ledger: Ledger,
        units: list[str],
        work: Sequence[range],
        left: set[int],
        there: int,
        batch: int,
    ) -> None:
        """Makes the batches `work`, of which the streams in `left` become files."""
        began, made = time.perf_counter(), []
        total = sum(map(len, work)) * self.duration
        with (
            terminal.interrupts(signal.SIGTERM) as caught,
            terminal.audio_bar(total, shown=bool(work), title="generate") as bar,
        ):
            failed, printing = threading.Event(), threading.Lock()

            def stopped() -> bool:
                return bool(caught) or failed.is_set()

            def adopt(stream: int, path: Path) -> None:
                if stream not in left:
                    return
                ledger.adopt(units[stream], path)
                with printing:
                    made.append(ledger.path(units[stream]))
                    if not self.json:
                        print(made[-1], flush=True)

            making = functools.partial(self._make, engine, ledger, bar, stopped, threading.Lock(), adopt)
            _make_all(making, work, 1 if engine.device == "cpu" else 2, failed)
            if caught:
                kept = terminal.counted(len(made) + there, "piece")
                raise Interrupted(f"interrupted: {kept} of this shard are whole, and are kept", caught[0])
        seconds = time.perf_counter() - began
        self._report(engine, ledger, sorted(made), there, batch, total / seconds if work else None)

    def _make(
        self,
        engine: "Engine",
        ledger: Ledger,
        bar: terminal.Bar,
        stopped: Callable[[], bool],
        turn: threading.Lock,
        adopt: Callable[[int, Path], None],
        streams: range,
    ) -> None:
        """Makes one batch, of which none becomes a file where it is stopped before the end.

        turn: held while audio is made, so that the files of one batch are begun and ended while a GPU makes another.
        """
        from samplernn_fast import api
        from samplernn_fast.audio.takes import Names, Takes

        if stopped():
            return
        settings = self.settings(streams)
        hears = settings.get("prompt") is not None  # which is work for the engine, too
        with turn if hears else contextlib.nullcontext():
            stream = api.stream(engine, **settings)
        steps = stream.steps(self.duration)

        def heard(levels: Any) -> None:
            bar.advance(levels.size / stream.sample_rate)

        with ledger.making() as folder:
            names = Names(folder / f"piece{Path(ledger.plan.units[0]).suffix}", streams)
            with Takes(names, stream.info(), stream.sample_rate, steps) as takes:
                while not turn.acquire(timeout=_WAITING):
                    with contextlib.suppress(OSError):  # A file that cannot be written tells it, too.
                        os.utime(folder)  # Otherwise another shard might take it for one that was left over.
                try:
                    made = stream.write_to(takes, self.duration, should_stop=stopped, heard=heard)
                finally:
                    turn.release()
                if made < steps:
                    return
                paths = takes.finish()
            files.for_each(lambda pair: adopt(*pair), list(zip(streams, paths, strict=True)))

    def _engine(self) -> "Engine":
        """One engine for all batches."""
        from samplernn_fast.engine.engine import Engine

        given = self.settings(range(1))
        return Engine(self.model, given["backend"], given["dtype"], given["device"], given["num_threads"])

    def _fixed_batch(self, engine: "Engine", pieces: int) -> int:
        """How many pieces are made at a time where the audio depends on it, so that all shards must agree."""
        if self.batch != "auto":
            return self.batch
        if engine.device == "cpu":
            return _BATCH
        return max(_GPU_BATCH, min(_MOST_GPU_BATCH, pieces // _GPU_BATCHES // _GPU_BATCH * _GPU_BATCH))

    def _measured_batch(self, engine: "Engine", most: int) -> int:
        """How many pieces are made at a time where the audio does not depend on it."""
        if self.batch != "auto":
            return self.batch
        from samplernn_fast.engine.filling import fill

        filling = fill(engine, most)
        terminal.say(filling.text())
        return filling.streams

    def _plan(self, engine: "Engine", units: list[str], batch: int | None) -> Plan:
        """The job's plan: all that decides the bytes of the files. batch: where they depend on it."""
        from samplernn_fast import api

        given = self.settings(range(1))
        info = api.stream(engine, **given).info()
        settings = {name: info[name] for name in ("made_by", "model_sha256", "backend", "dtype", "seed")}
        settings |= {name: info[name] for name in ("top_k", "top_p", "prompt_sha256")}
        settings |= {"device": engine.device.partition(":")[0], "duration": self.duration}
        settings |= {"temperature": list(self.temperature), "batch": batch}
        return Plan("generate", settings, tuple(units))

    def _report(
        self, engine: "Engine", ledger: Ledger, made: list[Path], there: int, batch: int, speed: float | None
    ) -> None:
        if self.json:
            values = {"job": str(ledger.folder), "shard_index": self.shard.index, "num_shards": self.shard.count}
            values |= {"files": [str(path) for path in made], "there": there, "batch": batch, "x_real_time": speed}
            print(json_module.dumps(values | {"backend": engine.backend.name, "dtype": engine.dtype}))
            return
        speed_text = "" if speed is None else f", {speed:.3g}x real time"
        made_by = f"{engine.backend.name} backend, {engine.dtype}, batch {batch}"
        print(
            f"{len(made)} made, {there} were there{speed_text}, {made_by}; samplernn-fast jobs status {ledger.folder}"
        )


def _make_all(make: Callable[[range], None], work: Sequence[range], at_once: int, failed: threading.Event) -> None:
    """Makes every batch, some of them at once. failed: is set as soon as one fails, so that others can end early."""

    def tried(streams: range) -> None:
        try:
            make(streams)
        except BaseException:
            failed.set()
            raise

    if at_once == 1:
        for streams in work:
            make(streams)
        return
    from concurrent import futures  # 9 ms that not every start needs

    with futures.ThreadPoolExecutor(at_once) as pool:
        try:
            for _ in pool.map(tried, work):
                pass
        except BaseException:  # such as a second ctrl-C
            failed.set()
            raise


def _runs(streams: Sequence[int], batch: int) -> Iterator[range]:
    """Neighbours among the streams, in rising order, at most `batch` at a time."""
    for _, run in itertools.groupby(enumerate(streams), key=lambda pair: pair[1] - pair[0]):
        numbers = [stream for _, stream in run]
        for start in range(0, len(numbers), batch):
            piece = numbers[start : start + batch]
            yield range(piece[0], piece[-1] + 1)
