"""Speakers by PortAudio (sounddevice): a ring buffer between the thread that makes sound and the card's callback."""

import threading
from typing import Any

import numpy as np

from samplernn_fast.audio.resampling import load_soxr
from samplernn_fast.errors import AudioError, ConfigError, MissingPackage, one_line, quoted

_SLACK_SECONDS = 2.0  # of the ring beyond what is wanted in it: a resampler gives what it held back all at once
_LEAST_WAIT = 0.002  # seconds


class Ring:
    """Samples between one thread that writes and one that reads. Nothing in it waits."""

    def __init__(self, capacity: int) -> None:
        self._samples = np.zeros(capacity, np.float32)
        # Each is changed by one side only, so that neither side ever waits for the other.
        self._written, self._read = 0, 0

    @property
    def filled(self) -> int:
        """The samples that can be read."""
        return self._written - self._read

    def write(self, samples: np.ndarray) -> None:
        """Puts samples (n,) behind the others. Raises AudioError where there is no room, which would lose some."""
        size = len(self._samples)
        if len(samples) > size - self.filled:
            raise AudioError(f"the speakers' buffer of {size} samples is full")
        first = self._written % size
        head = samples[: size - first]
        self._samples[first : first + len(head)] = head
        self._samples[: len(samples) - len(head)] = samples[len(head) :]
        self._written += len(samples)

    def read_into(self, target: np.ndarray) -> int:
        """Moves as many samples as there are, at most n, to the beginning of `target` (n,). Returns how many."""
        size = len(self._samples)
        count = min(len(target), self.filled)
        first = self._read % size
        head = min(count, size - first)
        target[:head] = self._samples[first : first + head]
        target[head:count] = self._samples[: count - head]
        self._read += count
        return count


