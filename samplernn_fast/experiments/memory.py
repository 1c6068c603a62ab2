"""How long a model remembers whose voice it spoke in (section 3.3).

A model of two voices makes sound freely, then silence is fed to it in place of what it draws, then it is free again.
Where both free ends have the same voice, it remembered. A network of fixed window that is shorter than the silence
cannot, so it is measured beside as a control. The paper has one length of silence, one second; any lengths are measured
here, so that the memory becomes a curve.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samplernn_fast import files, terminal
from samplernn_fast.audio import writing
from samplernn_fast.audio.quantize import for_config
from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.state import EngineState
from samplernn_fast.errors import ConfigError
from samplernn_fast.evaluation.intervals import Interval, wilson
from samplernn_fast.experiments.places import run_folder
from samplernn_fast.experiments.plan import Budget
from samplernn_fast.experiments.report import grid
from samplernn_fast.experiments.systems import Scale, Variant
from samplernn_fast.experiments.tables import Table, reproduce
from samplernn_fast.experiments.voices import TwoVoices, mean_pitch
from samplernn_fast.models.config import RecurrentConfig

MOST_KEPT = 50
"""The most clips of a model and a length of silence that are kept to be heard."""
CLIP_FOLDER = "memory-clips"
"""The folder of these clips, in that of the experiments."""
FloatArray = npt.NDArray[np.float32]
_STREAMS = MOST_KEPT  # So many clips are made at once, and those that are kept are among the first of these.
_BLOCK_SECONDS = 0.5  # So much is made between two looks at ctrl-C.


_MODELS = Table("Models of two voices", (Variant("paper-3tier"), Variant("wavenet")))
"""The paper's model, and the control whose window a silence fills."""


def trained(data: Path, out: Path, budget: Budget | None, scale: Scale, device: str) -> list[tuple[str, Path]]:
    """The two models as (title, run folder), trained where they are not, each for the same budget.

    Without a budget both must be finished. Raises ConfigError where they are not.
    """
    runs = [run_folder(out, data, row.name, 0) for row in _MODELS.rows]
    if budget is None and not all(run.with_suffix(".json").is_file() for run in runs):
        raise ConfigError(f"{out} has not both models yet, so their budget must be given, by minutes or by steps")
    if budget is not None:
        reproduce(_MODELS, [data], out, budget, scale=scale, device=device)
    return [(_MODELS.label(row), run) for row, run in zip(_MODELS.rows, runs, strict=True)]


@dataclass(frozen=True)
class Settings:
    """The question that every clip answers."""

    clips: int = 100
    free_seconds: float = 2.0
    """How long each free end is; the paper has 2 s."""
    silences: tuple[float, ...] = (1.0,)
    """The lengths of the silence in seconds; the paper has 1 s."""
    temperature: float = 1.0
    seed: int = 0
    keep_clips: int = 0
    """How many of the clips of each model and each length of silence are kept to be heard; at most `MOST_KEPT`."""


@dataclass(frozen=True)
class Remembered:
    """What one model did at one length of silence."""

    model: str
    silence: float
    """How long the silence is, in seconds."""
    window_seconds: float | None
    """The receptive field of a network of fixed window; None for a recurrent one."""
    pitches: tuple[tuple[float, float], ...]
    """The mean pitch of both ends of each clip in Hz; NaN for an end without a voice."""
    ends: tuple[tuple[str | None, str | None], ...]
    """The voice of both ends of each clip; None for an end without one."""
    sample_rate: int
    sounds: FloatArray
    """The clips that are kept to be heard, (n, T) amplitudes, with the silence that was fed; n is 0 where none is."""

    @property
    def voiced(self) -> list[tuple[str, str]]:
        """The clips whose both ends have a voice."""
        return [(first, last) for first, last in self.ends if first is not None and last is not None]

    @property
    def kept(self) -> Interval:
        """The share of those that keep their voice, with Wilson's interval."""
        return wilson(sum(first == last for first, last in self.voiced), len(self.voiced))

    @property
    def chance(self) -> float:
        """The share that would keep it if the last end knew nothing of the first: from how often each end has which."""
        voiced = self.voiced
        names = {name for ends in voiced for name in ends}
        shares = [[sum(ends[end] == name for ends in voiced) / len(voiced) for name in names] for end in (0, 1)]
        return sum(first * last for first, last in zip(*shares, strict=True)) if voiced else float("nan")


