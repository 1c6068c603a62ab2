"""What a run keeps for the ear: several of its models to choose from, and pieces of sound.

Files in models/ bear the step and the bits of the validation (`models.places.kept_models` reads them), so that the
folder itself says which are kept, and a run that goes on keeps those that it would have kept.
"""

from collections.abc import Callable
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
    return bool(config.keep_every) and step % config.keep_every == 0


class Keeper:
    """Keeps the `keep` best models of a run, and the model of every `keep_every`-th update.

    Only a model that falls out of the best is removed, so what an earlier command kept by a larger `keep` stays when
    the run goes on. What it kept by `keep_every` stays too: every model tells with which settings it was made.
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
        for one in before:
            if one not in best and not is_due(self._config, one.step) and not _was_due(one):
                one.path.unlink(missing_ok=True)

    def _best(self, models: list[Kept]) -> list[Kept]:
        scored = [one for one in models if one.bits is not None]
        return sorted(scored, key=lambda one: (one.bits, one.step))[: self._keep]


def _was_due(one: Kept) -> bool:
    """Whether a model was kept by the `keep_every` of the command that made it. A file that does not say is kept."""
    try:
        info = Fields(read_header(one.path), "its header").fields("info")
        every = info.fields("training").integer("keep_every", 0, 10**9)
    except (CheckpointError, Unreadable):
        return True
    return bool(every) and one.step % every == 0