class Speakers:
    """A sound card. It begins when its buffer is full."""

    keeps = False

    def __init__(self, rate: int, block: int, buffer: float, device: str | None = None) -> None:
        """rate: of the samples that come, in Hz, which are resampled where the card does not take it.

        block: samples that come at a time. buffer: seconds of sound that are kept ready. device: a number of
        `list_devices`, or a part of a name; None takes the usual one. Raises ConfigError where there is no such card,
        MissingPackage, and AudioError where it cannot be opened.
        """
        self._sounddevice = load_sounddevice()
        found = _find(self._sounddevice, device)
        self.rate = self._rate_of(found, rate)
        self._resampler: Any = None
        if self.rate != rate:
            soxr = load_soxr(f"the sound card does not take {rate} Hz")
            self._resampler = soxr.ResampleStream(rate, self.rate, 1, dtype="float32", quality="HQ")
        self._block_frames = -(-block * self.rate // rate)
        self._wanted = max(round(buffer * self.rate), self._block_frames)
        self._ring = Ring(self._wanted + self._block_frames + round(_SLACK_SECONDS * self.rate))
        self._mono = np.zeros(1, np.float32)
        self._ended, self._started, self._done = False, False, threading.Event()
        self.underruns = 0
        channels = min(2, int(found["max_output_channels"]))
        try:
            self._stream = self._sounddevice.OutputStream(
                samplerate=self.rate, channels=channels, dtype="float32", device=found["index"], latency="low",
                callback=self.callback, finished_callback=self._done.set,
            )  # fmt: skip
        except self._sounddevice.PortAudioError as error:
            raise _unusable(found, error) from None
        changed = "" if self.rate == rate else f", resampled from {rate} Hz"
        self.words = f"{one_line(found['name'])} at {self.rate} Hz{changed}"

    def _rate_of(self, found: Any, rate: int) -> int:
        """The rate of the samples where the card takes it, because a resampler holds sound back for tens of
        milliseconds; otherwise the rate that the card likes best."""
        try:
            self._sounddevice.check_output_settings(device=found["index"], channels=1, samplerate=rate)
        except (self._sounddevice.PortAudioError, ValueError):
            return int(found["default_samplerate"])
        return rate

    def callback(self, out: np.ndarray, frames: int, time: Any, status: Any) -> None:
        """Gives the card its next samples (frames, channels); silence where they are late, which is an underrun."""
        if len(self._mono) < frames:
            self._mono = np.zeros(frames, np.float32)
        mono = self._mono[:frames]
        count = self._ring.read_into(mono)
        mono[count:] = 0
        out[:] = mono[:, None]
        if (count < frames and not self._ended) or (status and status.output_underflow):
            self.underruns += 1

    def wait(self) -> float:
        """The seconds until a block fits under what is wanted in the buffer."""
        if self._started and self._done.is_set():
            raise AudioError("the sound card stopped; is it still connected?")
        over = self._ring.filled + self._block_frames - self._wanted
        return max(_LEAST_WAIT, over / self.rate) if over > 0 else 0.0

    def write(self, samples: np.ndarray) -> None:
        """Takes a block (n,) float32 when `wait` was 0. Raises AudioError where the card cannot be started."""
        self._put(samples, last=False)
        if self._ring.filled + self._block_frames > self._wanted:
            self._start()

    def finish(self) -> None:
        """There is no more sound: what the resampler holds back comes, and the rest is played."""
        self._put(np.empty(0, np.float32), last=True)
        self._ended = True
        self._start()

    def drained(self) -> bool:
        """Whether the card has taken all samples."""
        return self._ring.filled == 0 or self._done.is_set()

    def close(self) -> None:
        """Ends the sound. After `finish` the card plays what it has taken, otherwise it is silent at once."""
        if self._started and not self._done.is_set():
            (self._stream.stop if self._ended and self.drained() else self._stream.abort)()
        self._stream.close()

    def _put(self, samples: np.ndarray, last: bool) -> None:
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(np.ascontiguousarray(samples, np.float32), last=last)
        self._ring.write(samples)

    def _start(self) -> None:
        if self._started:
            return
        try:
            self._stream.start()
        except self._sounddevice.PortAudioError as error:
            raise AudioError(f"the sound card cannot be started: {error}") from None
        self._started = True


def list_devices() -> list[str]:
    """A line for each sound card that can play. Raises MissingPackage, and AudioError where PortAudio cannot tell."""
    sounddevice = load_sounddevice()
    try:
        devices, usual = sounddevice.query_devices(), sounddevice.default.device[1]
    except sounddevice.PortAudioError as error:
        raise AudioError(f"PortAudio cannot tell the sound cards: {error}") from None
    return [
        f"{'*' if device['index'] == usual else ' '} {device['index']:3}  {one_line(device['name'])}"
        f" ({device['max_output_channels']} channels, {device['default_samplerate']:.0f} Hz)"
        for device in devices
        if device["max_output_channels"]
    ]


def load_sounddevice() -> Any:
    """The module sounddevice. Raises MissingPackage where it, or PortAudio behind it, is not installed."""
    try:
        import sounddevice
    except ImportError:
        raise MissingPackage(
            "the speakers need sounddevice; pip install sounddevice (extra `live`), or write elsewhere with -o"
        ) from None
    except OSError:
        raise MissingPackage(
            "sounddevice needs PortAudio, which is not installed (Debian: apt install libportaudio2);"
            " or write elsewhere with -o"
        ) from None
    return sounddevice


def _find(sounddevice: Any, device: str | None) -> Any:
    """What PortAudio knows of a card. Raises ConfigError where there is none."""
    wanted = int(device) if device is not None and device.isdecimal() and len(device) < 6 else device
    try:
        return sounddevice.query_devices(wanted, "output")
    except (sounddevice.PortAudioError, ValueError) as error:
        if device is None:
            raise ConfigError("there is no sound card here; write elsewhere with -o") from None
        several = "; several have that name" if "Multiple" in str(error) else ""
        raise ConfigError(
            f"there is no sound card {quoted(device)} that can play{several}; list_devices shows those there are"
        ) from None


def _unusable(found: Any, error: Exception) -> AudioError:
    return AudioError(f"the sound card {quoted(one_line(found['name']))} cannot be opened: {error}")
