"""Where a run starts: the folder that it may take, and the model that it starts from.

`check_folder` keeps a run out of folders that hold something else. `read_source` reads the model that `init_from`
names, and `fit` gives a run's settings the model, sample rate and gain with which it trains. torch is loaded by the
functions that read models, so that the command can refuse a folder or data before that.
"""

import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplernn_fast import terminal
from samplernn_fast.data.batches import check_frames, some_recordings
from samplernn_fast.data.folder import AudioData
from samplernn_fast.errors import CheckpointError, ConfigError, DataError
from samplernn_fast.files import held
from samplernn_fast.models import places
from samplernn_fast.models.config import AudioConfig, SampleRNNConfig, SparseSampleRNNConfig
from samplernn_fast.models.other_configs import MixtureConfig, RealInputConfig
from samplernn_fast.models.sparse.blocks import block_share
from samplernn_fast.models.stored.arrays import describe
from samplernn_fast.models.stored.header import config_in, read_header
from samplernn_fast.stores import running
from samplernn_fast.stores.addresses import path_of, spelled
from samplernn_fast.training.config import TrainConfig, check_fit, default_model, fit_to_data
from samplernn_fast.untrusted import Fields, Unreadable, read_json

if TYPE_CHECKING:
    import torch

    from samplernn_fast.models.base import AudioModel
    from samplernn_fast.models.sparse.teacher import Teacher
    from samplernn_fast.training.resuming import Saved


_LOOK_AGAIN = 0.1  # seconds between two looks whether a folder is free
CAN_BE_SPARSE = (SampleRNNConfig, RealInputConfig, SparseSampleRNNConfig)
"""The configs of models whose folded matrices can be pruned."""


@dataclass(frozen=True)
class Source:
    """The model that a run starts from."""

    name: str
    """As the settings name it."""
    model: "AudioModel"
    """On the CPU."""

    def state_dict(self, config: AudioConfig) -> dict[str, Any]:
        """Its weights for a model of `config`: its own, or folded where that is sparse and this model is not.

        Raises ConfigError where that is to have more blocks than this model has.
        """
        own = self.model.config
        if isinstance(config, SparseSampleRNNConfig) and isinstance(own, SparseSampleRNNConfig):
            if config.density > own.density:
                raise ConfigError(
                    f"density must be at most {own.density}, which the model of {self.name} has, got {config.density}"
                )
        elif isinstance(config, SparseSampleRNNConfig):
            return self._folded(config)
        return self.model.state_dict()

    def _folded(self, config: SparseSampleRNNConfig) -> dict[str, Any]:
        """The weights of a sparse model that computes what this dense one does."""
        import torch

        from samplernn_fast.models.registry import require_packed
        from samplernn_fast.models.stored.parameters import parameters
        from samplernn_fast.reference.weights import pack

        folded = pack(require_packed(self.model))
        return {name: torch.from_numpy(folded[name]) for name in parameters(config)}

    def provenance(self) -> dict[str, Any]:
        """What the run remembers of it, for JSON: the file, the model's hash, and how dense a sparse model is."""
        from samplernn_fast.models import checkpoint

        own, file = self.model.config, places.model_file(self.name)
        known = {"file": str(file), "model_sha256": checkpoint.model_sha256(self.model)}
        if not isinstance(own, SparseSampleRNNConfig):
            return known
        # A model whose pruning ended early has more blocks than its density says.
        left = block_share(own, checkpoint.arrays_of(self.model).arrays)
        return known | {"density": max(own.density, left)}


def read_source(name: str) -> Source:
    """The model of a run folder, of a .safetensors file, or the bundled "demo". Raises CheckpointError."""
    from samplernn_fast.models import checkpoint

    return Source(name, checkpoint.load_model(name))


def teacher_of(
    config: TrainConfig, source: Source | None, saved: "Saved | None", device: "torch.device"
) -> "Teacher | None":
    """The dense model that a sparse one starts from, where it learns from that; a run that goes on has a copy of it.

    Raises CheckpointError where it is gone from there, or is not the one that the run began with.
    """
    origin = source.provenance() if source is not None else saved.initialized_from if saved is not None else None
    sparse = isinstance(config.model if saved is None else saved.model, SparseSampleRNNConfig)
    if not (sparse and config.distill) or origin is None or "density" in origin:
        return None
    from samplernn_fast.models import checkpoint
    from samplernn_fast.models.sparse.teacher import Teacher

    if source is not None:
        return Teacher(source.model, device)
    assert saved is not None
    file = saved.source.with_name(places.TEACHER_FILE)
    if not file.is_file():
        raise CheckpointError(f"{file} is gone, and the run learns from it; put a copy of {origin.get('file')} there")
    model = checkpoint.load_model(file)
    if checkpoint.model_sha256(model) != origin.get("model_sha256"):
        raise CheckpointError(
            f"{file} is not the model that the run learns from; put a copy of {origin.get('file')} there"
        )
    return Teacher(model, device)


