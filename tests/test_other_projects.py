"""The model holds other projects' weights: placed by hand here, they give the logits those projects computed."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from samplernn_fast.config import SampleRNNConfig
from samplernn_fast.engine import Engine
from samplernn_fast.model import SampleRNN

FIXTURES = Path(__file__).parents[2] / "shared" / "fixtures"
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason="no fixtures beside the repository")


def expected_of(name: str) -> tuple[dict, dict[str, np.ndarray]]:
    folder = FIXTURES / name
    return json.loads((folder / "meta.json").read_text()), dict(np.load(folder / "expected.npz"))


def check(model: SampleRNN, expected: dict[str, np.ndarray], project_log: bool) -> None:
    """Training forward and engine against a project's own float64 outputs, states and greedy generation."""
    model = model.double()
    tokens = torch.from_numpy(expected["tokens"]).long()
    wanted = torch.from_numpy(expected["logprobs_f64" if project_log else "logits_f64"])
    with torch.no_grad():
        logits, state = model(tokens)
    got = torch.log_softmax(logits, dim=-1) if project_log else logits
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-9)
    for tier, hidden in enumerate(state):
        theirs = torch.from_numpy(expected[f"tier{tier}_state_f64"])
        torch.testing.assert_close(hidden, theirs.flatten(2), rtol=0, atol=1e-9)
    engine = Engine(model, dtype="float64")
    scored = engine.score(tokens)
    torch.testing.assert_close(scored, torch.log_softmax(wanted, dim=-1), rtol=0, atol=1e-9)
    greedy = engine.run(engine.init_state(1, temperature=0), len(expected["greedy"]))
    assert torch.equal(greedy[0], torch.from_numpy(expected["greedy"]).long())


class TheanoFile:
    """Parameters of the authors' code, weight norm folded: W0 g0 / |W0|, one gain for each output column."""

    def __init__(self, folder: Path) -> None:
        (file,) = folder.glob("params*.pkl")
        self.arrays = pickle.loads(file.read_bytes(), encoding="latin1")  # our own test data, not a stranger's file

    def matrix(self, name: str) -> torch.Tensor:
        """(outputs, inputs)."""
        weight = self.arrays[f"{name}.W0"].astype(np.float64)
        if f"{name}.g0" in self.arrays:
            weight = weight * self.arrays[f"{name}.g0"].astype(np.float64) / np.linalg.norm(weight, axis=0)
        return torch.from_numpy(weight.T.copy())

    def vector(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name].astype(np.float64))

    def place_linear(self, linear: torch.nn.Linear, name: str) -> None:
        linear.weight = torch.nn.Parameter(self.matrix(name)) if not is_normed(linear) else self.matrix(name)
        if linear.bias is not None:
            linear.bias.data.copy_(self.vector(f"{name}.b"))

    def place_gru(self, layer: torch.nn.Module, name: str) -> None:
        """Their update gate u is our 1 - z, and their columns are [u | r | c]."""

        def gates(parts: torch.Tensor) -> torch.Tensor:
            u, r, c = parts.chunk(3)
            return torch.cat((r, -u, c))

        place(layer, "w_ih", gates(self.matrix(f"{name}.Step.Input")))
        recurrent = (self.matrix(f"{name}.Step.Recurrent_Gates"), self.matrix(f"{name}.Step.Recurrent_Candidate"))
        place(layer, "w_hh", gates(torch.cat(recurrent)))
        layer.b_ih.data.copy_(gates(self.vector(f"{name}.Step.Input.b")))

    def place_lstm(self, layer: torch.nn.Module, name: str) -> None:
        """Their gates are [i | f | o | g], ours i, f, g, o."""

        def gates(parts: torch.Tensor) -> torch.Tensor:
            i, f, o, g = parts.chunk(4)
            return torch.cat((i, f, g, o))

        place(layer, "w_ih", gates(self.matrix(f"{name}.Step.Input")))
        place(layer, "w_hh", gates(self.matrix(f"{name}.Step.Recurrent_Gates")))
        layer.b_ih.data.copy_(gates(self.vector(f"{name}.Step.b")))

    def place_samples(self, model: SampleRNN) -> None:
        model.mlp.embedding.weight.data.copy_(self.vector("SampleLevel.Embedding"))
        self.place_linear(model.mlp.input, "SampleLevel.L1_PrevSamples")
        for layer, name in zip(model.mlp.hidden, ("L2", "L3"), strict=True):
            self.place_linear(layer, f"SampleLevel.{name}")
        self.place_linear(model.mlp.output, "SampleLevel.Output")


