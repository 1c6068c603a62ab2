"""The scores of sets of clips: the splits of a data folder, and folders of generated audio."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samplernn_fast.audio import reading
from samplernn_fast.data.folder import AudioData
from samplernn_fast.errors import AudioError
from samplernn_fast.evaluation.fidelity import metrics
from samplernn_fast.evaluation.fidelity.classifier import Classifier, Judged
from samplernn_fast.evaluation.fidelity.training import Words
from samplernn_fast.evaluation.intervals import Interval, wilson

LEAST_CLIPS = 2
"""The fewest clips that have a spread, without which there is no distance."""


@dataclass(frozen=True)
class Scores:
    """The scores tell this of one set of clips."""

    name: str
    clips: int
    fid: float
    """The Fréchet distance of its features to those of `fid_to`."""
    fid_to: str
    """ "train", the train split; for that itself "halves", the distance between its two halves."""
    real_fid: float
    """So near do as many words come that are drawn from the train split, at most half of it, to its other words. The
    classifier has seen both."""
    inception_score: float
    modified_inception_score: float
    am_score: float
    """The AM score in nats."""
    shares: dict[str, float]
    """Class -> the share of clips that are likeliest of it."""
    longer: int = 0
    """So many clips were longer than what the classifier looks at, and their ends did not count."""

    def to_dict(self) -> dict[str, Any]:
        """The scores for JSON."""
        return asdict(self)


def check_count(name: str, count: int) -> None:
    """Raises AudioError where a set has too few clips."""
    if count < LEAST_CLIPS:
        raise AudioError(f"{name}: at least {LEAST_CLIPS} clips are needed, got {count}")


class Scorer:
    """Scores clips by a classifier, beside the data that it was trained on."""

    def __init__(self, classifier: Classifier, data: AudioData) -> None:
        """data: the folder of `Classifier.check`."""
        self.classifier, self.data = classifier, data
        self._judged: dict[str, tuple[Words, Judged]] = {}  # A split is judged once, though two questions ask for it.
        self._train_words, self._train = self._split("train")

    def splits(self) -> list[Scores]:
        """The train split, whose distance is that between its halves at random, and the test split if it has clips."""
        found = [self._scores("train", self._train, self._between_halves())]
        test, judged = self._split("test")
        if len(test.recordings) >= LEAST_CLIPS:
            found.append(self._scores("test", judged))
        return found

    def accuracy(self) -> tuple[str, Interval, int]:
        """The split that the classifier was tried on, its accuracy there, and how many recordings that has.

        The test split; where that is empty valid, by which an epoch was chosen, and where that is empty too train.
        """
        for split in ("test", "valid", "train"):
            words, judged = self._split(split)
            if words.recordings:
                total = len(words.recordings)
                return split, wilson(words.right(judged), total), total
        raise AssertionError("a classifier has training recordings")

    def files(self, name: str, files: Sequence[Path], reader: "Reader") -> Scores:
        """The scores of audio files, at least `LEAST_CLIPS` that can be read. Raises AudioError for fewer."""
        judged = self.classifier.judge(reader.clips(files))
        check_count(name, len(judged.features))
        return self._scores(name, judged, longer=reader.longer)

    def _split(self, split: str) -> tuple[Words, Judged]:
        """The words of a split, and what the classifier says about them."""
        if split not in self._judged:
            words = Words.of(self.data, split, self.classifier.classes, self.classifier.labels)
            self._judged[split] = words, words.judged(self.classifier)
        return self._judged[split]

    def _scores(self, name: str, judged: Judged, fid: float | None = None, longer: int = 0) -> Scores:
        logs = judged.log_probabilities
        likeliest = np.bincount(logs.argmax(axis=1), minlength=len(self.classifier.classes)) / len(logs)
        return Scores(
            name,
            len(logs),
            metrics.frechet_distance(judged.features, self._train.features) if fid is None else fid,
            "train" if fid is None else "halves",
            self._of_real(len(logs)),
            metrics.inception_score(logs),
            metrics.modified_inception_score(logs),
            metrics.am_score(logs, self._train.log_probabilities),
            dict(zip(self.classifier.classes, map(float, likeliest), strict=True)),
            longer,
        )

    def _between_halves(self) -> float:
        """The Fréchet distance between two halves of the train split, which are drawn and have the same classes."""
        targets = self._train_words.targets.numpy()
        order = np.random.default_rng(0).permutation(len(targets))
        dealt = order[np.argsort(targets[order], kind="stable")]
        return metrics.frechet_distance(self._train.features[dealt[::2]], self._train.features[dealt[1::2]])

    def _of_real(self, count: int) -> float:
        """The Fréchet distance of so many drawn words of the train split to the others."""
        order = np.random.default_rng(0).permutation(len(self._train.features))
        few, others = np.split(order, [min(count, len(order) // 2)])
        return metrics.frechet_distance(self._train.features[few], self._train.features[others])


class Reader:
    """Reads clips, and counts what it left out or cut."""

    def __init__(
        self,
        classifier: Classifier,
        gain: float = 1.0,
        say: Callable[[str], object] = lambda line: None,
        done: Callable[[], object] = lambda: None,
    ) -> None:
        """gain: the factor on all clips. say is called with a line about a file that is left out, done after each."""
        self._classifier, self._gain, self._say, self._done = classifier, np.float32(gain), say, done
        self.longer = 0
        """So many clips were longer than what the classifier looks at."""
        self.unread = 0
        """So many files could not be read."""

    def clips(self, files: Sequence[Path]) -> Iterator[npt.NDArray[np.float32]]:
        """The amplitudes (T,) of every file that can be read."""
        for file in files:
            try:
                yield self._read(file)
            except AudioError as error:
                self.unread += 1
                self._say(f"left out {error}")
            self._done()

    def _read(self, file: Path) -> npt.NDArray[np.float32]:
        """The beginning of a file; a long one is not read to its end."""
        rate, samples = self._classifier.sample_rate, self._classifier.network.samples
        blocks, length = [], 0
        for block in reading.read_blocks(file, rate, block_seconds=(samples + 1) / rate):
            blocks.append(np.asarray(block, np.float32))
            length += len(block)
            if length > samples:
                break
        if not length:
            raise AudioError(f"{file}: too short, no sample is left at {rate} Hz")
        self.longer += length > samples
        return np.concatenate(blocks)[:samples] * self._gain
