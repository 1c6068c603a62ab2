"""Which rows of weights stay in a block's shared memory, and that no number depends on it."""

import pytest
import torch
from cases import CASES, make_model
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
