"""Trains systems of `systems.SYSTEM_CASES` in processes that are killed, or in one that is one of several ranks.

python train_systems.py DATA OUT STEPS KILL_AT NAME...: one run for each name, in OUT/NAME. Where KILL_AT is not 0 each
run has a process that kills itself after so many updates, and the status of each is printed: NAME STATUS.
"""

import gc
import importlib
import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import torch
from runs import tiny
from systems import SYSTEM_CASES, trained

from samplernn_fast.training.config import TrainConfig
from samplernn_fast.training.process import process_group
from samplernn_fast.training.trainer import Trainer, train


def train_until_killed(config: TrainConfig, kill_at: int) -> None:
    update = Trainer.update

    def killing(self: Trainer, batch: object) -> None:
        update(self, batch)
        if self.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    Trainer.update = killing
    train(config, progress=False)


def train_as_ranks(configs: list[TrainConfig]) -> None:
    """All runs in one group of processes, because a process can join a group only once."""
    torch.set_num_threads(1)
    with process_group("cpu") as (rank, ranks, device):
        for config in configs:
            config.out.mkdir(parents=True, exist_ok=True)
            Trainer(config, rank, ranks, device).run([], progress=False)
            gc.collect()  # a run that is collected when the process ends may end it with an error


def main(data: str, out: str, steps: str, kill_at: str, *names: str) -> None:
    runs = {name: (Path(out, name), trained(SYSTEM_CASES[name])) for name in names}
    configs = [
        tiny(Path(data), folder, steps=int(steps), model=model, sample_every=0, keep=0)
        for folder, model in runs.values()
    ]
    if int(kill_at):
        for module in ("torch._dynamo", "torch.utils.tensorboard"):
            with suppress(ImportError):  # TensorBoard may be missing
                importlib.import_module(module)  # Training loads it, and the copies share what is loaded before.
        copies = multiprocessing.get_context("fork")
        for name, config in zip(names, configs, strict=True):
            process = copies.Process(target=train_until_killed, args=(config, int(kill_at)))
            process.start()
            process.join()
            print(name, process.exitcode, flush=True)
    else:
        train_as_ranks(configs)


if __name__ == "__main__":
    main(*sys.argv[1:])