def remember(model: Path, name: str, voices: TwoVoices, settings: Settings) -> Iterator[Remembered]:
    """Measures a model, a length of silence at a time. name: what it is called in tables.

    The first ends are made once: all lengths of silence go on from the same clips. Raises ConfigError for settings that
    cannot work.
    """
    if settings.clips < 1 or min(settings.silences, default=0) < 0:
        raise ConfigError(
            f"a test of memory needs clips and lengths of silence, got {settings.clips} and {settings.silences}"
        )
    if not 0 <= settings.keep_clips <= MOST_KEPT:
        raise ConfigError(f"keep_clips must be 0 to {MOST_KEPT}, got {settings.keep_clips}")
    engine = Engine(model)
    recurrent = isinstance(engine.config, RecurrentConfig)
    window = None if recurrent else engine.config.lookback / engine.config.sample_rate
    groups = [(start, min(_STREAMS, settings.clips - start)) for start in range(0, settings.clips, _STREAMS)]
    seconds = settings.clips * (settings.free_seconds * (1 + len(settings.silences)) + sum(settings.silences))
    decode = for_config(engine.config).decode
    with terminal.audio_bar(seconds, title=name) as bar:
        before = []
        for start, count in groups:
            state = engine.init_state(count, settings.seed, settings.temperature, first_stream=start)
            levels = _make(engine, state, settings.free_seconds, bar)
            before.append((state, _pitches(levels, engine)))
            if start == 0:
                begun = levels[: settings.keep_clips].copy()  # a view would keep the levels of all clips
        for silence in settings.silences:
            pairs: list[tuple[float, float]] = []
            for (start, count), (state, first) in zip(groups, before, strict=True):
                again = engine.init_state(count, settings.seed, settings.temperature, first_stream=start)
                again.load_state_dict(state.state_dict())
                quiet = _make(engine, again, silence, bar, forced=engine.config.q_zero)
                ended = _make(engine, again, settings.free_seconds, bar)
                pairs += zip(first, _pitches(ended, engine), strict=True)
                if start == 0:
                    heard = (begun, quiet[: len(begun)], ended[: len(begun)])
                    sounds = decode(np.concatenate(heard, axis=1))
            ends = tuple((voices.of(first), voices.of(last)) for first, last in pairs)
            yield Remembered(name, silence, window, tuple(pairs), ends, engine.config.sample_rate, sounds)


def _make(
    engine: Engine, state: EngineState, seconds: float, bar: terminal.Bar, forced: int = -1
) -> npt.NDArray[np.int64]:
    """The next levels of every stream, (B, n); forced: a level to feed in place of what is drawn."""
    left, parts = round(seconds * engine.config.sample_rate), []
    block = max(1, round(_BLOCK_SECONDS * engine.config.sample_rate))
    while left > 0:
        count = min(block, left)
        known = None if forced < 0 else np.full((state.num_streams, count), forced)
        parts.append(engine.run(state, count, forced=known))
        bar.advance(count * state.num_streams / engine.config.sample_rate)
        left -= count
    return np.concatenate(parts, axis=1) if parts else np.zeros((state.num_streams, 0), np.int64)


def _pitches(levels: npt.NDArray[np.int64], engine: Engine) -> list[float]:
    """The mean pitch of each stream in Hz."""
    decode = for_config(engine.config).decode
    return [mean_pitch(decode(row), engine.config.sample_rate) for row in levels]


