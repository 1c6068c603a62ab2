"""From a data folder to batches of levels: `TBPTTBatches` for training, `whole_recordings` for evaluation.

Letters: R rows of one rank's batch, B rows of a batch of evaluation, L lookback, T samples of a subsequence.
"""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from samplernn_fast.data.chunks import COUNTED, SORTED, ChunkOrder, Chunks, IntArray, chunk_samples
from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.index import Recordings
from samplernn_fast.errors import CheckpointError, ConfigError, DataError
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.untrusted import Fields, Unreadable

if TYPE_CHECKING:
    import torch

_MAX_TURN = 2**53  # more chunks than any run reads; JSON keeps whole numbers exactly up to here


@dataclass(frozen=True)
class Batch:
    """One rank's rows of the batch of one update."""

    levels: "torch.Tensor"
    """(R, L + T) int64; the target of position t is levels[:, L + t]."""
    reset: "torch.Tensor"
    """(R,) bool: True where the row starts a chunk. Its state is the initial one then, and silence lies before it."""
    mask: "torch.Tensor"
    """(R, T) bool: False where the row is padding."""
    n_valid_global: int
    """How many entries of the masks of all ranks together are True."""
    epoch: int
    """How many whole passes over the split every lane has finished."""


@dataclass(frozen=True)
class EvalBatch:
    """One step of evaluation over whole recordings. A row leaves when its recording ends; the rest keep their order."""

    levels: "torch.Tensor"
    """(B, L + T) int64."""
    reset: "torch.Tensor"
    """(B,) bool: True in the first step of a group."""
    mask: "torch.Tensor"
    """(B, T) bool: False after a recording's end."""
    recordings: "torch.Tensor"
    """(B,) int64: the place of the row's recording in data.recordings(split)."""


