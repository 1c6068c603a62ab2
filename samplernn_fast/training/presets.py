"""Named settings for `train`. Each says where its numbers come from: the paper, another project's code, or us."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from samplernn_fast.models.config import AudioConfig, OneTierConfig, SampleRNNConfig, SparseSampleRNNConfig
from samplernn_fast.models.other_configs import (
    HybridRNNWaveNetConfig,
    HybridWaveNetConfig,
    MultiSoftmaxConfig,
    RealInputConfig,
    RNNGMMConfig,
    SampleRNNGMMConfig,
    WaveNetConfig,
)
from samplernn_fast.training.config import TrainConfig

_DATA, _OUT = Path("data"), Path("runs/model")  # placeholders: the command line requires both
_TWO_TIERS: dict[str, Any] = {"frame_sizes": (16, 16), "n_rnn": 3}
"""What `paper-2tier` has, and the systems that the paper compares with it."""


def _model(system: type[AudioConfig] = SampleRNNConfig, **fields: object) -> AudioConfig:
    return system.from_dict({"sample_rate": 0, "gain": 0.0, **fields})


PRESETS: dict[str, tuple[str, TrainConfig]] = {
    "laptop": (
        "A small 3-tier model that learns in minutes to an hour on a CPU (our numbers).",
        TrainConfig(
            data=_DATA,
            out=_OUT,
            model=_model(quantization="mu-law", frame_sizes=(4, 4, 16), dim=256, emb_size=64),
            batch_size=16,
            seq_len=512,
            lr=6e-3,
            lr_schedule="cosine",
            warmup_steps=100,
            max_minutes=60.0,
        ),
    ),
    "paper-3tier": (
        "The paper's best 3-tier model (section 3): FS 2, 2, 8, one 1024-unit GRU in each tier.",
        TrainConfig(data=_DATA, out=_OUT, model=_model()),
    ),
    "paper-2tier": (
        "The paper's best 2-tier model (section 3): three GRU layers; FS 16 and subsequences of 1024 as in its code.",
        TrainConfig(data=_DATA, out=_OUT, model=_model(**_TWO_TIERS), seq_len=1024),
    ),
    "rnn": (
        "The paper's one-tier baseline (Eq. 2-3): a GRU over single samples, three hidden layers as in its code.",
        TrainConfig(data=_DATA, out=_OUT, model=OneTierConfig(sample_rate=0, gain=0.0)),
    ),
    "multi-softmax": (
        "Multi-Softmax (section 2.2.2): `paper-2tier` without a sample level; a frame's samples are independent.",
        TrainConfig(data=_DATA, out=_OUT, model=_model(MultiSoftmaxConfig, **_TWO_TIERS), seq_len=1024),
    ),
    "no-embedding-onehot": (
        "Without embedding (Table 4), as the authors' code has it: `paper-2tier` on one-hot levels.",
        TrainConfig(data=_DATA, out=_OUT, model=_model(emb_size=0, **_TWO_TIERS), seq_len=1024),
    ),
    "no-embedding-real": (
        "Without embedding (Table 4), as the paper's text can be read: `paper-2tier` on real-valued samples.",
        TrainConfig(data=_DATA, out=_OUT, model=_model(RealInputConfig, **_TWO_TIERS), seq_len=1024),
    ),
    "samplernn-gmm": (
        "SampleRNN-GMM (Table 2): `paper-2tier` on real-valued samples, with four Gaussians as its output.",
        TrainConfig(data=_DATA, out=_OUT, model=_model(SampleRNNGMMConfig, **_TWO_TIERS), seq_len=1024),
    ),
    "rnn-gmm": (
        "RNN-GMM (Table 2): the baseline `rnn` on real-valued samples, with a mixture of four Gaussians as its output.",
        TrainConfig(data=_DATA, out=_OUT, model=_model(RNNGMMConfig)),
    ),
    "wavenet": (
        "The paper's WaveNet (section 3.1): 4 x 10 layers of 64 channels, sequences of 1600, batch 8, Adam 1e-3.",
        TrainConfig(data=_DATA, out=_OUT, model=_model(WaveNetConfig), batch_size=8, seq_len=1600),
    ),
    "wavenet-tuned": (
        "WaveNet by the practice of public projects: mu-law, wide head (1024, 512), sequences of 16000, falling rate.",
        TrainConfig(
            data=_DATA,
            out=_OUT,
            model=_model(WaveNetConfig, quantization="mu-law", skip_factor=16, end_factor=8),
            batch_size=8,
            seq_len=16000,
            lr_schedule="cosine",
            max_minutes=7 * 24 * 60.0,
        ),
    ),
    "hybrid-wavenet": (
        "The SampleRNN-WaveNet hybrid of convolutions alone (appendix A): frames of 128; its other sizes are ours.",
        TrainConfig(data=_DATA, out=_OUT, model=_model(HybridWaveNetConfig), batch_size=8, seq_len=2048),
    ),
    "hybrid-rnn-wavenet": (
        "The SampleRNN-WaveNet hybrid with an RNN (appendix A): frames of 128, 1024 units, a field of 509 samples.",
        TrainConfig(data=_DATA, out=_OUT, model=_model(HybridRNNWaveNetConfig), batch_size=8, seq_len=2048),
    ),
    "authors-3tier": (
        "The 3-tier model as the authors' code has it: GRU that resets before the product.",
        TrainConfig(data=_DATA, out=_OUT, model=_model(reset_after=False, frame_input="code-floor")),
    ),
    "dadabots": (
        "The 2-tier model of Dadabots' albums: five LSTM layers with skips, mu-law, no learned initial state.",
        TrainConfig(
            data=_DATA,
            out=_OUT,
            model=_model(frame_sizes=(16, 16), rnn="lstm", n_rnn=5, skip="full", quantization="mu-law", learn_h0=False),
            seq_len=1024,
        ),
    ),
}
"""Name -> what the preset is for, which its help begins with, and its settings."""

FINE_TUNING = TrainConfig(
    data=_DATA,
    out=_OUT,
    init_from="demo",
    batch_size=16,
    seq_len=512,
    lr=1e-3,
    lr_schedule="cosine",
    warmup_steps=100,
    max_minutes=30.0,
)
"""The settings of `train --init-from MODEL` without a preset (our numbers): the rate is a sixth of `laptop`'s, because
the weights are good already. The model and its name are those of the source."""

SPARSIFYING = replace(FINE_TUNING, model=SparseSampleRNNConfig(sample_rate=0, gain=0.0), lr=4e-3)
"""The settings of `sparsify` (our numbers), which are those of fine-tuning at a higher rate, since what is left of a
matrix must change much. The model is that of the source, folded."""
