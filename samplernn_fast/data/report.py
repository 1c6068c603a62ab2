"""What `preparation.prepare` did, as numbers and as the lines that the command line prints."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from samplernn_fast.data.chunks import chunk_count, chunk_samples
from samplernn_fast.data.decoding import Take
from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.manifest import SPLITS, Manifest
from samplernn_fast.data.settings import Settings
from samplernn_fast.terminal import audio_length, counted

_SHOWN = 20  # most dropped files that the summary names; the manifest names all
_NAMED = 5  # most recordings that a warning names
_LOST_BY_MIXING = 0.97  # the share of power from which on channels cancel each other; unlike channels lose half
_LARGE_GAIN = 30.0  # One step of 16 bits becomes a noise that can be heard where the gain is larger.
_BEYOND_FULL_SCALE = 2.0  # a peak that audio below full scale does not have, however it was resampled
_USELESS = {
    "train": "a model of it makes nothing else; give other recordings, or a larger gain",
    "valid": "a validation on it cannot tell which model is best; leave silent recordings out and prepare again",
    "test": "a score on it says nothing of a model; leave silent recordings out and prepare again",
}


@dataclass(frozen=True)
class SplitSize:
    """How much audio one split has."""

    recordings: int
    """How many input files it has, or has parts of."""
    chunks: int
    hours: float
    entries: int
    """How many recordings, pieces of them or medleys it has, each of which training begins anew."""


@dataclass(frozen=True)
class PrepareReport:
    """The result of `prepare`; `str(report)` is its summary."""

    folder: Path
    sample_rate: int
    chunk_seconds: float
    gain: float
    """The factor by which all amplitudes were multiplied."""
    peak: float
    """The largest absolute amplitude before the gain."""
    clipped: int
    """How many samples were beyond full scale after the gain, and were clipped."""
    splits: dict[str, SplitSize]
    recordings: int
    """How many input files were used."""
    dropped: tuple[tuple[str, str], ...]
    """(file, reason) of every file that was skipped, and of every folder that cannot be listed."""
    passed_over: str
    """How many files of which suffixes are no audio: "3 .jpg, 1 .txt"; empty where there is none."""
    notes: tuple[str, ...]
    """What was decided for the user, who might have it otherwise."""
    warnings: tuple[str, ...]
    seconds: float
    """How long the preparation took."""

    @property
    def hours(self) -> float:
        """How much audio all splits have together."""
        return sum(size.hours for size in self.splits.values())

    @property
    def chunks(self) -> int:
        """How many chunks all splits have together."""
        return sum(size.chunks for size in self.splits.values())

    def summary(self) -> str:
        """A few lines for people: hours, chunks, splits, what was dropped and why, warnings."""
        lines = [
            f"{self.folder}: {audio_length(3600 * self.hours)} of audio, {counted(self.chunks, 'chunk')} of at most"
            f" {self.chunk_seconds:g} s, {counted(self.recordings, 'recording')}, {self.sample_rate} Hz",
            f"  gain {self.gain:.4g} (largest peak {self.peak:.4g}); took {self.seconds:.1f} s",
        ]
        for name, size in self.splits.items():
            counts = f"{size.chunks:7} chunks {size.recordings:7} recordings"
            if size.entries != size.recordings:
                counts += f" in {counted(size.entries, 'medley' if size.entries < size.recordings else 'piece')}"
            lines.append(f"  {name:5} {audio_length(3600 * size.hours):>9} {counts}")
        if self.dropped:
            lines.append(f"dropped {counted(len(self.dropped), 'file')}:")
            lines += [f"  {name}: {reason}" for name, reason in self.dropped[:_SHOWN]]
        if len(self.dropped) > _SHOWN:
            lines.append(f"  and {len(self.dropped) - _SHOWN} more, all named in manifest.json")
        if self.passed_over:
            lines.append(f"passed over what is no audio: {self.passed_over}")
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"warning: {warning}" for warning in self.warnings]
        # A file name need not be valid text, and printing must not fail on it.
        return "\n".join(lines).encode(errors="replace").decode()

    def __str__(self) -> str:
        return self.summary()


def loudness_warnings(takes: Sequence[Take], constant: Sequence[str], gain: float, settings: Settings) -> list[str]:
    """What the user should know of the amplitudes. constant: the recordings whose samples are all equal."""
    warnings = []
    if settings.channels == "mix":
        lost = [take.name for take in takes if take.lost > _LOST_BY_MIXING]
        if lost:
            warnings.append(
                f"{_named(lost)}: the channels nearly cancel each other when they are mixed to mono; listen, and choose"
                ' one, for example by channels="left"'
            )
    if constant:
        warnings.append(f"{_named(constant)}: silence or one constant value all through; leave out such recordings")
    loudest = max(takes, key=lambda take: take.peak)
    if settings.gain == "auto" and gain > _LARGE_GAIN:
        warnings.append(
            f"the largest peak is {loudest.peak:.2g} of full scale, and gain auto multiplies it and all noise by"
            f" {gain:.3g}; were these the right files and channels?"
        )
    if settings.gain == "auto" and loudest.peak > _BEYOND_FULL_SCALE:
        warnings.append(
            f"{loudest.name} has a peak of {loudest.peak:.3g}, where full scale is 1, and gain auto makes all"
            " recordings quieter for it"
        )
    return warnings


def silence_warnings(data: AudioData, splits: Iterable[str] = SPLITS) -> list[str]:
    """A warning for each of `splits` of a data folder that is silent."""
    return [
        f"all of {split} is silence, or nearly so ({share:.1%} of it is sound), and {_USELESS[split]}"
        for split, share in data.silent_splits(splits).items()
    ]


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def make_report(
    folder: Path,
    manifest: Manifest,
    *,
    recordings: int,
    passed_over: str,
    notes: Sequence[str],
    warnings: Sequence[str],
    peak: float,
    clipped: int,
    seconds: float,
) -> PrepareReport:
    """The report of a manifest just written; adds a warning where samples were clipped."""
    more = list(warnings)
    if clipped:
        share = 100 * clipped / sum(recording.length for recording in manifest.recordings)
        more.append(f"clipped {counted(clipped, 'sample')} ({share:.2g}%) at gain {manifest.gain:g}; use gain auto")
    return PrepareReport(
        folder=folder,
        sample_rate=manifest.sample_rate,
        chunk_seconds=manifest.chunk_seconds,
        gain=manifest.gain,
        peak=peak,
        clipped=clipped,
        splits={name: _size(manifest, name) for name in SPLITS},
        recordings=recordings,
        dropped=manifest.dropped,
        passed_over=passed_over,
        notes=tuple(notes),
        warnings=tuple(more),
        seconds=seconds,
    )


def _size(manifest: Manifest, split: str) -> SplitSize:
    largest = chunk_samples(manifest.sample_rate, manifest.chunk_seconds)
    entries = [recording for recording in manifest.recordings if recording.split == split]
    chunks = sum(chunk_count(entry.length, largest) for entry in entries)
    hours = sum(entry.length for entry in entries) / manifest.sample_rate / 3600
    files = {part.path for entry in entries for part in entry.parts} | {e.path for e in entries if not e.parts}
    return SplitSize(len(files), chunks, hours, len(entries))
