"""Engines that play a fixed sound, with a fault from some time on, for tests of the radio."""

import dataclasses

import numpy as np
from small import CONFIG

from samplernn_fast.audio import quantize
from samplernn_fast.engine.engine import Engine
from samplernn_fast.models.stored.arrays import read_model
from samplernn_fast.reference.randomness import random_words
from samplernn_fast.serving.radio.program import RadioSettings
from samplernn_fast.serving.radio.station import Station

RATE = 8000
SETTINGS = RadioSettings(seed=1, change=20.0)
PLANTED = 5.0
"""Seconds from the beginning of a part to its fault."""


def tune(seed, t, rate):
    """Notes of 0.3 s with a few partials, each of another pitch, at the samples t."""
    length = round(0.3 * rate)
    notes, inside = np.divmod(t, length)
    words = random_words(seed, np.array([7]), int(notes[0]), int(notes[-1] - notes[0]) + 1)[0, :, 0]
    hertz = 110 * 2 ** (words[notes - notes[0]] % 240 / 80)
    phase = 2 * np.pi * hertz * inside / rate
    envelope = np.minimum(1, inside / (0.01 * rate)) * np.exp(-4 * inside / length)
    # A softer end lets a note stop without a step.
    envelope *= np.minimum(1, (length - inside) / (0.02 * rate))
    return 0.35 * envelope * (np.sin(phase) + 0.5 * np.sin(2 * phase) + 0.25 * np.sin(3 * phase))


def hum(seed, t, rate):
    """A tone whose pitch wanders, without any step; its neighbours in time are like it, and nothing comes again."""
    seconds = t / rate
    phase = 2 * np.pi * (200 * seconds - 60 * np.cos(2 * np.pi * 0.37 * seconds + seed % 7) / (2 * np.pi * 0.37))
    return 0.3 * np.sin(phase)


def rustle(seed, t):
    """White noise between -1 and 1."""
    return random_words(seed, np.array([8]), int(t[0]), len(t))[0, :, 0] / 2**31 - 1


FAULTS = {
    "silence": lambda seed, t, since, rate: np.zeros(len(t)),
    "loop": lambda seed, t, since, rate: tune(seed, since + np.arange(rate // 2), rate)[(t - since) % (rate // 2)],
    "noise": lambda seed, t, since, rate: 0.3 * rustle(seed, t),
    "clipping": lambda seed, t, since, rate: np.clip(40 * tune(seed, t, rate), -1, 1),
    "offset": lambda seed, t, since, rate: 0.5 * tune(seed, t, rate) + 0.25,
    "clicks": lambda seed, t, since, rate: 0.2 * tune(seed, t, rate) + 0.75 * (t % 1600 == 0),
}
"""By the name of the detector: the sound at the samples t, which has that fault since a sample."""


class Player:
    """A backend that plays a fixed sound, whatever its weights are."""

    name, dtype, device, mixes, hidden_on_device = "played", "float32", "cpu", False, False

    def __init__(self, config, fault, planted, loudness, sound):
        self.quantizer, self.rate, self.loudness = quantize.for_config(config), config.sample_rate, loudness
        self.sound = sound
        self.fault, self.since = fault, round(planted * config.sample_rate)

    def init_hidden(self, streams, context=None):
        return [np.zeros((1, streams, 1), np.float32)]

    def generate(self, hidden, history, t, drawing, forced):
        seed, times = drawing.randomness.seed, t + np.arange(forced.shape[1])
        sound = self.loudness * self.sound(seed, times, self.rate)
        late = times >= self.since
        if self.fault is not None and late.any():
            sound[late] = FAULTS[self.fault](seed, times[late], self.since, self.rate)
        return self.quantizer.encode(np.clip(sound, -1, 1))[None].astype(np.int64)


def engine(fault=None, planted=PLANTED, rate=RATE, loudness=1.0, levels=256, sound=tune):
    config = dataclasses.replace(CONFIG, sample_rate=rate, q_levels=levels, quantization="linear")
    player = Player(config, fault, planted, loudness, sound)
    return Engine.of(dataclasses.replace(read_model("demo"), config=config), player)


def station(*engines, settings=SETTINGS):
    return Station({f"model{number}": one for number, one in enumerate(engines)}, settings)


def played(made, seconds):
    """The sound (T,) of a station for some seconds, and what it decided."""
    blocks, events = [], []
    while made.position < seconds * made.rate:
        blocks.append(made.step())
        events += made.take_events()
    return np.concatenate(blocks), events
