"""SampleRNN (ICLR 2017): training and fast generation of audio, one sample at a time.

The names below are loaded on first use, so that `import samplernn_fast` stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from samplernn_fast._version import __version__ as __version__
from samplernn_fast.errors import needing_torch as needing_torch

if TYPE_CHECKING:  # what editors and type checkers see; a test compares it with _HOME
    from samplernn_fast import compat as compat
    from samplernn_fast import ops as ops
    from samplernn_fast.api import generate as generate
    from samplernn_fast.api import load as load
    from samplernn_fast.api import stream as stream
    from samplernn_fast.audio.takes import Audio as Audio
    from samplernn_fast.data.preparation import prepare as prepare
    from samplernn_fast.engine.engine import Engine as Engine
    from samplernn_fast.engine.state import EngineState as EngineState
    from samplernn_fast.errors import AudioError as AudioError
    from samplernn_fast.errors import BackendUnavailable as BackendUnavailable
    from samplernn_fast.errors import CheckpointError as CheckpointError
    from samplernn_fast.errors import ConfigError as ConfigError
    from samplernn_fast.errors import DataError as DataError
    from samplernn_fast.errors import DiskFull as DiskFull
    from samplernn_fast.errors import MissingPackage as MissingPackage
    from samplernn_fast.errors import SampleRNNError as SampleRNNError
    from samplernn_fast.errors import StoreError as StoreError
    from samplernn_fast.evaluation.clips.judging import JudgedClip as JudgedClip
    from samplernn_fast.evaluation.clips.measures import ClipMeasures as ClipMeasures
    from samplernn_fast.evaluation.clips.measures import measure_clip as measure_clip
    from samplernn_fast.evaluation.clips.ranking import rank_clips as rank_clips
    from samplernn_fast.evaluation.likelihood import EvalResult as EvalResult
    from samplernn_fast.evaluation.likelihood import evaluate as evaluate
    from samplernn_fast.importing.foreign import import_checkpoint as import_checkpoint
    from samplernn_fast.importing.live import accelerate as accelerate
    from samplernn_fast.models.config import OneTierConfig as OneTierConfig
    from samplernn_fast.models.config import SampleRNNConfig as SampleRNNConfig
    from samplernn_fast.models.config import SparseSampleRNNConfig as SparseSampleRNNConfig
    from samplernn_fast.models.other_configs import HybridRNNWaveNetConfig as HybridRNNWaveNetConfig
    from samplernn_fast.models.other_configs import HybridWaveNetConfig as HybridWaveNetConfig
    from samplernn_fast.models.other_configs import MultiSoftmaxConfig as MultiSoftmaxConfig
    from samplernn_fast.models.other_configs import RealInputConfig as RealInputConfig
    from samplernn_fast.models.other_configs import RNNGMMConfig as RNNGMMConfig
    from samplernn_fast.models.other_configs import SampleRNNGMMConfig as SampleRNNGMMConfig
    from samplernn_fast.models.other_configs import WaveNetConfig as WaveNetConfig
    from samplernn_fast.models.sample_rnn import SampleRNN as SampleRNN
    from samplernn_fast.publishing.repository import from_pretrained as from_pretrained
    from samplernn_fast.publishing.repository import push_to_hub as push_to_hub
    from samplernn_fast.publishing.repository import save_pretrained as save_pretrained
    from samplernn_fast.training.config import TrainConfig as TrainConfig
    from samplernn_fast.training.run_log import TrainResult as TrainResult
    from samplernn_fast.training.trainer import train as train

# Public name -> module. No module may carry a public name: importing a submodule sets it as an attribute
# of the package, and `samplernn_fast.train` would then be a module or a function, by who came first.
_HOME = {
    "generate": "api",
    "stream": "api",
    "load": "api",
    "Audio": "audio.takes",
    "prepare": "data.preparation",
    "train": "training.trainer",
    "TrainResult": "training.run_log",
    "evaluate": "evaluation.likelihood",
    "EvalResult": "evaluation.likelihood",
    "measure_clip": "evaluation.clips.measures",
    "ClipMeasures": "evaluation.clips.measures",
    "JudgedClip": "evaluation.clips.judging",
    "rank_clips": "evaluation.clips.ranking",
    "import_checkpoint": "importing.foreign",
    "accelerate": "importing.live",
    "from_pretrained": "publishing.repository",
    "save_pretrained": "publishing.repository",
    "push_to_hub": "publishing.repository",
    "SampleRNN": "models.sample_rnn",
    "SampleRNNConfig": "models.config",
    "SparseSampleRNNConfig": "models.config",
    "OneTierConfig": "models.config",
    "RealInputConfig": "models.other_configs",
    "MultiSoftmaxConfig": "models.other_configs",
    "SampleRNNGMMConfig": "models.other_configs",
    "RNNGMMConfig": "models.other_configs",
    "WaveNetConfig": "models.other_configs",
    "HybridWaveNetConfig": "models.other_configs",
    "HybridRNNWaveNetConfig": "models.other_configs",
    "TrainConfig": "training.config",
    "Engine": "engine.engine",
    "EngineState": "engine.state",
    "SampleRNNError": "errors",
    "ConfigError": "errors",
    "AudioError": "errors",
    "DataError": "errors",
    "CheckpointError": "errors",
    "BackendUnavailable": "errors",
    "DiskFull": "errors",
    "StoreError": "errors",
    "MissingPackage": "errors",
}

_MODULES = ("compat", "ops")

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> object:
    if name not in _HOME and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needing_torch(f"{__name__}.{name}"):
        module = import_module(f"{__name__}.{_HOME.get(name, name)}")
    if name in _MODULES:  # importing one sets the attribute
        return module
    value = getattr(module, name)
    globals()[name] = value  # the next access finds it without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_MODULES})
