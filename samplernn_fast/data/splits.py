"""Which recording goes to train, valid or test. No recording is cut between two, and exact copies stay together.

`SplitRule` keeps what the user asked for; `split_by_share` is the rule where no lists are given.
"""

import fnmatch
import hashlib
import math
import os
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samplernn_fast.data.manifest import SPLITS, Recording
from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.untrusted import Unreadable, read_bytes

HELD_OUT = ("valid", "test")
"""The splits that training does not read."""
_LIST_BYTES = 1 << 26  # most bytes of a list of files
_SHOWN = 5  # most pairs that the warning about copies names


@dataclass(frozen=True)
class SplitRule:
    """How recordings are shared out: by lists of names where there are any, else by shares of the duration."""

    shares: tuple[float, float, float]
    """The shares of train, valid and test, which sum to 1."""
    seed: int
    """The seed of the shuffle before the shares are taken."""
    lists: dict[str, Path]
    """The text file of "valid" and of "test": one file name, relative path or glob pattern in a line."""

    @classmethod
    def from_settings(
        cls,
        shares: Sequence[float],
        seed: int,
        valid_files: str | os.PathLike[str] | None,
        test_files: str | os.PathLike[str] | None,
    ) -> "SplitRule":
        """The rule of `prepare`'s arguments. Raises ConfigError when the shares are no split or leave no train."""
        if len(shares) != 3 or min(shares) < 0 or not math.isfinite(sum(shares)):
            raise ConfigError(f"split must be three shares, train valid test, as 88 6 6, got {list(shares)}")
        if shares[0] == 0:
            raise ConfigError(f"the train share of split must be more than 0, got {list(shares)}")
        train, valid, test = (share / sum(shares) for share in shares)
        given = zip(HELD_OUT, (valid_files, test_files), strict=True)
        return cls((train, valid, test), seed, {name: Path(path) for name, path in given if path is not None})

    def info(self) -> dict[str, Any]:
        """What the manifest keeps of the rule, for JSON."""
        if self.lists:
            return {f"{name}_files": path.name for name, path in self.lists.items()}
        return {"shares": list(self.shares), "seed": self.seed}

    def read_lists(self, names: Sequence[str]) -> dict[str, str]:
        """The split of each of `names` that a list names.

        Raises DataError for a list that cannot be read, a line that matches nothing, and a name in both lists.
        """
        held_out: dict[str, str] = {}
        for split, path in self.lists.items():
            for name in sorted(_named_in(path, names)):
                if held_out.setdefault(name, split) != split:
                    raise DataError(f"{' and '.join(map(str, self.lists.values()))}: both name {name}")
        return held_out

    def assign(self, recordings: Sequence[Recording], held_out: Mapping[str, str]) -> tuple[list[Recording], list[str]]:
        """The recordings with their splits, and warnings of copies; `held_out` comes from `read_lists`.

        Copies share a split: test if a list gives it to any of them, else valid if a list does. Raises DataError when
        nothing is left to train on.
        """
        twins: dict[str, list[Recording]] = {}
        for recording in recordings:
            twins.setdefault(recording.sha256, []).append(recording)
        groups = {min(twin.path for twin in group): group for group in twins.values()}
        if self.lists:
            split_of = {
                name: max((held_out.get(twin.path, "train") for twin in group), key=SPLITS.index)
                for name, group in groups.items()
            }
        else:
            lengths = {name: sum(twin.length for twin in group) for name, group in groups.items()}
            split_of = split_by_share(lengths, self.shares, self.seed)
        by_content = {group[0].sha256: split_of[name] for name, group in groups.items()}
        placed = [replace(recording, split=by_content[recording.sha256]) for recording in recordings]
        if all(recording.split != "train" for recording in placed):
            raise DataError("the lists of valid and test files leave nothing to train on; name fewer files")
        copies = [f"{twin.path} = {name}" for name, group in groups.items() for twin in group if twin.path != name]
        if not copies:
            return placed, []
        more = f" and {len(copies) - _SHOWN} more" if len(copies) > _SHOWN else ""
        shown = ", ".join(copies[:_SHOWN]) + more
        return placed, [f"exact copies, kept, each in the split of its twin: {shown}"]

    def is_short_of_recordings(self, placed: Sequence[Recording]) -> bool:
        """Whether shares were asked for that fewer than three different recordings cannot give."""
        return not self.lists and bool(self._empty({recording.split for recording in placed}))

    def warn_of_empty(self, present: Set[str]) -> list[str]:
        """A warning where a split that was asked for is not `present`."""
        empty = self._empty(present)
        if not empty:
            return []
        if self.lists:
            reason = "every file named for it was dropped, or is a copy of a test file"
        else:
            reason = (
                "fewer than 3 different recordings cannot be shared out, so all are train; give more files, or one that"
                " is long enough to be cut by time"
            )
        return [f"{' and '.join(empty)} empty: {reason}"]

    def _empty(self, present: Set[str]) -> list[str]:
        """The splits that were asked for and are not `present`."""
        shares = dict(zip(SPLITS, self.shares, strict=True))
        return [s for s in HELD_OUT if s not in present and (s in self.lists if self.lists else shares[s] > 0)]


