"""The hybrids of appendix A: the exact field of both modules, and every sample by steps, from any time."""

import pytest
import torch
from cases import random_levels

from samplernn_fast.models.other_configs import HybridRNNWaveNetConfig, HybridWaveNetConfig
from samplernn_fast.models.registry import build_model
from samplernn_fast.training.presets import PRESETS

CONFIGS = {
    "slow-sees-further": HybridWaveNetConfig(
        dim=6, q_levels=32, blocks=2, layers=3, slow_blocks=2, slow_layers=2, frame_size=8
    ),
    "fast-sees-further": HybridWaveNetConfig(
        dim=6, q_levels=32, blocks=1, layers=5, slow_blocks=1, slow_layers=2, frame_size=4
    ),
    "rnn": HybridRNNWaveNetConfig(dim=12, q_levels=32, blocks=2, layers=3, frame_size=8),
    "lstm": HybridRNNWaveNetConfig(dim=12, q_levels=32, blocks=1, layers=4, frame_size=4, rnn="lstm", n_rnn=2),
}
every_config = pytest.mark.parametrize("name", CONFIGS)


def double(config, seed=3):
    """A model whose biases and initial states are at work too."""
    model = build_model(config, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name or "b_" in name or name.endswith("h0"):
                parameter.normal_(0, 0.3, generator=generator)
    return model


@every_config
def test_steps_from_any_time_give_the_logits_of_forward(name):
    model = double(CONFIGS[name])
    lookback, frame = model.config.lookback, model.config.top_frame
    levels = random_levels(model.config, 3, lookback + 12 * frame)
    levels[:, :lookback] = model.config.q_zero
    with torch.no_grad():
        logits, _ = model(levels)
        hidden, stepped = model.init_hidden(3), []
        for start, stop in ((0, 1), (1, frame + 3), (frame + 3, 5 * frame), (5 * frame, 12 * frame)):
            stepper = model.stepper(hidden, start)
            stepped += [stepper.step(levels[:, t : t + lookback]) for t in range(start, stop)]
            hidden = stepper.hidden()
        followed, after = [], model.init_hidden(3)
        for start, stop in ((0, 1), (1, 3), (3, 12)):
            outputs, after = model.follow(after, levels[:, start * frame : stop * frame + lookback])
            followed.append(outputs)
    torch.testing.assert_close(torch.cat(stepped, 1), logits, rtol=0, atol=1e-9)
    torch.testing.assert_close(torch.cat(followed, 1), logits, rtol=0, atol=1e-9)
    torch.testing.assert_close(after, hidden, rtol=0, atol=1e-9)


@every_config
@pytest.mark.parametrize("within", [0, 3])
def test_each_module_sees_its_field_exactly(name, within):
    """A sample of the third frame, `within` samples after the start of the frame."""
    model = double(CONFIGS[name])
    lookback, frame = model.config.lookback, model.config.top_frame
    levels = random_levels(model.config, 1, lookback + 3 * frame)
    inputs = {}

    def keep(part):
        def hook(module, args, output):
            inputs[part] = output.detach().requires_grad_()
            return inputs[part]

        return hook

    model.frame.register_forward_hook(keep("frames"))
    stack_inputs = []
    model.stack.register_forward_pre_hook(
        lambda module, args: (stack_inputs.append(args[0].detach().requires_grad_()) or stack_inputs[0], *args[1:])
    )
    model(levels)[0][0, 2 * frame + within].sum().backward()
    fast = stack_inputs[0].grad.abs().sum(dim=(1, 2))
    target = 2 * frame + within
    assert not fast[:target].any() and fast[target] > 0 and fast[target + model.stack.field - 1] > 0
    assert not fast[target + model.stack.field :].any()
    slow = inputs["frames"].grad.abs().sum(dim=(1, 2))
    if isinstance(model.config, HybridWaveNetConfig):  # it sees `field` frames, the last of which is the one before
        field = 1 + sum(model.config.slow_dilations)
        assert not slow[:2].any() and slow[2] > 0 and slow[field + 1] > 0 and len(slow) == field + 2
    else:
        assert len(slow) == 3 and slow.all()


def test_the_presets_have_the_numbers_of_the_appendix():
    for name in ("hybrid-wavenet", "hybrid-rnn-wavenet"):
        preset = PRESETS[name][1]
        assert preset.model.top_frame == 128 and 1 + sum(preset.model.dilations) == 509
        assert preset.seq_len % 128 == 0
    assert PRESETS["hybrid-wavenet"][1].model.lookback == 31 * 128
    recurrent = PRESETS["hybrid-rnn-wavenet"][1].model
    assert (recurrent.dim, recurrent.rnn, recurrent.channels, recurrent.lookback) == (1024, "gru", 64, 512)
