"""TBPTTBatches and whole_recordings, on audio that counts its samples, so that a level says which sample it is."""

import json
import time
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from counting import RATE, counting_data
from hypothesis import given, settings
from hypothesis import strategies as st

from samplernn_fast.data.batches import Batch, TBPTTBatches, whole_recordings
from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.manifest import Manifest, Recording
from samplernn_fast.errors import CheckpointError, ConfigError, DataError
from samplernn_fast.models.config import SampleRNNConfig

CONFIG = SampleRNNConfig(sample_rate=RATE, q_levels=65536, frame_sizes=(2, 4))
L = CONFIG.lookback
SILENCE = CONFIG.q_zero
LENGTHS = st.lists(st.integers(1, 90), min_size=1, max_size=6)


def make_batches(
    data: AudioData, batch_size: int = 3, seq_len: int = 8, seed: int = 0, rank: int = 0, world_size: int = 1
) -> TBPTTBatches:
    return TBPTTBatches(
        data, CONFIG, batch_size=batch_size, seq_len=seq_len, seed=seed, rank=rank, world_size=world_size
    )


def sample_numbers(levels: torch.Tensor) -> list[int]:
    return (levels - SILENCE - 1).tolist()


def check_row(levels: torch.Tensor, mask: torch.Tensor) -> list[int]:
    """The sample numbers of a row's targets; padding is silence and comes last."""
    n = int(mask.sum())
    assert mask[:n].all()
    assert (levels[L + n :] == SILENCE).all()
    return sample_numbers(levels[L : L + n])


def read_epochs(batches: TBPTTBatches, epochs: int) -> list[list[list[int]]]:
    """Sample numbers of the chunks of each epoch, from the batches alone; checks resets, lead-ins, padding."""
    started: list[list[int]] = []
    lanes: dict[int, list[int]] = {}
    padded: set[int] = set()
    for batch in batches:
        assert batch.n_valid_global == int(batch.mask.sum())
        if batch.epoch >= epochs:
            break
        for lane, (levels, reset, mask) in enumerate(zip(batch.levels, batch.reset, batch.mask, strict=True)):
            if reset:
                lanes[lane] = []
                started.append(lanes[lane])
                assert (levels[:L] == SILENCE).all()
            else:
                assert lane not in padded, "a chunk goes on after its padding"
                assert sample_numbers(levels[:L]) == lanes[lane][-L:]
            targets = check_row(levels, mask)
            assert targets, "a row of nothing but padding"
            lanes[lane] += targets
            padded = padded | {lane} if len(targets) < len(mask) else padded - {lane}
    n = batches.n_chunks
    return [started[epoch * n : (epoch + 1) * n] for epoch in range(epochs)]


@settings(deadline=None, max_examples=80)
@given(LENGTHS, st.integers(1, 40), st.integers(1, 7), st.integers(1, 5), st.integers(0, 2**64 - 1))
def test_every_sample_is_a_target_exactly_once_an_epoch(lengths, chunk, batch_size, frames, seed):
    data = counting_data(lengths, chunk)
    batches = make_batches(data, batch_size, frames * L, seed)
    assert batches.n_samples == sum(lengths)
    ends = {recording.offset for recording in data.recordings("train")} - {0}
    for chunks in read_epochs(batches, epochs=3):
        assert sorted(number for samples in chunks for number in samples) == list(range(sum(lengths)))
        for samples in chunks:
            assert len(samples) <= chunk
            assert samples == list(range(samples[0], samples[0] + len(samples)))
            assert not ends & set(samples[1:]), "a chunk runs over into the next recording"


def test_recordings_are_cut_evenly_and_padded_only_at_their_end():
    # 41 samples in chunks of at most 40 are 24 and 17, multiples of seq_len but for the end, not 40 and 1.
    batches = make_batches(counting_data([41], 40), batch_size=1, seq_len=4)
    (chunks,) = read_epochs(batches, 1)
    assert sorted(map(len, chunks)) == [17, 24]
    batches = make_batches(counting_data([400], 40), batch_size=2, seq_len=8)
    assert all(batch.mask.all() for batch in islice(batches, 40))


def test_short_clips_share_a_batch_with_long_ones():
    batches = make_batches(counting_data([1, 2, 3, 80], 80), batch_size=4, seq_len=16)
    first = next(batches)
    assert first.reset.all()
    assert sorted(first.mask.sum(1).tolist()) == [1, 2, 3, 16]
    second = next(batches)
    assert second.reset.sum() == 3
    assert second.epoch == 0 and first.levels.shape == (4, L + 16) and first.mask.shape == (4, 16)


def test_more_lanes_than_chunks():
    batches = make_batches(counting_data([5], 80), batch_size=7)
    batch = next(batches)
    assert batch.mask.sum(1).tolist() == [5] * 7
    assert next(batches).epoch == 7


