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

from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.manifest import Recording, manifest_sha256
from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.evaluation.fidelity.labels import MOST_CLASSES, read_pattern
from samplernn_fast.evaluation.fidelity.network import WordNetwork, padded
from samplernn_fast.models import checkpoint
from samplernn_fast.untrusted import Fields, Unreadable

MOST_SECONDS = 60
"""The longest clip that a classifier looks at."""
AT_ONCE = 64
"""Clips that the network sees side by side."""
_MOST_HZ = 10**6
_INT16 = np.float32(1 / 32768)


@dataclass(frozen=True)
class Judged:
    """What the network says about N clips."""

    log_probabilities: npt.NDArray[np.float64]
    """The natural logarithm of the probability of each class, (N, classes)."""
    features: npt.NDArray[np.float64]
    """What it knows of a clip before it names a class, (N, features)."""


@dataclass(frozen=True)
class Classifier:
    """A network that knows the words of one data folder."""

    network: WordNetwork
    classes: tuple[str, ...]
    labels: re.Pattern[str]
    """What takes a label out of a recording's name."""
    sample_rate: int
    data_sha256: str
    """The hash of the manifest of the data folder that it was trained on."""

    def judge(self, clips: Iterable[npt.NDArray[np.float32]]) -> Judged:
        """What the network says about clips (T,) of amplitudes, after the gain of the data folder; at least one."""
        self.network.eval()
        device = next(self.network.parameters()).device
        logs, features = [], []
        with torch.inference_mode():
            for batch in _batches(clips):
                whole = padded([torch.from_numpy(clip) for clip in batch], self.network.samples).to(device)
                found = self.network.features(self.network.spectrogram(whole))
                features.append(found.double().cpu())
                logs.append(self.network.classify(found).double().cpu())
        return Judged(torch.cat(logs).numpy(), torch.cat(features).numpy())

    def check(self, file: Path, data: AudioData, labels: re.Pattern[str]) -> None:
        """Raises ConfigError where it was not trained on this data folder with these labels."""
        what = None
        if self.data_sha256 != manifest_sha256(data.folder):
            what = "another data folder, or one that was prepared anew"
        elif self.labels.pattern != labels.pattern:
            what = f"labels {self.labels.pattern!r:.60}"
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
        rate = values.integer("sample_rate", 1, _MOST_HZ)
        samples = values.integer("samples", 1, MOST_SECONDS * rate)
        if len(classes) < 2:
            raise Unreadable("it knows fewer than two classes")
        network = WordNetwork(len(classes), rate, samples)
        wanted = network.state_dict()
        checkpoint.check(tensors, wanted, file)
        network.load_state_dict({name: tensors[name] for name in wanted})
        return cls(network, tuple(classes), read_pattern(values.text("labels")), rate, values.text("data_sha256"))


def amplitudes(data: AudioData, recording: Recording) -> npt.NDArray[np.float32]:
    """The samples of a recording as amplitudes, (T,), after the gain of the data folder; of a long one its begin."""
    stop = recording.offset + min(recording.length, MOST_SECONDS * data.sample_rate)
    return data.read(recording.offset, stop).astype(np.float32) * _INT16


def _batches(clips: Iterable[npt.NDArray[np.float32]]) -> Iterator[list[npt.NDArray[np.float32]]]:
    batch = []
    for clip in clips:
        batch.append(clip)
        if len(batch) == AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
