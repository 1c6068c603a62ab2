"""The memory that an update needs, and what is said where there is less."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from runs import tiny

from samplernn_fast.errors import ConfigError
from samplernn_fast.models.config import SparseSampleRNNConfig
from samplernn_fast.training import memory
from samplernn_fast.training.presets import PRESETS, SPARSIFYING
from samplernn_fast.training.trainer import train

# What torch took of main memory for a forward and a backward pass, by the process's peak before and after.
MEASURED = (
    ("laptop", {}, 16, 8192, 1041),
    ("paper-3tier", {"dim": 256}, 8, 8192, 654),
    ("dadabots", {"dim": 128}, 8, 8192, 436),
    ("rnn", {"dim": 128}, 8, 2048, 189),
    ("wavenet", {}, 2, 1600, 458),
    ("wavenet", {"dim": 32}, 2, 8192, 746),
    ("wavenet-tuned", {"dim": 32, "skip_factor": 32, "end_factor": 16}, 2, 4000, 481),
    ("hybrid-wavenet", {"dim": 32}, 4, 8192, 877),
    ("hybrid-rnn-wavenet", {"dim": 512}, 4, 8192, 843),
)

# The peak grows by what the update needs; the estimate is of the same size. One process for each, so that nothing
# that an earlier one has freed is used again.
MEASURE = r"""
import re, torch
from samplernn_fast.models.base import bits_per_sample
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.models.registry import build_model

def peak() -> int:  # in kilobytes; unlike getrusage's, it does not begin with the peak of the parent process
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read()).group(1))

model = build_model(SampleRNNConfig(dim=64, emb_size=8, frame_sizes=(2, 8)), seed=0)
levels = torch.randint(0, 256, (4, 8192 + 8))
before = peak()
logits, _ = model(levels, None, torch.zeros(4, dtype=torch.bool))
bits_per_sample(logits, levels[:, 8:]).sum().backward()
print(peak() - before)
"""


@pytest.mark.parametrize("name, model, rows, seq_len, megabytes", MEASURED)
def test_the_estimate_is_that_of_measurements(name, model, rows, seq_len, megabytes):
    preset = PRESETS[name][1]
    config = replace(preset, model=replace(preset.model, **model), seq_len=seq_len)
    assert 0.7 < memory.update_bytes(config, rows) / (megabytes * 2**20) < 1.5


@pytest.mark.parametrize("distill, megabytes", [(True, 1046), (False, 853)])
def test_a_teacher_takes_memory_too(distill, megabytes):
    """Measured as above, over two updates of the bundled speaker's sparse model, with Adam's moments."""
    model = SparseSampleRNNConfig(sample_rate=0, gain=0.0, dim=256, frame_sizes=(4, 4, 16))
    config = replace(SPARSIFYING, model=model, seq_len=1024, distill=distill)
    assert 0.7 < memory.update_bytes(config, 96) / (megabytes * 1e6) < 1.5


def test_a_subsequence_within_a_frame_has_an_estimate():
    """It is refused later, as no whole frames; until then nothing divides by its 0 frames."""
    preset = PRESETS["hybrid-wavenet"][1]
    assert memory.update_bytes(replace(preset, seq_len=preset.model.top_frame // 2), 1) > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_the_estimate_is_that_of_an_update_made_now(data_folder, tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, env=environment, check=True)
    fields = {"dim": 64, "emb_size": 8, "q_levels": 256, "frame_sizes": (2, 8)}
    config = tiny(data_folder, tmp_path / "run", steps=1, model=fields, seq_len=8192)
    assert 0.5 < memory.update_bytes(config, 4) / (1024 * int(done.stdout)) < 2


def test_a_run_that_has_no_room_is_refused_before_anything_is_written(data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=1, seq_len=2**19, batch_size=2**14)
    with pytest.raises(ConfigError, match=r"an update needs about .* GB.*lower batch_size .*seq_len") as caught:
        train(config)
    assert "\n" not in str(caught.value) and not config.out.exists()


def test_a_run_that_may_have_room_is_warned_of(data_folder, tmp_path, monkeypatch, capsys):
    """The estimate is good to a factor of two, so less than that is no reason to refuse."""
    config = tiny(data_folder, tmp_path / "run", steps=1)
    needed = memory.update_bytes(config, config.batch_size)
    monkeypatch.setattr(memory, "_free_bytes", lambda device: needed // 2 + 1)
    assert train(config).steps == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "memory" in line]
    assert line.startswith("warning: an update needs about 0.00") and "lower batch_size (now 4)" in line
    monkeypatch.setattr(memory, "_free_bytes", lambda device: needed // 2 - 1)
    with pytest.raises(ConfigError, match="an update needs about"):
        train(replace(config, out=tmp_path / "other"))
    monkeypatch.setattr(memory, "_free_bytes", lambda device: needed)
    train(replace(config, out=tmp_path / "other"))
    assert "memory" not in capsys.readouterr().err


def test_a_limit_of_a_container_counts_and_an_unknown_one_does_not(tmp_path, monkeypatch):
    found = memory._free_bytes(torch.device("cpu"))
    assert found is None or found > 1 << 20
    (tmp_path / "memory.max").write_text("max\n")
    path = memory.Path
    monkeypatch.setattr(memory, "Path", lambda *parts: path(*parts) if len(parts) == 1 else tmp_path / parts[1])
    assert memory._free_bytes(torch.device("cpu")) != 12345
    (tmp_path / "memory.max").write_text("12345\n")
    assert memory._free_bytes(torch.device("cpu")) == 12345
