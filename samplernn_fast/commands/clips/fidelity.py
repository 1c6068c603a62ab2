"""The `fidelity` command: how much generated words are like real ones. `evaluation.fidelity` does the work."""

import json as json_module
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from samplernn_fast import files, terminal
from samplernn_fast.backends import names
from samplernn_fast.errors import AudioError, CheckpointError, ConfigError, one_line, quoted
from samplernn_fast.evaluation.clips.album import REJECTED
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
    epochs: Annotated[int | None, Range(1, 10_000)] = None,
    seed: Annotated[int | None, Range(0, 2**63 - 1)] = None,
    device: str = "auto",
    json: bool = False,
) -> None:
    """FID, inception scores and AM score of generated words, by a small classifier that is trained on real ones.

    The data folder has one word a recording (`prepare --pad-seconds 1`), and so has each file of clips, as loud as a
    model makes it. Numbers compare within one classifier only, and between sets of about equally many clips.

    Args:
        clips: Folders of generated audio, a row each: FOLDER or NAME=FOLDER. None scores the data itself.
        data: The data folder that `prepare` made of labelled recordings.
        classifier: The file of the classifier; where it is not there it is trained on the data and written.
        labels: Regular expression that finds the label in a recording's name, by its one group; the name of the
            recording's folder where none is given.
        epochs: How often a new classifier sees the train split, 20 times where nothing is said.
        seed: Of a new classifier's weights and order of recordings, 0 where nothing is said.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON object instead of text.
    """
    from samplernn_fast.data.folder import AudioData

    names.check_device(device)
    pattern, opened = read_pattern(labels), AudioData.open(data)
    classes_of(opened, pattern)  # refuses before torch is loaded, as do the next lines
    found = _found(_named(clips))
    if not os.path.lexists(classifier):
        _check_writable(classifier)
    with terminal.waiting("loading torch"):
        from samplernn_fast.evaluation.fidelity.scores import Scorer, check_count
    for name, paths in found.items():
        check_count(name, len(paths))
    scorer = Scorer(_classifier(classifier, opened, labels, epochs, seed, device), opened)
    rows, failed = _rows(scorer, found)
    _show(scorer, [*scorer.splits(), *rows], json)
    if failed:
        raise AudioError(failed)


def _named(clips: Sequence[str]) -> dict[str, Path]:
    """Name -> folder of each word. Raises ConfigError for names that are used twice, and for no folder."""
    found: dict[str, Path] = {}
    for word in clips:
        name, equals, folder = word.partition("=")
        if not equals or os.path.lexists(word):  # a folder may have a = in its name
            name, folder = os.path.basename(os.path.abspath(word)), word
        if not name or not folder:
            raise ConfigError(f"a set of clips is FOLDER or NAME=FOLDER, got {quoted(word)}")
        if name in found or name in ("train", "test"):
            raise ConfigError(f"two rows would be called {quoted(name)}; write NAME=FOLDER with another name")
        found[name] = Path(folder)
    return found


def _found(named: Mapping[str, Path]) -> dict[str, list[Path]]:
    """The audio files of each folder, without those that `generate --sort-out` rejected. Raises AudioError for none."""
    from samplernn_fast.audio.finding import find_audio

    found = {}
    for name, folder in named.items():
        paths = [path for path in find_audio(folder) if REJECTED not in path.relative_to(folder).parts[:-1]]
        if not paths:
            raise AudioError(f"{one_line(folder)}: holds no audio")
        found[name] = paths
    return found


def _check_writable(file: Path) -> None:
    """Raises CheckpointError where a file cannot be made, before minutes of training are spent on it."""
    try:
        files.write_bytes(file, b"")
        file.unlink()
    except OSError as error:
        raise CheckpointError(f"{one_line(file)}: cannot be written: {error.strerror or error}") from None


def _classifier(
    file: Path, data: "AudioData", labels: str, epochs: int | None, seed: int | None, device: str
) -> "Classifier":
    """The classifier in the file, or a new one that is written there."""
    from samplernn_fast.backends.devices import resolve_device
    from samplernn_fast.evaluation.fidelity.classifier import Classifier
    from samplernn_fast.evaluation.fidelity.training import EPOCHS, train_classifier

    target, pattern = str(resolve_device(device)), read_pattern(labels)
    if not os.path.lexists(file):
        made = train_classifier(data, pattern, epochs=epochs or EPOCHS, seed=seed or 0, device=target)
        made.save(file)
        return made
    known = Classifier.load(file)
    known.check(file, data, pattern)
    for name, asked, there in (("epochs", epochs, known.epochs), ("seed", seed, known.seed)):
        if asked not in (None, there):
            raise ConfigError(f"{name}: {file} was trained with {there}, got {asked}; name another file for a new one")
    known.network.to(target)
    return known


def _rows(scorer: "Scorer", found: Mapping[str, Sequence[Path]]) -> tuple[list["Scores"], str]:
    """The scores of every set that has clips, and in words what could not be read, or nothing."""
    from samplernn_fast.evaluation.fidelity.scores import Reader

    rows, failed, unread = [], [], 0
    total = sum(map(len, found.values()))
    with terminal.Bar(total, " file", title="clips", shown=total > 0) as bar:
        for name, paths in found.items():
            reader = Reader(scorer.classifier, lambda line: bar.say(f"samplernn-fast: {line}"), bar.advance)
            try:
                rows.append(scorer.files(name, paths, reader))
            except AudioError as error:
                failed.append(str(error))
            unread += reader.unread
    if unread:
        failed.insert(0, f"{unread} of {total} files could not be read, and were left out")
    return rows, "; ".join(failed)


def _show(scorer: "Scorer", rows: "Sequence[Scores]", json: bool) -> None:
    """Prints what is known of the classifier, and a row for each set of clips."""
    known = scorer.classifier
    split, accuracy, total = scorer.accuracy()
    seconds = known.network.samples / known.sample_rate
    if json:
        about = {"classes": known.classes, "seconds": seconds, "epochs": known.epochs, "seed": known.seed}
        about |= {"accuracy": accuracy.value, "accuracy_low": accuracy.low, "accuracy_high": accuracy.high}
        about |= {"split": split, "recordings": total}
        print(json_module.dumps({"classifier": about, "rows": [_finite(row.to_dict()) for row in rows]}))
        return
    shares = f"{accuracy.value:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%})"
    print(f"classifier: {len(known.classes)} classes, right in {shares} of {total} recordings of the {split} split")
    width = max(len(one_line(row.name)) for row in rows)
    print(f"{'':{width}}   clips      FID      IS       mIS      AM")
    for row in rows:
        mark = "*" if row.fid_to == "halves" else " "
        scores = f"{row.inception_score:7.2f} {row.modified_inception_score:9.4g} {row.am_score:7.3f}"
        print(f"{one_line(row.name):{width}} {row.clips:7d} {row.fid:8.3f}{mark}{scores}")
    print("lower is better: FID, AM; higher: IS, mIS. * between two halves of the training recordings")
    for row in rows:
        if row.longer:
            print(f"{one_line(row.name)}: longer than {seconds:.2f} s, whose rest was not seen: {row.longer} clips")


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for JSON, which knows no infinity; None stands for it."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