def model_to_start_from(config: TrainConfig) -> AudioConfig:
    """The settings of the model that `config.init_from` names, or of the run in `config.out` that started from it.

    A run that goes on does not need its source again. No weights are read. Raises CheckpointError.
    """
    from samplernn_fast.training import resuming

    begun = resuming.model_begun(config)
    if begun is not None:
        return begun
    assert config.init_from is not None
    file = places.model_file(config.init_from)
    return config_in(read_header(file), file)


def check_preset(name: str, preset: AudioConfig, known: AudioConfig, source: str) -> None:
    """Raises ConfigError where the preset `name` means another network than `known`, the model of `source`.

    A run that starts from a model keeps its architecture, so a preset gives such a run the settings of training. Sizes
    and what every preset of a system has may differ. What makes a preset another network may not: its system, whether
    it embeds levels, and each choice that it makes against the defaults of its system, as `dadabots` its LSTM.
    """
    pairs: list[tuple[str, Any, Any]] = [("system", preset.system, known.system)]
    if type(preset) is type(known):
        wanted, found, usual = preset.to_dict(), known.to_dict(), type(preset)().to_dict()
        pairs += [
            (key, value, found[key])
            for key, value in wanted.items()
            if isinstance(value, (str, bool)) and value != usual[key] and key != "quantization"
        ]
        size, other = wanted.get("emb_size"), found.get("emb_size")
        pairs += [("emb_size", size, other)] if bool(size) != bool(other) else []
    for key, value, there in pairs:
        if value != there:
            raise ConfigError(
                f"the preset {name} trains a model of {key} = {value}, and that of {source} has {there}, which it would"
                f" keep; leave {name} out, or init_from"
            )


def fit(config: TrainConfig, data: AudioData, known: AudioConfig | None) -> TrainConfig:
    """The settings with the model that is trained. known: the model that the run goes on with, or starts from.

    Its gain is kept, and audio that was prepared with another one is brought to its loudness. Raises ConfigError where
    settings contradict the model of `init_from`, and DataError where the data has another sample rate.
    """
    model = config.model
    if config.init_from is not None and known is not None:
        if isinstance(model, SparseSampleRNNConfig):
            known = sparse_config(known, model.density, config.init_from)
            if model == SparseSampleRNNConfig(sample_rate=0, gain=0.0, density=model.density):
                model = known  # nothing but the density was said
        model = known if model == default_model() else _same_model(model, known, config.init_from)
    return replace(config, model=fit_to_data(model, data, known))


def sparse_config(known: AudioConfig, density: float, name: str) -> SparseSampleRNNConfig:
    """The config of the sparse model that is made of `known`, the model `name`. Raises ConfigError where none is."""
    if not isinstance(known, CAN_BE_SPARSE):
        raise ConfigError(f"only SampleRNN can be made sparse, and the model of {name} is of the system {known.system}")
    return SparseSampleRNNConfig.of(known, density)


def _same_model(model: AudioConfig, known: AudioConfig, name: str) -> AudioConfig:
    """`known`. Raises ConfigError where `model` has a setting that differs."""
    model = replace(model, sample_rate=model.sample_rate or known.sample_rate, gain=known.gain)
    if isinstance(model, MixtureConfig) and isinstance(known, MixtureConfig) and not model.std:
        model = replace(model, mean=known.mean, std=known.std)
    wanted = model.to_dict()
    for setting, value in known.to_dict().items():
        if wanted.get(setting) != value:
            raise ConfigError(
                f"the model of {name} has {setting} = {value}, this run says {wanted.get(setting)}; a run that starts"
                f" from a model keeps its settings, so leave {setting} out"
            )
    return known


def check_early(config: TrainConfig) -> None:
    """What can be refused before torch is loaded: the folder, and data that is missing, damaged, or at another rate or
    gain than the model of the settings. Raises ConfigError and DataError; a run checks all of it once more.
    """
    running.bring(config.out, places.MARKS, first=os.environ.get("RANK", "0") == "0")
    check_folder(config)
    data = AudioData.open(config.data)
    some_recordings(data, "train")
    if config.init_from is not None:  # which says what else has to fit
        return
    check_frames(config.model, config.seq_len)
    if not (config.out / places.LAST_FILE).is_file():  # a run that goes on has words of its own for other data
        check_fit(config.model, data)


