"""The limits of what an audio file may claim and hold. A file comes from anywhere, so memory is never taken by what a
header says.

What is refused is an `Unreadable` with the reason; `reading` names the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplernn_fast.ranges import Range
from samplernn_fast.untrusted import Unreadable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RATES = Range(1, 768_000, unit="Hz")
"""The sample rates of files and models."""
CHANNELS = 256
"""The most channels of a file."""
AMPLITUDE = 100.0
"""The largest amplitude that is audio, 40 dB over full scale, which is 1. Files of numbers that are no audio go beyond,
and one of them in a data set would leave nothing of the others under the common gain."""
SAMPLES_PER_BYTE = 8
"""The most samples that a byte of a file may stand for. GSM 6.10 packs nearly five into one."""
COMPRESSED_SAMPLES_PER_BYTE = 4096
"""The same for formats that pack silence into next to nothing: FLAC makes a byte of about 600 samples of it."""
RATE_RATIO = 256
"""The largest ratio of two sample rates between which audio is resampled."""
BLOCK_SAMPLES = 1 << 22
"""The most samples of all channels that are decoded at once; as float32 they take 16 MiB."""
WHOLE_SAMPLES = 1 << 25
"""The most samples of a file that is read whole, a prompt for example: 35 minutes at 16 kHz, 134 MB."""


def most_samples(size: int, compressed: bool) -> int:
    """The most samples of all channels that audio packs into `size` bytes."""
    return size * (COMPRESSED_SAMPLES_PER_BYTE if compressed else SAMPLES_PER_BYTE)


def check_header(rate: int, channels: int, seconds: float | None, most: int) -> None:
    """Raises Unreadable for a header that no audio file has.

    seconds: the length, None where the header does not say. most: what `most_samples` allows the file.
    """
    if not 1 <= rate <= RATES.high:
        raise Unreadable(f"its header claims {rate} Hz, and {RATES} are read; the header is damaged")
    if not 1 <= channels <= CHANNELS:
        raise Unreadable(f"its header claims {channels} channels, and at most {CHANNELS} are read")
    if seconds is not None and seconds * rate * channels > most:
        raise Unreadable(f"its header claims {seconds:.0f} s of audio, more than its bytes can hold; it is damaged")


def check_decoded(samples: int, most: int) -> None:
    """Raises Unreadable where more samples of all channels were decoded than `most_samples` allows the file."""
    if samples > most:
        raise Unreadable(f"it unpacks to more than {most} samples, which its bytes cannot hold")


def check_rates(from_rate: int, to_rate: int) -> None:
    """Raises Unreadable where two rates lie too far apart to resample between them."""
    if max(from_rate, to_rate) > RATE_RATIO * min(from_rate, to_rate):
        raise Unreadable(
            f"{from_rate} Hz cannot be resampled to {to_rate} Hz: the rates may differ by a factor of {RATE_RATIO}"
        )


def check_whole(seconds: float, rate: int) -> None:
    """Raises Unreadable where so many seconds at `rate` Hz are too much to be read whole."""
    if seconds * rate > WHOLE_SAMPLES:
        raise Unreadable(
            f"lasts longer than {WHOLE_SAMPLES / rate / 60:.0f} minutes, the most that is read at once at {rate} Hz;"
            " cut out the piece that you need"
        )


def check_amplitudes(block: NDArray[np.floating], done: int, rate: int) -> None:
    """Raises Unreadable for an amplitude that is NaN, infinite or beyond `AMPLITUDE`.

    block: (n, channels) samples, which begin `done` samples after the start of a file of `rate` Hz.
    """
    import numpy as np  # here, because the command line reads the ranges above before it does anything

    if not block.size or max(block.max(), -block.min()) <= AMPLITUDE:
        return
    largest = np.abs(block).max(axis=1)
    place = int(np.argmax(~(largest <= AMPLITUDE)))
    at = f"at {(done + place) / rate:.3f} s"
    if not np.isfinite(largest[place]):
        raise Unreadable(f"NaN or infinite sample {at}")
    raise Unreadable(
        f"an amplitude of {largest[place]:.3g} {at}: full scale is 1, so this is no audio, or needs scaling first"
    )


def block_frames(seconds: float, rate: int, channels: int, to_rate: int | None) -> int:
    """How many samples per channel are decoded at once, so that they take little memory, also when resampled."""
    growth = max(1.0, (to_rate or rate) / rate)
    return max(1, min(round(seconds * rate), int(BLOCK_SAMPLES / channels / growth)))
