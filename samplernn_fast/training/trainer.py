"""Training as the paper does it (sections 2.3 and 3): truncated back-propagation with the hidden state carried on.

`train` is the way in, and `Trainer` has the loop. A run can be killed at any moment: the same command goes on from
last.safetensors and ends with the same bits (see `resuming`). Under torchrun every process has its own rows of the
batch, and the result is that of one process but for rounding. `updates` is what an update consists of, `process` has
what several processes do together, and `run_log` shows how the run goes.
"""

import json
import math
import signal
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, cast

import torch

from samplernn_fast import files, terminal
from samplernn_fast.data.batches import Batch, TBPTTBatches
from samplernn_fast.data.folder import AudioData
from samplernn_fast.errors import CheckpointError, ConfigError, DataError, SampleRNNError
from samplernn_fast.evaluation.likelihood import Stopped, evaluate
from samplernn_fast.models import checkpoint
from samplernn_fast.models.base import AudioModel, State
from samplernn_fast.models.places import LOG_FILE, MARKS, MODELS_FOLDER, SAMPLES_FOLDER, TEACHER_FILE
from samplernn_fast.models.registry import build_model
from samplernn_fast.models.sparse.pruning import Pruning, pruning_of
from samplernn_fast.stores import running
from samplernn_fast.training import resuming, starting
from samplernn_fast.training.config import TrainConfig
from samplernn_fast.training.keeping import EARLY_SHARE, Keeper, is_due, make_sound, next_sound
from samplernn_fast.training.memory import check_memory
from samplernn_fast.training.process import (
    added,
    check_compiler,
    fast_cpu_training,
    first_process_alone,
    forward_of,
    highest,
    most_restarts,
    process_group,
    take_from_first,
)
from samplernn_fast.training.progress import Reporter, opening, validated
from samplernn_fast.training.run_log import RunLog, TrainResult, Watch, read_log, row
from samplernn_fast.training.updates.averaging import Average
from samplernn_fast.training.updates.gradients import Gradients, parts
from samplernn_fast.training.updates.optimizer import optimizer_of


def train(
    config: TrainConfig, *, progress: bool = True, header: bool = True, preset: str = "", watch: Watch | None = None
) -> TrainResult:
    """Trains a model, or goes on with the run in `config.out`, until its budget is spent or ctrl-C or SIGTERM comes.

    A signal ends it after the update that is being made, and everything is saved first; a third ctrl-C ends it at
    once. progress: whether standard error shows what will happen, how far the run is, and how long it will take.
    header: False leaves out what will happen. preset: where the settings come from, for the header. watch: is told of
    every validation but those of a model that is still being pruned, and may end the run by it.
    Raises DataError or ConfigError before anything is written when data, model and settings do not fit.
    """
    if not isinstance(config, TrainConfig):
        raise ConfigError(f"train takes a TrainConfig, such as TrainConfig(data=..., out=...), got {config!r}")
    with (
        process_group(config.device) as (rank, world_size, device),
        terminal.interrupts(signal.SIGTERM, patience=2, notice="" if rank else _NOTICE) as caught,
    ):
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        fast = fast_cpu_training() if device.type == "cpu" else nullcontext()
        # Nothing in the loop draws from torch's generator. It is seeded and saved for a future part that does.
        with fast, torch.random.fork_rng(devices=[]), running.training_in(config.out, MARKS, rank == 0, progress):
            torch.manual_seed(config.seed)
            if restarts := most_restarts(world_size, device):
                with first_process_alone(world_size, device):
                    starting.wait_for_earlier(config.out, rank, restarts, lambda: bool(caught), shown=progress)
            with terminal.waiting("reading the data and making the model", shown=progress and rank == 0):
                trainer = Trainer(config, rank, world_size, device)
                trainer.watch = watch
            with starting.alone_in(config.out, rank):
                return trainer.run(caught, progress=progress, header=header, preset=preset)


