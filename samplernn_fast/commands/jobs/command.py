"""The `jobs` command: its parts start a command's shards, say how far they are, and check what they made."""

import json as json_module
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import tyro

from samplernn_fast import terminal
from samplernn_fast.commands import COMMANDS
from samplernn_fast.commands.flags import Out, Part, run_part
from samplernn_fast.commands.jobs import merging
from samplernn_fast.commands.jobs.task import Task, check_words, output_of
from samplernn_fast.errors import ConfigError, DataError, Interrupted
from samplernn_fast.jobs import cluster, kubernetes
from samplernn_fast.jobs.ledger import Ledger, find_jobs
from samplernn_fast.jobs.shards import COUNT
from samplernn_fast.jobs.status import status_of
from samplernn_fast.ranges import Range

_Words = tyro.conf.Positional[tuple[str, ...]]
_Place = tyro.conf.Positional[Path]
_LOGS = Path("job-logs")
_NUMBERS = Range(0, 1_000_000)
# Said once for each value. As words behind one flag, a second flag would replace the first without a word.
_Repeated = tyro.conf.UseAppendAction[tuple[str, ...]]


def jobs(args: Sequence[str], prog: str) -> None:
    """Share a command between many processes: submit its shards, see how far they are, check what they made."""
    if args and args[0] in ("submit", "manifest") and "--" not in args and any(word in COMMANDS for word in args[1:]):
        raise ConfigError(f"put -- before the command that is shared, as in {PARTS['submit'].example}")
    run_part("jobs", PARTS, args, prog)


def submit(
    command: _Words,
    /,
    *,
    local: Annotated[int | None, Range(1, 4096)] = None,
    shards: Annotated[int | None, COUNT] = None,
    concurrency: Annotated[int | None, COUNT] = None,
    restarts: Annotated[int, _NUMBERS] = 100,
    logs: Path = _LOGS,
    name: str = "samplernn",
    minutes: Annotated[int, Range(1, 10**6)] = 60,
    partition: str | None = None,
    account: str | None = None,
    qos: str | None = None,
    cpus: Annotated[int, _NUMBERS] = 0,
    gpus: Annotated[int, _NUMBERS] = 0,
    memory_gb: Annotated[float, _NUMBERS] = 0,
    setup: _Repeated = (),
    slurm: _Repeated = (),
) -> None:
    """Start the shards of a command: under SLURM as one array, or with --local on this machine.

    Args:
        command: The command and its flags, behind --.
        local: So many processes on this machine, each on processors of its own; they are waited for, and one that is
            killed is started again. Without it, SLURM gets an array of jobs, which is not waited for.
        shards: How many parts; without it, as many as there are processes.
        concurrency: How many of the array's jobs may run at once.
        restarts: How often a process that was killed (all of --local together) or whose time was over (each of SLURM)
            is started again.
        logs: The folder for what the processes print; under SLURM on a disk that all machines share.
        name: What SLURM calls the array.
        minutes: The limit of time of one job; at its end the job is queued again, and goes on.
        partition: SLURM's partition.
        account: SLURM's account.
        qos: SLURM's quality of service.
        cpus: Processors of one job.
        gpus: GPUs of one job.
        memory_gb: Memory of one job.
        setup: A line of shell before each job, such as "module load cuda"; may be given again.
        slurm: Another option of sbatch as NAME=VALUE, such as constraint=a100, or as NAME= where it has no value; may
            be given again.
    """
    words = tuple(command)
    check_words(words)
    if local is not None:
        given: dict[str, object] = {
            "concurrency": concurrency,
            "partition": partition,
            "account": account,
            "qos": qos,
            "cpus": cpus,
        }
        given |= {"gpus": gpus, "memory_gb": memory_gb, "setup": setup, "slurm": slurm}
        flag = next((name for name, value in given.items() if value), None)
        if flag is not None:
            raise ConfigError(f"{flag} must be left out beside local, because it is SLURM's")
        _run_here(words, local, shards or local, logs, restarts)
        return
    if shards is None:
        raise ConfigError("--shards must say how many parts the work has, or --local how many processes to start here")
    others = dict(_pair(text) for text in slurm)
    resources = cluster.Resources(minutes, concurrency, partition, account, qos, cpus, gpus, memory_gb, setup, others)
    tasks = [Task(words, index, shards, queued_again=True) for index in range(shards)]
    number = cluster.to_slurm(tasks, logs, resources, name, restarts)
    where, parts = output_of(words) or ".", terminal.counted(shards, "shard")
    print(f"SLURM has the array {number} of {parts}; samplernn-fast jobs status {where}, logs in {logs}")


