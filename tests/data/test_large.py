"""Data folders of thousands of hours: the index of a manifest, the order without a list, and what it takes to start."""

import json
import time
import tracemalloc
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from counting import counting_data

from samplernn_fast.data import chunks, folder, index
from samplernn_fast.data.batches import TBPTTBatches
from samplernn_fast.data.chunks import COUNTED, SORTED, ChunkOrder, Chunks, Counted, chunk_step
from samplernn_fast.data.folder import AUDIO_FILE, AudioData
from samplernn_fast.data.index import INDEX_FILE, read_manifest, write_manifest
from samplernn_fast.data.manifest import MANIFEST_FILE, SPLITS, Manifest, Part, Recording
from samplernn_fast.errors import CheckpointError, DataError
from samplernn_fast.models.config import SampleRNNConfig

CONFIG = SampleRNNConfig(sample_rate=1000, q_levels=65536, frame_sizes=(2, 4))


def entries() -> tuple[Recording, ...]:
    """Recordings of all splits, some of them medleys, with names that are not ASCII."""
    found, offset = [], 0
    for n in range(60):
        length = 5 + n
        parts = (Part(f"é-{n}.wav", 0, n, 2), Part("b.wav", 4, 0, length - 4)) if n % 3 == 0 else ()
        found.append(Recording(f"naïve/{n}.wav", SPLITS[n % 3], offset, length, f"{n:064x}", parts))
        offset += length
    return tuple(found)