def test_the_order_of_chunks_depends_on_the_seed_and_the_epoch():
    data = counting_data([3] * 30, 80)
    first, second = read_epochs(make_batches(data, seed=1), 2)
    assert sorted(first) == sorted(second) and first != second
    assert read_epochs(make_batches(data, seed=1), 2) == [first, second]
    assert read_epochs(make_batches(data, seed=2), 1) != [first]
    assert first != sorted(first)


def test_the_order_of_chunks_is_pinned():
    # An order that changed with a version of numpy would break the exact resumption of old runs.
    (chunks,) = read_epochs(make_batches(counting_data([1] * 10, 80), seed=7), 1)
    assert [samples[0] for samples in chunks] == [8, 4, 1, 6, 3, 2, 7, 5, 9, 0]


def equal(a: Batch, b: Batch) -> bool:
    tensors = all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("levels", "reset", "mask"))
    return tensors and (a.n_valid_global, a.epoch) == (b.n_valid_global, b.epoch)


@settings(deadline=None, max_examples=60)
@given(LENGTHS, st.integers(1, 5), st.integers(0, 40))
def test_resume_is_bit_equal(lengths, batch_size, steps):
    data = counting_data(lengths, 30)
    batches = make_batches(data, batch_size)
    for _ in islice(batches, steps):
        pass
    state = json.loads(json.dumps(batches.state_dict()))
    resumed = make_batches(data, batch_size)
    resumed.load_state_dict(state)
    assert all(equal(a, b) for a, b in islice(zip(batches, resumed, strict=True), 25))


def test_a_state_does_not_change_with_the_batches_that_follow():
    batches = make_batches(counting_data([30, 7], 16))
    state = batches.state_dict()
    expected = next(batches)
    next(batches)
    batches.load_state_dict(state)
    assert equal(next(batches), expected)


def test_resume_refuses_other_settings_and_other_audio():
    data = counting_data([30, 7], 16)
    state = make_batches(data).state_dict()
    for other, name in (
        ({"batch_size": 4}, "batch_size"),
        ({"seq_len": 4}, "seq_len"),
        ({"seed": 5}, "seed"),
    ):
        with pytest.raises(ConfigError, match=name):
            make_batches(data, **other).load_state_dict(state)
    with pytest.raises(DataError, match="differs"):
        make_batches(counting_data([30, 8], 16)).load_state_dict(state)
    with pytest.raises(DataError, match="differs"):
        make_batches(counting_data([30, 7], 15)).load_state_dict(state)


