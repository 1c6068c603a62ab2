"""Limits on files of somebody else: kind, bytes, depth, count. Nothing waits, and nothing grows."""

import json
import os
import time
import tracemalloc
from pathlib import Path

import pytest

from samplernn_fast import untrusted
from samplernn_fast.untrusted import Unreadable


def test_a_file_is_read_whole_and_a_larger_one_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert untrusted.read_bytes(file, 5) == b"12345"
    with pytest.raises(Unreadable, match="has 5 bytes, and at most 4 are read"):
        untrusted.read_bytes(file, 4)


def test_a_small_file_takes_little_memory_whatever_the_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    tracemalloc.start()
    try:
        untrusted.read_bytes(tmp_path / "file", untrusted.INDEX_BYTES)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    began = time.monotonic()
    for path, reason in (
        (tmp_path / "pipe", "pipe or a device"),
        (Path("/dev/zero"), "pipe or a device"),
        (tmp_path, "is a folder"),
        (tmp_path / "missing", "No such file"),
        (tmp_path / "a\0b", "null byte"),
    ):
        with pytest.raises(Unreadable, match=reason):
            untrusted.read_bytes(path, 100)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("text", ["[" * 5000 + "]" * 5000, "[" * 100 + "]" * 100, "{", "1" * 5000, '"\ud800'])
def test_json_that_is_too_deep_too_long_or_none_is_refused(text: str) -> None:
    with pytest.raises(Unreadable, match="is not JSON"):
        untrusted.parse_json(text)


def test_json_within_the_limits_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, {"b": null}]}', encoding="utf-8-sig")
    assert untrusted.read_json(tmp_path / "a.json") == {"a": [1, {"b": None}]}


_ALIASES = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_ALIASES, "more than 100000 values"),
        ("[" * 900 + "]" * 900, "stand in each other"),
        ("- " * 900 + "x", "stand in each other"),
        ("a: &a [*a]", "inside its own anchor"),
        ("a: *b", "has none"),
        ("a: 1" + ":1" * 2000, "without quotes"),
        ("? [1]\n: 2", "not YAML"),
        ("!!python/object/apply:os.system [ls]", "not YAML"),
        ("a: '", "not YAML"),
        ("2001-99-99", "not YAML"),
    ],
    ids=lambda value: value[:12],
)
def test_yaml_that_would_grow_or_run_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    began = time.process_time()  # which other programs do not slow down
    with pytest.raises(Unreadable, match=reason):
        untrusted.read_yaml(file)
    assert time.process_time() - began < 10


def test_yaml_with_a_few_aliases_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n")
    assert untrusted.read_yaml(tmp_path / "a.yaml") == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}


@pytest.mark.parametrize("piece", ["[],", "{},"])
def test_a_text_of_nothing_but_lists_is_refused_before_it_is_read(piece: str) -> None:
    """18 MB of empty lists would take half a gigabyte."""
    few, many = (f"[{piece * count}0]" for count in (9_000, 20_000))
    assert len(untrusted.parse_json(few)) == 9_001
    with pytest.raises(Unreadable, match="more lists and mappings"):
        untrusted.parse_json(many)
    recordings = [{"path": f"{number}.wav", "sha256": "0" * 64} for number in range(20_000)]
    assert untrusted.parse_json(json.dumps(recordings)) == recordings
