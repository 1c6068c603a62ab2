"""The measures of one clip, taken while it comes block by block, so that a day of audio needs no more memory than a
minute.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samplernn_fast.audio.limits import check_amplitudes
from samplernn_fast.errors import AudioError, ConfigError
from samplernn_fast.evaluation.clips.clicks import ClickCounter
from samplernn_fast.evaluation.clips.loops import LoopFinder
from samplernn_fast.evaluation.clips.windows import FloatArray, LongestRun, Windows, amplitude, levels
from samplernn_fast.untrusted import Unreadable

LOWEST_RATE = 1000
"""The lowest sample rate in Hz at which clips are measured."""
FRAME_SECONDS = 0.032
"""The length of the frames whose loudness and spectrum are looked at."""
ACTIVE_DB = -40.0
"""A frame is active where its RMS is above this, in dB of full scale."""
SILENT_DB = -60.0
"""A frame is silent where its RMS is at most this; the room in recorded speech is louder for most of its pauses."""
SILENT_VALUES = 3
"""A frame that is not active is silent too where it has at most so many different samples. A model with 256 linear
levels that hovers about one of them makes -48 dB, and nothing that was recorded looks like it."""
FULL_SCALE = 0.95
"""Samples beyond it are at full scale: the outermost of 256 levels stands for 0.957 in mu-law, for 0.992 in linear."""
NOISE_DB, NOISE_WINDOW_FLATNESS = -35.0, 0.75
"""A tenth of a second is noise where it is louder than this, and its mean spectrum at least so flat. White noise has a
flatness of at least 0.88 over that time; of the sibilants in recorded speech hardly any has 0.7."""
_NOISE_SECONDS, _OFFSET_SECONDS = 0.1, 0.5  # Noise and an offset are looked for in such windows.
_PIECE_SECONDS = 4  # So much is worked on at once.


@dataclass(frozen=True)
class ClipMeasures:
    """The measures of one clip."""

    seconds: float
    """Its length."""
    active: float
    """The share of frames that are louder than `ACTIVE_DB`: recorded speech has about 0.8, silence 0."""
    silence: float
    """The longest stretch of silent frames, in seconds."""
    clipped: float
    """The share of samples at full scale whose two neighbours are so too."""
    offset: float
    """The largest mean of half a second, without its sign, as a share of full scale; of a shorter clip its own mean."""
    loop: float
    """The longest stretch that comes again at once and unchanged, in seconds; see `loops`."""
    noise: float
    """The seconds of loud white noise: every 50 ms, a tenth of a second is looked at, and counted as 50 ms."""
    clicks: int
    """How many single jumps there are that the surroundings do not explain."""
    flatness: float
    """The median spectral flatness of the active frames: white noise has 0.56, a voice about 0.02; NaN without any."""


def measure_clip(samples: npt.ArrayLike, sample_rate: int) -> ClipMeasures:
    """Measures one clip: (T,) float amplitudes in [-1, 1] at `sample_rate` Hz, of at least one frame (32 ms).

    Raises ValueError for a clip of another shape, or a shorter one, ConfigError for integers and for a rate below
    1000 Hz, and AudioError for NaN, infinite numbers and others that are no amplitudes.
    """
    clip = np.asarray(samples)
    if clip.ndim != 1:
        raise ValueError(f"a clip must be (T,) amplitudes, got {clip.shape}")
    meter = Meter(sample_rate)
    meter.add(clip)
    return meter.measures()


class Meter:
    """Measures a clip that comes block by block; the measures do not depend on the blocks."""

    def __init__(self, sample_rate: int) -> None:
        """Raises ConfigError for a rate below `LOWEST_RATE`, at which nothing of this can be measured."""
        if sample_rate < LOWEST_RATE:
            raise ConfigError(f"clips are measured from {LOWEST_RATE} Hz on, got {sample_rate} Hz")
        self._rate, self._samples = sample_rate, 0
        self._waiting: list[FloatArray] = []  # what came and is not measured yet
        self._waiting_samples = 0
        self._frames = _Frames(max(16, round(sample_rate * FRAME_SECONDS)))
        self._noise = _Noise(sample_rate, self._frames.size)
        half = round(sample_rate * _OFFSET_SECONDS)
        self._offsets, self._offset = Windows(half, half), 0.0
        self._clipping, self._clicks, self._loops = _Clipping(), ClickCounter(sample_rate), LoopFinder(sample_rate)

    def add(self, samples: npt.ArrayLike) -> None:
        """Goes on with the next samples: (T,) float amplitudes in [-1, 1].

        Raises ConfigError for integers, and AudioError for what is no audio.
        """
        given = np.asarray(samples)
        if given.dtype.kind != "f":
            raise ConfigError(f"a clip must be float amplitudes in [-1, 1], got {given.dtype}")
        block = np.array(given, np.float64)
        try:
            check_amplitudes(block[:, None], self._samples, self._rate)
        except Unreadable as error:
            raise AudioError(f"clip: {error}") from None
        self._samples += len(block)
        self._waiting.append(block)
        self._waiting_samples += len(block)
        if self._waiting_samples >= self._rate:
            self._take()

    def _take(self) -> None:
        """Measures what came: a second and more, because many short blocks would each cost what a long one does."""
        block = np.concatenate([np.zeros(0), *self._waiting])
        self._waiting, self._waiting_samples = [], 0
        step = _PIECE_SECONDS * self._rate
        for start in range(0, len(block), step):
            piece = block[start : start + step]
            for part in (self._frames, self._noise, self._clipping, self._clicks, self._loops):
                part.add(piece)
            means = np.abs(self._offsets.add(piece).mean(axis=1))
            self._offset = max(self._offset, float(means.max(initial=0.0)))

    def measures(self) -> ClipMeasures:
        """The measures of all that came; the clip ends here. Raises ValueError for less than a frame."""
        if self._samples < self._frames.size:
            raise ValueError(f"a clip must have at least {self._frames.size} samples, got {self._samples}")
        self._take()
        if self._samples < self._offsets.size:
            self._offset = abs(float(self._offsets.rest.mean()))
        return ClipMeasures(
            seconds=self._samples / self._rate,
            active=self._frames.active(),
            silence=self._frames.silence.longest * self._frames.size / self._rate,
            clipped=self._clipping.count / self._samples,
            offset=self._offset,
            loop=self._loops.seconds(),
            noise=self._noise.count * self._noise.step / self._rate,
            clicks=self._clicks.count(),
            flatness=self._frames.flatness(),
        )


class _Frames:
    """Loudness, silence and the spectrum of frames that lie one behind another."""

    def __init__(self, size: int) -> None:
        self.size, self.silence = size, LongestRun()
        self._windows = Windows(size, size)
        self._frames = 0
        self._flatness: list[npt.NDArray[np.float32]] = []  # One number for each active frame.

    def add(self, samples: FloatArray) -> None:
        frames = self._windows.add(samples)
        loudness = levels(frames)
        active = loudness > amplitude(ACTIVE_DB)
        silent = loudness <= amplitude(SILENT_DB)
        doubtful = ~active & ~silent
        silent[doubtful] = _different(frames[doubtful]) <= SILENT_VALUES
        self.silence.add(silent.tolist())
        self._frames += len(frames)
        self._flatness.append(_flatness(_power(frames[active])).astype(np.float32))

    def active(self) -> float:
        return sum(map(len, self._flatness)) / self._frames

    def flatness(self) -> float:
        values = np.concatenate(self._flatness)
        return float(np.median(values)) if len(values) else float("nan")


class _Noise:
    """How many windows are loud white noise."""

    def __init__(self, sample_rate: int, frame: int) -> None:
        size = max(frame, round(sample_rate * _NOISE_SECONDS))
        self.step, self.count = size // 2, 0
        self._windows, self._frame = Windows(size, size // 2), frame

    def add(self, samples: FloatArray) -> None:
        windows = self._windows.add(samples)
        windows = windows[levels(windows) > amplitude(NOISE_DB)]
        frames = np.lib.stride_tricks.sliding_window_view(windows, self._frame, axis=1)[:, :: self._frame // 2]
        self.count += int(np.count_nonzero(_flatness(_power(frames).mean(axis=1)) >= NOISE_WINDOW_FLATNESS))


class _Clipping:
    """How many samples at full scale lie between two others that are so too."""

    def __init__(self) -> None:
        self.count = 0
        self._last = np.zeros(0, np.bool_)

    def add(self, samples: FloatArray) -> None:
        full = np.concatenate((self._last, np.abs(samples) >= FULL_SCALE))
        self.count += int(np.count_nonzero(full[2:] & full[1:-1] & full[:-2]))
        self._last = full[-2:]


def _different(frames: FloatArray) -> npt.NDArray[np.int64]:
    """How many different samples each frame (n, size) has."""
    return np.count_nonzero(np.diff(np.sort(frames, axis=1), axis=1), axis=1) + 1


def _power(frames: FloatArray) -> FloatArray:
    """The power spectra of frames (..., size) but for the constant part."""
    windowed = (frames - frames.mean(axis=-1, keepdims=True)) * np.hanning(frames.shape[-1])
    return np.asarray(np.abs(np.fft.rfft(windowed)[..., 1:]) ** 2 + 1e-12)


def _flatness(power: FloatArray) -> FloatArray:
    """The spectral flatness of power spectra (n, F): the geometric over the arithmetic mean, (n,)."""
    return np.asarray(np.exp(np.log(power).mean(axis=1)) / power.mean(axis=1))
