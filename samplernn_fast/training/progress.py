"""What a training run says: before the first step what will happen, after a few how long it takes, then how far it is.

`opening` has the lines of the beginning, which are `header` and `warnings`, and `Reporter` says how far the run is;
after the first steps it makes a `forecast`. All of it goes through `run_log` to standard error.
"""

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from samplernn_fast.data.folder import SPLITS, AudioData
from samplernn_fast.data.report import silence_warnings
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.config import (
    AudioConfig,
    RecurrentConfig,
    SampleRNNConfig,
    SparseSampleRNNConfig,
    TieredConfig,
)
from samplernn_fast.models.other_configs import DilatedConfig, HybridConfig
from samplernn_fast.terminal import audio_length, counted, duration
from samplernn_fast.training.config import TrainConfig
from samplernn_fast.training.keeping import next_sound
from samplernn_fast.training.run_log import RunLog

SLOW_STEP = 10.0
"""A run whose steps take as many seconds is called slow."""
_CPU_WORK = 5e9  # parameters times samples that one core trains in a second; measured: 6e9 to 1.8e10
_PEEK = 1 << 16  # how many samples of a recording are looked at for clipping


def opening(
    config: TrainConfig, data: AudioData, model: AudioModel, device: torch.device, origin: str, preset: str, memory: str
) -> list[str]:
    """All lines before the first step: the header, and what is warned of. memory: the warning of `check_memory`."""
    warned = [memory] * bool(memory) + list(warnings(config, data, model, device))
    return header(config, data, model, device, origin, preset) + [f"warning: {text}" for text in warned]


