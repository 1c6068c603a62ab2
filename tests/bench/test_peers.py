"""bench/common/peers.py, with a stand-in for deepsound's code."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from exporters import deepsound_state, float32_model
from foreign_configs import torch_config

from bench import sampling_speed
from bench.common import peers

CONFIG = torch_config((2, 6), q=20, dim=9, n=2)


class TheirModel(torch.nn.Module):
    """Has a small model's weights under deepsound's names, whatever shape it is asked for."""

    def __init__(self, **shape):
        super().__init__()

    def state_dict(self):
        return deepsound_state(float32_model(CONFIG), "")


def test_the_peer_is_timed_on_both_models(monkeypatch, capsys):
    pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")
    made = []

    def generator(module):
        return lambda streams, n: made.append((streams, n))

    file = SimpleNamespace(SampleRNN=TheirModel, Generator=generator)
    monkeypatch.setattr(peers.record, "peer_modules", lambda clone, name: [file])
    options = "--dim 16 --batch-size 3 --backend reference --dtype float32 --threads 1 --no-plain --rounds 1"
    args = sampling_speed.parse([*options.split(), "--seconds", "0.0001", "--peer", "clone"])
    assert args.peer == Path("clone")
    monkeypatch.setattr(sampling_speed.timing, "fitting_steps", lambda make, seconds, device: 16)
    assert sampling_speed.run(args, "cpu")
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if " samples/s " in line]
    assert ["deepsound Generator" in row for row in rows] == [False, True, True, False, False, False]
    assert all(f"accelerate {mode}" in row for mode, row in zip(("float32", "int8", "int4"), rows[3:], strict=True))
    assert {streams for streams, _ in made} == {1, 3}
