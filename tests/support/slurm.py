"""A real SLURM of one node on this machine: its controller, its daemon and munge, all in one temporary folder.

It shows what a double could not: what sbatch and srun pass on, which signals a task gets, and that it is queued again.
It has two processors (fewer real ones may lie behind them) and the partitions `low` and `high`, of which `high`
preempts. It keeps no accounts (that needs a database), so states come from scontrol, not from sacct.
"""

import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MUNGED, CONTROLLER, DAEMON = "munged", "slurmctld", "slurmd"
_NEEDED = (MUNGED, CONTROLLER, DAEMON, "sbatch", "srun", "scontrol", "scancel")
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
MEMORY_MB = 1500
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")

# A job that is queued again waits until its old credential cannot be valid any more: cred_expire, usually two minutes.
# Where tasks are bound to processors, as by Autobind here, one sees what srun has not been told.
_CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={daemon_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
TaskPluginParam=Autobind=cores
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,sched_min_interval=100000,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=5
ReturnToService=2
DefMemPerCPU=200
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory={memory} State=UNKNOWN
PartitionName=low Nodes={host} Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=1 MaxTime=60
PartitionName=high Nodes={host} PriorityTier=10 PreemptMode=OFF MaxTime=60
"""


def reason_to_skip() -> str:
    """Why no SLURM can be run here, or ""."""
    missing = [name for name in _NEEDED if shutil.which(name, path=_path()) is None]
    if missing:
        return f"needs {', '.join(missing)} (Debian: slurm-wlm and munge)"
    return "" if os.geteuid() == 0 else "the daemons of SLURM run as root"


class Cluster:
    """A SLURM that runs. `environment` is what its commands need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.environment = dict(os.environ, SLURM_CONF=str(folder / "slurm.conf"), PATH=_path())

    def ask(self, *words: object, check: bool = True) -> str:
        """What a command of SLURM prints."""
        command = [str(word) for word in words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=self.environment)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def jobs(self, number: str) -> dict[str, dict[str, str]]:
        """The fields of a job, or of each task of an array, by their names as SLURM writes them: 7, or 7_0 and 7_1."""
        found = {}
        for line in self.ask("scontrol", "show", "job", number, "--oneliner", check=False).splitlines():
            fields = dict(re.findall(r"(\S+?)=(\S*)", line))
            if "ArrayTaskId" in fields:
                found[f"{fields['ArrayJobId']}_{fields['ArrayTaskId']}"] = fields
            elif fields:
                found[fields["JobId"]] = fields
        return found

    def processes(self, number: str) -> list[int]:
        """The processes that srun has started for a job and that run now."""
        rows = [line.split() for line in self.ask("scontrol", "listpids", number, check=False).splitlines()]
        return [int(row[0]) for row in rows if len(row) > 2 and row[0].isdigit() and row[2] == "0"]

    def wait_for(self, what: Callable[[], object], seconds: float = 90) -> None:
        """Waits until something holds. Fails with the logs of SLURM where it does not come to be."""
        end = time.monotonic() + seconds
        while not what():
            if time.monotonic() > end:
                raise AssertionError(f"{self.ask('scontrol', 'show', 'job', check=False)}\n{self.logs()}")
            time.sleep(0.1)

    def wait_for_end(self, number: str, seconds: float = 90) -> dict[str, dict[str, str]]:
        """Waits until a job, with all tasks of an array, has ended. Returns its fields."""

        def ended() -> bool:
            states = [one["JobState"] for one in self.jobs(number).values()]
            return bool(states) and all(state in ENDED for state in states)

        self.wait_for(ended, seconds)
        return self.jobs(number)

    def logs(self) -> str:
        """The ends of what the daemons have written."""
        texts = [path.read_text(errors="replace")[-3000:] for path in sorted(self.folder.glob("*.log"))]
        return "\n".join(texts)


@contextmanager
def running() -> Iterator[Cluster]:
    """A cluster that is ready for jobs. It is stopped, with its jobs, and its folder removed."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a short path: the name of a socket has at most 107 letters
    cluster = Cluster(folder)
    try:
        _configure(folder)
        socket_, key = folder / "munge.socket", folder / "munge.key"
        words = [f"--socket={socket_}", f"--key-file={key}", f"--pid-file={folder}/munge.pid"]
        words += [f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed", "--num-threads=1"]
        _start(cluster, [MUNGED, "--foreground", "--force", *words])
        cluster.wait_for(socket_.exists, 20)
        _start(cluster, [CONTROLLER, "-D"])
        _start(cluster, [DAEMON, "-D", "-N", _host()])
        cluster.wait_for(lambda: "State=IDLE" in cluster.ask("scontrol", "show", "node", check=False), 30)
        yield cluster
    finally:
        if len(cluster.daemons) == 3:
            cluster.ask("scancel", "--user=root", check=False)
            cluster.wait_for(lambda: "JobState=RUNNING" not in cluster.ask("scontrol", "show", "job", check=False), 30)
        for daemon in reversed(cluster.daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _configure(folder: Path) -> None:
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    controller_port, daemon_port = _free_ports(2)
    text = _CONFIG.format(
        host=_host(), folder=folder, controller_port=controller_port, daemon_port=daemon_port, memory=MEMORY_MB
    )
    (folder / "slurm.conf").write_text(text)


def _start(cluster: Cluster, words: Sequence[str]) -> None:
    command = [shutil.which(words[0], path=_path()) or words[0], *words[1:]]
    with open(cluster.folder / f"{words[0]}-start.log", "wb") as log:
        options = {"stdout": log, "stderr": log, "env": cluster.environment, "start_new_session": True}
        cluster.daemons.append(subprocess.Popen(command, **options))


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _path() -> str:
    return os.pathsep.join([*os.get_exec_path(), *_SBIN])


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
