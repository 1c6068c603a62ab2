"""The training forward: alignment, causality, carried state, resets, initialisation, gradients."""

import math

import pytest
import torch
from cases import CASES, make_model, random_levels

from samplernn_fast.errors import ConfigError
from samplernn_fast.models.base import bits_per_sample
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.models.layers import gru_scan
from samplernn_fast.models.layers.gru_scan import GRUScan
from samplernn_fast.models.sample_rnn import SampleRNN

every_case = pytest.mark.parametrize("name", CASES)


@every_case
def test_logits_depend_on_earlier_samples_only(name):
    config = CASES[name]
    model, lookback = make_model(config), config.lookback
    levels = random_levels(config, 1, lookback * 3)
    with torch.no_grad():
        before, _ = model(levels)
        for t in (0, lookback - 1, lookback, 2 * lookback - 1):
            changed = levels.clone()
            changed[:, lookback + t] = (changed[:, lookback + t] + 1) % config.q_levels
            after, _ = model(changed)
            assert torch.equal(before[:, : t + 1], after[:, : t + 1])
            if t + 1 < before.shape[1]:
                assert not torch.equal(before[:, t + 1], after[:, t + 1])


@every_case
def test_state_carried_across_subsequences_equals_one_long_sequence(name):
    config = CASES[name]
    model, lookback = make_model(config), config.lookback
    levels = random_levels(config, 3, lookback * 6)
    with torch.no_grad():
        whole, end = model(levels)
        state, parts = None, []
        for start, frames in ((0, 1), (1, 3), (4, 1)):
            piece = levels[:, start * lookback : (start + frames + 1) * lookback]
            logits, state = model(piece, state, torch.zeros(3, dtype=torch.bool))
            parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-12)
    for left, right in zip(state, end, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


@every_case
def test_reset_restarts_single_rows(name):
    config = CASES[name]
    model, lookback = make_model(config), config.lookback
    first, second = (random_levels(config, 3, lookback * 2, seed) for seed in (1, 2))
    with torch.no_grad():
        _, state = model(first)
        mixed, _ = model(second, state, torch.tensor([False, True, False]))
        carried, _ = model(second, state)
        fresh, _ = model(second)
    assert torch.equal(mixed[[0, 2]], carried[[0, 2]])
    torch.testing.assert_close(mixed[1], fresh[1], rtol=0, atol=1e-12)
    assert not torch.allclose(mixed[1], carried[1])


@every_case
def test_products_of_matrices_first_change_nothing(name, monkeypatch):
    """Long batches multiply matrices first, at the sample level and in GRU tiers; short ones take the plain path."""
    config = CASES[name]
    model, lookback, multiplied = make_model(config), config.lookback, []

    def noted(self, index, *rest, gates=SampleRNN._gates):
        multiplied.append(index)
        return gates(self, index, *rest)

    monkeypatch.setattr(SampleRNN, "_gates", noted)
    levels = random_levels(config, 16, lookback * (1 - -6 * config.dim // 16))
    with torch.no_grad():
        folded, _ = model(levels)
    tiers = list(range(len(config.ratios)))
    assert multiplied == (tiers[::-1] if config.rnn == "gru" and config.skip == "none" else [])
    multiplied.clear()
    with torch.no_grad():
        plain, _ = model(levels[:1, : 2 * lookback])
    assert not multiplied
    torch.testing.assert_close(folded[:1, :lookback], plain, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["paper-3tier", "four-tiers", "deepsound", "theano-gru-odd-levels"])
def test_products_of_matrices_first_keep_gradients(name, monkeypatch):
    config = CASES[name]
    model = make_model(config)
    levels = random_levels(config, 16, config.lookback * 13)
    folded = torch.autograd.grad(model.nll_bits(levels), list(model.parameters()))
    monkeypatch.setattr(SampleRNN, "_reads_gates", lambda *_: False)
    plain = torch.autograd.grad(model.nll_bits(levels), list(model.parameters()))
    torch.testing.assert_close(folded, plain, rtol=1e-9, atol=1e-10)


@every_case
def test_every_parameter_learns(name):
    model = make_model(CASES[name], dtype=torch.float32)
    levels = random_levels(CASES[name], 2, CASES[name].lookback * 4)
    model.nll_bits(levels).backward()
    for parameter_name, parameter in model.named_parameters():
        kept = parameter_name.endswith("original1") and parameter.shape[1] == 1  # signs: `models.base` says why
        assert parameter.grad is not None and (parameter.grad.abs().sum() > 0) != kept, parameter_name


@pytest.mark.parametrize("frames_at_once", [1, 4, 6])
@pytest.mark.parametrize("reset_after", [True, False])
def test_gru_scan_gradients(reset_after, frames_at_once, monkeypatch):
    monkeypatch.setattr(gru_scan, "_SLOPES_AT_ONCE", 3 * 7 * frames_at_once)
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)

    b_n = random(7) if reset_after else torch.zeros(7, dtype=torch.float64)
    inputs = (random(3, 3, 2, 21), random(3, 7), random(21, 7), b_n)
    assert torch.autograd.gradcheck(lambda *x: GRUScan.apply(*x, reset_after), inputs)


def test_gru_scan_equals_torch_gru():
    generator = torch.Generator().manual_seed(0)
    gru = torch.nn.GRU(6, 9).double()
    x = torch.randn(11, 4, 6, generator=generator, dtype=torch.float64)
    h = torch.randn(1, 4, 9, generator=generator, dtype=torch.float64)
    expected, _ = gru(x, h)
    bias = gru.bias_ih_l0 + torch.cat((gru.bias_hh_l0[:18], torch.zeros(9)))
    gates = torch.nn.functional.linear(x, gru.weight_ih_l0, bias)
    got = GRUScan.apply(gates.unsqueeze(2), h[0], gru.weight_hh_l0, gru.bias_hh_l0[18:], True)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-13)


def test_initialisation_follows_section_3():
    model = SampleRNN(SampleRNNConfig(dim=128, rnn="lstm", frame_sizes=(2, 8)))
    layer = model.tiers[0].rnn.layers[0]
    for gate in layer.w_hh.detach().split(128):
        torch.testing.assert_close(gate @ gate.t(), torch.eye(128), rtol=0, atol=1e-5)
    assert torch.all(layer.b_ih.detach()[128:256] == 3) and layer.b_ih.detach()[:128].abs().sum() == 0
    assert abs(model.mlp.embedding.weight.std().item() - 1) < 0.02
    hidden = model.mlp.hidden[0].weight
    assert abs(hidden.std().item() / math.sqrt(2 / 128) - 1) < 0.03
    assert not any("embedding.parametrizations" in name for name, _ in model.named_parameters())
    for name in ("tiers.0.up", "tiers.0.rnn.layers.0", "mlp.input", "mlp.output"):
        assert any(key.startswith(f"{name}.parametrizations") for key, _ in model.named_parameters()), name


def test_weights_come_from_the_seed_alone():
    config = CASES["paper-3tier"]
    torch.manual_seed(1)
    one = SampleRNN(config, seed=7).state_dict()
    torch.manual_seed(2)
    two, other = SampleRNN(config, seed=7).state_dict(), SampleRNN(config, seed=8).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_nll_bits_counts_any_length_and_the_mask():
    config = CASES["paper-3tier"]
    model = make_model(config)
    levels = random_levels(config, 2, config.lookback + 21)
    with torch.no_grad():
        logits, _ = model(torch.nn.functional.pad(levels, (0, 3)))
        bits = bits_per_sample(logits[:, :21], levels[:, config.lookback :])
        mask = torch.arange(21).expand(2, -1) < torch.tensor([[21], [5]])
        torch.testing.assert_close(model.nll_bits(levels), bits.mean())
        torch.testing.assert_close(model.nll_bits(levels, mask), bits[mask].mean())
    probabilities = torch.softmax(logits[0, 0], 0)
    assert bits[0, 0].item() == pytest.approx(-math.log2(probabilities[levels[0, config.lookback]].item()))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((2, 8), torch.int64), ((2, 15), torch.int64), ((16,), torch.int64), ((2, 16), torch.float32)],
)
def test_forward_refuses_what_it_cannot_align(shape, dtype):
    with pytest.raises(ConfigError, match="levels"):
        make_model(CASES["paper-3tier"])(torch.zeros(shape, dtype=dtype))


def test_bf16_gradients_follow_float32_ones():
    """Silence is one level, thousands of times in a batch: its table row must not be added up in bfloat16."""
    config = SampleRNNConfig(dim=32, emb_size=16, q_levels=64)
    levels = random_levels(config, 8, config.lookback + 512)
    levels[:, ::2] = config.q_zero
    levels[:, : levels.shape[1] * 3 // 4] = config.q_zero
    gradients = []
    for enabled in (False, True):
        model = SampleRNN(config)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            model.nll_bits(levels).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, exact in gradients[0].items():
        if exact.norm() > 1e-3:
            cosine = torch.nn.functional.cosine_similarity(exact.flatten(), gradients[1][name].flatten(), dim=0)
            assert cosine > 0.98, (name, cosine.item())
            assert 0.9 < gradients[1][name].norm() / exact.norm() < 1.1, name
