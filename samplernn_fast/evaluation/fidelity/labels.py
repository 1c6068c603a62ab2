"""Which word a recording is of, as its name says."""

import re
import warnings
from collections import Counter
from collections.abc import Sequence

from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.manifest import Recording
from samplernn_fast.errors import ConfigError, DataError, one_line, quoted

FOLDER = r"([^/]+)/[^/]+$"
"""The pattern that takes the name of the folder which a recording lies in, as in SC09: seven/0a7c2a8d.wav."""
MOST_CLASSES = 1000


def read_pattern(text: str) -> re.Pattern[str]:
    """The regular expression of labels: its one group is the label. Raises ConfigError for another kind."""
    try:
        with warnings.catch_warnings(action="ignore"):  # Python warns of odd brackets.
            pattern = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(f"labels must be a regular expression, got {quoted(text)}: {error}") from None
    if pattern.groups != 1:
        raise ConfigError(
            f"labels must have one group in parentheses, which is the label, got {pattern.groups} in {quoted(text)}"
        )
    return pattern


def labels_of(recordings: Sequence[Recording], pattern: re.Pattern[str], folder: object) -> list[str]:
    """The label of every recording. Raises DataError for one whose name has none."""
    found = []
    for recording in recordings:
        match = pattern.search(recording.path)
        if match is None or not match.group(1):
            raise DataError(
                f"{folder}: the recording {one_line(recording.path)} has no label by the pattern"
                f" {quoted(pattern.pattern)} of labels"
            )
        found.append(match.group(1))
    return found


def classes_of(data: AudioData, pattern: re.Pattern[str]) -> list[str]:
    """The classes of a data folder, sorted: the labels of its train split.

    Raises DataError where there are fewer than two or more than `MOST_CLASSES`, where a class has one recording, and
    where a held-out recording is of none of them, and for medleys.
    """
    if "join" in data.manifest.split_info:
        raise DataError(
            f"{data.folder}: its recordings are joined, so none is one word; prepare them with pad_seconds in place of"
            " join"
        )
    counts = Counter(labels_of(data.recordings("train"), pattern, data.folder))
    if not 2 <= len(counts) <= MOST_CLASSES:
        raise DataError(
            f"{data.folder}: its train split must have 2 to {MOST_CLASSES} classes, got {len(counts)} by the pattern"
            f" {quoted(pattern.pattern)}"
        )
    rarest = min(counts, key=lambda label: counts[label])
    if counts[rarest] < 2:
        raise DataError(f"{data.folder}: its train split has one recording of {quoted(rarest)}, and needs two")
    for split in ("valid", "test"):
        for label in labels_of(data.recordings(split), pattern, data.folder):
            if label not in counts:
                raise DataError(
                    f"{data.folder}: its {split} split has recordings of {quoted(label)}, and train has none"
                )
    return sorted(counts)
