"""Which recording goes to which split."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplernn_fast.data.manifest import SPLITS, Recording
from samplernn_fast.data.splits import SplitRule, split_by_share
from samplernn_fast.errors import ConfigError, DataError

LENGTHS = st.lists(st.integers(1, 10_000), min_size=1, max_size=40)
HELD_OUT_SHARE = st.just(0.0) | st.floats(0.01, 100)
SHARES = st.tuples(st.floats(0.01, 100), HELD_OUT_SHARE, HELD_OUT_SHARE)


def recordings(lengths: list[int], contents: list[int] | None = None) -> list[Recording]:
    contents = contents or list(range(len(lengths)))
    return [
        Recording(f"{number}.wav", "train", 0, length, str(content))
        for number, (length, content) in enumerate(zip(lengths, contents, strict=True))
    ]


def assign(rule: SplitRule, taken: list[Recording]) -> tuple[dict[str, str], list[str]]:
    placed, warnings = rule.assign(taken, rule.read_lists([recording.path for recording in taken]))
    assert [replace(recording, split="train") for recording in placed] == taken
    warnings = warnings + rule.warn_of_empty({recording.split for recording in placed})
    return {recording.path: recording.split for recording in placed}, warnings


def by_lists(tmp_path: Path, valid: str | None = None, test: str | None = None) -> SplitRule:
    paths = []
    for name, text in (("valid.txt", valid), ("test.txt", test)):
        paths.append(None if text is None else tmp_path / name)
        if text is not None:
            (tmp_path / name).write_text(text)
    return SplitRule.from_settings((88, 6, 6), 0, *paths)


@settings(deadline=None)
@given(LENGTHS, SHARES, st.integers(0, 99), st.data())
def test_shares_place_every_recording_once_and_copies_together(lengths, shares, seed, draw):
    contents = draw.draw(st.lists(st.integers(0, 30), min_size=len(lengths), max_size=len(lengths)))
    rule = SplitRule.from_settings(shares, seed, None, None)
    taken = recordings(lengths, contents)
    split_of, warnings = assign(rule, taken)
    assert set(split_of) == {recording.path for recording in taken}
    splits_of_content = {(recording.sha256, split_of[recording.path]) for recording in taken}
    different = len(set(contents))
    assert len(splits_of_content) == different, "copies lie in two splits"
    present = {split for split, share in zip(SPLITS, shares, strict=True) if share > 0}
    assert set(split_of.values()) == (present if different >= 3 else {"train"})
    assert any("exact copies" in warning for warning in warnings) == (different < len(lengths))
    assert any("empty" in warning for warning in warnings) == (different < 3 and len(present) > 1)


@settings(deadline=None)
@given(st.lists(st.integers(50, 500), min_size=100, max_size=200), st.integers(0, 99))
def test_shares_are_of_the_duration(lengths, seed):
    split_of = split_by_share({str(n): length for n, length in enumerate(lengths)}, (0.8, 0.1, 0.1), seed)
    hours = Counter()
    for number, length in enumerate(lengths):
        hours[split_of[str(number)]] += length
    for split in ("valid", "test"):
        assert abs(hours[split] - 0.1 * sum(lengths)) <= max(lengths) / 2


def test_one_long_recording_stays_in_train():
    for seed in range(20):
        split_of = split_by_share({"long": 1000, "a": 10, "b": 10}, (0.88, 0.06, 0.06), seed)
        assert split_of["long"] == "train" and sorted(split_of.values()) == ["test", "train", "valid"]


def test_the_shuffle_depends_on_names_and_seed_only():
    lengths = {f"{n}.wav": 100 for n in range(50)}
    backwards = dict(reversed(lengths.items()))
    first = split_by_share(lengths, (0.6, 0.2, 0.2), 1)
    assert first == split_by_share(backwards, (0.6, 0.2, 0.2), 1)
    assert first != split_by_share(lengths, (0.6, 0.2, 0.2), 2)
    assert Counter(first.values()) == {"train": 30, "valid": 10, "test": 10}
    # A change here changes everybody's splits.
    assert [int(n[:-4]) for n in lengths if first[n] == "test"] == [7, 8, 9, 24, 27, 28, 29, 35, 39, 40]


def test_a_share_of_zero_has_no_recording():
    split_of = split_by_share({str(n): 1 for n in range(9)}, (0.5, 0.5, 0.0), 0)
    assert set(split_of.values()) == {"train", "valid"}


@pytest.mark.parametrize("count", [1, 2])
def test_few_recordings_are_all_train_with_a_warning(count):
    split_of, warnings = assign(SplitRule.from_settings((88, 6, 6), 0, None, None), recordings([50] * count))
    assert set(split_of.values()) == {"train"}
    assert len(warnings) == 1 and warnings[0].startswith("valid and test empty: fewer than 3")
    assert assign(SplitRule.from_settings((1, 0, 0), 0, None, None), recordings([50] * count))[1] == []


@pytest.mark.parametrize(
    "shares", [(88, 6), (0, 50, 50), (88, -6, 6), (float("nan"), 1, 1), (float("inf"), 1, 1), (1e308,) * 3]
)
def test_impossible_shares_are_refused(shares):
    with pytest.raises(ConfigError, match="split"):
        SplitRule.from_settings(shares, 0, None, None)


NAMES = ["a/one.wav", "a/two.wav", "b/one.wav", "b/take [1].wav", "c.wav"]


def test_lists_take_file_names_paths_and_patterns(tmp_path):
    rule = by_lists(tmp_path, valid="one.wav\n\n", test="./a/two.wav\nb/take*\n")
    assert rule.read_lists(NAMES) == {
        "a/one.wav": "valid",
        "b/one.wav": "valid",
        "a/two.wav": "test",
        "b/take [1].wav": "test",
    }
    assert by_lists(tmp_path, test="take [1].wav").read_lists(NAMES) == {"b/take [1].wav": "test"}
    assert by_lists(tmp_path, test="[ac]*.wav\r\n").read_lists(NAMES) == {
        "a/one.wav": "test",
        "a/two.wav": "test",
        "c.wav": "test",
    }
    assert rule.info() == {"valid_files": "valid.txt", "test_files": "test.txt"}


def test_lists_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"valid.txt, line 2: no audio file matches 'dd\*'"):
        by_lists(tmp_path, valid="c.wav\ndd*\n").read_lists(NAMES)
    with pytest.raises(DataError, match=r"valid.txt and .*test.txt: both name a/one.wav"):
        by_lists(tmp_path, valid="a/*", test="one.wav").read_lists(NAMES)
    with pytest.raises(DataError, match="cannot be read"):
        SplitRule.from_settings((1, 0, 0), 0, tmp_path / "missing.txt", None).read_lists(NAMES)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9.wav")
    for odd, words in (("/dev/zero", "pipe or a device"), (tmp_path, "folder"), (tmp_path / "latin.txt", "UTF-8")):
        with pytest.raises(DataError, match=f"the list of files cannot be read: .*{words}"):
            SplitRule.from_settings((1, 0, 0), 0, odd, None).read_lists(NAMES)
    with pytest.raises(DataError, match="nothing to train on"):
        assign(by_lists(tmp_path, test="*"), recordings([1, 2]))


def test_a_copy_follows_its_listed_twin_to_the_most_held_out_split(tmp_path):
    rule = by_lists(tmp_path, valid="0.wav", test="1.wav")
    split_of, warnings = assign(rule, recordings([5, 5, 5, 6], contents=[1, 1, 1, 2]))
    assert split_of == {"0.wav": "test", "1.wav": "test", "2.wav": "test", "3.wav": "train"}
    assert warnings == [
        "exact copies, kept, each in the split of its twin: 1.wav = 0.wav, 2.wav = 0.wav",
        "valid empty: every file named for it was dropped, or is a copy of a test file",
    ]


def test_without_a_list_for_it_a_split_is_empty_without_a_warning(tmp_path):
    split_of, warnings = assign(by_lists(tmp_path, valid="0.wav"), recordings([5, 5]))
    assert split_of == {"0.wav": "valid", "1.wav": "train"} and warnings == []
