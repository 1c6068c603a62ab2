"""samplernn_fast.ops on the CPU: what the operators compute, what torch knows of them, which inputs they refuse. Their
CUDA implementations are tested in tests/backends/triton/kernels."""

import pytest
import torch

from samplernn_fast import ops
from samplernn_fast.errors import ConfigError
from samplernn_fast.reference import draw


def cell_inputs(batch=3, dim=7, dtype=torch.float32, after=True):
    torch.manual_seed(0)
    return torch.randn(batch, 3 * dim), torch.randn(batch, dim).to(dtype), torch.randn(3 * dim, dim).to(dtype) / 3, (
        torch.randn(dim) if after else None
    )  # fmt: skip


def sample_inputs(batch=4, dim=6, q_levels=9, taps=2, layers=2, dtype=torch.float32):
    torch.manual_seed(1)
    return {
        "conditioning": torch.randn(batch, dim),
        "recent": torch.randint(0, q_levels, (batch, taps)),
        "tables": torch.randn(taps, q_levels, dim),
        "hidden": torch.randn(layers, dim, dim).to(dtype),
        "hidden_bias": torch.randn(layers, dim),
        "output": torch.randn(q_levels, dim).to(dtype),
        "output_bias": torch.randn(q_levels),
        "draw": torch.randint(0, 2**32, (batch,)),
        "temperature": torch.linspace(0, 2, batch),
    }


def test_gru_cell_is_torchs_own():
    gates, h, w_hh, b_n = cell_inputs()
    cell = torch.nn.GRUCell(1, 7)
    with torch.no_grad():
        cell.weight_ih.zero_()
        cell.weight_hh.copy_(w_hh)
        cell.bias_hh.zero_()[14:] = b_n
        for row in range(3):  # an input of 0 leaves the bias, so it stands for the gates
            cell.bias_ih.copy_(gates[row])
            wanted = cell(torch.zeros(1, 1), h[row : row + 1])
            torch.testing.assert_close(ops.gru_cell(gates, h, w_hh, b_n)[row : row + 1], wanted)


def test_gru_cell_that_resets_before_the_product():
    gates, h, w_hh, _ = cell_inputs()
    r, z = torch.sigmoid(gates[:, :14] + h @ w_hh[:14].T).chunk(2, dim=1)
    n = torch.tanh(gates[:, 14:] + (r * h) @ w_hh[14:].T)
    torch.testing.assert_close(ops.gru_cell(gates, h, w_hh), (1 - z) * n + z * h)


@pytest.mark.parametrize("layers", [0, 2])
def test_sample_step_is_the_draw_from_the_mlp(layers):
    inputs = sample_inputs(layers=layers)
    x = inputs["conditioning"].clone()
    for tap in range(2):
        x += inputs["tables"][tap][inputs["recent"][:, tap]]
    x = x.relu()
    for w, bias in zip(inputs["hidden"], inputs["hidden_bias"], strict=True):
        x = (x @ w.T + bias).relu()
    logits = x @ inputs["output"].T + inputs["output_bias"]
    for top_k, top_p in ((0, 1.0), (3, 0.8)):
        wanted = draw.sample_ref(logits, inputs["draw"], inputs["temperature"], top_k, top_p)
        assert torch.equal(ops.sample_step(**inputs, top_k=top_k, top_p=top_p), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torch_knows_the_operators(dtype):
    torch.library.opcheck(torch.ops.samplernn_fast.gru_cell.default, cell_inputs(dtype=dtype))
    torch.library.opcheck(torch.ops.samplernn_fast.gru_cell.default, cell_inputs(dtype=dtype, after=False))
    step = torch.ops.samplernn_fast.sample_step.default
    torch.library.opcheck(step, (*sample_inputs(dtype=dtype).values(), 3, 0.9))
    torch.library.opcheck(step, (*sample_inputs(layers=0, dtype=dtype).values(), 0, 1.0))


def test_operators_compile_into_one_graph():
    cell, inputs = cell_inputs(), sample_inputs()

    def step(gates, h, w_hh, b_n, inputs):
        return ops.gru_cell(gates, h, w_hh, b_n) * 2, ops.sample_step(**inputs) + 1

    # "aot_eager" traces with the fakes as the default backend does, and needs no C++ compiler.
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")(*cell, inputs)
    for one, other in zip(compiled, step(*cell, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gates": torch.zeros(3, 20)}, r"gru_cell: gates must be \(3, 21\) float32, got \(3, 20\) float32"),
        ({"h": torch.zeros(7)}, r"gru_cell: h must be \(B, D\), got \(7,\)"),
        ({"w_hh": torch.zeros(21, 7).bfloat16()}, r"w_hh must be \(21, 7\) float32, got \(21, 7\) bfloat16"),
        ({"b_n": torch.zeros(21)}, r"b_n must be \(7,\) float32, got \(21,\) float32"),
    ],
    ids=["gates", "h", "w_hh", "b_n"],
)
def test_gru_cell_refuses_what_does_not_fit(change, message):
    inputs = dict(zip(("gates", "h", "w_hh", "b_n"), cell_inputs(), strict=True))
    with pytest.raises(ConfigError, match=message):
        ops.gru_cell(**inputs | change)


@pytest.mark.parametrize("name", sample_inputs())
def test_sample_step_refuses_what_does_not_fit(name):
    inputs = sample_inputs()
    with pytest.raises(ConfigError, match=f"sample_step: .*{name}"):
        ops.sample_step(**inputs | {name: inputs[name][..., None]})