def is_normed(module: torch.nn.Module) -> bool:
    return torch.nn.utils.parametrize.is_parametrized(module, "weight")


def place(layer: torch.nn.Module, name: str, value: torch.Tensor) -> None:
    if torch.nn.utils.parametrize.is_parametrized(layer, name):
        setattr(layer, name, value)
    else:
        getattr(layer, name).data.copy_(value)


def theano_config(meta: dict, **fields: object) -> SampleRNNConfig:
    common = meta["common"]
    return SampleRNNConfig(
        frame_sizes=(common["frame_samples"][0], *common["frame_samples"]),
        quantization="mu-law-theano" if common["q_type"] == "mu-law" else "linear-theano",
        q_levels=common["q_levels"],
        dim=common["dim"],
        n_rnn=common["n_rnn"],
        emb_size=common["emb_size"],
        learn_h0=common["learn_h0"],
        weight_norm="all" if common["weight_norm"] else "none",
        reset_after=False,
        frame_input="code-floor",
        **fields,
    )


@needs_fixtures
def test_authors_three_tier_gru():
    name = "theano/three_tier_gru1_8-2_d24_q64_wn_h0"
    meta, expected = expected_of(name)
    file = TheanoFile(FIXTURES / name)
    model = SampleRNN(theano_config(meta)).double()
    low, top = model.tiers
    file.place_gru(top.rnn.layers[0], "BigFrameLevel.GRU1")
    file.place_linear(top.up, "BigFrameLevel.Output")
    file.place_linear(low.expand, "FrameLevel.InputExpand")
    file.place_gru(low.rnn.layers[0], "FrameLevel.GRU1")
    file.place_linear(low.up, "FrameLevel.Output")
    top.rnn.h0.data.copy_(file.vector("BigFrameLevel.h0"))
    low.rnn.h0.data.copy_(file.vector("FrameLevel.h0"))
    file.place_samples(model)
    check(model, expected, project_log=False)


@needs_fixtures
def test_authors_two_tier_gru_with_odd_levels():
    name = "theano/two_tier_gru2_4_d32_q51_nown_noh0"
    meta, expected = expected_of(name)
    file = TheanoFile(FIXTURES / name)
    model = SampleRNN(theano_config(meta)).double()
    (tier,) = model.tiers
    for layer, module in enumerate(tier.rnn.layers):
        file.place_gru(module, f"FrameLevel.GRU{layer + 1}")
    file.place_linear(tier.up, "FrameLevel.Output")
    file.place_samples(model)
    check(model, expected, project_log=False)


@needs_fixtures
def test_authors_two_tier_lstm_with_skips():
    name = "theano/two_tier_lstm2skip_6_d24_mulaw_wn_h0"
    meta, expected = expected_of(name)
    file = TheanoFile(FIXTURES / name)
    model = SampleRNN(theano_config(meta, rnn="lstm", skip="full")).double()
    (tier,) = model.tiers
    for layer, (module, suffix) in enumerate(zip(tier.rnn.layers, ("", "+inpskip"), strict=True), 1):
        file.place_lstm(module, f"FrameLevel.LSTM{layer}{suffix}")
        file.place_linear(tier.rnn.skip_out[layer - 1], f"FrameLevel.LSTM{layer}.outskip{layer}y")
    file.place_linear(tier.up, "FrameLevel.Output")
    tier.rnn.h0.data.copy_(file.vector("FrameLevel.h0"))
    file.place_samples(model)
    check(model, expected, project_log=False)