def _run_here(words: tuple[str, ...], processes: int, shards: int, logs: Path, restarts: int) -> None:
    """Runs all shards on this machine, and then checks what they made."""
    if shards < processes:
        raise ConfigError(f"shards must be at least the number of processes, {processes}, got {shards}")
    gpus = cluster.visible_gpus()
    notes = logs.absolute() / f"jobs-{secrets.token_hex(4)}.txt"
    tasks = [Task(words, index, shards, processes, gpus, notes=str(notes)) for index in range(shards)]
    team = cluster.LocalTeam(tasks, logs, restarts, terminal.say, processes)
    logs.mkdir(parents=True, exist_ok=True)
    with terminal.Bar(None, "unit", title=words[0]) as bar:
        counter = _Counter(notes, bar)
        with terminal.interrupts(signal.SIGTERM, notice="stopping; what is whole is kept") as caught:
            team.run(counter.look, lambda: bool(caught))
        counter.look(at_once=True)
    if caught:
        raise Interrupted("interrupted; the same command goes on", caught[0])
    for ledger in counter.ledgers():
        merging.merge(ledger)


class _Counter:
    """Counts the units of the jobs that the processes note when they begin them, or take them up again."""

    def __init__(self, notes: Path, bar: terminal.Bar) -> None:
        self._notes, self._bar = notes, bar
        self._seen, self._looked = 0, 0.0
        self._known: dict[str, Ledger] = {}  # a plan may be large, so each is read once

    def ledgers(self) -> list[Ledger]:
        """These jobs. One that cannot be read is left out here; its processes say why."""
        with suppress(OSError):
            for line in self._notes.read_text(encoding="utf-8").splitlines():
                with suppress(DataError):
                    if line not in self._known:
                        self._known[line] = Ledger.open(Path(line))
        return list(self._known.values())

    def look(self, *, at_once: bool = False) -> None:
        """Moves the bar on, at most once a second unless at_once: a large job has many files."""
        if time.monotonic() - self._looked < 1 and not at_once:
            return
        self._looked = time.monotonic()
        count = sum(ledger.recorded() for ledger in self.ledgers())
        self._bar.advance(count - self._seen)
        self._seen = count


def status(place: _Place = Path("."), /, *, quick: bool = False, json: bool = False) -> None:
    """How far jobs are: units done, missing and broken, the rate, and the hours that are left.

    Args:
        place: The folder of a job (it ends in .job), a folder that holds some, or what a job makes.
        quick: Compare the sizes of files and not their bytes, which takes long for many hours of audio.
        json: Print one JSON object for each job instead of text.
    """
    wrong = 0
    for folder in find_jobs(place):
        ledger = Ledger.open(folder)
        with terminal.Bar(len(ledger.plan.units), "unit", title="status", shown=sys.stderr.isatty()) as bar:
            found = status_of(ledger, deep=not quick, each=bar.advance)
        print(json_module.dumps(found.to_dict()) if json else found.text())
        wrong += len(found.broken) + len(found.unknown)
    if wrong:
        verb = "is" if wrong == 1 else "are"
        raise DataError(
            f"{terminal.counted(wrong, 'file')} {verb} not what these jobs made; running the command again repairs that"
        )


def merge(place: _Place = Path("."), /) -> None:
    """Check that every unit of a job is there and right, write its manifest.json, and put together what it makes.

    Args:
        place: As in status.
    """
    for folder in find_jobs(place):
        merging.merge(Ledger.open(folder))


def manifest(
    command: _Words,
    /,
    *,
    out: Out,
    shards: Annotated[int, COUNT],
    image: str,
    concurrency: Annotated[int | None, COUNT] = None,
    restarts: Annotated[int, _NUMBERS] = 100,
    name: str = "samplernn",
    claim: str = "samplernn",
    mount: str = "/work",
    cpus: Annotated[float, _NUMBERS] = 1,
    gpus: Annotated[int, _NUMBERS] = 0,
    memory_gb: Annotated[float, _NUMBERS] = 4,
    overwrite: bool = False,
) -> None:
    """Write a Kubernetes Indexed Job of a command's shards, job.yaml, and the Dockerfile of its image.

    Args:
        command: The command and its flags, behind --; its paths are those in the containers.
        out: The folder for the two files.
        shards: How many parts.
        image: The name of the image that the Dockerfile makes.
        concurrency: How many run at once; without it, all.
        restarts: How often each may be started again after a failure; an eviction does not count.
        name: The name of the job.
        claim: The PersistentVolumeClaim with the model, the data and the output, which all pods may write at once.
        mount: Where the containers have it, which is also the folder that relative paths begin in.
        cpus: Processors of one pod.
        gpus: GPUs of one pod.
        memory_gb: Memory of one pod.
        overwrite: Replace files of these names that are there.
    """
    words = tuple(command)
    check_words(words)
    pods = kubernetes.Pods(name, image, claim, mount, cpus, gpus, memory_gb)
    for path in kubernetes.write(out, words, pods, shards, concurrency or shards, restarts, overwrite=overwrite):
        print(path)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"slurm must be NAME=VALUE, got {text!r}")
    return key.lstrip("-"), value


PARTS = {
    "submit": Part(submit, "samplernn-fast jobs submit --local 4 -- generate run --num-samples 1000 -o out/"),
    "status": Part(status, COMMANDS["jobs"].example),
    "merge": Part(merge, "samplernn-fast jobs merge out"),
    "manifest": Part(
        manifest,
        "samplernn-fast jobs manifest --shards 16 --image samplernn -o k8s -- generate run --num-samples 999 -o out/",
    ),
}
"""What the command does, by its first word."""
