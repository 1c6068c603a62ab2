"""The `fidelity` command: how much generated words are like real ones. `evaluation.fidelity` does the work."""

import json as json_module
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from samplernn_fast import terminal
from samplernn_fast.backends import names
from samplernn_fast.errors import AudioError, ConfigError, one_line
from samplernn_fast.evaluation.fidelity.labels import FOLDER, classes_of, read_pattern
from samplernn_fast.ranges import Range

if TYPE_CHECKING:
    from samplernn_fast.data.folder import AudioData
    from samplernn_fast.evaluation.fidelity.classifier import Classifier
    from samplernn_fast.evaluation.fidelity.scores import Scorer, Scores


def fidelity(
    clips: tyro.conf.Positional[tuple[str, ...]],
    /,
    *,
    data: Path,
    classifier: Path,
    labels: str = FOLDER,
    epochs: Annotated[int, Range(1, 10_000)] = 20,
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0,
    device: str = "auto",
    json: bool = False,
) -> None:
    """FID, inception scores and AM score of generated words, by a small classifier that is trained on real ones.

    The data folder has one word a recording (`prepare --pad-seconds 1`), and so has each file of clips, as loud as a
    model makes it. Numbers compare within one classifier only, and between sets of about equally many clips.

    Args:
        clips: Folders of generated audio, a row each: NAME=FOLDER, or FOLDER alone. None scores the data itself.
        data: The data folder that `prepare` made of labelled recordings.
        classifier: The file of the classifier; where it is not there it is trained on the data and written.
        labels: Regular expression that finds the label in a recording's name, by its one group; the name of the
            recording's folder where none is given.
        epochs: How often a new classifier sees the train split.
        seed: Of a new classifier's weights, and of the order in which it sees recordings.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON object instead of text.
    """
    from samplernn_fast.audio.finding import find_audio
    from samplernn_fast.data.folder import AudioData

    names.check_device(device)
    pattern, opened = read_pattern(labels), AudioData.open(data)
    classes_of(opened, pattern)  # refuses before torch is loaded, as do the next lines
    named = _named(clips)
    found = {name: find_audio(folder) for name, folder in named.items()}
    for name, files in found.items():
        if not files:
            raise AudioError(f"{one_line(named[name])}: holds no audio")
    if not os.path.isdir(classifier.parent):
        raise ConfigError(f"classifier: {one_line(classifier.parent)} is no folder")
    with terminal.waiting("loading torch"):
        from samplernn_fast.evaluation.fidelity.scores import Reader, Scorer

    known = _classifier(classifier, opened, labels, epochs, seed, device)
    scorer, unread = Scorer(known, opened), 0
    rows = scorer.splits()
    total = sum(map(len, found.values()))
    with terminal.Bar(total, " file", title="clips", shown=total > 0) as bar:
        for name, files in found.items():
            reader = Reader(known, lambda line: bar.say(f"samplernn-fast: {line}"), bar.advance)
            rows.append(scorer.files(name, files, reader))
            unread += reader.unread
    _show(scorer, rows, json)
    if unread:
        raise AudioError(f"{unread} of {total} files could not be read, and were left out")


def _named(clips: tuple[str, ...]) -> dict[str, Path]:
    """Name -> folder of each word. Raises ConfigError for names that are used twice, and for no folder."""
    found: dict[str, Path] = {}
    for word in clips:
        name, equals, folder = word.partition("=")
        if not equals:
            name, folder = Path(word).resolve().name, word
        if not name or not folder:
            raise ConfigError(f"clips must be NAME=FOLDER or FOLDER, got {one_line(word)!r:.60}")
        if name in found or name in ("train", "test"):
            raise ConfigError(f"two rows would be called {one_line(name)!r:.60}; write NAME=FOLDER with another name")
        found[name] = Path(folder)
    return found


def _classifier(file: Path, data: "AudioData", labels: str, epochs: int, seed: int, device: str) -> "Classifier":
    """The classifier in the file, or a new one that is written there."""
    from samplernn_fast.backends.devices import resolve_device
    from samplernn_fast.evaluation.fidelity.classifier import Classifier
    from samplernn_fast.evaluation.fidelity.training import train_classifier

    target = str(resolve_device(device))
    if os.path.lexists(file):
        known = Classifier.load(file)
        known.check(file, data, read_pattern(labels))
        known.network.to(target)
        return known
    made = train_classifier(data, read_pattern(labels), epochs=epochs, seed=seed, device=target)
    made.save(file)
    return made


def _show(scorer: "Scorer", rows: "list[Scores]", json: bool) -> None:
    """Prints what is known of the classifier, and a row for each set of clips."""
    known = scorer.classifier
    split, accuracy, total = scorer.accuracy()
    seconds = known.network.samples / known.sample_rate
    if json:
        about = {"classes": known.classes, "seconds": seconds, "accuracy": accuracy.value, "recordings": total}
        about |= {"low": accuracy.low, "high": accuracy.high, "split": split}
        print(json_module.dumps({"classifier": about, "rows": [_finite(row.to_dict()) for row in rows]}))
        return
    shares = f"{accuracy.value:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%})"
    print(f"classifier: {len(known.classes)} classes, right in {shares} of {total} recordings of the {split} split")
    width = max(len(row.name) for row in rows)
    print(f"{'':{width}}   clips      FID      IS      mIS      AM")
    for row in rows:
        mark = "*" if row.name == "train" else " "
        scores = f"{row.fid:8.3f}{mark}{row.inception:7.2f} {row.modified:8.1f} {row.am:7.3f}"
        print(f"{one_line(row.name):{width}} {row.clips:7d} {scores}")
    print("lower is better: FID, AM; higher: IS, mIS. * between two halves of the training recordings")
    for row in rows:
        if row.longer:
            print(
                f"{one_line(row.name)}: {row.longer} clips are longer than {seconds:.2f} s, and only that much was seen"
            )


def _finite(row: dict[str, object]) -> dict[str, object]:
    """A row for JSON, which knows no infinity; None stands for it."""
    return {name: None if isinstance(value, float) and math.isinf(value) else value for name, value in row.items()}
