"""How often the fault detectors of `samplernn_fast.evaluation.clips` fail, on folders of real recordings.

Each folder is a group. All its recordings get one gain, which brings the loudest peak to full scale, as `prepare` does.
A recording longer than `--seconds` is cut into clips of that length; shorter ones are measured as they are, and joined
in the order of their names to clips of that length too. A detector that fires on one of these clips is a false alarm.

Then one fault of each kind is planted in every long clip: at a random place, with a random strength that a listener
would hear at once, and counted where its own detector fires. `PLANTS` has the kinds; the strengths stand in each.
These detectors know nothing of the folders, so no part of them is held out.

With `--model` and `--heard`, a folder of recordings like those that the model has learnt from, the two likelihood
detectors are measured too: every second clip says what is usual for the others. The recordings are joined in random
order then, because clips of one word each differ from one another more than generated ones do.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import record

from samplernn_fast.audio import reading
from samplernn_fast.audio.finding import find_audio
from samplernn_fast.audio.quantize import for_config, quantizer
from samplernn_fast.evaluation.clips.detectors import DETECTORS, faults
from samplernn_fast.evaluation.clips.measures import measure_clip
from samplernn_fast.evaluation.clips.ranking import Usual
from samplernn_fast.evaluation.scoring import LevelScorer
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.checkpoint import as_model

_SHORTEST = 0.1  # seconds; shorter rests of a recording are left out
_MOST_ALARMS, _FEWEST_HITS = 0.02, 0.95
_SCORED_SECONDS, _SCORED_CLIPS = 2.0, 48  # So many clips of this length have their likelihood measured.


@dataclass(frozen=True)
class Clip:
    """A recording, or a part of it, or several joined: (T,) samples in [-1, 1]."""

    name: str
    samples: np.ndarray
    rate: int


def clips_of(
    folder: Path, seconds: float, gain: float | None = None, order: np.random.Generator | None = None
) -> tuple[list[Clip], list[Clip]]:
    """Reads a folder: its recordings, and its long clips, which are joined where the recordings are short.

    gain: what all amplitudes are multiplied by; None brings the loudest peak to full scale. order: joins them in random
    order; None joins them in that of their names.
    """
    read = [(path.name, *reading.read(path)) for path in find_audio(folder)]
    if order is not None:
        read = [read[place] for place in order.permutation(len(read))]
    if not read:
        sys.exit(f"{folder}: holds no audio")
    gain = gain or 1 / max(float(np.abs(samples).max()) for _, samples, _ in read)
    alone: list[Clip] = []
    long: list[Clip] = []
    joined: dict[int, list[np.ndarray]] = {}
    for name, samples, rate in read:
        parts = list(_cut(Clip(name, gain * samples.astype(np.float64), rate), seconds))
        alone += parts
        long += [part for part in parts if len(part.samples) == round(seconds * rate)]
        if len(samples) < seconds * rate:
            joined.setdefault(rate, []).append(gain * samples.astype(np.float64))
    for rate, sounds in joined.items():
        whole = Clip(f"joined at {rate} Hz", np.concatenate(sounds), rate)
        long += [part for part in _cut(whole, seconds) if len(part.samples) == round(seconds * rate)]
    return alone, long


def _cut(clip: Clip, seconds: float) -> Iterator[Clip]:
    """Cuts a clip into clips of so many seconds; the rest is a shorter one."""
    size = round(seconds * clip.rate)
    for start in range(0, len(clip.samples), size):
        part = clip.samples[start : start + size]
        if len(part) >= _SHORTEST * clip.rate:
            yield Clip(f"{clip.name} at {start / clip.rate:g} s", part, clip.rate)


def plant_silence(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """From 3.2 s on end to the rest of the clip: nothing, faint noise, or two or one of 256 linear levels."""
    start, stop = _stretch(clip, rng, 3.2)
    size, steps = stop - start, quantizer("linear", 256).decode_table()
    kind = rng.integers(4)
    faint = rng.normal(0, _db(rng.uniform(-90, -65)), size)
    level = int(rng.integers(64, 192))
    hovering = steps[level + rng.integers(0, 2, size)]
    quiet = (np.zeros(size), faint, hovering, np.full(size, steps[level]))[kind]
    return np.concatenate((clip.samples[:start], quiet, clip.samples[stop:]))


def plant_clipping(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """Scaled until 1 to 10% of all samples lie beyond full scale, and cut off there."""
    edge = np.quantile(np.abs(clip.samples), 1 - rng.uniform(0.01, 0.1))
    return np.clip(clip.samples / max(edge, 1e-6), -1, 1)


def plant_offset(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """Shifted by 0.03 to 0.3 of full scale for a second at least."""
    start, stop = _stretch(clip, rng, 1.0)
    spoilt = clip.samples.copy()
    spoilt[start:stop] += rng.choice((-1, 1)) * rng.uniform(0.03, 0.3)
    return np.clip(spoilt, -1, 1)


def plant_loop(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """A piece of 5 ms to 1 s, from where the clip sounds, again and again for 4.5 s at least, with noise 15 to 50 dB
    below it.
    """
    start, stop = _stretch(clip, rng, 4.5)
    period = round(clip.rate * math.exp(rng.uniform(math.log(0.005), math.log(1.0))))
    for _ in range(1000):
        first = int(rng.integers(0, len(clip.samples) - period))
        piece = clip.samples[first : first + period]
        if piece.std() > _db(-40):
            break
    looped = np.resize(piece, stop - start)
    noise = rng.normal(0, piece.std() * _db(rng.uniform(-50, -15)), stop - start)
    return np.concatenate((clip.samples[:start], np.clip(looped + noise, -1, 1), clip.samples[stop:]))


def plant_noise(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """0.2 to 2 s of white noise at -30 to -6 dB: Gaussian, uniform, or random mu-law levels; in place of the sound, or
    upon it and 6 dB louder.
    """
    size = round(clip.rate * rng.uniform(0.2, 2))
    start = int(rng.integers(0, len(clip.samples) - size))
    mu_law = quantizer("mu-law", 256).decode_table()
    shapes = (rng.normal(0, 1, size), rng.uniform(-1, 1, size), mu_law[rng.integers(0, 256, size)])
    noise = shapes[rng.integers(3)]
    spoilt, there = clip.samples.copy(), clip.samples[start : start + size]
    level = _db(rng.uniform(-30, -6))
    added = bool(rng.integers(2))
    if added:
        level = max(level, 2 * float(there.std()))
    spoilt[start : start + size] = noise / noise.std() * level + (there if added else 0)
    return np.clip(spoilt, -1, 1)


def plant_clicks(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """One to three single samples a second that jump by 0.3 to 1 of full scale."""
    spoilt = clip.samples.copy()
    count = round(len(spoilt) / clip.rate * rng.uniform(1, 3))
    places = rng.integers(0, len(spoilt), count)
    spoilt[places] -= np.where(spoilt[places] > 0, 1, -1) * rng.uniform(0.3, 1, count)
    return spoilt


PLANTS: dict[str, Callable[[Clip, np.random.Generator], np.ndarray]] = {
    "silence": plant_silence,
    "clipping": plant_clipping,
    "offset": plant_offset,
    "loop": plant_loop,
    "noise": plant_noise,
    "clicks": plant_clicks,
}


def _stretch(clip: Clip, rng: np.random.Generator, shortest: float) -> tuple[int, int]:
    """A random part (start, stop) of at least so many seconds; every second time it goes on to the end."""
    least, size = round(shortest * clip.rate), len(clip.samples)
    start = int(rng.integers(0, size - least + 1))
    return start, size if rng.integers(2) else int(rng.integers(start + least, size + 1))


def _db(level: float) -> float:
    return float(10 ** (level / 20))


def rows_of(folder: Path, seconds: float, seed: int) -> list[dict[str, Any]]:
    """Measures one folder: a row for each detector, with the clips, the false alarms and the hits."""
    alone, long = clips_of(folder, seconds)
    alarms = {clip.name: set(faults(measure_clip(clip.samples, clip.rate))) for clip in (*alone, *long)}
    group: dict[str, Any] = {"folder": folder.name, "clips": len(alarms), "long_clips": len(long), "seconds": seconds}
    rows = []
    for number, name in enumerate(DETECTORS):
        rng = np.random.default_rng((seed, number))
        clean = [clip for clip in long if name not in alarms[clip.name]]
        hits = [name in faults(measure_clip(PLANTS[name](clip, rng), clip.rate)) for clip in clean]
        fired = [clip for clip, found in alarms.items() if name in found]
        rates = {"false_alarm_rate": len(fired) / len(alarms), "hit_rate": sum(hits) / len(hits) if hits else None}
        counts = {"false_alarms": len(fired), "planted": len(hits), "hits": sum(hits)}
        rows.append(group | {"detector": name, **rates, **counts, "fired_on": fired[:10]})
    return rows


def hissing(clips: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Clips (N, T) with white noise 5 to 20 dB below each of them."""
    loudness = clips.std(axis=1, keepdims=True) * 10 ** (-rng.uniform(5, 20, (len(clips), 1)) / 20)
    return np.clip(clips + rng.normal(0, 1, clips.shape) * loudness, -1, 1)


