"""What can be measured of generated audio without a listener: silence, clicks, noise.

Bits per sample say how well a model predicts real audio; they do not say whether what it makes by itself falls silent,
crackles or turns into noise. `measure` does, for one clip, and a model is judged by the medians over many.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FRAME_SECONDS = 0.032
"""The length of the frames whose loudness and spectrum are looked at."""
ACTIVE_DB = -40.0
"""A frame is active where its RMS is above this, in dB of full scale."""
_CLICK_SECONDS = 0.016  # on both sides of a sample, how far its surroundings reach
_CLICK_FACTOR = 20.0  # how many times rougher than its surroundings a click is; 400 s of recorded speech has none
_CLICK_FLOOR = 0.02  # the least roughness of a click, as a share of full scale
_CLICK_SAMPLES = 2  # on both sides of a click, how many samples are as rough as the click itself


@dataclass(frozen=True)
class ClipMeasures:
    """The measures of one clip."""

    active: float
    """The share of frames that are louder than `ACTIVE_DB`: recorded speech has about 0.8, silence 0."""
    clicks: int
    """How many single jumps there are that the surroundings do not explain."""
    flatness: float
    """The median spectral flatness of the active frames: white noise has 0.56, a voice about 0.02; NaN without any."""


def measure(samples: npt.ArrayLike, sample_rate: int) -> ClipMeasures:
    """Measures one clip: (T,) amplitudes in [-1, 1] at `sample_rate` Hz, of at least one frame (32 ms).

    Raises ValueError for a clip of another shape, or a shorter one.
    """
    clip = np.asarray(samples, np.float64)
    size = max(16, round(sample_rate * FRAME_SECONDS))
    if clip.ndim != 1 or len(clip) < size:
        raise ValueError(f"a clip must be (T,) with T of at least {size} samples, got {clip.shape}")
    frames = clip[: len(clip) // size * size].reshape(-1, size)
    active = np.sqrt((frames**2).mean(axis=1)) > 10 ** (ACTIVE_DB / 20)
    return ClipMeasures(float(active.mean()), count_clicks(clip, sample_rate), _flatness(frames[active]))


def count_clicks(clip: npt.NDArray[np.float64], sample_rate: int) -> int:
    """How many single jumps (T,) amplitudes have.

    The roughness of a sample is its distance from the mean of its two neighbours. A click is at least 20 times as rough
    as the samples within 16 ms around it, itself left out, which follow the loudness and the pitch of the sound.
    """
    rough = np.abs(clip[1:-1] - (clip[:-2] + clip[2:]) / 2)
    reach = min(round(sample_rate * _CLICK_SECONDS), (len(rough) - 1) // 2)
    if reach <= _CLICK_SAMPLES:
        return 0
    around = _window_sums(rough**2, reach) - _window_sums(rough**2, _CLICK_SAMPLES)
    expected = np.sqrt(np.maximum(around, 0) / (2 * (reach - _CLICK_SAMPLES)))
    clicks = (rough > _CLICK_FACTOR * expected) & (rough > _CLICK_FLOOR)
    return int(np.count_nonzero(np.diff(clicks, prepend=False) & clicks))


def _window_sums(values: npt.NDArray[np.float64], reach: int) -> npt.NDArray[np.float64]:
    """The sums (T,) over each value and the `reach` values on both sides; the ends are mirrored."""
    sums = np.cumsum(np.pad(values, (reach + 1, reach), mode="reflect"))
    sums -= sums[0]
    return sums[2 * reach + 1 :] - sums[: -2 * reach - 1]


def _flatness(frames: npt.NDArray[np.float64]) -> float:
    """The median over frames (N, size) of the spectral flatness: geometric over arithmetic mean of the power."""
    if not len(frames):
        return float("nan")
    power = np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1]))[:, 1:]) ** 2 + 1e-12
    return float(np.median(np.exp(np.log(power).mean(axis=1)) / power.mean(axis=1)))