def check_folder(config: TrainConfig) -> None:
    """Raises ConfigError where `config.out` is neither new, nor an empty folder, nor a run's own."""
    folder = config.out
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"out must be a folder, and {folder} is none")
    if not folder.is_dir() or (folder / places.LAST_FILE).is_file():
        return
    names = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
    if not names or (names <= places.RUN_FILES and _is_run_config(folder / places.CONFIG_FILE)):
        return
    if places.MODEL_FILE in names:
        raise ConfigError(
            f"{folder} holds a model that is no run to go on with, and nothing is overwritten; to train on from it:"
            f" {command(config, init_from=str(folder))}"
        )
    foreign = min(names - places.RUN_FILES, default=min(names))
    raise ConfigError(
        f"{folder} holds something else than a run ({foreign}); out must be a new folder, an empty one, or that of the"
        " run to go on with"
    )


@contextmanager
def alone_in(folder: Path, rank: int) -> Iterator[None]:
    """Around a run in `folder`, which is made where it is missing. Only the process of rank 0 does anything.

    Raises ConfigError where another run is in the folder: each would remove and overwrite what the other writes.
    """
    with ExitStack() as stack:
        if rank == 0:
            refusal = ConfigError(f"{folder} is being trained in by another process; wait for it, or stop it")
            try:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(held(folder, refusal=refusal))
            except OSError as error:
                raise CheckpointError(f"{folder}: the run folder cannot be made: {error.strerror}") from None
        yield


def wait_for_earlier(
    folder: Path, rank: int, restarts: int, should_stop: Callable[[], bool], *, shown: bool = True, seconds: float = 120
) -> None:
    """Where torchrun has started a run again, waits until its first process of before has left `folder`, but no longer
    than so many seconds, or until `should_stop` says so. Only the process of rank 0 does anything.

    On one machine nobody is there any more. The file system of several may hold a folder for one that is gone.
    """
    if rank:
        return
    if shown:
        terminal.say(f"torchrun has started this run again (restart {restarts})")
    deadline = time.monotonic() + seconds
    while folder.is_dir() and time.monotonic() < deadline and not should_stop():
        with suppress(BlockingIOError), held(folder):
            return
        time.sleep(_LOOK_AGAIN)


def check_unsaved(config: TrainConfig) -> None:
    """Raises ConfigError where the folder has a model, but no checkpoint to go on from, and is not this very run.

    A run can be killed between its first validation, which keeps models, and its first checkpoint. Only such models
    may be replaced.
    """
    from samplernn_fast.training import keeping, resuming

    if (config.out / places.LAST_FILE).is_file():
        return
    file = config.out / places.MODEL_FILE
    later = [one.path for one in keeping.kept_models(config.out) if one.step > config.save_every]
    if later and not file.is_file():
        raise _finished_model(config, later[-1])
    if not file.is_file():
        return
    try:
        info = Fields(describe(file)["info"], "its header")
        save_every = info.fields("training").integer("save_every", 1, 2**53)
        info.integer("step", 1, save_every)
    except Unreadable:  # made by something else than a run, or saved later than a first checkpoint would have been
        pass
    else:
        resuming.check_same_run(config, info.mapping("training"), file)
        return
    raise _finished_model(config, config.out)


def _finished_model(config: TrainConfig, model: Path) -> ConfigError:
    return ConfigError(
        f"{config.out} holds a finished model without a {places.LAST_FILE} to go on from, and nothing is"
        f" overwritten; to train on from it: {command(config, init_from=str(model))}"
    )


def other_data(config: TrainConfig) -> DataError:
    """The error for a run whose data changed: it cannot go on exactly, and the message says what can be done."""
    return DataError(
        f"{config.data}: the data differs from what {config.out} was trained on, so this run cannot go on; start a new"
        f" one from its model, which keeps its gain: {command(config, init_from=str(config.out))}"
    )


def command(config: TrainConfig, *, init_from: str) -> str:
    """The command that starts a run from a model, in a folder that does not exist yet."""
    named = path_of(spelled(config.out))  # the address, where the folder stands for one
    out, number = named, 2
    while out.exists() or (number == 2 and config.out.exists()):
        out, number = named.with_name(f"{named.name}-{number}"), number + 1
    parts = ["samplernn-fast", "train", "--init-from", init_from, "--data", str(config.data), "--out", str(out)]
    return shlex.join(parts)


def _is_run_config(path: Path) -> bool:
    try:
        values = read_json(path)
    except Unreadable:
        return False
    return isinstance(values, dict) and {"data", "out", "model", "batch_size"} <= set(values)