def write(found: Sequence[Remembered], voices: TwoVoices, settings: Settings, command: str, out: Path) -> list[Path]:
    """Writes memory.md, memory.csv with a line a clip, memory.png where matplotlib is installed, and the kept clips.

    They lie in the folder memory-clips, as MODEL-SILENCEs-NUMBER.wav, and take the place of files of the same names.
    """
    text, sheet, picture = (out / f"memory{suffix}" for suffix in (".md", ".csv", ".png"))
    files.write_text(text, _markdown(found, voices, settings, command))
    files.write_text(sheet, _csv(found))
    written = [text, sheet, *_write_clips(found, out / CLIP_FOLDER)]
    try:
        from samplernn_fast.experiments.figure import draw_memory
    except ImportError:
        return written
    draw_memory(found, picture)
    return [*written, picture]


def _write_clips(found: Sequence[Remembered], folder: Path) -> list[Path]:
    """Writes the clips that are kept; returns their files."""
    written: list[Path] = []
    for one in found:
        model = re.sub(r"[^\w-]+", "-", one.model).strip("-") or "model"
        for number, sound in enumerate(one.sounds):
            file = folder / f"{model}-{one.silence:g}s-{number:02d}.wav"
            if file in written:  # two models, or two lengths, whose names differ by nothing that a file's name has
                file = file.with_stem(f"{file.stem}-{len(written)}")
            folder.mkdir(exist_ok=True)
            writing.write(file, sound, one.sample_rate, overwrite=True)
            written.append(file)
    return written


def _markdown(found: Sequence[Remembered], voices: TwoVoices, settings: Settings, command: str) -> str:
    low, high = voices.low, voices.high
    about = (
        f"{settings.clips} clips of each model, temperature {settings.temperature:g}, seed {settings.seed}:"
        f" {settings.free_seconds:g} s free, then silence is fed, then {settings.free_seconds:g} s free.\n\n"
        f"The voices are {low.name} ({low.pitch:.1f} Hz) and {high.name} ({high.pitch:.1f} Hz), told apart at"
        f" {voices.boundary:.1f} Hz by mean pitch, which names {100 * voices.accuracy():.0f} % of their own recordings"
        " rightly. A clip with an end that has no voice is counted apart. In brackets: Wilson's interval of 95 %."
        " Chance is what the voices' shares at both ends would give if the ends had nothing to do with each other. A"
        " silence shorter than a model's window is no control, and a dash means that no clip has two voiced ends, as of"
        " models that are trained too little.\n\n"
        "The paper has 83 % for SampleRNN and one second, of a 3-tier model of two speakers with ten hours each, and"
        f" 50 % for a model of fixed window.\n\nMade by `{command}`."
    )
    return f"# Memory of a voice through silence (section 3.3)\n\n{about}\n\n{results(found)}\n"


def results(found: Sequence[Remembered]) -> str:
    """The table in Markdown."""
    head = ["model", "silence", "window", "keep the voice", "chance", "voiced clips", "without a voice"]
    lines = []
    for one in found:
        window = "recurrent" if one.window_seconds is None else f"{one.window_seconds:.3g} s"
        kept, total = one.kept, len(one.voiced)
        share = f"{100 * kept.value:.0f} % [{100 * kept.low:.0f}, {100 * kept.high:.0f}]" if total else "—"
        chance = f"{100 * one.chance:.0f} %" if total else "—"
        lines.append([one.model, f"{one.silence:g} s", window, share, chance, str(total), str(len(one.ends) - total)])
    return grid(head, lines)


def _csv(found: Sequence[Remembered]) -> str:
    stream = io.StringIO()
    sheet = csv.writer(stream, lineterminator="\n")
    sheet.writerow(["model", "silence_seconds", "clip", "first_hz", "last_hz", "first_voice", "last_voice"])
    for one in found:
        for clip, (pitches, ends) in enumerate(zip(one.pitches, one.ends, strict=True)):
            hertz = ["" if np.isnan(pitch) else f"{pitch:.1f}" for pitch in pitches]
            sheet.writerow([one.model, one.silence, clip, *hertz, *(end or "" for end in ends)])
    return stream.getvalue()
