"""The systems that the paper compares, and the settings with which an experiment trains each of them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from samplernn_fast.training.config import TrainConfig
from samplernn_fast.training.presets import PRESETS

Scale = Literal["small", "paper"]

LABELS = {
    "rnn": "RNN (Eq. 2)",
    "wavenet": "WaveNet (re-impl.)",
    "paper-2tier": "SampleRNN (2-tier)",
    "paper-3tier": "SampleRNN (3-tier)",
    "multi-softmax": "Multi-Softmax",
    "no-embedding-onehot": "Without Embedding (one-hot levels)",
    "no-embedding-real": "Without Embedding (real-valued samples)",
    "rnn-gmm": "RNN-GMM",
    "samplernn-gmm": "SampleRNN-GMM (2-tier)",
    "hybrid-rnn-wavenet": "Hybrid, RNN over frames",
    "hybrid-wavenet": "Hybrid, WaveNet over frames",
    "wavenet-tuned": "WaveNet (practice of public projects)",
}
"""Preset -> what the paper's tables and appendix A call the system. All predict 256 linear levels or a density that is
integrated over them, without which bits do not compare."""

_CONVOLUTIONAL = frozenset(("wavenet", "wavenet-tuned", "hybrid-wavenet"))
_SMALL = {"lr_schedule": "cosine", "warmup_steps": 50}
_LINEAR = frozenset(("wavenet-tuned",))  # its preset has mu-law levels, whose bits do not compare
_PARTS = {"eval_every": 5, "save_every": 20}  # into how many parts validations and checkpoints cut a run


@dataclass(frozen=True)
class Variant:
    """A system as one table has it: a preset, and for Table 3 the length of its subsequences."""

    preset: str
    seq_len: int | None = None
    """Samples of a subsequence, in place of the preset's."""

    @property
    def name(self) -> str:
        """The name of its runs in the folder of the experiments."""
        return self.preset if self.seq_len is None else f"{self.preset}-seq{self.seq_len}"


def settings(
    variant: Variant, scale: Scale, data: Path, out: Path, *, updates: int, seed: int = 0, device: str = "auto"
) -> TrainConfig:
    """The settings of one run of so many updates, which is validated and saved a few times on its way.

    "paper": the preset as it is. "small": the preset with a width and a batch that learn something in minutes on two
    cores; the numbers are ours, the same for all systems of a kind but for the batch of
    `wavenet-tuned`.
    """
    config = PRESETS[variant.preset][1]
    often = {name: max(1, updates // parts) for name, parts in _PARTS.items()}
    model: dict[str, Any] = {"quantization": "linear"} if variant.preset in _LINEAR else {}
    run: dict[str, Any] = {"data": data, "out": out, "seed": seed, "device": device, "max_steps": updates}
    run |= {"max_minutes": None, "sample_every": 0, "keep": 0} | often
    if scale == "small":
        wide = variant.preset not in _CONVOLUTIONAL
        model["dim"] = 128 if wide else 24
        run |= _SMALL | ({"batch_size": 16, "lr": 3e-3} if wide else {"batch_size": 8, "lr": 2e-3})
        if variant.preset == "wavenet-tuned":
            run["batch_size"] = 2  # Its targets are long: with 8, ten minutes would have a hundred updates.
    if variant.seq_len is not None:
        run["seq_len"] = variant.seq_len
    return replace(config, model=replace(config.model, **model), **run)


def command(config: TrainConfig, preset: str) -> list[str]:
    """The words of the command line that train the same: `samplernn-fast train PRESET` and every flag that differs.

    How often it is saved is left out, since that changes no model; how often it is validated decides which is the best.
    """
    before, after = PRESETS[preset][1].to_dict(), config.to_dict()
    before, after = ({**values, **values["model"]} for values in (before, after))
    skipped = {"model", "data", "out", "sample_rate", "gain", "mean", "std", "max_minutes", "device"}
    skipped |= {"sample_every", "keep", "save_every"}
    words = ["samplernn-fast", "train", preset, f"--data={config.data}", f"--out={config.out}"]
    for name, value in after.items():
        if name not in skipped and value != before[name]:
            words.append(f"--{name.replace('_', '-')}={value}")
    return words
