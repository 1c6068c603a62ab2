"""Trains the classifier of a data folder: its train split, with the epoch that names the valid split best."""

import copy
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from samplernn_fast import terminal
from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.manifest import Recording, manifest_sha256
from samplernn_fast.errors import DataError
from samplernn_fast.evaluation.fidelity.classifier import AT_ONCE, MOST_SECONDS, Classifier, Judged, amplitudes
from samplernn_fast.evaluation.fidelity.labels import classes_of, labels_of
from samplernn_fast.evaluation.fidelity.network import LEAST_RATE, MEL_BANDS, WordNetwork, padded

_LEAST_EPOCHS, _LEAST_UPDATES = 20, 800  # A classifier is trained for both, unless a number of epochs is asked for.
_WHOLE = 0.98  # This share of the training recordings is seen whole, so that a few long ones do not slow all down.
_LEAST_SECONDS = 0.1  # The network looks at no less, however short the recordings are.
_LEARNING_RATE, _WEIGHT_DECAY = 3e-3, 1e-2
_WARMUP = 0.1  # The learning rate rises during this share of the training, and then falls by a cosine.
_SHIFT_SECONDS, _GAIN_DB = 0.1, 6.0  # A clip is moved in time, and made louder or softer, by no more than this.
_MASKED_BANDS, _MASKED_TIME = 6, 0.15  # No wider stripes of a spectrogram are hidden: bands, and a share of the frames.


@dataclass(frozen=True)
class Words:
    """Recordings of a split with the numbers of their classes."""

    data: AudioData
    recordings: Sequence[Recording]
    targets: Tensor
    """(N,) numbers of classes."""

    @classmethod
    def of(cls, data: AudioData, split: str, classes: Sequence[str], labels: re.Pattern[str]) -> "Words":
        """The words of a split, whose labels are all among `classes`."""
        recordings = data.recordings(split)
        number = {label: place for place, label in enumerate(classes)}
        found = [number[label] for label in labels_of(recordings, labels, data.folder)]
        return cls(data, recordings, torch.tensor(found, dtype=torch.long))

    def judged(self, classifier: Classifier) -> Judged:
        """Lets the classifier judge them."""
        return classifier.judge(amplitudes(self.data, one) for one in self.recordings)

    def right(self, judged: Judged) -> int:
        """How many of them the classifier named right."""
        return int((judged.log_probabilities.argmax(axis=1) == self.targets.numpy()).sum())


def train_classifier(
    data: AudioData, labels: re.Pattern[str], *, epochs: int | None = None, seed: int = 0, device: str = "cpu"
) -> Classifier:
    """A classifier of the words of a data folder, which shows its progress.

    epochs: how often it sees the train split; None is 20 times, and more often where that makes few updates.
    The network looks at clips of one length, in which 98 % of the training recordings have room; shorter ones are
    followed by silence. Each is seen shifted in time, louder or softer, and with hidden stripes. Raises DataError for
    recordings without labels, for too few of them, and for a sample rate below `LEAST_RATE`.
    """
    if data.sample_rate < LEAST_RATE:
        raise DataError(f"{data.folder}: a classifier needs {LEAST_RATE} Hz or more, got {data.sample_rate} Hz")
    classes = classes_of(data, labels)
    train, valid = (Words.of(data, split, classes, labels) for split in ("train", "valid"))
    epochs = epochs or max(_LEAST_EPOCHS, math.ceil(_LEAST_UPDATES / _updates(train)))
    samples = _clip_samples(train.recordings, data.sample_rate)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = WordNetwork(len(classes), data.sample_rate, samples).to(device)
        sha256 = manifest_sha256(data.folder)
        made = Classifier(network, tuple(classes), labels, data.sample_rate, sha256, epochs, seed)
        _fit(made, train, valid, device)
    return made


