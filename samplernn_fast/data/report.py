"""What `preparation.prepare` did, as numbers and as the lines that the command line prints."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samplernn_fast.data.folder import SPLITS, Manifest, chunk_count, chunk_samples

_SHOWN = 20  # most dropped files that the summary names; the manifest names all


@dataclass(frozen=True)
class SplitSize:
    """How much audio one split has."""

    recordings: int
    """How many input files it has, or has parts of."""
    chunks: int
    hours: float
    streams: int = 0
    """How many streams its recordings were joined into; 0 where they stand for themselves."""


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
    dropped: tuple[tuple[str, str], ...]
    """(file, reason) of every file that was skipped."""
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

    @property
    def recordings(self) -> int:
        """How many recordings all splits have together."""
        return sum(size.recordings for size in self.splits.values())

    def summary(self) -> str:
        """A few lines for people: hours, chunks, splits, what was dropped and why, warnings."""
        lines = [
            f"{self.folder}: {_duration(self.hours)} of audio, {self.chunks} chunks of at most"
            f" {self.chunk_seconds:g} s, {self.recordings} recordings, {self.sample_rate} Hz",
            f"  gain {self.gain:.4g} (largest peak {self.peak:.4g}); took {self.seconds:.1f} s",
        ]
        for name, size in self.splits.items():
            counts = f"{size.chunks:7} chunks {size.recordings:7} recordings"
            counts += f" in {size.streams} streams" if size.streams else ""
            lines.append(f"  {name:5} {_duration(size.hours):>9} {counts}")
        if self.dropped:
            lines.append(f"dropped {len(self.dropped)} files:")
            lines += [f"  {name}: {reason}" for name, reason in self.dropped[:_SHOWN]]
        if len(self.dropped) > _SHOWN:
            lines.append(f"  and {len(self.dropped) - _SHOWN} more, all named in manifest.json")
        lines += [f"warning: {warning}" for warning in self.warnings]
        # A file name need not be valid text, and printing must not fail on it.
        return "\n".join(lines).encode(errors="replace").decode()

    def __str__(self) -> str:
        return self.summary()


def make_report(
    folder: Path, manifest: Manifest, warnings: Sequence[str], peak: float, clipped: int, seconds: float
) -> PrepareReport:
    """The report of a manifest just written; adds the warnings about loudness."""
    more = list(warnings)
    if clipped:
        share = 100 * clipped / sum(recording.length for recording in manifest.recordings)
        more.append(f"{clipped} samples ({share:.2g}%) are clipped at gain {manifest.gain:g}; use gain auto")
    if peak == 0:
        more.append("every recording is digital silence")
    return PrepareReport(
        folder=folder,
        sample_rate=manifest.sample_rate,
        chunk_seconds=manifest.chunk_seconds,
        gain=manifest.gain,
        peak=peak,
        clipped=clipped,
        splits={name: _size(manifest, name) for name in SPLITS},
        dropped=manifest.dropped,
        warnings=tuple(more),
        seconds=seconds,
    )


def _size(manifest: Manifest, split: str) -> SplitSize:
    largest = chunk_samples(manifest.sample_rate, manifest.chunk_seconds)
    entries = [recording for recording in manifest.recordings if recording.split == split]
    chunks = sum(chunk_count(entry.length, largest) for entry in entries)
    hours = sum(entry.length for entry in entries) / manifest.sample_rate / 3600
    joined = "join" in manifest.split_info
    recordings = sum(len(entry.parts) for entry in entries) if joined else len(entries)
    return SplitSize(recordings, chunks, hours, streams=len(entries) if joined else 0)


def _duration(hours: float) -> str:
    return f"{hours:.2f} h" if hours >= 0.1 else f"{hours * 3600:.1f} s"