class TBPTTBatches:
    """Endless batches for truncated back-propagation through time (section 2.3; padding is masked, as in section 3).

    Each of the `batch_size` lanes reads one chunk after another, in subsequences of `seq_len` samples; a lane that
    ends its chunk takes the next one. The order of an epoch's chunks depends on (seed, epoch) alone. Every sample of
    the split is a target exactly once an epoch. All ranks keep count of the same global batch, and each makes the
    tensors of its own rows [rank * R, (rank + 1) * R) with R = batch_size / world_size.

    Raises ConfigError on impossible settings, DataError when the data does not fit the model or the split
    is empty.
    """

    def __init__(
        self,
        data: AudioData,
        config: AudioConfig,
        *,
        split: str = "train",
        batch_size: int,
        seq_len: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if world_size < 1 or not 0 <= rank < world_size:
            raise ConfigError(f"rank must be 0 to world_size - 1, got rank {rank} of {world_size}")
        if batch_size < 1 or batch_size % world_size:
            raise ConfigError(f"batch_size must be a positive multiple of the {world_size} processes, got {batch_size}")
        if not 0 <= seed < 2**64:
            raise ConfigError(f"seed must be 0 to 2^64 - 1, got {seed}")
        recordings = _fitting_recordings(data, config, split, seq_len)
        self._rows = _Rows(data, config, seq_len)
        self._mine = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
        largest = chunk_samples(data.sample_rate, data.chunk_seconds)
        self._table = Chunks(recordings.offsets, recordings.lengths, largest, seq_len)
        self._settings: dict[str, Any] = {"batch_size": batch_size, "seq_len": seq_len, "seed": seed, "split": split}
        self._data_id = data_id(data, recordings)
        self._order = ChunkOrder.usual(seed, self.n_chunks)
        # A turn is the number of a chunk over all epochs: epoch * n_chunks + its place in that epoch's order.
        self._turns: IntArray = np.arange(batch_size)
        self._next_turn = batch_size
        self._starts, self._lengths = self._places(self._turns)
        self._positions: IntArray = np.zeros(batch_size, np.int64)

    @property
    def n_chunks(self) -> int:
        """How many chunks one epoch has."""
        return len(self._table)

    @property
    def n_samples(self) -> int:
        """How many samples one epoch has; each is a target once."""
        return self._table.samples

    def _places(self, turns: IntArray) -> tuple[IntArray, IntArray]:
        """First sample and length of the chunks at these turns."""
        return self._table.places(self._order.chunks(turns))

    def __iter__(self) -> "TBPTTBatches":
        return self

    def __next__(self) -> Batch:
        counts = np.minimum(self._lengths - self._positions, self._rows.seq_len)
        starts = self._starts + self._positions
        mine = self._mine
        levels, reset, mask = self._rows.tensors(starts[mine], counts[mine], self._positions[mine])
        epoch = int(self._turns.min()) // self.n_chunks
        self._advance()
        return Batch(levels, reset, mask, int(counts.sum()), epoch)

    def _advance(self) -> None:
        """Moves every lane on by a subsequence, and the lanes that end their chunk to the next chunk."""
        self._positions = self._positions + self._rows.seq_len
        ended = np.flatnonzero(self._positions >= self._lengths)
        if len(ended):
            self._turns[ended] = self._next_turn + np.arange(len(ended))
            self._next_turn += len(ended)
            self._starts[ended], self._lengths[ended] = self._places(self._turns[ended])
            self._positions[ended] = 0

    def state_dict(self) -> dict[str, Any]:
        """Where the lanes stand, for JSON; the same on every rank and for every world_size."""
        state = {
            "settings": dict(self._settings),
            "data": self._data_id,
            "turns": self._turns.tolist(),
            "positions": self._positions.tolist(),
            "next_turn": self._next_turn,
        }
        # Earlier versions know one order alone, and wrote no name of it.
        return state if self._order.name == SORTED else state | {"order": self._order.name}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts the lanes where they stood when `state` was taken, so that the next batch is the one that followed.

        Raises ConfigError when batch_size, seq_len, seed or split differ, DataError when the audio does, and
        CheckpointError for a place where no lane can stand. The lanes are where they were then.
        """
        try:
            fields = Fields(state, "the place in the data")
            settings = fields.fields("settings")
            for name, value in self._settings.items():
                if settings.value(name) != value:
                    raise ConfigError(f"{name} is {value!r} but the run to resume has {settings.shown(name)}")
            if fields.text("data") != self._data_id:
                raise DataError("the data differs from what the run to resume was trained on; give it the same folder")
            order, next_turn, turns, positions = self._read_lanes(fields)
        except Unreadable as error:
            raise CheckpointError(f"the run to resume is damaged: {error}") from None
        self._order, self._next_turn, self._turns, self._positions = order, next_turn, turns, positions
        self._starts, self._lengths = self._places(turns)

    def _read_lanes(self, fields: Fields) -> tuple[ChunkOrder, int, IntArray, IntArray]:
        """The order, the next turn, and turns (B,) and positions (B,) of all lanes. Raises Unreadable."""
        lanes = len(self._turns)
        name = fields.text("order") if fields.has("order") else SORTED
        if name not in (SORTED, COUNTED):
            raise Unreadable(f"the order {fields.shown('order')} is none that this version knows")
        order = self._order
        if name != order.name:
            order = ChunkOrder(self._settings["seed"], self.n_chunks, name)
        next_turn = fields.integer("next_turn", lanes, _MAX_TURN)
        turns = np.array(fields.integers("turns", lanes, 0, next_turn - 1), np.int64)
        if len(np.unique(turns)) < lanes:
            raise Unreadable("turns are the same for two lanes")
        positions = np.array(fields.integers("positions", lanes, 0, self._table.longest), np.int64)
        _, lengths = self._table.places(order.chunks(turns))
        if (positions % self._rows.seq_len).any() or (positions >= lengths).any():
            raise Unreadable("positions lie behind the end of their chunk, or between two subsequences")
        return order, next_turn, turns, positions


def whole_recordings(
    data: AudioData,
    config: AudioConfig,
    split: str,
    batch_size: int,
    seq_len: int,
    only: Collection[int] | None = None,
) -> Iterator[EvalBatch]:
    """Yields every recording of a split from start to end, for evaluation with the state carried from step to step.

    The recordings are sorted by length, longest first, and read in groups of `batch_size` rows (the last group may
    have fewer). only: the numbers of the groups that are read; None reads all. Raises as TBPTTBatches does.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
    recordings = _fitting_recordings(data, config, split, seq_len)
    return _read_groups(_Rows(data, config, seq_len, whole=recordings), recordings, batch_size, only)


def _read_groups(
    rows: "_Rows", recordings: Recordings, batch_size: int, only: Collection[int] | None
) -> Iterator[EvalBatch]:
    import torch

    offsets, lengths = recordings.offsets, recordings.lengths
    by_length = np.argsort(-lengths, kind="stable")
    for number, first in enumerate(range(0, len(by_length), batch_size)):
        if only is not None and number not in only:
            continue
        group = by_length[first : first + batch_size]
        for position in range(0, int(lengths[group].max()), rows.seq_len):
            group = group[lengths[group] > position]
            counts = np.minimum(lengths[group] - position, rows.seq_len)
            levels, reset, mask = rows.tensors(offsets[group] + position, counts, np.full(len(group), position))
            yield EvalBatch(levels, reset, mask, torch.from_numpy(group))


class _Rows:
    """Makes the tensors of one step from places in the audio; the levels of 16-bit samples come from one table.

    A rule of another project that stretches every file to its own peaks has no such table. It is read where whole
    recordings are, from the peaks of each.
    """

    def __init__(self, data: AudioData, config: AudioConfig, seq_len: int, whole: Recordings | None = None) -> None:
        """whole: the recordings of which every row is a part, in the order of their places."""
        from samplernn_fast.audio.quantize import for_config

        self.seq_len = seq_len
        self._read = data.read
        self._lookback = config.lookback
        self._silence = config.q_zero
        self._quantizer = for_config(config)
        self._whole = whole
        self._peaks: dict[int, tuple[int, int]] = {}
        if self._quantizer.per_file and whole is not None:
            return
        # Data prepared with another gain than the model's is brought to the loudness that the model knows.
        table = self._quantizer.lut_int16((config.gain or data.gain) / data.gain)
        # The table is rolled, so that a sample is its own index: numpy counts negative ones from the end.
        self._level_of = np.roll(table, 32768).astype(np.int64)

    def tensors(
        self, starts: IntArray, counts: IntArray, positions: IntArray
    ) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
        """Makes levels, resets and mask. Row r has counts[r] targets, from the sample starts[r] on.

        Silence fills the row behind them. positions: how many samples of the row's chunk lie before the targets; where
        that is less than the lookback, silence takes the place of the rest. A row at position 0 is reset.
        """
        import torch

        levels = np.full((len(starts), self._lookback + self.seq_len), self._silence, np.int64)
        for row, start, count, before in zip(levels, starts.tolist(), counts.tolist(), positions.tolist(), strict=True):
            if count:
                lead_in = min(before, self._lookback)
                known = self._read(start - lead_in, start + count)
                row[self._lookback - lead_in : self._lookback + count] = self._levels(known, start)
        mask = np.arange(self.seq_len) < counts[:, None]
        return torch.from_numpy(levels), torch.from_numpy(positions == 0), torch.from_numpy(mask)

    def _levels(self, samples: npt.NDArray[np.int16], start: int) -> IntArray:
        """The levels of 16-bit samples of the recording in which `start` lies."""
        if not self._quantizer.per_file or self._whole is None:
            return np.asarray(self._level_of[samples])
        peaks = self._peaks_of(int(np.searchsorted(self._whole.offsets, start, side="right")) - 1, self._whole)
        # The rule takes a row's own peaks, so the recording's are put before the samples and left out again.
        return self._quantizer.encode(np.concatenate((peaks, samples)) / 32768.0)[2:].astype(np.int64)

    def _peaks_of(self, number: int, whole: Recordings) -> tuple[int, int]:
        """The peaks of a recording, which is read for them when it is met for the first time."""
        if number not in self._peaks:
            begin = int(whole.offsets[number])
            self._peaks[number] = _peaks(self._read(begin, begin + int(whole.lengths[number])))
        return self._peaks[number]


def _peaks(samples: npt.NDArray[np.int16]) -> tuple[int, int]:
    return int(samples.min()), int(samples.max())


def _fitting_recordings(data: AudioData, config: AudioConfig, split: str, seq_len: int) -> Recordings:
    """The recordings of a split. Raises DataError and ConfigError where data, model and seq_len do not fit."""
    if data.sample_rate != config.sample_rate:
        raise DataError(
            f"{data.folder}: the audio is at {data.sample_rate} Hz, the model is for {config.sample_rate} Hz;"
            f" prepare again with sample_rate {config.sample_rate}, or train a model with"
            f" sample_rate {data.sample_rate}"
        )
    check_frames(config, seq_len)
    return some_recordings(data, split)


def check_frames(config: AudioConfig, seq_len: int) -> None:
    """Raises ConfigError where subsequences are not whole frames of a model."""
    if seq_len < 1 or seq_len % config.top_frame:
        raise ConfigError(f"seq_len must be a multiple of the top frame of {config.top_frame} samples, got {seq_len}")


def some_recordings(data: AudioData, split: str) -> Recordings:
    """The recordings of a split. Raises DataError where there is none."""
    recordings = data.recordings(split)
    if not recordings:
        raise DataError(f"{data.folder}: the {split} split is empty; prepare more recordings or another split")
    return recordings


def data_id(data: AudioData, recordings: Recordings) -> str:
    """A hash that is equal for equal audio in the same order, wherever the folder lies."""
    digest = hashlib.sha256(f"{data.sample_rate}\n{data.chunk_seconds}".encode())
    for lines in recordings.hash_lines():
        digest.update(f"\n{lines}".encode())
    return digest.hexdigest()
