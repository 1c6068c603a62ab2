"""Which rows of weights stay in a block's shared memory, and that no number depends on it."""

import pytest
import torch
from cases import CASES, make_model, random_levels
from mode_oracle import mode_logits
from shim import Settings, ShimKernel

from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.reference.weights import pack

pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")

CONFIG = CASES["paper-3tier"]
RESET_BEFORE = SampleRNNConfig(dim=22, emb_size=8, q_levels=64, frame_sizes=(2, 2, 4), n_rnn=1, reset_after=False)
UNITS = CONFIG.dim // 4  # of a block
SHARED, WHOLE_MATRICES = 3, 4  # where they stand in srnn_sizes; see csrc/cuda/params.h


@pytest.mark.parametrize(("dtype", "row_bytes"), [("float32", 128), ("bfloat16", 192), ("int8", 36)])
@pytest.mark.parametrize("teams", [1, 2])
def test_bits_do_not_depend_on_whether_only_the_first_upsampling_stays(dtype, row_bytes, teams):
    """Shared memory is 8 gates too small: the higher tier's upsampling, 12 gates, is left out but for its first 3."""
    gate = UNITS * row_bytes

    def run(**shape):
        kernel = ShimKernel(pack(make_model(CONFIG)), dtype, batch=3, blocks=4, teams=teams, **shape)
        hidden, history = kernel.initial()
        levels, _ = kernel.run(hidden, history, 0, 2 * CONFIG.lookback + 3, settings=Settings(seed=5))
        return kernel.sizes, levels, hidden

    sizes, levels, hidden = run()
    fewer, made, state = run(shared_bytes=sizes[SHARED] - 8 * gate)
    assert sizes[WHOLE_MATRICES] - fewer[WHOLE_MATRICES] == 12 * gate
    assert sizes[SHARED] - fewer[SHARED] == 9 * gate
    assert torch.equal(made, levels) and torch.equal(state, hidden) and len(levels.unique()) > 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_teams_have_rows_of_their_own_where_outputs_have_none(dtype):
    """Shared memory is too small for rows of tiers' outputs, so both teams copy what they multiply into common rows."""
    made = []
    for teams, schedule in [(1, 0), *((2, schedule) for schedule in range(6))]:
        kernel = ShimKernel(pack(make_model(RESET_BEFORE)), dtype, teams=teams, shared_bytes=600)
        hidden, history = kernel.initial()
        levels, _ = kernel.run(hidden, history, 0, 17, settings=Settings(seed=5, schedule=schedule))
        made.append((levels, hidden))
    (levels, state), *others = made
    assert len(levels.unique()) > 1
    for again, hidden in others:
        assert torch.equal(again, levels) and torch.equal(hidden, state)


@pytest.mark.parametrize(
    ("dim", "shape"),
    [
        (96, {"blocks": 12, "threads": 64, "shared_bytes": 30000}),
        (150, {"blocks": 25, "threads": 96, "shared_bytes": 60000}),
    ],
)
def test_a_stream_in_bfloat16_has_the_bits_that_it_has_beside_another(dim, shape):
    """Its tensor products have two halves of the inputs side by side, and it asks for weights that have no room one
    gate at a time. A row is several steps of several warps here."""
    config = SampleRNNConfig(dim=dim, emb_size=8, q_levels=32, frame_sizes=(2, 2, 4))
    weights, steps = pack(make_model(config)), 2 * config.lookback + 1
    two, alone = (ShimKernel(weights, "bfloat16", batch=batch, teams=2, **shape) for batch in (2, 1))

    def run(kernel, **settings):
        hidden, history = kernel.initial()
        levels, _ = kernel.run(hidden, history, 0, steps, settings=Settings(seed=3, **settings))
        return levels, hidden.view(-1, kernel.batch, dim)

    levels, hidden = run(two)
    for stream in range(2):
        made, state = run(alone, first_stream=stream)
        assert torch.equal(made[0], levels[stream]) and len(made.unique()) > 4
        assert torch.equal(state[:, 0], hidden[:, stream])

    known, (state, _) = random_levels(config, 1, config.lookback + steps), alone.initial()
    start, given = known[:, : config.lookback], known[:, config.lookback :]
    _, logits = alone.run(state, start, 0, steps, given, want_logits=True, settings=Settings())
    worst = (logits.double() - mode_logits(weights, "bfloat16", known)).abs().amax(dim=-1).flatten()
    assert torch.quantile(worst, 0.1) < 1e-4 and worst.max() < 0.15
