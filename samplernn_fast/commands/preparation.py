"""The `prepare` command: audio files become a data folder. `data.preparation` does the work."""

import inspect
from pathlib import Path
from typing import Any

import tyro

from samplernn_fast.commands.flags import NumShards, Out, ShardIndex, spell
from samplernn_fast.data.settings import (
    JOIN_SECONDS,
    ChunkSeconds,
    Gain,
    JoinPause,
    JoinSeconds,
    PadSeconds,
    SampleRate,
    Settings,
    Shares,
    SplitSeed,
    TrimDecibels,
    Workers,
)
from samplernn_fast.errors import ConfigError
from samplernn_fast.jobs.shards import Shard


def prepare(
    inputs: tyro.conf.Positional[tuple[Path, ...]],
    /,
    *,
    out: Out,
    sample_rate: SampleRate = 16000,
    chunk_seconds: ChunkSeconds = 8.0,
    split: Shares = (88, 6, 6),
    split_seed: SplitSeed = 0,
    valid_files: Path | None = None,
    test_files: Path | None = None,
    cut: bool = True,
    join: bool = False,
    join_seconds: JoinSeconds = JOIN_SECONDS,
    join_pause: JoinPause = 0.0,
    pad_seconds: PadSeconds = 0.0,
    channels: str = "mix",
    trim_silence_db: TrimDecibels = None,
    gain: Gain = "auto",
    workers: Workers = None,
    overwrite: bool = False,
    shard_index: ShardIndex = None,
    num_shards: NumShards = None,
) -> None:
    """Turn audio files into a data folder to train on.

    Reads WAV, FLAC, Ogg, Opus, MP3 and more, and M4A, AAC, WMA and more where ffmpeg is installed, of any rate, length
    and channel count, in nested folders. Files that cannot be read are named, skipped and counted.

    Args:
        inputs: Audio files, or folders to search.
        out: The data folder to make.
        sample_rate: Samples per second to train at; other rates are converted (needs soxr).
        chunk_seconds: Longest piece that training reads in one go.
        split: Shares of train, valid and test; one recording is never in two of them.
        split_seed: Draws which recording goes where.
        valid_files: Text file of names or patterns that are the validation split, one in a line.
        test_files: The same for the test split.
        cut: Cut recordings of a minute or more by time where fewer than three leave valid or test empty.
        join: Join the recordings of each split into medleys, so that what follows a short recording is learnt too.
        join_seconds: Longest medley of joined recordings.
        join_pause: Seconds of silence between two joined recordings.
        pad_seconds: Put silence behind each recording that is shorter than this.
        channels: mix, left, right or a channel number from 0.
        trim_silence_db: Trim what is quieter than this at both ends of each recording, for example -50.
        gain: One factor for all audio; auto brings the largest peak to 0.98.
        workers: Files decoded at once.
        overwrite: Replace an existing data folder.
        shard_index: Which of the shards this process is, from 0; without it, as SLURM, Kubernetes and others say.
        num_shards: Share the work between so many processes with the same command; the last one makes the data folder.
    """
    parameters = inspect.signature(prepare).parameters
    shard = Shard.of(shard_index, num_shards)
    given: dict[str, Any] = {
        "sample_rate": sample_rate,
        "chunk_seconds": chunk_seconds,
        "split": split,
        "split_seed": split_seed,
        "cut": cut,
        "join": join,
        "join_seconds": join_seconds,
        "join_pause": join_pause,
        "pad_seconds": pad_seconds,
        "channels": channels,
        "trim_silence_db": trim_silence_db,
        "gain": gain,
        "workers": workers,
    }
    if shard is not None:
        print(spell(_share(shard, inputs, out, Settings(**given), valid_files, test_files, overwrite), parameters))
        return
    from samplernn_fast.data.preparation import prepare as run

    report = run(
        inputs, out, **given, valid_files=valid_files, test_files=test_files, overwrite=overwrite, progress=True
    )
    print(spell(report.summary(), parameters))


def _share(
    shard: Shard,
    inputs: tuple[Path, ...],
    out: Path,
    settings: Settings,
    valid_files: Path | None,
    test_files: Path | None,
    overwrite: bool,
) -> str:
    """Makes one shard's share. Returns what is to be printed."""
    from samplernn_fast.data.shared.sharing import prepare_share

    if overwrite:
        raise ConfigError(
            "overwrite=True makes no sense where work is shared: the first shard would not know of the last one; remove"
            " the data folder, and the job's folder beside it, which ends in .job, to begin again"
        )
    report = prepare_share(shard, inputs, out, settings, valid_files=valid_files, test_files=test_files, progress=True)
    return report.summary()
