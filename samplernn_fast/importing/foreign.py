"""From another project's checkpoint to a model of ours: find the file, tell the project, read, check.

`import_checkpoint` is the public function; the `import` command calls `read_checkpoint`, which says more.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.importing import detection
from samplernn_fast.importing.parity import Parity, check_parity
from samplernn_fast.importing.projects import deepsound, prism, s4, theano
from samplernn_fast.importing.settings import given_settings
from samplernn_fast.models import checkpoint
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.models.sample_rnn import SampleRNN
from samplernn_fast.ranges import checked

_MOST_LOGITS = 1 << 22  # The parity check compares a top frame or more, in float64, twice: 64 MiB.
_READERS = {"deepsound": deepsound.read, "prism": prism.read, "s4": s4.read, "theano": theano.read}


@dataclass(frozen=True)
class Imported:
    """A model, and what the user should know about how it was made."""

    model: SampleRNN
    format: str
    """The project that wrote the checkpoint."""
    notes: list[str]
    """What was assumed, and what was read from where."""
    parity: Parity
    """How well the samplers agree with the model's own forward."""


@checked
def import_checkpoint(
    path: str | Path,
    format: str = "auto",
    config: str | Path | Mapping[str, Any] | None = None,
) -> SampleRNN:
    """Reads the model in a checkpoint of deepsound's samplernn-pytorch, PRiSM, s4 or the authors' Theano code.

    path: a file, or a folder that holds one checkpoint; for TensorFlow also a prefix.
    format: auto, deepsound, prism, s4 or theano.
    config: what the file does not hold, such as {"quantization": "mu-law", "sample_rate": 22050}, or a JSON or YAML
    file of it. Settings in files beside the checkpoint are read too. A warning says where a sample rate is assumed.

    No code in the file is run. A parity check at the end compares the model's own forward with the samplers. Raises
    CheckpointError, which names the tensor, for what does not fit, and ConfigError, which names the setting, for what
    is missing.
    """
    imported = read_checkpoint(path, format, config)
    for note in imported.notes:
        if "is assumed" in note:
            warnings.warn(f"{path}: {note}", stacklevel=2)
    return imported.model


def read_checkpoint(
    path: str | Path,
    format: str = "auto",
    config: str | Path | Mapping[str, Any] | None = None,
    quantization: str | None = None,
    sample_rate: int | None = None,
) -> Imported:
    """Does the work of `import_checkpoint`. quantization and sample_rate, where given, overrule `config`."""
    if format not in ("auto", *detection.FORMATS):
        raise ConfigError(f"format must be auto, {', '.join(detection.FORMATS)}, got {format!r}")
    settings = given_settings(config, quantization, sample_rate)
    file = detection.resolve(Path(path))
    project = detection.detect(file) if format == "auto" else format
    model_config, tensors = _READERS[project](file, settings)
    _check_size(model_config, file)
    model = SampleRNN(model_config, seed=None)
    checkpoint.fill(model, tensors, file)
    return Imported(model, project, settings.notes, check_parity(model, str(file)))


def _check_size(config: SampleRNNConfig, file: Path) -> None:
    """Raises CheckpointError for a model whose check would take more memory and time than a model is worth."""
    if config.lookback * config.q_levels > _MOST_LOGITS:
        raise CheckpointError(
            f"{file}: its top frame has {config.lookback} samples of {config.q_levels} levels; at most {_MOST_LOGITS}"
            " logits in a frame can be checked, and an import is checked"
        )
