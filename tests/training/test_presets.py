"""Presets: every one can be trained, and the paper's are the paper's."""

from dataclasses import replace

import pytest

from samplernn_fast.models.other_configs import config_from_dict
from samplernn_fast.models.registry import build_model
from samplernn_fast.training.presets import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_a_model_that_fits_its_subsequences(name):
    text, preset = PRESETS[name]
    assert text and "\n" not in text
    assert (preset.model.sample_rate, preset.model.gain) == (0, 0.0)  # the data's
    assert preset.seq_len % preset.model.top_frame == 0
    assert config_from_dict(preset.model.to_dict()) == preset.model
    small = replace(preset.model, dim=8)
    states, tiers = build_model(small).init_state(1), getattr(small, "frame_sizes", None)
    assert tiers is None or len(states) == max(1, len(tiers) - 1)


def test_paper_3tier_is_section_3_of_the_paper():
    preset = PRESETS["paper-3tier"][1]
    model = preset.model
    assert (model.frame_sizes, model.dim, model.n_rnn, model.rnn) == ((2, 2, 8), 1024, 1, "gru")
    assert (model.q_levels, model.quantization, model.emb_size) == (256, "linear", 256)
    assert (model.weight_norm, model.learn_h0, model.mlp_hidden, model.mlp_input_relu) == ("all", True, 2, False)
    assert (preset.seq_len, preset.batch_size, preset.lr, preset.grad_clip) == (512, 128, 1e-3, 1.0)
    assert (preset.lr_schedule, preset.warmup_steps, preset.precision) == ("constant", 0, "fp32")


def test_paper_2tier_has_three_layers_over_frames_of_16():
    preset = PRESETS["paper-2tier"][1]
    model = preset.model
    assert (model.frame_sizes, model.dim, model.n_rnn, model.rnn) == ((16, 16), 1024, 3, "gru")
    assert (model.q_levels, model.quantization, model.emb_size) == (256, "linear", 256)
    assert (preset.batch_size, preset.lr, preset.grad_clip) == (128, 1e-3, 1.0)
