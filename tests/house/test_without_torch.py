"""Making audio on a CPU loads no torch, and works where torch is not installed; what needs it says so in one line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from samplernn_fast.native import why_missing

pytestmark = pytest.mark.skipif(why_missing() is not None, reason=str(why_missing()))

LOADED = 'import sys; assert "torch" not in sys.modules, "torch was loaded"'
MISSING = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, Missing())
"""
"""The beginning of a program in which torch cannot be found."""
COMMAND = "from samplernn_fast.commands.main import main; main(sys.argv[1:])"

PLAY = """
import numpy as np
import samplernn_fast as srnn
from samplernn_fast.audio.takes import Audio

audio = srnn.generate(duration=0.05, temperature="0:0.8,1:1", top_k=50, seed=3)
again = srnn.generate(duration=0.02, prompt=audio, dtype="int8")
stream = srnn.stream("demo", block_seconds=0.01, dtype="fastest")
block = next(stream)
engine = srnn.Engine("demo", dtype="bfloat16", device="cpu", backend="cpu")
state = engine.init_state(3, prompt=np.full(40, 128))
forced = np.full((3, 30), -1)
forced[:, :10] = 7
levels = engine.run(state, 30, forced=forced)
scores = engine.score(levels)
saved = state.state_dict()
state.load_state_dict(saved)
assert (levels[:, :10] == 7).all() and levels.dtype == np.int64
assert scores.shape == (3, 30 - engine.config.lookback, 256) and np.allclose(np.exp(scores).sum(-1), 1, atol=1e-4)
assert block.shape == (1, 80) and again.samples.shape == (1, 160)
"""


def program(code: str, *args: object, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code, *map(str, args)], cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize("before", ["import sys", MISSING], ids=["installed", "missing"])
def test_models_are_played_without_torch(before, tmp_path):
    done = program(f"{before}\n{PLAY}\n{LOADED}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_without_torch_the_levels_are_the_same(tmp_path):
    code = 'import samplernn_fast as s; print(s.generate(duration=0.1, dtype="int8", num_samples=2).tokens.tolist())'
    with_torch, without = (program(f"{before}\n{code}", cwd=tmp_path) for before in ("import torch", MISSING))
    assert without.returncode == 0, without.stderr
    assert with_torch.stdout == without.stdout and len(without.stdout) > 1000


@pytest.mark.parametrize("before", ["import sys", MISSING], ids=["installed", "missing"])
@pytest.mark.parametrize(
    "args",
    [
        ("generate", "-o", "new.wav", "--duration", "0.05"),
        ("generate", "demo", "-o", "new.wav", "--duration", "0.05", "--dtype", "fastest", "--num-samples", "1"),
        ("info",),
        ("info", "--json"),
    ],
    ids=" ".join,
)
def test_commands_that_play_and_tell_need_no_torch(before, args, tmp_path):
    code = f"{before}\nimport atexit\natexit.register(lambda: print('torch' in sys.modules))\n{COMMAND}"
    done = program(code, *args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("False\n")
    if args[0] == "generate":
        assert soundfile.info(tmp_path / "new.wav").frames == 400


def test_doctor_says_that_torch_is_missing_and_what_works_without(tmp_path):
    done = program(MISSING + COMMAND, "doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "The CPU makes audio, by the backend cpu" in done.stdout
    assert "Torch is not installed, so nothing trains here; pip install torch." in done.stdout


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (("bench",), "the command bench"),
        (("demo",), "the command demo"),
        (("generate", "--device", "cuda"), "device cuda"),
        (("generate", "--keep-best", "1", "--num-samples", "2", "-o", "out/"), "to choose among pieces"),
        (("generate", "--backend", "reference"), "the reference backend cannot run this model on cpu: it"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_command_that_needs_torch_says_so_in_one_line(args, what, tmp_path):
    done = program(MISSING + COMMAND, *args, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert f"samplernn-fast: {what}".replace(": it", ":") in done.stderr
    assert "needs torch, which is not installed; pip install torch" in done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["load", "train", "SampleRNN", "accelerate", "ops", "evaluate"])
def test_a_name_that_needs_torch_says_so(name, tmp_path):
    code = f"""
import samplernn_fast as srnn
try:
    srnn.{name}{"()" if name == "load" else ""}
except srnn.MissingPackage as error:
    assert isinstance(error, ImportError) and isinstance(error, srnn.SampleRNNError)
    print(error)
"""
    done = program(MISSING + code, cwd=tmp_path)
    what = "load, unlike generate and Engine," if name == "load" else f"samplernn_fast.{name}"
    assert done.stdout == f"{what} needs torch, which is not installed; pip install torch\n", done.stderr


def test_another_missing_package_is_not_taken_for_torch(tmp_path):
    code = MISSING.replace('"torch"', '"safetensors"') + "import samplernn_fast as srnn\nsrnn.generate"
    done = program(code, cwd=tmp_path)
    assert "ModuleNotFoundError" in done.stderr and "MissingPackage" not in done.stderr


def test_a_tensor_is_taken_as_levels(tmp_path):
    import torch

    from samplernn_fast.engine.engine import Engine

    made = Engine("demo", device="cpu", backend="cpu")
    for dtype in (torch.int64, torch.int16, torch.uint8):
        forced = torch.full((1, 20), 9, dtype=dtype)
        assert np.array_equal(made.run(made.init_state(1, prompt=forced[0]), 20, forced=forced), np.full((1, 20), 9))