def torch_config(meta: dict, **fields: object) -> SampleRNNConfig:
    """The deepsound family: an input map on every tier, ReLU after the first sum, one hidden layer."""
    common = meta["common"]
    return SampleRNNConfig(
        frame_sizes=(common["frame_samples"][0], *common["frame_samples"]),
        q_levels=common["q_levels"],
        dim=common["dim"],
        n_rnn=common["n_rnn"],
        emb_size=common["emb_size"],
        learn_h0=common["learn_h0"],
        weight_norm="linear" if common["weight_norm"] else "none",
        upsample_norm_axis="input",
        top_input_linear=True,
        mlp_hidden=1,
        mlp_input_relu=True,
        **fields,
    )


def place_torch_weights(model: SampleRNN, tensors: dict[str, torch.Tensor]) -> None:
    """Their modules' names; weight norm by torch's own rule, one gain for each index of the first axis."""

    def folded(name: str) -> torch.Tensor:
        if f"{name}.weight" in tensors:
            return tensors[f"{name}.weight"].double()
        g, v = tensors[f"{name}.weight_g"].double(), tensors[f"{name}.weight_v"].double()
        return torch._weight_norm(v, g, 0)

    for index, tier in enumerate(model.tiers):
        name = f"model.frame_level_rnns.{index}"
        place(tier.expand, "weight", folded(f"{name}.input_expand")[..., 0])
        tier.expand.bias.data.copy_(tensors[f"{name}.input_expand.bias"])
        place(tier.up, "weight", folded(f"{name}.upsampling.conv_t").permute(2, 1, 0).flatten(0, 1))
        tier.up.bias.data.copy_(tensors[f"{name}.upsampling.bias"].t().flatten())
        for layer, module in enumerate(tier.rnn.layers):
            parts = (("w_ih", "weight_ih"), ("w_hh", "weight_hh"), ("b_ih", "bias_ih"), ("b_hh", "bias_hh"))
            for ours, theirs in parts:
                getattr(module, ours).data.copy_(tensors[f"{name}.rnn.{theirs}_l{layer}"])
        h0 = tensors.get(f"{name}.h0", tensors.get(f"{name}.rnn.h0"))
        tier.rnn.h0.data.copy_(h0.reshape(tier.rnn.h0.shape))
    mlp, name = model.mlp, "model.sample_level_mlp"
    mlp.embedding.weight.data.copy_(tensors[f"{name}.embedding.weight"])
    place(mlp.input, "weight", folded(f"{name}.input").transpose(1, 2).flatten(1))
    place(mlp.hidden[0], "weight", folded(f"{name}.hidden")[..., 0])
    mlp.hidden[0].bias.data.copy_(tensors[f"{name}.hidden.bias"])
    place(mlp.output, "weight", folded(f"{name}.output")[..., 0])
    mlp.output.bias.data.copy_(tensors[f"{name}.output.bias"])


@needs_fixtures
@pytest.mark.parametrize(
    "name",
    ["rnn2_fs4x2_d32_q256_wn_h0", "rnn1_fs2x2x3_d24_q64_nown_noh0_legacyfile", "rnn1_fs3x2_d16_q32_wn_h0_torch02file"],
)
def test_deepsound(name):
    meta, expected = expected_of(f"deepsound/{name}")
    file = FIXTURES / "deepsound" / name / meta["files"]["checkpoint"]
    config = torch_config(meta, quantization="linear-deepsound", frame_input="code-half")
    model = SampleRNN(config).double()
    place_torch_weights(model, torch.load(file, map_location="cpu", weights_only=True))
    check(model, expected, project_log=True)


@needs_fixtures
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("rnn1_fs8x2x2_d24_mulaw", {"quantization": "mu-law-s4", "frame_input": "amplitude"}),
        ("rnn2_fs4x2_d32_linear", {"quantization": "linear-s4", "frame_input": "code-half"}),
    ],
)
def test_s4(name, fields):
    meta, expected = expected_of(f"s4/{name}")
    model = SampleRNN(torch_config(meta, **fields)).double()
    tensors = torch.load(FIXTURES / "s4" / name / "checkpoint.pt", map_location="cpu", weights_only=True)
    place_torch_weights(model, tensors)
    check(model, expected, project_log=False)