DAMAGED = {
    "settings": [None, [], 3, {}, {"batch_size": 3}],
    "data": [None, 3, ["a"]],
    "turns": [
        None,
        4,
        "abc",
        [0, 1],
        [0, 1, 2, 3],
        [0, 1, -1],
        [0, 1, 1.5],
        [0, 1, "2"],
        [0, 1, 99],
        [0, 1, 1],
        [0, 1, 2**70],
    ],
    "positions": [
        None,
        [0, 0],
        [0, 0, -8],
        [0, 0, 3],
        [0, 0, 800],
        [0, 0, 2**70],
        [0, 0, None],
        [0, True, 0],
        {"a": 1},
    ],
    "next_turn": [None, 0, 2, -1, 1.5, "9", 2**70, True, [3]],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_place_is_refused_and_changes_nothing(name):
    data = counting_data([30, 7], 16)
    good = make_batches(data).state_dict()
    batches, untouched = make_batches(data), make_batches(data)
    next(batches), next(untouched)
    for state in [good | {name: value} for value in DAMAGED[name]] + [{k: v for k, v in good.items() if k != name}]:
        with pytest.raises(CheckpointError, match=name if name != "settings" else "settings|batch_size") as caught:
            batches.load_state_dict(state)
        assert "\n" not in str(caught.value) and batches.state_dict() == untouched.state_dict()
    for state in (None, [], "place", 3):
        with pytest.raises(CheckpointError, match="names with values"):
            batches.load_state_dict(state)
    assert equal(next(batches), next(untouched))


@settings(deadline=None, max_examples=40)
@given(LENGTHS, st.sampled_from([(6, 1), (6, 2), (6, 3), (6, 6)]))
def test_ranks_have_the_rows_of_the_global_batch(lengths, shape):
    batch_size, world_size = shape
    data = counting_data(lengths, 30)
    whole = make_batches(data, batch_size)
    ranks = [make_batches(data, batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
    for batch, *parts in islice(zip(whole, *ranks, strict=True), 12):
        for name in ("levels", "reset", "mask"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
        assert all((p.n_valid_global, p.epoch) == (batch.n_valid_global, batch.epoch) for p in parts)
    assert all(rank.state_dict() == whole.state_dict() for rank in ranks)


@pytest.mark.parametrize("quantization", ["linear", "mu-law", "a-law"])
def test_levels_are_the_quantizer_of_the_16_bit_samples(quantization):
    from samplernn_fast.audio.quantize import for_config

    samples = np.random.default_rng(0).integers(-32768, 32768, 64).astype(np.int16)
    data = counting_data([64], 64)
    data = AudioData(data.folder, data.manifest, samples)
    config = replace(CONFIG, q_levels=256, quantization=quantization)
    batch = next(TBPTTBatches(data, config, batch_size=1, seq_len=64, seed=0))
    assert batch.levels[0, L:].tolist() == for_config(config).encode(samples / 32768.0).tolist()


def test_batches_do_not_share_memory():
    batches = make_batches(counting_data([90], 90), batch_size=1)
    first = next(batches)
    kept = first.levels.clone()
    next(batches)
    assert torch.equal(first.levels, kept)


def test_settings_that_cannot_work_are_refused():
    data = counting_data([30, 7], 16)
    with pytest.raises(ConfigError, match="multiple of the top frame of 4 samples, got 6"):
        make_batches(data, seq_len=6)
    with pytest.raises(ConfigError, match="seq_len"):
        make_batches(data, seq_len=0)
    with pytest.raises(ConfigError, match="batch_size must be a positive multiple of the 2 processes, got 3"):
        make_batches(data, batch_size=3, world_size=2)
    with pytest.raises(ConfigError, match="batch_size"):
        make_batches(data, batch_size=0)
    with pytest.raises(ConfigError, match="rank"):
        make_batches(data, batch_size=4, rank=2, world_size=2)
    with pytest.raises(ConfigError, match="seed"):
        make_batches(data, seed=-1)
    with pytest.raises(ConfigError, match="split must be one of train, valid, test, got 'dev'"):
        TBPTTBatches(data, CONFIG, split="dev", batch_size=1, seq_len=4, seed=0)
    with pytest.raises(ConfigError, match="not offered"):
        per_file = replace(CONFIG, quantization="linear-deepsound")
        TBPTTBatches(data, per_file, batch_size=1, seq_len=4, seed=0)


@pytest.mark.parametrize("read", ["train", "evaluate"])
def test_a_rate_mismatch_and_an_empty_split_are_named(read):
    data = counting_data([30, 7], 16)

    def start(config: SampleRNNConfig, split: str) -> object:
        if read == "evaluate":
            return whole_recordings(data, config, split, 2, 8)
        return TBPTTBatches(data, config, split=split, batch_size=1, seq_len=8, seed=0)

    with pytest.raises(DataError, match=r"at 1000 Hz, the model is for 8000 Hz; prepare again with sample_rate 8000"):
        start(replace(CONFIG, sample_rate=8000), "train")
    with pytest.raises(DataError, match="the valid split is empty"):
        start(CONFIG, "valid")


@settings(deadline=None, max_examples=100)
@given(LENGTHS, st.integers(1, 4), st.integers(1, 5))
def test_whole_recordings_reads_every_recording_from_start_to_end(lengths, batch_size, frames):
    data = counting_data(lengths, 10)
    read: dict[int, list[int]] = {}
    for batch in whole_recordings(data, CONFIG, "train", batch_size, frames * L):
        assert batch.levels.shape == (len(batch.recordings), L + frames * L)
        assert len(batch.recordings) <= batch_size and batch.mask.any()
        for levels, reset, mask, index in zip(
            batch.levels, batch.reset, batch.mask, batch.recordings.tolist(), strict=True
        ):
            assert bool(reset) == (index not in read)
            targets = check_row(levels, mask)
            if reset:
                assert (levels[:L] == SILENCE).all()
            elif targets:
                assert sample_numbers(levels[:L]) == read[index][-L:]
            read.setdefault(index, []).extend(targets)
    recordings = data.recordings("train")
    assert sorted(read) == list(range(len(lengths)))
    for index, numbers in read.items():
        assert numbers == (data.samples(recordings[index]) - 1).tolist()


def test_whole_recordings_puts_equal_lengths_together():
    data = counting_data([5, 80, 6, 79], 10)
    steps = list(whole_recordings(data, CONFIG, "train", 2, 8))
    groups = [step.recordings.tolist() for step in steps]
    assert groups == [[1, 3]] * 10 + [[2, 0]]


def test_whole_recordings_lets_a_row_go_when_its_recording_ends():
    data = counting_data([30, 80, 16], 10)
    steps = list(whole_recordings(data, CONFIG, "train", 3, 8))
    assert [step.recordings.tolist() for step in steps] == [[1, 0, 2]] * 2 + [[1, 0]] * 2 + [[1]] * 6


def test_a_batch_is_ready_in_two_milliseconds(tmp_path):
    samples = np.random.default_rng(0).integers(-32768, 32768, 16000 * 64).astype(np.int16)
    recordings = (Recording("a", "train", 0, len(samples), ""),)
    data = AudioData(tmp_path, Manifest(16000, 1.0, 8.0, recordings), samples)
    batches = TBPTTBatches(data, SampleRNNConfig(), batch_size=64, seq_len=1024, seed=0)
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        next(batches)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 2e-3