@pytest.fixture
def indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder that has an index."""
    monkeypatch.setattr(index, "LEAST_INDEXED", 1)
    monkeypatch.setattr(index, "_ONCE", 7)
    made = Manifest(1000, 0.5, 0.016, entries(), {"seed": 3}, (("bad.wav", "damaged"),), {"soxr": "1"})
    write_manifest(tmp_path, made)
    np.arange(sum(one.length for one in made.recordings), dtype="<i2").tofile(tmp_path / AUDIO_FILE)
    return tmp_path


def start(data: AudioData, batch_size: int = 3) -> TBPTTBatches:
    return TBPTTBatches(data, CONFIG, batch_size=batch_size, seq_len=8, seed=1)


class TestIndex:
    def test_it_says_what_the_manifest_says(self, indexed):
        found = AudioData.open(indexed)
        (indexed / INDEX_FILE).unlink()
        plain = AudioData.open(indexed)
        assert isinstance(found.manifest.recordings, index.Recordings)
        assert isinstance(plain.manifest.recordings, tuple)
        assert found.manifest == plain.manifest == Manifest.read(indexed)
        for split in SPLITS:
            assert found.recordings(split) == plain.recordings(split) == [r for r in entries() if r.split == split]
            assert list(found.recordings(split)[1:5:2]) == list(plain.recordings(split))[1:5:2]
        assert found.recordings("test")[-1] == plain.recordings("test")[19]
        with pytest.raises(IndexError):
            found.recordings("test")[20]

    def test_batches_are_the_same(self, indexed):
        found = start(AudioData.open(indexed))
        (indexed / INDEX_FILE).unlink()
        plain = start(AudioData.open(indexed))
        assert found.state_dict() == plain.state_dict()
        for one, two in islice(zip(found, plain, strict=True), 40):
            assert torch.equal(one.levels, two.levels) and torch.equal(one.mask, two.mask)

    def test_one_of_another_manifest_is_passed_over(self, indexed):
        text = (indexed / MANIFEST_FILE).read_text()
        (indexed / MANIFEST_FILE).write_text(json.dumps(json.loads(text) | {"gain": 0.25}))
        assert AudioData.open(indexed).gain == 0.25

    def test_few_recordings_have_none(self, tmp_path, monkeypatch):
        (tmp_path / INDEX_FILE).write_bytes(b"of an earlier manifest")
        monkeypatch.setattr(index, "LEAST_INDEXED", 61)
        write_manifest(tmp_path, Manifest(1000, 1.0, 0.016, entries()))
        assert not (tmp_path / INDEX_FILE).exists()
        assert read_manifest(tmp_path).recordings == entries()

    def test_damage_is_named(self, indexed):
        content = (indexed / INDEX_FILE).read_bytes()
        header = 24 + int.from_bytes(content[16:24], "little")
        broken = {
            "no index": b"x" + content[1:],
            "ends before": content[:16] + b"\xff" * 8,
            "not JSON": content[:24] + b"}" + content[25:],
            "columns take": content[:-1],
            "and its columns": content + b"\0",
            "impossible length": content[:header] + bytes(8) + content[header + 8 :],
            "impossible length or split": content[:header] + b"\xff" * 7 + b"\x7f" + content[header + 8 :],
            "do not fit": content.replace(b'"splits": 60', b'"splits": 59'),
            "gain must be": content.replace(b'"gain": 0.5', b'"gain": NaN'),
        }
        for words, damaged in broken.items():
            (indexed / INDEX_FILE).write_bytes(damaged)
            with pytest.raises(DataError, match=f"{INDEX_FILE}.*{words}"):
                AudioData.open(indexed)

    def test_a_name_or_a_part_that_cannot_be_is_refused_when_it_is_read(self, indexed):
        content = (indexed / INDEX_FILE).read_bytes()
        places = index._read(indexed).recordings._source._places
        for column, words in (("path_ends", "paths has no values"), ("part_places", "parts of recording 0")):
            begin = places[column][0]
            (indexed / INDEX_FILE).write_bytes(content[:begin] + b"\xff" * 8 + content[begin + 8 :])
            with pytest.raises(DataError, match=words):
                AudioData.open(indexed).recordings("train")[0]

    def test_one_that_becomes_shorter_is_an_error_and_no_signal(self, indexed):
        data = AudioData.open(indexed)
        (indexed / INDEX_FILE).write_bytes(b"")
        with pytest.raises(DataError, match="became shorter"):
            data.recordings("train")[0]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 64, 65, 1000, 4097])
def test_the_order_without_a_list_has_every_number_once(n):
    keys = np.random.Philox(key=np.array([7, 3], np.uint64)).random_raw(8)
    assert sorted(Counted(n, keys).at(np.arange(n)).tolist()) == list(range(n))


def test_the_order_without_a_list_is_as_good_as_a_drawn_one():
    """Neighbours and places are unrelated, over epochs and seeds, by as much as chance allows."""
    n, epochs = 1021, 200
    orders = np.array([ChunkOrder(5, n, COUNTED).chunks(np.arange(n) + epoch * n) for epoch in range(epochs)])
    assert len({tuple(order[:8]) for order in orders.tolist()}) == epochs
    deviation = n / np.sqrt(12)
    assert abs(orders.mean(0) - (n - 1) / 2).max() < 5 * deviation / np.sqrt(epochs)
    steps = np.diff(orders, axis=1) % n
    counts = np.bincount(steps.ravel(), minlength=n)[1:]
    expected = counts.mean()
    assert abs(((counts - expected) ** 2 / expected).sum() - (n - 2)) < 6 * np.sqrt(2 * n)


def test_both_orders_are_those_of_earlier_versions():
    """A run that goes on must meet the data in the order in which it began."""
    words = np.random.Philox(key=np.array([9, 1], np.uint64)).random_raw(50)
    turns = np.arange(50, 100)
    assert ChunkOrder(9, 50, SORTED).chunks(turns).tolist() == np.argsort(words, kind="stable").tolist()
    assert ChunkOrder(9, 50, COUNTED).chunks(turns)[:8].tolist() == [6, 37, 30, 1, 29, 13, 3, 47]
    assert ChunkOrder.usual(9, chunks.SORTED_CHUNKS).name == SORTED
    assert ChunkOrder.usual(9, chunks.SORTED_CHUNKS + 1).name == COUNTED


def test_chunks_are_worked_out_as_a_list_has_them():
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, 300, 40)
    offsets = np.cumsum(lengths) - lengths
    starts, sizes = [], []
    for offset, length in zip(offsets.tolist(), lengths.tolist(), strict=True):
        step = chunk_step(length, 70, 8)
        starts += range(offset, offset + length, step)
        sizes += [min(step, length - begin) for begin in range(0, length, step)]
    table = Chunks(offsets, lengths, 70, 8)
    found = table.places(np.arange(len(table)))
    assert found[0].tolist() == starts and found[1].tolist() == sizes
    assert (len(table), table.samples, table.longest) == (len(starts), lengths.sum(), max(sizes))


class TestGoingOn:
    def test_a_run_in_the_order_without_a_list_goes_on(self, monkeypatch):
        monkeypatch.setattr(chunks, "SORTED_CHUNKS", 3)
        data = counting_data([90, 70, 44], 16)
        whole = start(data)
        for _ in range(9):
            next(whole)
        state = json.loads(json.dumps(whole.state_dict()))
        assert state["order"] == COUNTED
        again = start(data)
        again.load_state_dict(state)
        for one, two in islice(zip(whole, again, strict=True), 30):
            assert torch.equal(one.levels, two.levels)

    def test_a_run_of_an_earlier_version_keeps_its_order(self, monkeypatch):
        """Earlier versions sorted data of any size, and wrote no name of the order."""
        data = counting_data([90, 70, 44], 16)
        earlier = start(data)
        for _ in range(9):
            next(earlier)
        state = earlier.state_dict()
        assert "order" not in state
        monkeypatch.setattr(chunks, "SORTED_CHUNKS", 3)
        again = start(data)
        assert again.state_dict()["order"] == COUNTED
        again.load_state_dict(state)
        assert again.state_dict() == state
        for one, two in islice(zip(earlier, again, strict=True), 30):
            assert torch.equal(one.levels, two.levels)

    def test_an_order_of_a_later_version_is_refused(self):
        batches = start(counting_data([90], 16))
        with pytest.raises(CheckpointError, match="order 'later' is none"):
            batches.load_state_dict(batches.state_dict() | {"order": "later"})


def test_the_moments_of_large_data_are_those_of_a_part_that_is_spread_evenly(monkeypatch):
    data = counting_data([90] * 50, 16)
    exact = data.moments("train", 1.0)
    monkeypatch.setattr(folder, "_PIECE", 40)
    assert data.moments("train", 1.0) == exact
    monkeypatch.setattr(folder, "_LISTENED", 1500)
    some = data.moments("train", 1.0)
    assert some != exact and some == pytest.approx(exact, rel=0.05)


def test_ten_thousand_hours_take_no_more_to_start_than_their_recordings_numbers(tmp_path):
    """4.5 million chunks in 30,000 recordings: a list of the chunks, an object for each recording or a parsed manifest
    would each take more memory than this allows."""
    count, hours = 30_000, 10_000
    length = hours * 3600 * 16000 // count
    recordings = tuple(
        Recording(f"{n:05}.flac", SPLITS[n % 50 - 47] if n % 50 > 47 else "train", n * length, length, f"{n:064x}")
        for n in range(count)
    )
    write_manifest(tmp_path, Manifest(16000, 1.0, 8.0, recordings))
    del recordings
    with open(tmp_path / AUDIO_FILE, "wb") as file:
        try:
            file.truncate(2 * count * length)
        except OSError:
            pytest.skip("the file system has no files of a terabyte, not even sparse ones")
    tracemalloc.start()
    began = time.process_time()
    data = AudioData.open(tmp_path)
    batches = TBPTTBatches(data, SampleRNNConfig(sample_rate=16000), batch_size=8, seq_len=512, seed=0)
    first = next(batches)
    took, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert first.levels.shape == (8, 512 + SampleRNNConfig().lookback) and batches.n_chunks > 4_000_000
    assert peak < 12e6, f"{peak / 1e6:.1f} MB"
    assert took < 2