def split_by_share(lengths: Mapping[str, int], shares: tuple[float, float, float], seed: int) -> dict[str, str]:
    """The split of each name, given its length in samples.

    The names are shuffled, in an order that depends on them and the seed alone. Test, and then valid, take each name
    that brings them nearer to their share of the total, and at least one; train has the rest. Fewer than three names
    are all train.
    """
    split_of = dict.fromkeys(lengths, "train")
    if len(lengths) < 3:
        return split_of
    total = sum(lengths.values())
    waiting = sorted(lengths, key=lambda name: hashlib.sha256(os.fsencode(f"{seed}/{name}")).digest())
    wanted = [(name, share) for name, share in zip(SPLITS, shares, strict=True) if share > 0 and name in HELD_OUT]
    while wanted:
        split, share = wanted.pop()
        room = len(waiting) - 1 - len(wanted)  # one name stays for train and for each split still to come
        taken, chosen = 0, list[str]()
        for name in waiting:
            if len(chosen) < room and taken + lengths[name] / 2 <= share * total:
                taken += lengths[name]
                chosen.append(name)
        chosen = chosen or [min(waiting, key=lengths.__getitem__)]
        split_of.update(dict.fromkeys(chosen, split))
        waiting = [name for name in waiting if split_of[name] == "train"]
    return split_of


def _named_in(path: Path, names: Sequence[str]) -> set[str]:
    """Those of `names` that the lines of a list name, by relative path, file name or pattern."""
    try:
        lines = read_bytes(path, _LIST_BYTES).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path}: the list of files cannot be read: it is not text in UTF-8") from None
    except Unreadable as error:
        raise DataError(f"{path}: the list of files cannot be read: {error}") from None
    by_key: dict[str, list[str]] = {}
    for name in names:
        for key in {name, name.rpartition("/")[2]}:
            by_key.setdefault(key, []).append(name)
    found: set[str] = set()
    for number, line in enumerate(lines, start=1):
        pattern = line.strip().removeprefix("./")
        if not pattern:
            continue
        # A literal name comes before a pattern, because file names may hold brackets.
        matched = by_key.get(pattern) or _matching(pattern, by_key)
        if not matched:
            raise DataError(f"{path}, line {number}: no audio file matches {pattern!r}; correct or remove it")
        found.update(matched)
    return found


def _matching(pattern: str, by_key: Mapping[str, list[str]]) -> list[str]:
    """The names that a glob pattern matches; none where it has no wildcard."""
    if not re.search(r"[*?\[]", pattern):
        return []
    matches = re.compile(fnmatch.translate(pattern)).match
    return [name for key, named in by_key.items() if matches(key) for name in named]
