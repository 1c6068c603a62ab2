"""Words that are tones, which a classifier learns within seconds."""

import numpy as np
from recordings import RATE, write

HERTZ = {"low": 300.0, "middle": 900.0, "high": 2500.0}


def write_words(folder, count, hertz=HERTZ, seed=0, seconds=0.25):
    """`count` recordings of each word, word_number.wav: a tone that fades in and out under a little noise."""
    draw = np.random.default_rng(seed)
    for word, pitch in hertz.items():
        for number in range(count):
            times = np.arange(round(draw.uniform(0.8, 1.0) * seconds * RATE)) / RATE
            sound = np.sin(2 * np.pi * pitch * draw.uniform(0.9, 1.1) * times) * np.sin(np.pi * times / times[-1])
            write(folder / f"{word}_{number}.wav", draw.uniform(0.2, 0.5) * sound + draw.normal(0, 0.003, len(times)))
    return folder