def fallen_silent(clips: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Clips (N, T) of which only the first quarter is left."""
    return clips * (np.arange(clips.shape[1]) < clips.shape[1] // 4)


def likelihood_rows(name: str, folder: Path, seed: int) -> list[dict[str, Any]]:
    """Measures the detectors of unlikely and of too likely clips, under a model, on recordings like those it knows."""
    model, rng = as_model(name), np.random.default_rng(seed)
    long = clips_of(folder, _SCORED_SECONDS, model.config.gain or 1.0, rng)[1][:_SCORED_CLIPS]
    if any(clip.rate != model.config.sample_rate for clip in long) or len(long) < 16:
        sys.exit(f"{folder}: --heard needs 32 s of recordings at {model.config.sample_rate} Hz")
    real = np.stack([clip.samples for clip in long])
    bits = bits_of(model, real)
    usual = [Usual.of(bits[1 - half :: 2]) for half in (0, 1)]  # every second clip is judged by the others
    rows = []
    for fault, plant in (("unlikely", hissing), ("too likely", fallen_silent)):
        fired = [clip.name for i, clip in enumerate(long) if fault in usual[i % 2].fault(bits[i])]
        hits = sum(fault in usual[i % 2].fault(one) for i, one in enumerate(bits_of(model, plant(real, rng))))
        rates = {"false_alarm_rate": len(fired) / len(long), "hit_rate": hits / len(long)}
        counts = {"false_alarms": len(fired), "planted": len(long), "hits": hits, "fired_on": fired[:10]}
        group = {"folder": folder.name, "clips": len(long), "long_clips": len(long), "seconds": _SCORED_SECONDS}
        rows.append(group | {"model": name, "detector": fault, **rates, **counts})
    return rows


def bits_of(model: AudioModel, clips: np.ndarray) -> list[float]:
    """The bits per sample of clips (N, T) that are as loud as the model's."""
    scorer = LevelScorer(model, len(clips))
    scorer.add(for_config(model.config).encode(clips))
    return scorer.bits()


def main() -> None:
    """Parses the flags, measures, prints a table, and keeps a record; the exit status is 1 where a rate is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*", help="folders of real recordings")
    parser.add_argument("--seconds", type=float, default=10, help="the length of long clips, from 6 on (default: 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="a run folder, a .safetensors file or demo; its likelihood is measured too")
    parser.add_argument("--heard", type=Path, help="a folder of recordings like those that the model has learnt from")
    parser.add_argument("--json", type=record.file, help="append a record to this file")
    args = parser.parse_args()
    if args.seconds < 6:
        parser.error("--seconds must be at least 6: a planted loop takes 4.5")
    if (args.model is None) != (args.heard is None):
        parser.error("--model and --heard go together")
    if not args.folders and args.model is None:
        parser.error("name folders of recordings, or --model and --heard")
    rows = [row for folder in args.folders for row in rows_of(folder, args.seconds, args.seed)]
    if args.model is not None:
        rows += likelihood_rows(args.model, args.heard, args.seed)
    missed = 0
    for row in rows:
        planted = "none planted" if row["hit_rate"] is None else f"{row['hits']:4d} of {row['planted']:4d} hit"
        alarms = f"{row['false_alarms']:3d} false alarms in {row['clips']:4d} clips"
        print(f"{row['folder']:12} {row['detector']:10} {alarms}  {planted}  {' '.join(row['fired_on'][:2])}")
    for name in dict.fromkeys(row["detector"] for row in rows):
        mine = [row for row in rows if row["detector"] == name]
        alarms = sum(row["false_alarms"] for row in mine) / sum(row["clips"] for row in mine)
        hits = sum(row["hits"] for row in mine) / max(1, sum(row["planted"] for row in mine))
        missed += alarms > _MOST_ALARMS or hits < _FEWEST_HITS
        print(f"{'all':12} {name:10} {alarms:7.2%} false alarms  {hits:7.2%} hit")
    if args.json:
        record.append(args.json, rows)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