_WATCHED = 1000  # what `caught` has where `watch` ends a run; numbers of signals are smaller
_NOTICE = (
    "stopping after this update, which is then saved; a third ctrl-C stops at once and loses what came after the last"
    " checkpoint"
)


class Trainer:
    """One process's part of a run: model, optimizer, batches and hidden state, and the loop over them."""

    def __init__(self, config: TrainConfig, rank: int, world_size: int, device: torch.device) -> None:
        self.rank, self.world_size, self.device = rank, world_size, device
        if config.compile:
            check_compiler(device)
        starting.check_folder(config)
        self.data = AudioData.open(config.data)
        saved = resuming.find(config)
        if world_size > 1:
            resuming.check_same_everywhere(saved, config, device)
        source = starting.read_source(config.init_from) if config.init_from and saved is None else None
        known = source.model.config if source is not None else saved.model if saved is not None else None
        self.config = config = starting.fit(config, self.data, known)
        starting.check_unsaved(config)
        self.short_of_memory = check_memory(config, world_size, device)
        self.model = build_model(config.model, seed=config.seed)
        self.initialized_from = saved.initialized_from if saved is not None else None
        self.origin = f"random weights of seed {config.seed}"
        self.teacher = starting.teacher_of(config, source, saved, device)
        if source is not None:
            self.origin = f"starts from {config.init_from}{' and learns its probabilities' if self.teacher else ''}"
            self.model.load_state_dict(source.state_dict(config.model))
            self.initialized_from = source.provenance()
        self.model.to(device)
        if world_size > 1:
            take_from_first(self.model)
        self.pruning = pruning_of(self.model, config.prune_until, (self.initialized_from or {}).get("density"))
        self.batches = TBPTTBatches(
            self.data,
            config.model,
            batch_size=config.batch_size,
            seq_len=config.seq_len,
            seed=config.seed,
            rank=rank,
            world_size=world_size,
        )
        self.optimizer = optimizer_of(self.model, config, device)
        self.average = Average(self.model, config.ema) if config.ema else None
        self.state: State | None = None
        self.step, self.epoch, self.seconds, self.validated_step = 0, 0, 0.0, -1
        self.best_bits, self.train_bits = math.inf, math.nan
        self.keeper: Keeper | None = None
        self.sound_seconds = 0.0  # how long the last piece of sound took
        self.valid_bits: float | None = None
        self.caught, self.watch = list[int](), cast(Watch | None, None)
        # What is still to be made at this step: "validation", "keep", "sample". A signal can come before they are made,
        # and a run that goes on makes them first, so that it ends as one that was not stopped.
        self.pending: list[str] = []
        # Bits and samples since the last row of the log. They stay on the device: reading them makes a GPU wait.
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)
        self.is_saved = True  # False where a checkpoint was taken over that this folder does not have
        self.other_sums = ""  # what is to be said where a run goes on with other processes
        if saved is not None:
            self._resume(saved)
            self.other_sums = resuming.other_sums(saved, config, world_size)
            self.is_saved = saved.source == config.out / checkpoint.LAST_FILE
            if not self.is_saved:
                self.best_bits = math.inf  # the best model of the other run is not in this folder
        elif config.change_lr is not None:
            raise ConfigError(f"change_lr is for a run that goes on, and {config.out} holds none; set lr instead")
        forward = forward_of(self.model, config.compile)
        self.gradients = Gradients(self.model, forward, self.teacher, config, world_size)

    @property
    def result(self) -> AudioModel:
        """The model that is validated, kept and heard: the average over updates, or else the one that is trained."""
        return self.model if self.average is None else self.average.model

    def run(self, caught: list[int], *, progress: bool = True, header: bool = True, preset: str = "") -> TrainResult:
        """Trains until max_steps, max_minutes or a signal in `caught`. Rank 0 writes everything. Else as `train`."""
        config, self.caught = self.config, caught
        log = self._open_log(progress, header=header, preset=preset)
        reporter = None if log is None else Reporter(log, config, validates=bool(self.data.recordings("valid")))
        began = time.monotonic() - self.seconds
        if log is not None and self.other_sums:
            log.say(self.other_sums)
        try:
            _, number = self._agree(self.seconds)
            if self.pending and not number:
                number = self._look(log)
                self.is_saved = False
            stopped = self._finished(number)  # a run that was complete already makes no step
            if stopped.startswith("max") and log is not None:
                log.say(f"nothing is left to do: step {self.step} has reached {stopped}, which must be raised to go on")
            if not self.is_saved:
                self._save(log)
            while not stopped:
                self.update(next(self.batches))
                self.seconds, number = self._agree(time.monotonic() - began)
                if self.pruning is not None:
                    self.pruning.after_update(self.step, config.done(self.step, self.seconds))
                if self.average is not None:
                    self.average.after_update(self.model, self.step, self.pruning)
                if self.step % config.log_every == 0:
                    self._write_row(log)
                if reporter is not None:
                    reporter.step_done(self.step, self.seconds, self._recent_bits)
                self.pending = self._due()
                if self.pending and not number:
                    number = self._look(log)
                stopped = self._finished(number)
                if stopped or self.step % config.save_every == 0:
                    self._save(log)
            if log is not None and stopped.startswith("max") and (ramping := self._ramping()) is not None:
                log.say(ramping.unfinished(stopped))
        finally:
            if log is not None:
                log.close()
        number = number if stopped == "signal" else 0
        bits = self._mean_bits() if math.isnan(self.train_bits) else self.train_bits
        return TrainResult(config.out, self.step, self.seconds, bits, self.valid_bits, stopped, number)

    def update(self, batch: Batch) -> None:
        """One update on one subsequence. The state goes on to the next update, without its gradients."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate(self.step, self.seconds)
        self.optimizer.zero_grad(set_to_none=True)
        self.state, sums = self.gradients.add(batch, self.state)
        torch.nn.utils.clip_grad_value_(self.model.parameters(), self.config.grad_clip)
        self.optimizer.step()
        self.sums += sums
        self.step, self.epoch = self.step + 1, batch.epoch

    def _finished(self, number: int) -> str:
        """Why the run stops here, in the words of `TrainResult.stopped`; "" where it goes on. number: of a signal."""
        if number:
            return "watch" if number == _WATCHED else "signal"
        if self.config.max_steps and self.step >= self.config.max_steps:
            return "max_steps"
        return "max_minutes" if self.config.max_minutes and self.seconds >= 60 * self.config.max_minutes else ""

    def _agree(self, seconds: float) -> tuple[float, int]:
        """The latest clock of all processes, and the signal that any of them caught, or 0: so all decide the same."""
        number = self.caught[0] if self.caught else 0
        if self.world_size == 1:
            return seconds, number
        latest, number_of_any = highest([seconds, number], self.device)
        return latest, int(number_of_any)

    def _due(self) -> list[str]:
        """What is to be made at this step, in the words of `pending`."""
        config = self.config
        validation = self.step % config.eval_every == 0 or self._finished(number=0)
        keep = validation or is_due(config, self.step)
        sample = next_sound(config, self.step - 1) == self.step
        return ["validation"] * bool(validation) + ["keep"] * bool(keep) + ["sample"] * sample

    def _look(self, log: RunLog | None) -> int:
        """Makes what is pending. A signal ends that within a second; returns its number, or 0, for all processes."""
        makers = {"validation": self._validate, "keep": self._keep_model, "sample": self._make_sample}
        with first_process_alone(self.world_size, self.device), suppress(Stopped):
            while self.pending:
                makers[self.pending[0]](log)
                del self.pending[0]
        return self._agree(self.seconds)[1]

    def _write_row(self, log: RunLog | None) -> None:
        """Logs the bits per sample since the last row, over all processes. Raises SampleRNNError for a NaN."""
        self.train_bits = self._mean_bits()
        self.sums.zero_()
        if not math.isfinite(self.train_bits):
            raise self._diverged()
        with first_process_alone(self.world_size, self.device):
            if log is not None:
                log.row(self._row(train_bits=self.train_bits))

    def _mean_bits(self) -> float:
        """Bits per sample since the last row of the log, over all processes; NaN where no sample came since."""
        sums = self.sums.clone() if self.world_size == 1 else added(self.sums.clone())
        return (sums[0] / sums[1]).item()

    def _diverged(self) -> SampleRNNError:
        return SampleRNNError(
            f"the loss stopped being a number before step {self.step}; the last checkpoint in {self.config.out} is"
            " kept: go on from it with a low change_lr, or train anew with a lower lr"
        )

    def _row(self, **bits: float) -> dict[str, Any]:
        """One row of the log."""
        return row(self.config, self.step, self.epoch, self.seconds, **bits)

    def _recent_bits(self) -> float:
        """Bits per sample since the last row of the log, of this process; those of that row, where it was just made."""
        bits, count = self.sums.tolist()
        return bits / count if count else self.train_bits

    def _validate(self, log: RunLog | None) -> None:
        """Scores the validation split, from a hidden state of its own, and keeps the model if it is the best so far."""
        if log is None or not self.data.recordings("valid"):
            return
        log.note("validating")
        result = evaluate(
            self.result, self.data, "valid", max_seconds=self.config.eval_seconds, should_stop=self._is_stopping
        )
        self.valid_bits, self.validated_step = result.nll_bits, self.step
        log.row(self._row(valid_bits=result.nll_bits))
        log.say(validated(self.step, result.nll_bits, self._recent_bits(), self.best_bits, bool(self._ramping())))
        if result.nll_bits < self.best_bits:
            self.best_bits = math.inf if self._ramping() else result.nll_bits
            self._save_model()
        if self.watch is not None and not self._ramping() and self.watch(self.step, self.seconds, result.nll_bits):
            self.caught.append(_WATCHED)

    def _make_sample(self, log: RunLog | None) -> None:
        """Makes a piece of audio with the present weights, always by the same seed, and logs it."""
        if log is None or (self.step % self.config.sample_every and self.sound_seconds > EARLY_SHARE * self.seconds):
            return
        log.note(f"making {self.config.sample_seconds:g} s of sound")
        config, began = self.config, time.monotonic()
        sound = make_sound(self.result, config.seed, config.sample_seconds, self._is_stopping)
        file = log.sample(self.step, sound, config.model.sample_rate)
        self.sound_seconds = time.monotonic() - began
        log.say(f"step {self.step}: {config.sample_seconds:g} s of sound in {file}")

    def _keep_model(self, log: RunLog | None) -> None:
        """Keeps the model in models/ where it is one of the best, or due."""
        if self.keeper is not None:
            bits = self.valid_bits if self.validated_step == self.step and not self._ramping() else None
            self.keeper.add(self.step, bits, self._save_model)

    def _ramping(self) -> Pruning | None:
        """The pruning, while the model has more blocks than it is meant to have: its bits say nothing of later ones."""
        return None if self.pruning is None or self.pruning.is_complete() else self.pruning

    def _is_stopping(self) -> bool:
        """Whether a signal came, which asks what is being made to stop."""
        return bool(self.caught)

    def _open_log(self, progress: bool, *, header: bool = True, preset: str = "") -> RunLog | None:
        """The log of the run, in rank 0 only, which also writes config.json and says what will happen."""
        if self.rank != 0:
            return None
        read_log(self.config.out / LOG_FILE)  # a damaged one is refused before anything is written
        for folder in ("", MODELS_FOLDER, SAMPLES_FOLDER):
            files.remove_leftovers(self.config.out / folder)
        checkpoint.write_text(
            self.config.out / checkpoint.CONFIG_FILE, json.dumps(self.config.to_dict(), indent=1) + "\n"
        )
        if self.teacher is not None and not (self.step and self.is_saved):
            checkpoint.save_model(self.config.out / TEACHER_FILE, self.teacher.model)
        self.keeper = Keeper(self.config, self.step)
        about = (self.config, self.data, self.model, self.device, self.origin, preset, self.short_of_memory)
        lines = opening(*about) if progress and header else ()
        again, limit = "validation" in self.pending, self.config.max_steps
        return RunLog(self.config.out, self.step, limit, validates_again=again, header=lines, shown=progress)

    def _in_folder(self, name: str) -> Path:
        """A file of the run. Raises CheckpointError where its folder is gone, which is not made a second time."""
        if not self.config.out.is_dir():
            raise CheckpointError(f"{self.config.out}: was removed or renamed while it was trained; the run stops")
        return self.config.out / name

    def _save_model(self, file: Path | None = None) -> None:
        """Writes the model to `file`, or to model.safetensors, with what the run knows about it."""
        bits = self._recent_bits() if math.isnan(self.train_bits) else self.train_bits  # There may be no row yet.
        info = {"data": str(self.config.data), "training": self.config.to_dict()} | self._numbers(bits)
        best = self._in_folder(checkpoint.MODEL_FILE)
        checkpoint.save_model(file or best, self.result, info)

    def _numbers(self, train_bits: float) -> dict[str, Any]:
        """Where the run stands and began, for JSON. What was not measured yet is None there, NaN or infinite here."""
        numbers: dict[str, float | None] = {"step": self.step, "epoch": self.epoch, "seconds": self.seconds}
        numbers |= {"best_bits": self.best_bits, "train_bits": train_bits, "valid_bits": self.valid_bits}
        begun = {} if self.initialized_from is None else {"initialized_from": self.initialized_from}
        return begun | files.for_json(numbers)

    def _save(self, log: RunLog | None) -> None:
        """Writes last.safetensors, from which `_resume` goes on, and the model where there is no validation."""
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self.model.parameters()):
            raise self._diverged()
        assert self.state is not None  # nothing is saved before the first step
        state, self.sums = resuming.gather(self.state, self.sums, self.rank, self.world_size)
        with first_process_alone(self.world_size, self.device):
            if log is not None:  # in rank 0
                self._write_checkpoint(state)
                log.draw()
                running.send(self.config.out, MARKS, log.say)

    def _write_checkpoint(self, state: State) -> None:
        tensors = resuming.tensors_to_save(self.model, self.optimizer, self.average, self.pruning, state, self.sums)
        progress = {"batches": self.batches.state_dict(), "training": self.config.to_dict(), "pending": self.pending}
        progress |= self._numbers(self.train_bits) | {"processes": self.world_size}
        checkpoint.save_training(self._in_folder(checkpoint.LAST_FILE), tensors, self.config.model, progress)
        if not self.data.recordings("valid") or not (self.config.out / checkpoint.MODEL_FILE).exists():
            self._save_model()

    def _resume(self, saved: resuming.Saved) -> None:
        """Takes everything from a checkpoint. Raises ConfigError and DataError where it is of another run."""
        resuming.check_same_run(self.config, saved.settings, saved.source)
        rows, mine = self.config.batch_size, parts(self.config.batch_size, self.world_size)[self.rank]
        initial = (*self.model.init_state(rows), *(self.teacher.model.init_state(rows) if self.teacher else ()))
        self.state = resuming.restore(saved, self.model, self.optimizer, self.average, initial, mine)
        if self.pruning is not None:
            self.pruning.restore(saved.tensors, saved.source)
        if self.rank == 0:
            self.sums = saved.tensors["sums"].to(self.device)
        try:
            self.batches.load_state_dict(saved.batches)
        except DataError:
            raise starting.other_data(self.config) from None
        except CheckpointError as error:
            raise CheckpointError(f"{saved.source}: {error}") from None
        self.step, self.epoch, self.seconds = saved.step, saved.epoch, saved.seconds
        self.best_bits, self.train_bits, self.valid_bits = saved.best_bits, saved.train_bits, saved.valid_bits
        # A sound that a signal put off is given up where none is wanted any more.
        self.pending = [name for name in saved.pending if name != "sample" or self.config.sample_every]
        self.origin = f"goes on from step {self.step} of {saved.source}"
