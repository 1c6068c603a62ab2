"""`Task`: one shard of a command, as a process of a cluster runs it."""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samplernn_fast.commands import COMMANDS
from samplernn_fast.commands.main import run_command
from samplernn_fast.commands.standard_streams import stopped_by_sigterm
from samplernn_fast.errors import ConfigError, SampleRNNError, did_you_mean, quoted
from samplernn_fast.jobs import ledger
from samplernn_fast.terminal import handled

_QUEUED_AGAIN = -1
"""With this exit status submitit ends a process that it has queued again, from the handler of a signal."""


@dataclass(frozen=True)
class Task:
    """Calls one command with the flags of one shard. submitit sends it to the process as a pickle."""

    words: tuple[str, ...]
    """The command and its flags."""
    index: int
    count: int
    beside: int = 0
    """How many such processes share this machine's processors, of which each gets its own; 0: it may use all."""
    gpus: tuple[str, ...] = ()
    """The GPUs that processes beside each other share, each of which takes one of them in turn."""
    notes: str = ""
    """A file to which the folders of the jobs are added that the command works on; empty for none."""
    queued_again: bool = False
    """Whether a scheduler queues it again where it is stopped before its end."""

    def __call__(self, place: int = 0) -> str:
        """Runs the command. Returns why it failed, in one line, or "" where it did not.

        place: which of the processes `beside` each other this is. Raises SampleRNNError where it failed and is
        `queued_again`: only the end of its process tells a scheduler.
        """
        if self.beside:
            _pin(place, self.beside)
            # submitit's local executor hides all GPUs. Nothing has loaded the driver yet.
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpus[place % len(self.gpus)] if self.gpus else ""
        if self.notes:
            ledger.on_begin.append(self._note)
        shard = ("--shard-index", str(self.index), "--num-shards", str(self.count))
        # A scheduler that preempts a process sends SIGTERM some time before it kills it. A process that ended by itself
        # then would count as finished, and would not be queued again. What it is making meanwhile may still be ready.
        scheduled = handled(signal.SIG_IGN, signal.SIGTERM)
        with scheduled if self.queued_again else stopped_by_sigterm():
            status, message = run_command([*self.words, *shard])
        if status == _QUEUED_AGAIN:
            sys.exit(status)
        message = message or ("" if status == 0 else f"it ended with exit status {status}")
        if message and self.queued_again:
            raise SampleRNNError(message)
        return message

    def _note(self, folder: Path) -> None:
        with open(self.notes, "a", encoding="utf-8") as notes:
            notes.write(f"{folder.absolute()}\n")

    def checkpoint(self) -> Any:
        """What submitit runs in its place where its time is over: the same, which leaves out what is made."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _pin(place: int, processes: int) -> None:
    """Gives this process its own part of the processors, so that engines do not take them from each other."""
    if not hasattr(os, "sched_setaffinity"):
        return
    there = sorted(os.sched_getaffinity(0))
    mine = there[len(there) * place // processes : len(there) * (place + 1) // processes]
    os.sched_setaffinity(0, mine or [there[place % len(there)]])


def check_words(words: Sequence[str]) -> None:
    """Raises ConfigError where these words are no command that can be shared, or its flags are wrong."""
    import inspect

    from samplernn_fast.commands.flags import deferred, parse

    name = words[0] if words else ""
    shared = [one for one, command in COMMANDS.items() if one != "jobs" and _takes_shards(command.load_flags())]
    if name not in shared:
        got = f"{quoted(name)}{did_you_mean(name, shared)}" if words else "nothing"
        raise ConfigError(f"behind -- there must be a command that can be shared, {', '.join(shared)}, got {got}")
    given = [word for word in words if word.split("=")[0].replace("_", "-") in ("--shard-index", "--num-shards")]
    if given:
        raise ConfigError(f"{given[0]} is given by jobs itself; leave it out of the command behind --")
    command = COMMANDS[name]
    if not command.parts:
        parse(deferred(command.load()), f"samplernn-fast {name}", words[1:], description=inspect.getdoc(command.load()))


def _takes_shards(functions: Sequence[Any]) -> bool:
    import inspect

    return any("num_shards" in inspect.signature(function).parameters for function in functions)


def output_of(words: Sequence[str]) -> str | None:
    """What a command's words say of where its output goes; None where they do not say it."""
    flags = ("-o", "--out", "--output")
    for place, word in enumerate(words):
        if word in flags and place + 1 < len(words):
            return words[place + 1]
        if word.partition("=")[0] in flags and "=" in word:
            return word.partition("=")[2]
    return None
