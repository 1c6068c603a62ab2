"""Which of the pieces that `generate` made are kept: its flags --keep-best, --sort-out, --rank-by and --like."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplernn_fast.errors import AudioError, ConfigError

if TYPE_CHECKING:
    from samplernn_fast.evaluation.clips.judging import JudgedClip
    from samplernn_fast.evaluation.clips.ranking import Place
    from samplernn_fast.models.base import AudioModel

_SHORTEST = 0.1  # seconds; shorter pieces say nothing


@dataclass(frozen=True)
class Choice:
    """What is to become of the pieces, as the flags say."""

    keep_best: int | None = None
    """How many are kept; None keeps all."""
    sort_out: bool = False
    """Whether those with faults, and those that are too many, are moved into the folder `rejected`."""
    rank_by: str = "usual"
    like: Path | None = None
    """A data folder of real recordings, which say what is usual."""

    @property
    def wanted(self) -> bool:
        """Whether anything is to be chosen."""
        return self.keep_best is not None or self.sort_out

    def check(self, num_samples: int, num_shards: int, duration: float) -> None:
        """Raises ConfigError for flags that do not fit each other, DataError for real recordings that are not there."""
        if not self.wanted:
            if self.like is not None:
                raise ConfigError("like needs keep_best or sort_out, which rank the pieces")
            if self.rank_by != "usual":
                raise ConfigError("rank_by needs keep_best or sort_out, which rank the pieces")
            return
        if num_shards > 1:
            raise ConfigError("keep_best and sort_out compare all pieces with each other, so they need num_shards 1")
        if self.keep_best is not None and self.keep_best > num_samples:
            raise ConfigError(f"keep_best must be at most num_samples, {num_samples}, got {self.keep_best}")
        if duration < _SHORTEST:
            raise ConfigError(f"duration must be at least {_SHORTEST} seconds for keep_best and sort_out")
        if self.like is not None:
            from samplernn_fast.data.folder import AudioData

            AudioData.open(self.like)

    def check_folder(self, folder: Path) -> None:
        """Raises AudioError where the folder of rejected pieces cannot be made beside the others."""
        if self.sort_out:
            from samplernn_fast.evaluation.clips.album import check_album

            check_album(folder)

    def usual_bits(self, model: "AudioModel") -> list[float]:
        """The bits per sample of the real recordings, each of the validation split; empty where none were named."""
        if self.like is None:
            return []
        from samplernn_fast.commands.evaluation import score
        from samplernn_fast.data.folder import AudioData

        return [file.nll_bits for file in score(model, AudioData.open(self.like), "valid").per_file]


@dataclass(frozen=True)
class Chosen:
    """What became of the files, best first."""

    kept: list[tuple[Path, "Place"]]
    rejected: list[tuple[Path, "Place", str]]
    """(where it is now, or was before it was removed; its place; why)."""
    moved: bool
    """Whether the rejected ones are in a folder; otherwise they were removed."""

    def rows(self) -> list[dict[str, Any]]:
        """A row for each piece, for JSON."""
        rows = [_row(path, place, "") for path, place in self.kept]
        return rows + [_row(path if self.moved else None, place, why) for path, place, why in self.rejected]

    def text(self) -> str:
        """What a person is told: why which pieces were rejected."""
        what = "moved" if self.moved else "removed"
        lines = [f"{what} {path}  {why}" for path, _, why in self.rejected]
        lines += [f"kept in spite of its faults: {path}  {place.reason}" for path, place in self.kept if place.faults]
        return "\n".join([*lines, f"kept {len(self.kept)} of {len(self.kept) + len(self.rejected)}, best first"])


def choose(choice: Choice, paths: Sequence[Path], clips: Sequence["JudgedClip"], like: Sequence[float] = ()) -> Chosen:
    """Ranks the files of pieces, and moves or removes those that are not kept.

    Raises AudioError where one cannot be; the others are there then.
    """
    from samplernn_fast.evaluation.clips.album import sort_out
    from samplernn_fast.evaluation.clips.ranking import rank_clips

    kept: list[Place] = []
    rejected: list[tuple[Place, str]] = []
    for place in rank_clips(clips, rule=choice.rank_by, like=like):
        if choice.sort_out and place.faults:
            rejected.append((place, place.reason))
        elif choice.keep_best is not None and len(kept) == choice.keep_best:
            rejected.append((place, place.reason or f"not among the {choice.keep_best} best"))
        else:
            kept.append(place)
    old = [paths[place.index] for place, _ in rejected]
    if choice.sort_out:
        new = sort_out({path: why for path, (_, why) in zip(old, rejected, strict=True)})
    else:
        new = old
        for path in old:
            _remove(path)
    out = [(path, place, why) for path, (place, why) in zip(new, rejected, strict=True)]
    return Chosen([(paths[place.index], place) for place in kept], out, choice.sort_out)


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise AudioError(f"{path}: cannot be removed: {error.strerror}") from None


def _row(path: Path | None, place: "Place", why: str) -> dict[str, Any]:
    row = {"file": None if path is None else str(path), "stream": place.index, "kept": not why}
    return row | {"bits": place.clip.bits, "faults": place.faults, "reason": why} | measured(place.clip)


def measured(clip: "JudgedClip") -> dict[str, Any]:
    """The measures of a clip for JSON, which has no NaN."""
    values = asdict(clip.measures)
    return {name: None if math.isnan(value) else value for name, value in values.items()}