def _fit(classifier: Classifier, train: Words, valid: Words, device: str) -> None:
    """Trains the network of a classifier, which then has the weights of the best epoch."""
    network, epochs = classifier.network, classifier.epochs
    optimizer = torch.optim.AdamW(network.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    steps = epochs * _updates(train)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share_of_rate(step / steps))
    draw = np.random.default_rng(classifier.seed)
    best, kept = math.inf, copy.deepcopy(network.state_dict())
    with terminal.Bar(steps, "step", title="training the classifier") as bar:
        for _ in range(epochs):
            network.train()
            for clips, targets in _shuffled(train, network.samples, draw):
                seen = _hidden(network.spectrogram(clips.to(device)), draw)
                loss = F.nll_loss(network.classify(network.features(seen)), targets.to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.advance()
            found = _loss(classifier, valid) if valid.recordings else -math.inf  # without a valid split the last counts
            if found <= best:
                best, kept = found, copy.deepcopy(network.state_dict())
    network.load_state_dict(kept)


def _updates(words: Words) -> int:
    """How many updates one epoch has."""
    return math.ceil(len(words.recordings) / AT_ONCE)


def _share_of_rate(done: float) -> float:
    """How much of the learning rate is used when so much of the training is done, from 0 to 1."""
    rising, falling = done / _WARMUP, 0.5 * (1 + math.cos(math.pi * (done - _WARMUP) / (1 - _WARMUP)))
    return max(0.01, rising if done < _WARMUP else falling)


def _clip_samples(recordings: Sequence[Recording], rate: int) -> int:
    """How many samples the network looks at. Raises DataError for recordings that are no words."""
    lengths = sorted(recording.length for recording in recordings)
    samples = lengths[math.ceil(_WHOLE * len(lengths)) - 1]
    if samples > MOST_SECONDS * rate:
        seconds = f"{samples / rate:.0f}"
        raise DataError(
            f"recordings must be words of at most {MOST_SECONDS} s each to train a classifier, got {seconds} s"
        )
    return max(samples, round(_LEAST_SECONDS * rate))


def _loss(classifier: Classifier, words: Words) -> float:
    """The mean negative log-likelihood of the right classes."""
    logs = torch.from_numpy(words.judged(classifier).log_probabilities)
    return float(F.nll_loss(logs, words.targets))


def _shuffled(words: Words, samples: int, draw: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Clips (B, samples) in random order, each moved and scaled at random, and their classes (B,)."""
    order = draw.permutation(len(words.recordings))
    for first in range(0, len(order), AT_ONCE):
        chosen = order[first : first + AT_ONCE]
        clips = [_varied(amplitudes(words.data, words.recordings[n]), words.data.sample_rate, draw) for n in chosen]
        yield padded(clips, samples), words.targets[torch.from_numpy(chosen)]


def _varied(clip: np.ndarray, rate: int, draw: np.random.Generator) -> Tensor:
    """A clip that begins earlier or later, and is louder or softer."""
    shift = int(draw.integers(-round(_SHIFT_SECONDS * rate), round(_SHIFT_SECONDS * rate) + 1))
    shift = max(shift, -(len(clip) // 4))  # so that most of a short word stays
    gain = np.float32(10 ** (draw.uniform(-_GAIN_DB, _GAIN_DB) / 20))
    moved = np.concatenate((np.zeros(shift, np.float32), clip)) if shift > 0 else clip[-shift:]
    return torch.from_numpy(gain * moved)


def _hidden(spectrogram: Tensor, draw: np.random.Generator) -> Tensor:
    """Spectrograms (B, bands, frames) with a stripe of pitch and one of time set to the middle of their scale, 0.

    Source: D. Park et al., "SpecAugment", 2019.
    """
    frames = spectrogram.shape[2]
    for one in spectrogram:
        band, time = draw.integers(0, MEL_BANDS), draw.integers(0, frames)
        one[band : band + draw.integers(0, _MASKED_BANDS + 1)] = 0
        one[:, time : time + draw.integers(0, round(_MASKED_TIME * frames) + 1)] = 0
    return spectrogram
