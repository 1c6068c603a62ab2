"""WaveNet: the equations, an independent implementation, the exact field, and steps by queues."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from cases import random_levels
from torch.nn.functional import embedding, one_hot

from samplernn_fast.errors import ConfigError
from samplernn_fast.models.dilated.wavenet import WaveNet
from samplernn_fast.models.other_configs import WaveNetConfig
from samplernn_fast.training.presets import PRESETS

CONFIGS = {
    "onehot": WaveNetConfig(dim=6, q_levels=32, blocks=2, layers=4),
    "real": WaveNetConfig(dim=5, q_levels=32, blocks=3, layers=2, skip_factor=2, end_factor=3, input="real"),
}
every_config = pytest.mark.parametrize("name", CONFIGS)


def double(config, seed=3):
    """A model whose biases are at work too."""
    model = WaveNet(config, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3, generator=generator)
    return model


def plain_logits(model, levels):
    """The equations of Oord et al. 2016 in torch's own dilated convolutions: logits (B, T, Q)."""
    stack, dim, steps = model.stack, model.config.dim, levels.shape[1] - model.config.lookback
    x = embedding(levels[:, :-1], model.table()).transpose(1, 2)
    skips = stack.skip_bias[:, None]
    for layer, dilation in enumerate(stack.dilations):
        taps = torch.stack(stack.gate_weight[layer].split(dim, dim=1), dim=2)
        signal, gate = torch.conv1d(x, taps, stack.gate_bias[layer], dilation=dilation).chunk(2, dim=1)
        gated = torch.tanh(signal) * torch.sigmoid(gate)
        skips = skips + stack.skip_weight[:, layer * dim : (layer + 1) * dim] @ gated[..., -steps:]
        if layer + 1 < len(stack.dilations):
            x = x[..., dilation:] + stack.residual_weight[layer] @ gated + stack.residual_bias[layer][:, None]
    return model.head.output(torch.relu(model.head.hidden(torch.relu(skips.transpose(1, 2)))))


@every_config
def test_it_is_gated_dilated_convolutions_with_skips(name):
    model = double(CONFIGS[name])
    levels = random_levels(model.config, 3, model.config.lookback + 20)
    with torch.no_grad():
        logits, state = model(levels)
        torch.testing.assert_close(logits, plain_logits(model, levels), rtol=0, atol=1e-12)
    assert state == () and logits.shape == (3, 20, 32)


@every_config
def test_steps_from_any_time_give_the_logits_of_forward(name):
    model = double(CONFIGS[name])
    lookback = model.config.lookback
    levels = random_levels(model.config, 3, lookback + 90)
    levels[:, :lookback] = model.config.q_zero
    with torch.no_grad():
        logits, _ = model(levels)
        hidden, stepped = model.init_hidden(3), []
        for start, stop in ((0, 1), (1, 8), (8, 45), (45, 90)):  # 45 is beyond the ring of every layer
            stepper = model.stepper(hidden, start)
            stepped += [stepper.step(levels[:, t : t + lookback]) for t in range(start, stop)]
            hidden = stepper.hidden()
        followed, queues = [], model.init_hidden(3)
        for start, stop in ((0, 3), (3, 4), (4, 90)):
            outputs, queues = model.follow(queues, levels[:, start : stop + lookback])
            followed.append(outputs)
    torch.testing.assert_close(torch.cat(stepped, 1), logits, rtol=0, atol=1e-9)
    torch.testing.assert_close(torch.cat(followed, 1), logits, rtol=0, atol=1e-9)
    torch.testing.assert_close(queues, hidden, rtol=0, atol=1e-9)


@every_config
def test_the_field_is_the_lookback_exactly(name):
    model = double(CONFIGS[name])
    lookback = model.config.lookback
    levels = random_levels(model.config, 1, lookback + 6)
    inputs = embedding(levels[:, :-1].t(), model.table().detach()).requires_grad_()
    skips, _ = model.stack(inputs)
    model.head(skips)[5].sum().backward()
    touched = inputs.grad.abs().sum(dim=(1, 2))
    assert lookback == model.stack.field
    assert not touched[:5].any() and touched[5] > 0 and touched[-1] > 0


