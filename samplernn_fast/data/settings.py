"""The settings of `prepare` and their ranges, which the command's flags share."""

from dataclasses import dataclass
from typing import Annotated, Literal

from samplernn_fast.audio.limits import RATES
from samplernn_fast.errors import ConfigError
from samplernn_fast.ranges import Range, check_fields

JOIN_SECONDS = 60.0
"""The longest medley of joined recordings, unless another is asked for."""
_LONGEST = 10_000_000  # seconds, 116 days

SampleRate = Annotated[int, RATES]
ChunkSeconds = Annotated[float, Range(0, _LONGEST, above=True, unit="seconds")]
Shares = Annotated[tuple[float, float, float], Range(0, 1e9)]
SplitSeed = Annotated[int, Range(0, 2**64 - 1)]
JoinSeconds = Annotated[float, Range(0, _LONGEST, above=True, unit="seconds")]
JoinPause = Annotated[float, Range(0, 3600, unit="seconds")]
PadSeconds = Annotated[float, Range(0, 60, unit="seconds")]
TrimDecibels = Annotated[float | None, Range(-200, 0, unit="dB")]
Gain = Annotated[float | Literal["auto"], Range(0, 1e6, above=True, words=("auto",))]
Workers = Annotated[int | None, Range(1, 256)]


@dataclass(frozen=True)
class Settings:
    """How `prepare` makes a data folder; its arguments of the same names say what each is."""

    sample_rate: SampleRate = 16000
    chunk_seconds: ChunkSeconds = 8.0
    split: Shares = (88, 6, 6)
    split_seed: SplitSeed = 0
    cut: bool = True
    join: bool = False
    join_seconds: JoinSeconds = JOIN_SECONDS
    join_pause: JoinPause = 0.0
    pad_seconds: PadSeconds = 0.0
    channels: str | int = "mix"
    trim_silence_db: TrimDecibels = None
    gain: Gain = "auto"
    workers: Workers = None

    def __post_init__(self) -> None:
        """Raises ConfigError for settings that cannot work."""
        from samplernn_fast.audio.reading import channel_number

        check_fields(self)
        channel_number(self.channels)
        if self.join_pause > self.join_seconds:
            raise ConfigError(f"join_pause must be at most join_seconds, {self.join_seconds:g}, got {self.join_pause}")
        if not self.join and (self.join_seconds, self.join_pause) != (JOIN_SECONDS, 0):
            raise ConfigError("join_seconds and join_pause are for joined recordings; use join=True too")
