"""Starting the processes of a job: through submitit, which knows SLURM and starts processes on this machine."""

import io
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samplernn_fast.errors import BackendUnavailable, MissingPackage, SampleRNNError
from samplernn_fast.terminal import handled

_YEAR = 365 * 24 * 60  # minutes; processes on this machine have no limit, and submitit wants one
# How long before a limit of time SLURM warns a process, which is then queued again: at most so long, and no more than
# so much of the limit. SLURM itself warns up to a minute earlier.
_SIGNAL_SECONDS, _SIGNAL_SECONDS_A_MINUTE = 90, 10
# From SLURM 22.05 on, srun does not take the processors of a task over from sbatch, and where a cluster binds tasks to
# processors, ours would have one.
_PASS_CPUS = '[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"'
_LOOK_SECONDS = 0.2
_ASK_SECONDS = 1.0


@dataclass(frozen=True)
class Resources:
    """What SLURM is asked for. What is None or 0 is left to the cluster's own defaults."""

    minutes: int = 60
    concurrency: int | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    cpus: int = 0
    gpus: int = 0
    memory_gb: float = 0
    setup: Sequence[str] = ()
    """Lines of shell before each process, such as `module load`."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Any other option of sbatch, by its name without dashes; the value is empty where it takes none."""

    def parameters(self, name: str, tasks: int) -> dict[str, Any]:
        """As submitit takes them, for an array of so many tasks."""
        given: dict[str, Any] = {
            "slurm_partition": self.partition,
            "slurm_account": self.account,
            "slurm_qos": self.qos,
            "cpus_per_task": self.cpus or None,
            "slurm_gpus_per_task": self.gpus or None,
            "mem_gb": self.memory_gb or None,
            "slurm_setup": [_PASS_CPUS, *self.setup],
        }
        others = {key: value or True for key, value in self.others.items()}  # True becomes an option without a value
        return {key: value for key, value in given.items() if value is not None} | {
            "name": name,
            "timeout_min": self.minutes,
            "slurm_array_parallelism": self.concurrency or tasks,
            "slurm_signal_delay_s": min(_SIGNAL_SECONDS, _SIGNAL_SECONDS_A_MINUTE * self.minutes),
            "slurm_additional_parameters": {"requeue": True, **others},
        }


def to_slurm(tasks: Sequence[Callable[[], str]], logs: Path, resources: Resources, name: str, restarts: int) -> str:
    """Hands tasks to SLURM as one array. Returns the number of the job.

    A task that is preempted is queued again by SLURM, and one whose time is over by itself, `restarts` times.
    Raises BackendUnavailable where there is no SLURM, or it refuses the job.
    """
    submitit = _submitit()
    try:
        executor = submitit.AutoExecutor(logs, cluster="slurm", slurm_max_num_timeout=restarts)
        executor.update_parameters(**resources.parameters(name, len(tasks)))
        with redirect_stderr(io.StringIO()), executor.batch():  # submitit prints what sbatch said, which we say below
            jobs = [executor.submit(task) for task in tasks]
        return str(jobs[0].job_id).partition("_")[0]
    except (RuntimeError, submitit.core.utils.FailedJobError) as error:  # it is no cluster, or sbatch has refused
        raise BackendUnavailable(f"SLURM did not take the job: {_complaint(str(error))}") from None


class LocalTeam:
    """Processes on this machine, one for each task. One that is killed is started again.

    They share no terminal with us: what they print is in the files of `logs`, and `should_stop` tells them of ctrl-C.
    """

    def __init__(
        self,
        tasks: Sequence[Callable[[int], str]],
        logs: Path,
        restarts: int,
        report: Callable[[str], object],
        at_once: int,
    ) -> None:
        """report: is called with a line about each process that was killed. restarts: of all tasks together. at_once:
        how many run beside each other; a task is called with its place among them, from 0."""
        submitit = _submitit()
        self._executor = submitit.LocalExecutor(logs)
        self._executor.update_parameters(timeout_min=_YEAR)
        self._tasks, self._restarts, self._report, self._at_once = list(tasks), restarts, report, at_once
        self._jobs: list[Any] = [None] * len(self._tasks)

    def run(self, each: Callable[[], object], should_stop: Callable[[], bool]) -> None:
        """Starts all processes and waits for them; `each` is called several times a second.

        Where should_stop says so, all are asked to end as soon as nothing is lost, and no other is started.

        A task returns why it failed, or "". Raises SampleRNNError where one has failed, or was killed too often, with
        the reason of the first in their order. The others run to their end first.
        """
        try:
            self._run(each, should_stop)
        except SampleRNNError:
            raise
        except BaseException:
            self._stop()
            raise

    def _run(self, each: Callable[[], object], should_stop: Callable[[], bool]) -> None:
        failures: dict[int, str] = {}
        waiting, places = list(range(len(self._tasks))), list(range(self._at_once))
        running: dict[int, int] = {}  # which place each task has that runs
        while waiting or running:
            if should_stop():
                self._stop()
                return
            while waiting and places:
                number, place = waiting.pop(0), places.pop(0)
                running[number] = place
                self._start(number, place)
            time.sleep(_LOOK_SECONDS)
            each()
            for number in sorted(running):
                job = self._jobs[number]
                if not job.done():
                    continue
                places.append(running.pop(number))
                if job.paths.result_pickle.exists():
                    error = job.exception()
                    message = _last_line(str(error)) if error is not None else job.result()
                    if message:
                        failures[number] = f"shard {number}: {message}; {job.paths.stderr} tells more"
                elif self._restarts > 0:
                    self._restarts -= 1
                    self._report(f"the process of shard {number} was killed, and is started again")
                    waiting.insert(0, number)
                else:
                    failures[number] = f"shard {number} was killed too often; {job.paths.stderr} tells more"
        if failures:
            others = f" ({len(failures)} shards failed)" if len(failures) > 1 else ""
            raise SampleRNNError(failures[min(failures)] + others)

    def _stop(self) -> None:
        """Asks all processes to end as soon as nothing is lost, and waits until they have."""
        asked = 0.0
        while left := [job for job in self._jobs if job is not None and not job.done()]:
            if time.monotonic() - asked >= _ASK_SECONDS:  # submitit loses a signal that comes before the task is there
                asked = time.monotonic()
                for job in left:
                    job._process.send_signal(signal.SIGTERM)  # which it hands on; its own `cancel` kills the task
            time.sleep(_LOOK_SECONDS)

    def _start(self, number: int, place: int) -> None:
        # What is ignored here is ignored there too: a ctrl-C at the terminal is for us, and we pass it on.
        with handled(signal.SIG_IGN, signal.SIGINT):
            self._jobs[number] = self._executor.submit(self._tasks[number], place)


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise MissingPackage("jobs submit needs submitit; pip install submitit (extra `jobs`)") from None
    return submitit


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them. No driver is loaded."""
    text = os.environ.get("CUDA_VISIBLE_DEVICES")
    if text is not None:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return tuple(str(number) for number, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*")))


def _complaint(text: str) -> str:
    """What sbatch has against a job, in one line."""
    lines = [line for line in text.splitlines() if line.startswith("sbatch: ")]  # another one points at its --help
    said = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in lines] or [_last_line(text)]
    limit = "; scontrol show config | grep MaxArraySize says how many shards an array may have"
    return "; ".join(said) + (limit if "Invalid job array" in text else "")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it failed without a word"