def header(
    config: TrainConfig, data: AudioData, model: AudioModel, device: torch.device, origin: str, preset: str = ""
) -> list[str]:
    """What will happen. origin: where the weights come from, as a clause. preset: that of the settings, if any."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    seconds = {split: int(data.recordings(split).lengths.sum()) / data.sample_rate for split in SPLITS}
    splits = ", ".join(f"{split} {audio_length(seconds[split])}" for split in SPLITS if seconds[split])
    each = config.batch_size * config.seq_len
    parts = f" in {config.accumulate} parts" if config.accumulate > 1 else ""
    settings = f"preset {preset}; " if preset else ""
    return [
        f"model   {shape(config.model)}, {parameters / 1e6:.2f} million parameters ({parameters * 4 / 1e6:.1f} MB),"
        f" {origin}",
        f"data    {data.folder}: {audio_length(sum(seconds.values()))} at {data.sample_rate} Hz ({splits})",
        f"work    {settings}{_place(device)}; a step reads {config.batch_size} x {config.seq_len} samples"
        f" ({each / data.sample_rate:.3g} s of audio){parts}; {_limit(config)}",
        f"output  {config.out}: {_outputs(config, bool(seconds['valid']))}",
    ]


def warnings(config: TrainConfig, data: AudioData, model: AudioModel, device: torch.device) -> Iterator[str]:
    """What the user should know before waiting: no validation, silence, another gain, a model too large for a CPU."""
    train = data.recordings("train")
    scale = config.model.gain / data.gain
    loud = np.concatenate([np.asarray(data.samples(one)[:_PEEK]) for one in train[:: 1 + len(train) // 64]])
    if not data.recordings("valid"):
        yield "there is no validation split, so the last model is kept, not the best"
    yield from silence_warnings(data)
    if scale != 1:
        clipped = float((np.abs(loud.astype(np.float32) * scale) > 32767.5).mean())
        note = f"; {clipped:.2%} of it clips" if clipped > 1e-5 else ""
        yield (
            f"the model keeps its gain of {config.model.gain:.4g}: audio that was prepared with {data.gain:.4g} is"
            f" multiplied by {scale:.3g}{note}"
        )
    seconds = expected_step(config, sum(parameter.numel() for parameter in model.parameters()), device)
    if seconds > SLOW_STEP:
        yield (
            f"one step of this model takes about {duration(seconds)} on this CPU, and a model needs thousands of them;"
            " the preset laptop learns in minutes to an hour"
        )


def expected_step(config: TrainConfig, parameters: int, device: torch.device) -> float:
    """A guess of how many seconds one update takes on a CPU, good to a factor of three; 0 for a GPU."""
    samples = config.batch_size * config.seq_len
    return 0.0 if device.type != "cpu" else parameters * samples / (_CPU_WORK * torch.get_num_threads())


def forecast(config: TrainConfig, step: int, seconds: float, elapsed: float, *, validates: bool) -> str:
    """What comes when, where an update takes `seconds` and the run has taken `elapsed` so far. What would come behind
    the run's end is left out; a checkpoint and a validation come at the end, whenever that is.
    """
    left, end = _end(config, step, seconds, elapsed)
    after = {"checkpoint": _next(step, config.save_every), "sound": next_sound(config, step)}
    after |= {"validation": _next(step, config.eval_every)} if validates else {}
    coming = sorted((at - step, name) for name, at in after.items() if at)
    rate = config.batch_size * config.seq_len / config.model.sample_rate / seconds
    parts = [f"{name} in {duration(steps * seconds)}" for steps, name in coming if left is None or steps <= left]
    parts += [f"{end} in {duration(left * seconds)}"] if left is not None else []
    return f"speed   {_short(seconds)} a step, {rate:.3g} s of audio a second; {', '.join(parts)}"


def validated(step: int, bits: float, train: float, best: float, ramping: bool) -> str:
    """A validation's bits, beside the latest ones of training, which are NaN where there are none, and the best before.

    ramping: whether the model is still being pruned, so that its bits do not count."""
    beside = "" if math.isnan(train) else f", train {train:.3f}"
    how = "the best so far, kept" if bits < best else f"best {best:.3f}"
    how = "not yet as sparse as it will be" if ramping else how
    return f"step {step}: valid {bits:.3f}{beside} bits per sample ({how})"


def _end(config: TrainConfig, step: int, seconds: float, elapsed: float) -> tuple[int | None, str]:
    """How many more updates the run makes, None where nothing ends it, and the name of its end."""
    ends = [(config.max_steps - step, f"step {config.max_steps}")] if config.max_steps else []
    if config.max_minutes:
        ends.append((math.ceil(max(0.0, 60 * config.max_minutes - elapsed) / seconds), "the end"))
    return min(ends, default=(None, ""))


class Reporter:
    """Says how far a run is: lines at its steps 1 and 10, the forecast after the first ones, a note every second."""

    def __init__(self, log: RunLog, config: TrainConfig, *, validates: bool) -> None:
        """validates: whether there is a validation split."""
        self._log, self._config, self._validates = log, config, validates
        self._began = self._noted = time.monotonic()
        self._first = 0.0  # how long the first update took, which also warms up
        self._steps = 0
        self._forecast_due = True
        log.note("in the first step, which is the slowest")

    def step_done(self, step: int, seconds: float, bits: Callable[[], float]) -> None:
        """One update was made, `seconds` after the run began. bits: works out the bits of the last ones; it may wait
        for a GPU, so it is asked once a second."""
        self._steps += 1
        now = time.monotonic()
        if self._steps == 1:
            self._first = now - self._began
        self._log.advance()
        has_line = self._steps in (1, 10)
        if has_line or now - self._noted >= 1:
            self._noted, value = now, bits()
            self._log.note(f"{value:.3f} bits, {self._audio_rate(now):.3g} s of audio/s{self._left(seconds)}")
            if has_line:
                self._log.say(f"step {step}: {value:.3f} bits per sample")
        each = self._measured(now) if self._forecast_due else None
        if each is not None:
            self._forecast_due = False
            self._log.say(forecast(self._config, step, each, seconds, validates=self._validates))

    def _audio_rate(self, now: float) -> float:
        """How many seconds of audio were read in a second, since the beginning."""
        audio = self._steps * self._config.batch_size * self._config.seq_len / self._config.model.sample_rate
        return audio / max(now - self._began, 1e-9)

    def _measured(self, now: float) -> float | None:
        """Seconds of an update, as soon as they are known well enough for a forecast: after ten, or after 20 s."""
        elapsed = now - self._began
        if self._steps < 10 and elapsed < 20:
            return None
        return (elapsed - self._first) / (self._steps - 1) if self._steps > 1 else elapsed

    def _left(self, seconds: float) -> str:
        """How much of max_minutes is left. The bar itself knows the same of max_steps."""
        minutes = self._config.max_minutes
        return f", {duration(max(0.0, 60 * minutes - seconds))} left" if minutes else ""


def shape(model: AudioConfig) -> str:
    """The system of a model, if it is not SampleRNN itself, and its size in words."""
    system = "" if isinstance(model, SampleRNNConfig) else f"{model.system}, "
    if isinstance(model, DilatedConfig):
        system += f"{len(model.dilations)} dilated layers of {model.channels} channels"
    if not isinstance(model, RecurrentConfig):
        return system
    layers = f"{model.n_rnn} x {model.rnn.upper()}" if model.n_rnn > 1 else model.rnn.upper()
    layers += f" of {model.dim} units"
    if isinstance(model, HybridConfig):
        return f"{system}, {layers} over frames of {model.frame_size}"
    if isinstance(model, TieredConfig):
        sizes = ", ".join(map(str, model.frame_sizes))
        density = f", density {model.density:g}" if isinstance(model, SparseSampleRNNConfig) else ""
        return f"{system}{len(model.frame_sizes)} tiers (frames of {sizes}), {layers}{density}"
    return f"{system}one tier, {layers}"


def _place(device: torch.device) -> str:
    if device.type == "cuda":
        return f"GPU {torch.cuda.get_device_name(device)}"
    return f"{device.type}, {counted(torch.get_num_threads(), 'thread')}"


def _limit(config: TrainConfig) -> str:
    """When the run ends."""
    limits = [counted(config.max_steps, "step")] if config.max_steps else []
    limits += [counted(config.max_minutes, "minute")] if config.max_minutes else []
    rate = f"learning rate {config.lr:g}, {config.lr_schedule}"
    rate += f" behind {counted(config.warmup_steps, 'step')} of warm-up" if config.warmup_steps else ""
    rate += f", weight decay {config.weight_decay:g}" if config.weight_decay else ""
    if config.change_lr is not None:
        rate = f"learning rate {config.change_lr:g} from here on"
    return (" or ".join(limits) if limits else "it goes on until ctrl-C") + f" in all; {rate}"


def _outputs(config: TrainConfig, validates: bool) -> str:
    kept = "model.safetensors" + (", the best so far" if validates else "")
    parts = [kept + (f", averaged over updates (ema {config.ema:g})" if config.ema else "")]
    if validates:
        within = not config.max_steps or config.eval_every < config.max_steps
        parts.append(
            f"a validation every {counted(config.eval_every, 'step')}" if within else "a validation at the end"
        )
    sound = next_sound(config, 0)
    if sound and sound <= (config.max_steps or sound):
        parts.append(f"{config.sample_seconds:g} s of sound in samples/ early and every {config.sample_every}")
    return ", ".join(parts) + f", a checkpoint every {config.save_every}; ctrl-C saves, the same command goes on"


def _next(step: int, every: int) -> int:
    """The next step after `step` that `every` divides."""
    return (step // every + 1) * every


def _short(seconds: float) -> str:
    return duration(seconds) if seconds >= 10 else f"{seconds:.3g} s"
