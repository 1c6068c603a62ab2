"""The `fidelity` command: how much generated words are like real ones. `evaluation.fidelity` does the work."""

import json as json_module
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from samplernn_fast import files, terminal
from samplernn_fast.backends import names
from samplernn_fast.data.manifest import MANIFEST_FILE
from samplernn_fast.errors import AudioError, CheckpointError, ConfigError, one_line, quoted
from samplernn_fast.evaluation.clips.album import REJECTED
from samplernn_fast.evaluation.fidelity.labels import FOLDER, classes_of, read_pattern
from samplernn_fast.models.places import LAST_FILE, MODEL_FILE
from samplernn_fast.ranges import Range

if TYPE_CHECKING:
    from samplernn_fast.data.folder import AudioData
    from samplernn_fast.evaluation.fidelity.classifier import Classifier
    from samplernn_fast.evaluation.fidelity.scores import Scorer, Scores


_SURE = 0.8
"""A classifier is of use where the train split has this share of the largest possible inception score."""
_UNSURE = (
    "samplernn-fast: the classifier is not sure of the words that it was trained on, so these scores mean little; give"
    " it more --epochs, in another file, or more words"
)


def fidelity(
    clips: tyro.conf.Positional[tuple[str, ...]],
    /,
    *,
    data: Path,
    classifier: Path,
    labels: str | None = None,
    gain: Annotated[float, Range(0, 1e6, above=True)] = 1.0,
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
        labels: Regular expression that finds the label in a recording's name, by its one group. Where none is given it
            is that of the classifier, and of a new one the name of the recording's folder.
        gain: The factor on the clips. Real recordings want the gain that `prepare` gave the data, which is in its
            manifest.json; what a model makes has it.
        epochs: How often a new classifier sees the train split; where nothing is said 20 times, and more often where
            the words are few.
        seed: Of a new classifier's weights and order of recordings, 0 where nothing is said.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON object instead of text.
    """
    from samplernn_fast.data.folder import AudioData

    names.check_device(device)
    opened, known = AudioData.open(data), os.path.lexists(classifier)
    if labels is not None or not known:
        classes_of(opened, read_pattern(labels or FOLDER))  # refuses before torch is loaded, as do the next lines
    found = _found(_named(clips))
    if not known:
        _check_writable(classifier)
    with terminal.waiting("loading torch"):
        from samplernn_fast.evaluation.fidelity.scores import Scorer, check_count
    for name, paths in found.items():
        check_count(name, len(paths))
    scorer = Scorer(_classifier(classifier, opened, labels, epochs, seed, device), opened)
    rows, failed = _rows(scorer, found, gain)
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
        if name in ("train", "test"):
            raise ConfigError(f"the row {name} is that of the data; write NAME={folder} with another name")
        if name in found:
            raise ConfigError(f"two rows would be called {quoted(name)}; write NAME=FOLDER with another name")
        found[name] = Path(folder)
    return found


def _found(named: Mapping[str, Path]) -> dict[str, list[Path]]:
    """The audio files of each folder, without those that `generate --sort-out` rejected. Raises AudioError for none."""
    from samplernn_fast.audio.finding import find_audio

    found = {}
    for name, folder in named.items():
        for mark, kind in ((MODEL_FILE, "run"), (LAST_FILE, "run"), (MANIFEST_FILE, "data")):
            if os.path.lexists(folder / mark):
                raise ConfigError(f"{one_line(folder)} is a {kind} folder, and no folder of clips")
        paths = [path for path in find_audio(folder) if REJECTED not in path.relative_to(folder).parts[:-1]]
        if not paths:
            raise AudioError(f"{one_line(folder)}: holds no audio")
        found[name] = paths
    return found


def _check_writable(file: Path) -> None:
    """Raises CheckpointError where a file cannot be made, before minutes of training are spent on it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(file, b"")
        file.unlink()
    except OSError as error:
        raise CheckpointError(f"{one_line(file)}: cannot be written: {error.strerror or error}") from None


def _classifier(
    file: Path, data: "AudioData", labels: str | None, epochs: int | None, seed: int | None, device: str
) -> "Classifier":
    """The classifier in the file, or a new one that is written there."""
    from samplernn_fast.backends.devices import resolve_device
    from samplernn_fast.evaluation.fidelity.classifier import Classifier
    from samplernn_fast.evaluation.fidelity.training import train_classifier

    target = resolve_device(device)
    if not os.path.lexists(file):
        made = train_classifier(data, read_pattern(labels or FOLDER), epochs=epochs, seed=seed or 0, device=target)
        made.save(file)
        return made
    known = Classifier.load(file)
    known.check(file, data, known.labels if labels is None else read_pattern(labels))
    for name, asked, there in (("epochs", epochs, known.epochs), ("seed", seed, known.seed)):
        if asked not in (None, there):
            raise ConfigError(f"{name}: {file} was trained with {there}, got {asked}; name another file for a new one")
    known.network.to(target)
    return known


def _rows(scorer: "Scorer", found: Mapping[str, Sequence[Path]], gain: float) -> tuple[list["Scores"], str]:
    """The scores of every set that has clips, and in words what could not be read, or nothing."""
    from samplernn_fast.evaluation.fidelity.scores import Reader

    rows, failed, unread = [], [], 0
    total = sum(map(len, found.values()))
    with terminal.Bar(total, " file", title="clips", shown=total > 0) as bar:
        for name, paths in found.items():
            reader = Reader(scorer.classifier, gain, lambda line: bar.say(f"samplernn-fast: {line}"), bar.advance)
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
        print(json_module.dumps({"classifier": about, "rows": [files.for_json(row.to_dict()) for row in rows]}))
        return
    shares = f"{accuracy.value:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%})"
    classes = ", ".join(map(one_line, known.classes[:20])) + (", ..." if len(known.classes) > 20 else "")
    print(f"classifier: right in {shares} of {total} recordings of the {split} split; {len(known.classes)}: {classes}")
    width = max(len(one_line(row.name)) for row in rows)
    print(f"{'':{width}}   clips      FID  of real      IS        mIS      AM")
    for row in rows:
        mark = "*" if row.fid_to == "halves" else " "
        scores = f"{row.inception_score:7.2f} {row.modified_inception_score:10.1f} {row.am_score:7.3f}"
        print(f"{one_line(row.name):{width}} {row.clips:7d} {row.fid:8.3f}{mark}{row.real_fid:8.3f} {scores}")
    print(
        "lower is better: FID, AM; higher: IS, of at most the number of classes, and mIS. of real: the FID of as many"
    )
    print("words drawn from the train split, which grows where they are few. * between two halves of the train split")
    for row in rows:
        if row.longer:
            print(f"{one_line(row.name)}: longer than {seconds:.2f} s, whose rest was not seen: {row.longer} clips")
    if accuracy.low <= max(rows[0].shares.values()) or rows[0].inception_score < _SURE * len(known.classes):
        print(_UNSURE, file=sys.stderr)
