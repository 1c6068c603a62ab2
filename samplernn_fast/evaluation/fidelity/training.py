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
from samplernn_fast.evaluation.fidelity.network import MEL_BANDS, WordNetwork, padded

_LONGEST = 0.98  # the share of the training recordings that are not cut
_SHORTEST_SECONDS = 0.1  # of what the network looks at
_RATE, _DECAY, _WARMUP = 3e-3, 1e-2, 0.1  # of AdamW; the rate rises in the first tenth and falls by a cosine
_SHIFT_SECONDS, _GAIN_DB = 0.1, 6.0  # how far a clip is moved in time, and made louder or softer, at most
_MASKED_BANDS, _MASKED_TIME = 6, 0.15  # the widest stripes of a spectrogram that are hidden


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
        """What the classifier says about them; there must be one."""
        return classifier.judge(amplitudes(self.data, one) for one in self.recordings)

    def right(self, judged: Judged) -> int:
        """How many of them the classifier named right."""
        return int((judged.log_probabilities.argmax(axis=1) == self.targets.numpy()).sum())


def train_classifier(
    data: AudioData, labels: re.Pattern[str], *, epochs: int = 20, seed: int = 0, device: str = "cpu"
) -> Classifier:
    """A classifier of the words of a data folder, which shows its progress.

    Clips are as long as all but 2 % of the training recordings at most, and shorter ones are followed by silence. Each
    is seen shifted in time, louder or softer, and with hidden stripes. Raises DataError for recordings without labels,
    and for too few of them.
    """
    classes = classes_of(data, labels)
    train, valid = (Words.of(data, split, classes, labels) for split in ("train", "valid"))
    samples = _clip_samples(train.recordings, data.sample_rate)
    torch.manual_seed(seed)
    network = WordNetwork(len(classes), data.sample_rate, samples).to(device)
    classifier = Classifier(network, tuple(classes), labels, data.sample_rate, manifest_sha256(data.folder))
    optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=_DECAY)
    steps = epochs * math.ceil(len(train.recordings) / AT_ONCE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share_of_rate(step / steps))
    draw = np.random.default_rng(seed)
    best, kept = math.inf, copy.deepcopy(network.state_dict())
    with terminal.Bar(steps, "step", title="training the classifier") as bar:
        for _ in range(epochs):
            network.train()
            for clips, targets in _batches(train, samples, draw):
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
    network.eval()
    return classifier


def _share_of_rate(done: float) -> float:
    """How much of the learning rate is used when so much of the training is done, from 0 to 1."""
    rising, falling = done / _WARMUP, 0.5 * (1 + math.cos(math.pi * (done - _WARMUP) / (1 - _WARMUP)))
    return max(0.01, rising if done < _WARMUP else falling)


def _clip_samples(recordings: Sequence[Recording], rate: int) -> int:
    """How long the clips are that the network looks at. Raises DataError for recordings that are no words."""
    lengths = sorted(recording.length for recording in recordings)
    samples = lengths[math.ceil(_LONGEST * len(lengths)) - 1]
    if samples > MOST_SECONDS * rate:
        seconds = f"{samples / rate:.0f}"
        raise DataError(
            f"recordings must be words of at most {MOST_SECONDS} s each to train a classifier, got {seconds} s"
        )
    return max(samples, round(_SHORTEST_SECONDS * rate))


def _loss(classifier: Classifier, words: Words) -> float:
    """The mean negative log-likelihood of the right classes."""
    logs = torch.from_numpy(words.judged(classifier).log_probabilities)
    return float(F.nll_loss(logs, words.targets))


def _batches(words: Words, samples: int, draw: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
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
