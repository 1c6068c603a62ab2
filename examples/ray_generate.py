"""Shards of `samplernn-fast generate` as tasks of Ray. One whose worker or machine dies is started again, and goes on.

    pip install ray
    python examples/ray_generate.py --shards 64 --cpus 2 -- generate demo -o out/ --num-samples 1000 --duration 10

Without a cluster, Ray starts one on this machine. `--address auto`, on a machine of a cluster, uses all of it; then all
machines need samplernn_fast, and this folder on a disk that they share.
"""

import argparse
import os
import sys
import time

import ray

from samplernn_fast.commands.jobs.task import Task, check_words, output_of
from samplernn_fast.commands.main import run_command
from samplernn_fast.errors import SampleRNNError


def work(task: Task, folder: str) -> str:
    """Makes what is not there yet of one shard, in a worker of Ray. Returns why it failed, or ""."""
    os.chdir(folder)
    return task()


def main() -> int:
    """Runs all shards, then checks every file. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=16, help="how many tasks; several times as many as run at once")
    parser.add_argument("--cpus", type=int, default=1, help="processors of one task")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of one task")
    parser.add_argument("--retries", type=int, default=100, help="how often a task that died is started again")
    parser.add_argument("--address", help="of a Ray cluster; auto finds the one of this machine")
    parser.add_argument("words", nargs="+", help="the command, behind --")
    given = parser.parse_args()
    words = tuple(given.words)
    try:
        check_words(words)
    except SampleRNNError as error:
        parser.error(str(error))
    threads = () if given.gpus or "--num-threads" in words else ("--num-threads", str(given.cpus))

    ray.init(address=given.address)
    # Ray starts a task again where its worker has died. One that ends with a message would only fail again.
    remote = ray.remote(num_cpus=given.cpus, num_gpus=given.gpus, max_retries=given.retries)(work)
    tasks = [Task((*words, *threads), index, given.shards) for index in range(given.shards)]
    began, waiting, failed = time.monotonic(), {}, 0
    for task in tasks:
        waiting[remote.remote(task, os.getcwd())] = task
    while waiting:
        (done,), _ = ray.wait(list(waiting))
        task = waiting.pop(done)
        try:
            message = ray.get(done)
        except ray.exceptions.RayError as error:  # it has died too often
            message = str(error).strip().splitlines()[0]
        failed += bool(message)
        print(
            f"shard {task.index}: {message or 'done'}; {len(waiting)} left, {time.monotonic() - began:.0f} s",
            flush=True,
        )
    ray.shutdown()

    status, message = run_command(["jobs", "status" if failed else "merge", output_of(words) or "."])
    if message:
        print(message, file=sys.stderr)
    return 1 if failed else status


if __name__ == "__main__":
    sys.exit(main())
