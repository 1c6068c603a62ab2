"""A torch module of another project in this process, sampled by our engine.

`accelerate` is the public function. It converts the module's tensors as `projects` converts those of a file.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.temperature import Temperature
from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.importing.projects import deepsound, s4
from samplernn_fast.importing.settings import Settings
from samplernn_fast.models import checkpoint
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.sample_rnn import SampleRNN
from samplernn_fast.reference.limits import check_seed

_SOURCE = "accelerate"


class AcceleratedSampler:
    """Draws levels with a module's weights as they were when `accelerate` made this object.

    `engine` has everything else: states, prompts, scores, the model's config.
    """

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine, self.seed, self.next_stream = engine, check_seed(seed), 0

    def __call__(
        self,
        n_seqs: int,
        seq_len: int,
        *,
        temperature: Temperature = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        prompt: Tensor | np.ndarray | None = None,
    ) -> Tensor:
        """Draws new levels, (n_seqs, seq_len) int64 on the CPU, which follow silence or a prompt.

        n_seqs is the number of streams, and prompt holds levels (n,) for all of them or (n_seqs, n). Every call draws
        new streams, whose numbers go on from those of the call before, so the same calls after the same seed give the
        same audio. torch's global generator is not used.
        """
        state = self.engine.init_state(
            n_seqs, self.seed, temperature, top_k, top_p, prompt=prompt, first_stream=self.next_stream
        )
        levels = torch.from_numpy(self.engine.run(state, seq_len))
        self.next_stream += n_seqs
        return levels


def accelerate(
    module: nn.Module,
    *,
    quantization: str | None = None,
    sample_rate: int | None = None,
    seed: int = 0,
    backend: str = "auto",
    dtype: str = "fastest",
    device: str = "auto",
    num_streams: int = 1,
) -> AcceleratedSampler:
    """Makes a fast sampler of a SampleRNN module of deepsound's samplernn-pytorch or of state-spaces/s4.

    module: the model, or what wraps it (deepsound's Predictor, s4's Lightning module). Its tensors' names tell which it
    is, and its project is not imported. The weights are read once: later changes of them have no effect.
    quantization: for s4, linear or mu-law; the module's own attribute of that name is used where it has one.
    dtype: a numeric mode of the backend. "fastest" is the fastest mode that costs this model at most 0.005 bit a
    sample; "float32" gives the project's own levels at temperature 0. num_streams: about how many a call will make, by
    which "auto" chooses between a GPU's backends, as in `Engine`.

    Raises CheckpointError, which names the tensor, for a module that does not fit, and ConfigError for anything else
    than a module and for settings that cannot work.
    """
    model = model_of(module, quantization, sample_rate)
    return AcceleratedSampler(Engine(model, backend, dtype, device, num_streams=num_streams), seed)


def model_of(module: nn.Module, quantization: str | None = None, sample_rate: int | None = None) -> SampleRNN:
    """A model of ours with a copy of the module's weights. The errors are those of `accelerate`."""
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{_SOURCE}: must be a torch module, got {type(module).__name__}")
    if isinstance(module, AudioModel):
        raise ConfigError(f"{_SOURCE}: this is a model of samplernn_fast already, which Engine(model) plays as it is")
    tensors = {name: _plain(name, tensor) for name, tensor in module.state_dict().items()}
    given: dict[str, Any] = {"quantization": quantization, "sample_rate": sample_rate}
    settings = Settings({name: value for name, value in given.items() if value is not None}, _SOURCE)
    config, placed = _converter(tensors)(tensors, _with_attribute(settings, module), _SOURCE)
    model = SampleRNN(config, seed=None)
    checkpoint.fill(model, placed, _SOURCE)
    return model


def _plain(name: str, tensor: Any) -> Tensor:
    """A tensor of numbers in a row, on the CPU. Raises CheckpointError for any other kind."""
    if not isinstance(tensor, Tensor) or tensor.is_meta or tensor.is_quantized or tensor.layout is not torch.strided:
        raise CheckpointError(f"{_SOURCE}: tensor {name} must hold plain numbers, not be meta, quantized or sparse")
    return tensor.detach().cpu()


def _converter(tensors: Mapping[str, Tensor]) -> Any:
    """The function that converts the state dict of the project that these tensors are from."""
    return deepsound.convert if deepsound.keeps_h0(tensors) else s4.convert


def _with_attribute(settings: Settings, module: nn.Module) -> Settings:
    """The settings, with the quantization that a module of s4 names in an attribute."""
    for part in module.modules():
        kind = getattr(part, "quantization", None)
        if hasattr(part, "frame_level_rnns") and isinstance(kind, str):
            settings.add_beside({"quantization": kind}, "the module")
            break
    return settings
