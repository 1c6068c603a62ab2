"""What a run keeps for the ear: several of its models to choose from, and pieces of sound.

Files in models/ bear the step and the bits of the validation (`models.places.kept_models` reads them), so that the
folder itself says which are kept, and a run that goes on keeps those that it would have kept.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from samplernn_fast.audio.quantize import for_config
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import CheckpointError
from samplernn_fast.evaluation.likelihood import Stopped
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.places import MODELS_FOLDER, Kept, kept_models
from samplernn_fast.models.stored.header import read_header
from samplernn_fast.training.config import TrainConfig
from samplernn_fast.untrusted import Fields, Unreadable

EARLY_SOUNDS = (100, 200, 500, 1000)
"""Updates after which there is a sound before the first of `sample_every`: early ones say most."""
EARLY_SHARE = 0.05
"""The most of a run's time that the early sounds may take; where one takes longer, the next ones are left out."""

AUDITION_MODELS = 12
"""How many models `audition` keeps at most: as many as somebody compares by ear in one sitting."""
AUDITION_FIRST, AUDITION_RATIO = 100, 2**0.25
"""The update after which the first of them is kept, and how many times later the next one is. With twelve of a longer
run, neighbours are further apart."""


def next_sound(config: TrainConfig, step: int) -> int | None:
    """The first step behind `step` after which a sound is due; None where none is wanted."""
    every = config.sample_every
    if not every:
        return None
    early = [one for one in EARLY_SOUNDS if step < one < every]
    return min([*early, (step // every + 1) * every])


def make_sound(model: AudioModel, seed: int, seconds: float, should_stop: Callable[[], bool]) -> np.ndarray:
    """Audio (T,) of a model, always by the same seed. Raises Stopped as soon as `should_stop` says so."""
    engine = Engine(model, device="cpu")
    state = engine.init_state(1, seed=seed)
    left = max(1, int(seconds * engine.config.sample_rate))
    parts = []
    while left:
        if should_stop():
            raise Stopped
        parts.append(engine.run(state, min(left, engine.pace.samples(1))))
        left -= parts[-1].shape[1]
    return for_config(engine.config).decode(np.concatenate(parts, axis=1)[0])


def is_due(config: TrainConfig, step: int) -> bool:
    """Whether the model of this step is kept whatever its bits are."""
    regular = bool(config.keep_every) and step % config.keep_every == 0
    return regular or (config.audition and step in _candidates(step))


def spread(step: int) -> list[int]:
    """The updates up to `step` whose models `audition` keeps then, evenly in the logarithm of the steps.

    They depend on nothing but the step, so a run that goes on keeps what one keeps that was not stopped.
    """
    kept: list[int] = []
    for one in _candidates(step):
        kept.append(one)
        if len(kept) > AUDITION_MODELS:
            # The first and the newest stay; of the others the one goes that lies closest between its neighbours.
            gaps = [math.log(after / before) for before, after in zip(kept, kept[2:], strict=False)]
            del kept[1 + gaps.index(min(gaps))]
    return kept


def _candidates(step: int) -> Iterator[int]:
    """The updates up to `step` at which `audition` may keep a model; they are growing."""
    number = 0
    while (one := round(AUDITION_FIRST * AUDITION_RATIO**number)) <= step:
        yield one
        number += 1


class Keeper:
    """Keeps the `keep` best models of a run, the model of every `keep_every`-th update, and those of `audition`.

    Only a model that falls out of the best, or out of those of `audition`, is removed, so what an earlier command kept
    by a larger `keep` stays when the run goes on. What it kept by `keep_every` or `audition` stays too: every model
    tells with which settings it was made.
    """

    def __init__(self, config: TrainConfig, start_step: int) -> None:
        """Removes models of steps after `start_step`, which the run makes again."""
        self._config, self._run, self._keep = config, config.out, config.keep
        for one in kept_models(self._run):
            if one.step > start_step:
                one.path.unlink(missing_ok=True)

    def add(self, step: int, bits: float | None, save: Callable[[Path], object]) -> None:
        """Keeps a model, which `save` writes to a file, if it is due or one of the best; drops what is no more."""
        number = "" if bits is None else f"-{bits:.3f}"
        rounded = None if bits is None else float(number[1:])  # what the names of the others have, too
        new = Kept(self._run / MODELS_FOLDER / f"step-{step:06d}{number}.safetensors", step, rounded)
        others = [one for one in kept_models(self._run) if one.step != step]
        before, best = self._best(others), self._best([*others, new])
        if new in best or is_due(self._config, step):
            save(new.path)
        auditioned = spread(step) if self._config.audition else []
        passed = set(_candidates(step)).difference(auditioned) if self._config.audition else set()
        for one in others:
            if one in best or one.step in auditioned or not (one in before or one.step in passed):
                continue
            if not self._stays(one, one in before):
                one.path.unlink(missing_ok=True)

    def _best(self, models: list[Kept]) -> list[Kept]:
        scored = [one for one in models if one.bits is not None]
        return sorted(scored, key=lambda one: (one.bits, one.step))[: self._keep]

    def _stays(self, one: Kept, was_best: bool) -> bool:
        """Whether a model that is not among the best, and not among those of `audition`, stays all the same: it is due,
        or was kept by a setting of the command that made it. was_best: whether it was among the best until now."""
        if self._config.keep_every and one.step % self._config.keep_every == 0:
            return True
        try:
            training = Fields(read_header(one.path), "its header").fields("info").fields("training")
            every = training.integer("keep_every", 0, 10**9)
            audition = training.has("audition") and training.value("audition") is True
        except (CheckpointError, Unreadable):
            return True  # a file that does not say is kept
        if every and one.step % every == 0:
            return True
        by_audition = audition and one.step in _candidates(one.step)
        return not (by_audition or was_best) if self._config.audition else by_audition
