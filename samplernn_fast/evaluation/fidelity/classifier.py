"""A trained classifier and its file, and what it says about clips."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from samplernn_fast.audio.limits import RATES
from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.manifest import Recording, manifest_sha256
from samplernn_fast.errors import CheckpointError, ConfigError, quoted
from samplernn_fast.evaluation.fidelity.labels import MOST_CLASSES, classes_of, read_pattern
from samplernn_fast.evaluation.fidelity.network import FEATURES, LEAST_RATE, WordNetwork, padded
from samplernn_fast.models import checkpoint
from samplernn_fast.untrusted import Fields, Unreadable

MOST_SECONDS = 60
"""The longest clip that a classifier looks at."""
AT_ONCE = 64
"""Clips that the network sees side by side."""
_MOST = 2**63 - 1
_LARGEST = 1e100
_INT16 = np.float32(1 / 32768)


@dataclass(frozen=True)
class Judged:
    """The network has judged N clips, and says this about them."""

    log_probabilities: npt.NDArray[np.float64]
    """The natural logarithm of the probability of each class, (N, classes)."""
    features: npt.NDArray[np.float64]
    """The activations before the output layer, (N, FEATURES)."""


@dataclass(frozen=True)
class Classifier:
    """A network that knows the words of one data folder."""

    network: WordNetwork
    classes: tuple[str, ...]
    labels: re.Pattern[str]
    """Its one group finds the label in a recording's name."""
    sample_rate: int
    data_sha256: str
    """The hash of the manifest of the data folder that it was trained on."""
    epochs: int
    """How often it has seen the train split."""
    seed: int
    """The seed of its first weights and of the order of its training."""

    def judge(self, clips: Iterable[npt.NDArray[np.float32]]) -> Judged:
        """Judges clips (T,) of amplitudes, after the gain of the data folder.

        Raises CheckpointError where its weights give something else than numbers.
        """
        self.network.eval()
        device = next(self.network.parameters()).device
        logs = [torch.zeros(0, len(self.classes), dtype=torch.float64)]  # for no clips at all
        features = [torch.zeros(0, FEATURES, dtype=torch.float64)]
        with torch.inference_mode():
            for group in _groups(clips):
                whole = padded([torch.from_numpy(clip) for clip in group], self.network.samples).to(device)
                found = self.network.features(self.network.spectrogram(whole))
                features.append(found.double().cpu())
                logs.append(self.network.classify(found).double().cpu())
        judged = Judged(torch.cat(logs).numpy(), torch.cat(features).numpy())
        # Squares of the features are summed afterwards, so they must stay far below the largest float.
        if not np.isfinite(judged.log_probabilities).all() or not (np.abs(judged.features) < _LARGEST).all():
            raise CheckpointError("the classifier's weights give no usable numbers; train a new one")
        return judged

    def check(self, file: Path, data: AudioData, labels: re.Pattern[str]) -> None:
        """Raises ConfigError where it was not trained on this data folder with these labels."""
        what = None
        if self.data_sha256 != manifest_sha256(data.folder):
            what = "another data folder, or one that was prepared anew"
        elif self.labels.pattern != labels.pattern:
            what = f"labels {quoted(self.labels.pattern)}"
        elif self.sample_rate != data.sample_rate or list(self.classes) != classes_of(data, labels):
            what = "other classes, or at another sample rate"
        if what:
            raise ConfigError(f"classifier: {file} was trained on {what}; name a file that is not there to train one")

    def save(self, file: Path) -> None:
        """Writes the classifier, whole or not at all. Raises CheckpointError where it cannot."""
        checkpoint.save_classifier(
            file,
            self.network.state_dict(),
            {
                "classes": list(self.classes),
                "labels": self.labels.pattern,
                "sample_rate": self.sample_rate,
                "samples": self.network.samples,
                "data_sha256": self.data_sha256,
                "epochs": self.epochs,
                "seed": self.seed,
            },
        )

    @classmethod
    def load(cls, file: Path) -> "Classifier":
        """The classifier in a file, on the CPU. Raises CheckpointError where it holds none, or a damaged one."""
        if os.path.isdir(file):
            raise CheckpointError(f"{file}: is a folder, not the file of a classifier")
        tensors, header = checkpoint.read(file, kinds=(checkpoint.CLASSIFIER_KIND,))
        try:
            return cls._from(file, tensors, Fields(header["info"], "the settings of the classifier"))
        except (Unreadable, ConfigError) as error:
            raise CheckpointError(f"{file}: {error}") from None

    @classmethod
    def _from(cls, file: Path, tensors: dict[str, Any], values: Fields) -> "Classifier":
        classes = values.texts("classes", MOST_CLASSES)
        rate = values.integer("sample_rate", LEAST_RATE, int(RATES.high))
        samples = values.integer("samples", 1, MOST_SECONDS * rate)
        if len(classes) < 2:
            raise Unreadable("it knows fewer than two classes")
        with torch.random.fork_rng(devices=[]):  # its first weights are replaced, and draw from torch's generator
            network = WordNetwork(len(classes), rate, samples)
        wanted = network.state_dict()
        checkpoint.check(tensors, wanted, file)
        if any(name.endswith("running_var") and bool((tensors[name] < 0).any()) for name in wanted):
            raise Unreadable("it holds a variance below 0")
        network.load_state_dict({name: tensors[name] for name in wanted})
        return cls(
            network,
            tuple(classes),
            read_pattern(values.text("labels")),
            rate,
            values.text("data_sha256"),
            values.integer("epochs", 1, _MOST),
            values.integer("seed", 0, _MOST),
        )


def amplitudes(data: AudioData, recording: Recording) -> npt.NDArray[np.float32]:
    """The amplitudes of a recording after the gain of the data folder, (T,); `MOST_SECONDS` of a longer one."""
    stop = recording.offset + min(recording.length, MOST_SECONDS * data.sample_rate)
    return data.read(recording.offset, stop).astype(np.float32) * _INT16


def _groups(clips: Iterable[npt.NDArray[np.float32]]) -> Iterator[list[npt.NDArray[np.float32]]]:
    """Clips, `AT_ONCE` together."""
    group = []
    for clip in clips:
        group.append(clip)
        if len(group) == AT_ONCE:
            yield group
            group = []
    if group:
        yield group