def test_the_presets_are_the_papers_and_the_projects_numbers():
    preset = PRESETS["wavenet"][1]
    model = preset.model
    assert model.dilations == tuple(2**layer for layer in range(10)) * 4
    assert (model.lookback, model.dim, model.q_levels, model.quantization) == (4093, 64, 256, "linear")
    assert (preset.seq_len, preset.batch_size, preset.lr, preset.lr_schedule) == (1600, 8, 1e-3, "constant")
    assert WaveNetConfig(layers=7).lookback == 509  # appendix A
    tuned = PRESETS["wavenet-tuned"][1]
    assert (tuned.model.skip_channels, tuned.model.end_channels, tuned.model.quantization) == (1024, 512, "mu-law")
    assert (tuned.model.dilations, tuned.model.dim) == (model.dilations, 64)
    assert (tuned.seq_len, tuned.batch_size, tuned.lr, tuned.lr_schedule) == (16000, 8, 1e-3, "cosine")


def test_a_stack_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="2 layers at least"):
        WaveNetConfig(blocks=1, layers=1)
    with pytest.raises(ConfigError, match="may see"):
        WaveNetConfig(blocks=64, layers=16)


@pytest.fixture
def s4_wavenet(monkeypatch):
    """The class WaveNetModel of a clone of state-spaces/s4, at S4_CLONE."""
    folder = os.environ.get("S4_CLONE", "")
    found = sorted(Path(folder).rglob("wavenet.py")) if folder else []
    if not found:
        pytest.skip("no clone of state-spaces/s4: S4_CLONE names its folder")
    for name in ("src", "src.models", "src.models.sequence", "src.models.sequence.base"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["src.models.sequence.base"].SequenceModule = torch.nn.Module
    spec = importlib.util.spec_from_file_location("s4_wavenet", found[0])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.WaveNetModel


def test_it_is_the_wavenet_of_s4_with_the_same_weights(s4_wavenet):
    model = double(WaveNetConfig(dim=8, q_levels=256, blocks=3, layers=5, skip_factor=2, end_factor=3))
    stack, dim = model.stack, 8
    theirs = s4_wavenet(5, 3, dim, dim, 16, 24, 256, kernel_size=2, bias=True).double().eval()
    count = len(stack.dilations)
    places = {"start_conv.weight": model.input.weight.t()[:, :, None], "start_conv.bias": torch.zeros(dim)}
    for layer, (weight, bias) in enumerate(zip(stack.gate_weight, stack.gate_bias, strict=True)):
        taps = torch.stack(weight.split(dim, dim=1), dim=2)
        for part, name in enumerate(("filter_convs", "gate_convs")):
            places[f"{name}.{layer}.weight"] = taps[part * dim : (part + 1) * dim]
            places[f"{name}.{layer}.bias"] = bias[part * dim : (part + 1) * dim]
        places[f"skip_convs.{layer}.weight"] = stack.skip_weight[:, layer * dim : (layer + 1) * dim, None]
        places[f"skip_convs.{layer}.bias"] = stack.skip_bias / count
        last = layer + 1 == count  # the output of their last residual connection is not used
        places[f"residual_convs.{layer}.weight"] = (
            torch.zeros(dim, dim, 1) if last else stack.residual_weight[layer][..., None]
        )
        places[f"residual_convs.{layer}.bias"] = torch.zeros(dim) if last else stack.residual_bias[layer]
    for name, ours in (("end_conv_1", model.head.hidden), ("end_conv_2", model.head.output)):
        places |= {f"{name}.weight": ours.weight[..., None], f"{name}.bias": ours.bias}
    missing, unknown = theirs.load_state_dict(places, strict=False)
    assert not unknown and not [name for name in missing if "convs" in name or "_conv" in name]
    levels = random_levels(model.config, 2, model.config.lookback + 40)
    with torch.no_grad():
        ours, _ = model(levels)
        logits, _ = theirs(one_hot(levels[:, :-1], 256).double())
    # They give no output for the first input that has its whole field.
    assert logits.shape[1] == 39
    torch.testing.assert_close(ours[:, 1:], logits, rtol=0, atol=1e-6)
