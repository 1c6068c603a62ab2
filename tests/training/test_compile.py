"""`train --compile` where torch.compile cannot work, and where it can."""

import os
import subprocess
import sys


def train_compiled(data, out, cache, **environment):
    """`train laptop --compile` for two steps of a tiny model in a process of its own, nothing compiled before."""
    command = [sys.executable, "-m", "samplernn_fast", "train", "laptop", "--data", str(data), "--out", str(out)]
    command += "--dim 16 --emb-size 8 --frame-sizes 2 2 4 --q-levels 64 --batch-size 4 --seq-len 64".split()
    command += "--max-steps 2 --device cpu --compile".split()
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache)} | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


def test_without_a_compiler_it_is_one_line_and_nothing_is_written(data_folder, tmp_path):
    done = train_compiled(data_folder, tmp_path / "run", tmp_path / "cache", CXX=str(tmp_path / "no-compiler"))
    assert done.returncode == 2 and done.stdout == ""
    # What takes longer than two seconds says so in a line that ends in dots.
    (said,) = [line for line in done.stderr.splitlines() if not line.endswith(" ...")]
    assert said.startswith("samplernn-fast: --compile cannot be used here: torch.compile fails (")
    assert "no-compiler" in said and said.endswith("; leave it out, or install what it needs")
    assert not (tmp_path / "run").exists()
