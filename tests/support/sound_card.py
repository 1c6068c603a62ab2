"""A module that takes the place of sounddevice: a sound card whose callback a test calls itself."""

import threading
import time
import types

import numpy as np


class PortAudioError(Exception):
    """As sounddevice's."""


class Status:
    """What the card says of the block before."""

    def __init__(self, output_underflow=False):
        self.output_underflow = output_underflow

    def __bool__(self):
        return self.output_underflow


class Stream:
    """A stream that plays when `play` is called, or on its own in a thread where the card runs."""

    def __init__(self, card, samplerate, channels, dtype, device, latency, callback, finished_callback):
        assert dtype == "float32" and samplerate in card.rates
        self.card, self.rate, self.channels = card, samplerate, channels
        self.callback, self.finished = callback, finished_callback
        self.calls = []
        self.heard = []
        self._over = threading.Event()
        self._thread = None
        card.streams.append(self)

    def play(self, frames, underflow=False):
        """The next frames (n,), which all channels must have."""
        out = np.full((frames, self.channels), np.nan, np.float32)
        self.callback(out, frames, None, Status(underflow))
        assert all(np.array_equal(out[:, 0], channel) for channel in out.T)
        self.heard.append(out[:, 0].copy())
        return self.heard[-1]

    def start(self):
        self.calls.append("start")
        if self.card.broken:
            raise PortAudioError("Device unavailable [PaErrorCode -9985]")
        if self.card.runs:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def _run(self):
        began, played, size = time.monotonic(), 0, self.rate // 100
        while not self._over.wait(max(0.0, began + played / self.rate - time.monotonic())):
            self.play(size)
            played += size

    def _end(self, how):
        self.calls.append(how)
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def stop(self):
        self._end("stop")

    def abort(self):
        self._end("abort")

    def close(self):
        self._end("close")


class Card:
    """The cards of a machine. `module` is what `import sounddevice` gives."""

    def __init__(self, rates=(8000, 48000), runs=False, broken=False):
        """rates: that it takes, the last one by itself. runs: whether it plays by itself. broken: does not start."""
        self.rates, self.runs, self.broken = rates, runs, broken
        self.streams = []
        self.devices = [
            {"index": 0, "name": "Microphone", "max_output_channels": 0, "default_samplerate": 44100.0},
            {"index": 1, "name": "Built-in", "max_output_channels": 8, "default_samplerate": float(rates[-1])},
            {"index": 2, "name": "Headset\n", "max_output_channels": 1, "default_samplerate": float(rates[-1])},
        ]

    @property
    def module(self):
        module = types.ModuleType("sounddevice")
        module.PortAudioError = PortAudioError
        module.default = types.SimpleNamespace(device=(0, 1))
        module.query_devices = self._query
        module.check_output_settings = self._check
        module.OutputStream = lambda **arguments: Stream(self, **arguments)
        return module

    def _query(self, device=None, kind=None):
        if kind is None:
            return self.devices
        found = [one for one in self.devices if one["max_output_channels"]]
        if device is None:
            return found[0]
        found = [one for one in found if one["index"] == device or str(device).lower() in one["name"].lower()]
        if len(found) != 1:
            raise ValueError(f"{'Multiple' if found else 'No'} output devices found for {device!r}")
        return found[0]

    def _check(self, device, channels, samplerate):
        if samplerate not in self.rates:
            raise PortAudioError("Invalid sample rate")
