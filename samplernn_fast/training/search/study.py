"""Random search over settings (Bergstra and Bengio 2012), with which the paper chose its hyper-parameters (section 3).

A search is a folder: search.db is a study of Optuna's with all trials, drawn when the search begins, and trial-0000,
trial-0001, ... hold their runs. Any number of processes take trials from it; one that was killed in the middle of a
trial leaves it to the next, which goes on exactly.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samplernn_fast import files, terminal
from samplernn_fast.data.folder import AudioData
from samplernn_fast.errors import ConfigError, DataError, Interrupted, SampleRNNError
from samplernn_fast.evaluation.likelihood import evaluate
from samplernn_fast.models.checkpoint import load_model
from samplernn_fast.training.config import TrainConfig
from samplernn_fast.training.run_log import Watch
from samplernn_fast.training.search.spans import Span
from samplernn_fast.training.trainer import train

STUDY_FILE = "search.db"
_NAME = "search"
_SPACE = "space"  # the attribute of the study that says what is searched; one, so that it is there whole or not at all
_NOT_STOPPED = 4  # So many trials must be finished before one can be hopeless.
_FIRST_TENTH = 2  # A trial can be hopeless from this tenth of its budget on.


@dataclass(frozen=True)
class Space:
    """What is searched."""

    spans: tuple[Span, ...]
    configure: Callable[[Sequence[str], Path], TrainConfig]
    """The settings of a run from its flags and its folder; raises ConfigError where they cannot work."""
    about: str
    """All that makes trials compare: the preset, the budget, and the flags that are the same for all."""
    stop_hopeless: bool = False
    """Whether a trial ends early that is worse at a tenth of its budget than half of the trials were there."""

    def flags(self, trial: Any) -> list[str]:
        """What a trial sets, as flags."""
        return [word for span in self.spans for word in span.flag(trial)]


@dataclass(frozen=True)
class Trial:
    """A trial that is finished."""

    number: int
    flags: tuple[str, ...]
    bits: float | None
    """What the best model of its run has on the whole validation split; None where it failed or was stopped early."""
    reason: str = ""
    """Why it failed, or where it was stopped."""
    steps: int | None = None
    """How many updates its run made; None where it failed."""
    values: Mapping[str, float | str] = field(default_factory=dict)
    """Name of a setting -> what it was, numbers as such and choices as the words of a flag."""


def search(out: Path, space: Space, trials: int, seed: int = 0, progress: bool = True) -> list[Trial]:
    """Makes trials until there are as many, and returns those that are finished, the best first.

    The same call goes on after a crash, also with more trials, and several processes may make it at once. A trial whose
    settings cannot work, or whose loss is no number any more, fails and says why; the search goes on. Raises
    ConfigError where the folder has a search of another space, DataError for data that cannot be read, and Interrupted
    for a signal.
    """
    other = files.something_else(out, (STUDY_FILE,))
    if other is not None:
        raise ConfigError(f"{out} holds something else than a search ({other}); out must be new, empty, or a search's")
    out.mkdir(parents=True, exist_ok=True)
    with files.held(out, wait=True):
        study = _study(out, space, seed)
        _enqueue(study, space, trials, seed)
    while True:
        with ExitStack() as stack:
            with files.held(out, wait=True):
                trial = _take(study, out, trials, stack)
            if trial is None:
                break
            if progress:
                terminal.say(f"trial {trial.number + 1} of {trials}: {' '.join(space.flags(trial))}")
            _finish(study, trial, space, out, progress)
    return finished(study, space)


def _study(out: Path, space: Space, seed: int) -> Any:
    """The study in a folder, which is made where there is none. Raises ConfigError where it is of another space."""
    optuna = _optuna()
    file = out / STUDY_FILE
    try:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=_NOT_STOPPED, n_warmup_steps=_FIRST_TENTH)
        study = optuna.create_study(storage=_address(file), study_name=_NAME, load_if_exists=True, pruner=pruner)
    except Exception as error:  # SQLAlchemy raises many kinds for a file that is none of its own
        raise DataError(f"{file}: cannot be read as a search: {str(error).splitlines()[0][:200]}") from None
    wanted = {"spans": [repr(span) for span in space.spans], "about": space.about, "seed": seed}
    if _SPACE not in study.user_attrs:
        study.set_user_attr(_SPACE, wanted)
    known = study.user_attrs[_SPACE]
    for name, words in (("seed", "of another seed"), ("spans", "of other ranges"), ("about", "with other flags")):
        if known.get(name) != wanted[name]:
            raise ConfigError(f"{out} holds a search {words}; use the same, or another folder")
    return study


def _address(file: Path) -> str:
    """The address of a database file, whatever characters its name has."""
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(file.absolute())).render_as_string()


def _optuna() -> Any:
    """Optuna, quiet. Raises ConfigError, which says what to install, where there is none."""
    try:
        import optuna
    except ImportError:
        raise ConfigError("optuna keeps the trials of a search and is not installed: pip install optuna") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _enqueue(study: Any, space: Space, trials: int, seed: int) -> None:
    """Draws trials until there are as many. The n-th is the same in every search of this space and seed."""
    optuna = _optuna()
    there = len(study.get_trials(deepcopy=False))
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for number in range(trials):
        one = drawn.ask()
        space.flags(one)
        if number >= there:
            study.enqueue_trial(one.params)


def _take(study: Any, out: Path, trials: int, stack: ExitStack) -> Any:
    """One of the first `trials` that nobody works on, whose folder `stack` holds from now on; None where none is left.

    One that a process left when it was killed comes first: its folder is not held. Whoever finishes a trial lets go of
    its folder afterwards, so its state is read once more when the folder is held.
    """
    optuna = _optuna()
    states = optuna.trial.TrialState
    for known in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
        if known.number >= trials:
            continue
        with ExitStack() as mine:
            try:
                mine.enter_context(files.held(_folder(out, known.number)))
            except BlockingIOError:
                continue
            if study.get_trials(deepcopy=False)[known.number].state == states.RUNNING:
                stack.enter_context(mine.pop_all())
                return optuna.trial.Trial(study, known._trial_id)
    waiting = study.get_trials(deepcopy=False, states=(states.WAITING,))
    if not waiting or waiting[0].number >= trials:
        return None
    trial = study.ask()  # the first that waits: nobody else asks while the search's folder is held
    stack.enter_context(files.held(_folder(out, trial.number)))
    return trial


def _folder(out: Path, number: int) -> Path:
    """The folder of a trial, which is made where it is missing."""
    folder = out / f"trial-{number:04d}"
    folder.mkdir(exist_ok=True)
    return folder


def _finish(study: Any, trial: Any, space: Space, out: Path, progress: bool) -> None:
    """Trains a trial to the end of its budget, scores it, and tells the study."""
    states = _optuna().trial.TrialState
    try:
        config = space.configure(space.flags(trial), _folder(out, trial.number) / "run")
        ended = train(config, progress=progress, watch=_watch(trial, config) if space.stop_hopeless else None)
        if ended.stopped == "signal":
            raise Interrupted("the trial is saved; the same command goes on from here", ended.signal)
        trial.set_user_attr("steps", ended.steps)
        if ended.stopped == "watch":
            trial.set_user_attr("reason", f"was hopeless after {ended.steps} steps, at {ended.valid_bits:.3f} bits")
            study.tell(trial.number, state=states.PRUNED)
            return
        bits = evaluate(load_model(config.out), AudioData.open(config.data), "valid", device=config.device).nll_bits
    except Interrupted:
        raise
    except (DataError, OSError):  # The data or the disk fails, so no other trial would do better.
        raise
    except SampleRNNError as error:
        trial.set_user_attr("reason", str(error))
        study.tell(trial.number, state=states.FAIL)
        terminal.say(f"trial {trial.number + 1} failed: {error}")
    else:
        study.tell(trial.number, bits)


def _watch(trial: Any, config: TrainConfig) -> Watch:
    """Tells Optuna of the first validation in each tenth of a trial's budget, and ends the trial where it is hopeless.

    Tenths compare trials of any speed: in the same minutes a large network makes fewer steps than a small one.
    """
    told: set[int] = set()

    def watch(step: int, seconds: float, bits: float) -> bool:
        share = step / config.max_steps if config.max_steps else seconds / (60 * (config.max_minutes or 1))
        tenth = int(10 * share)
        if tenth in told or share >= 1:
            return False
        told.add(tenth)
        trial.report(bits, tenth)
        return bool(trial.should_prune())

    return watch


def finished(study: Any, space: Space) -> list[Trial]:
    """The trials that are finished, the best first and those that failed last."""
    optuna = _optuna()
    state = optuna.trial.TrialState
    states = (state.COMPLETE, state.FAIL, state.PRUNED)
    found = []
    for one in study.get_trials(deepcopy=False, states=states):
        fixed = optuna.trial.FixedTrial(one.params)
        bits = one.value if one.state == state.COMPLETE else None
        told = one.user_attrs
        flags, reason, steps = tuple(space.flags(fixed)), told.get("reason", ""), told.get("steps")
        found.append(Trial(one.number, flags, bits, reason, steps, dict(one.params)))
    return sorted(found, key=lambda trial: (trial.bits is None, trial.bits or 0.0, trial.number))
