"""The one list of dangerous model shapes that every path is tested on."""

from typing import Any, overload

import torch

from samplernn_fast.models.config import OneTierConfig, PackedConfig, SampleRNNConfig
from samplernn_fast.models.other_configs import MultiSoftmaxConfig, RealInputConfig
from samplernn_fast.models.registry import PackedModel, build_model, require_packed
from samplernn_fast.models.sample_rnn import SampleRNN

_SMALL = {"dim": 32, "emb_size": 16, "q_levels": 64}

CASES: dict[str, SampleRNNConfig] = {
    "paper-3tier": SampleRNNConfig(**_SMALL),
    "paper-2tier": SampleRNNConfig(**_SMALL | {"frame_sizes": (16, 16), "n_rnn": 3}),
    "four-tiers": SampleRNNConfig(**_SMALL | {"frame_sizes": (2, 2, 8, 16)}),
    "deepsound": SampleRNNConfig(
        **_SMALL | {"frame_sizes": (16, 16, 64), "emb_size": 64, "mlp_hidden": 1, "mlp_input_relu": True, "n_rnn": 2},
        weight_norm="linear",
        upsample_norm_axis="input",
        top_input_linear=True,
        frame_input="code-half",
    ),
    "s4": SampleRNNConfig(
        **_SMALL | {"q_levels": 256, "mlp_hidden": 1, "mlp_input_relu": True, "frame_sizes": (8, 8, 16)},
        quantization="mu-law-s4",
        weight_norm="linear",
        top_input_linear=True,
        frame_input="amplitude",
    ),
    "prism-skips": SampleRNNConfig(
        **_SMALL | {"frame_sizes": (4, 4, 8), "n_rnn": 3},
        skip="prism",
        weight_norm="none",
        top_input_linear=True,
        upsample_bias=False,
        learn_h0=False,
        quantization="linear-prism",
    ),
    "theano-gru-odd-levels": SampleRNNConfig(
        **_SMALL | {"q_levels": 51, "frame_sizes": (4, 4), "n_rnn": 2},
        reset_after=False,
        quantization="linear-theano",
        frame_input="code-floor",
    ),
    "theano-lstm-skips": SampleRNNConfig(
        **_SMALL | {"q_levels": 256, "frame_sizes": (2, 6), "n_rnn": 3},
        rnn="lstm",
        skip="full",
        quantization="mu-law-theano",
    ),
    "gru-full-skips": SampleRNNConfig(**_SMALL | {"n_rnn": 2}, skip="full", quantization="mu-law"),
    "one-hot": SampleRNNConfig(**_SMALL | {"emb_size": 0, "frame_sizes": (4, 4)}, quantization="a-law"),
    "two-levels": SampleRNNConfig(**_SMALL | {"q_levels": 2, "dim": 17, "frame_sizes": (1, 1, 3)}),
    "many-levels": SampleRNNConfig(**_SMALL | {"q_levels": 1000, "mlp_hidden": 4}, quantization="mu-law"),
    "dim-96": SampleRNNConfig(dim=96, emb_size=32, q_levels=256, frame_sizes=(4, 4)),
    "dim-130-lstm": SampleRNNConfig(dim=130, emb_size=8, q_levels=256, rnn="lstm"),
    "reset-before-256": SampleRNNConfig(dim=256, emb_size=16, q_levels=256, reset_after=False),
}

_BLIND: dict[str, Any] = {"dim": 32, "q_levels": 64}

PACKED_CASES: dict[str, PackedConfig] = CASES | {
    "rnn": OneTierConfig(**_SMALL),
    "rnn-reset-before": OneTierConfig(**_SMALL | {"q_levels": 51, "dim": 17}, n_rnn=2, reset_after=False),
    "rnn-lstm": OneTierConfig(**_SMALL, rnn="lstm", mlp_hidden=1, weight_norm="none"),
    "rnn-lstm-skips": OneTierConfig(**_SMALL, rnn="lstm", n_rnn=3, skip="full", quantization="mu-law"),
    "rnn-prism-skips": OneTierConfig(**_SMALL, n_rnn=2, skip="prism", learn_h0=False),
    "multi-softmax": MultiSoftmaxConfig(**_BLIND, frame_sizes=(4, 4), n_rnn=2),
    "multi-softmax-3tier": MultiSoftmaxConfig(**_BLIND, frame_sizes=(2, 2, 8), mlp_input_relu=True, rnn="lstm"),
    "multi-softmax-ratio": MultiSoftmaxConfig(**_BLIND, frame_sizes=(2, 6), skip="full", reset_after=False),
    "real-input": RealInputConfig(**_BLIND, frame_sizes=(2, 2, 8), frame_input="amplitude"),
}
"""Those shapes, and the other systems with a packed layout, which the GPU backends do not all play."""


@overload
def make_model(config: SampleRNNConfig, *, seed: int = ..., dtype: torch.dtype = ...) -> SampleRNN: ...


@overload
def make_model(config: PackedConfig, *, seed: int = ..., dtype: torch.dtype = ...) -> PackedModel: ...


def make_model(config: PackedConfig, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> PackedModel:
    """A model with every term at work: random biases, initial states and weight-norm gains."""
    model = require_packed(build_model(config, seed=seed)).to(dtype)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("original0"):  # weight-norm gains
                tensor.mul_(torch.rand(tensor.shape, generator=generator, dtype=dtype) + 0.5)
            elif tensor.dim() == 1 or name.endswith("h0"):
                tensor.normal_(0, 0.3, generator=generator)
    return model


def random_levels(config: PackedConfig, batch: int, length: int, seed: int = 0) -> torch.Tensor:
    """(batch, length) levels; the first row starts from silence, as real recordings do."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, config.q_levels, (batch, length), generator=generator)
    levels[0, : config.lookback] = config.q_zero
    return levels
