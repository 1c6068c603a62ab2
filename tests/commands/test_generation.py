"""`samplernn-fast generate`: files, standard output, JSON, temperatures, shards, prompts, ctrl-C."""

import functools
import io
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import RATE, make, run, strict_json

import samplernn_fast as srnn
from samplernn_fast import terminal
from samplernn_fast.audio import quantize, reading, synthetic, writing
from samplernn_fast.commands import flags, main
from samplernn_fast.models.stored.arrays import describe

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def model(trained):
    """The run folder that the command line made."""
    return trained


@pytest.fixture
def quiet(monkeypatch):
    """A slow machine shows no lines of waiting, which come after two seconds."""
    monkeypatch.setattr(terminal, "_FIRST_WAIT", 600.0)


def test_generate_writes_a_file_and_says_how_fast(model, tmp_path, capsys, quiet):
    assert make(model) == 0
    shown = capsys.readouterr()
    path, summary = shown.out.splitlines()
    assert (
        path == "tune-seed0.wav" and "1 x 0.02 s" in summary and "x real time (RTF " in summary and "backend" in summary
    )
    assert shown.err == ""  # no terminal, no progress bar
    samples, rate = reading.read(tmp_path / path)
    assert (len(samples), rate) == (160, RATE)
    assert np.array_equal(samples, np.round(srnn.generate(model, duration=0.02).samples[0] * 32768) / 32768)


def test_the_speed_of_several_pieces_is_that_of_all_together(model, capsys):
    assert make(model, "--num-samples", 4) == 0
    summary = capsys.readouterr().out.splitlines()[-1]
    found = re.fullmatch(r"4 x 0.02 s, (\S+)x real time together, (\S+)x each, .*", summary)
    assert float(found[1]) == pytest.approx(4 * float(found[2]), rel=0.01)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_generate_writes_every_format(model, tmp_path, suffix):
    assert make(model, "-o", tmp_path / f"x{suffix}", duration=0.2) == 0
    assert reading.probe(tmp_path / f"x{suffix}").sample_rate == RATE


def test_generate_into_a_folder(model, tmp_path, capsys):
    assert make(model, "--output", tmp_path / "new", "--seed", 7) == 0
    assert make(model, "--output", tmp_path / "new", "--seed", 8, "--num-samples", 2) == 0
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["tune-seed7.wav", "tune-seed8-00.wav", "tune-seed8-01.wav"]


@pytest.mark.parametrize(
    ("seconds", "pieces"),
    [("--dur", "--num_seqs"), ("--dur", "--num-seqs"), ("--n_secs", "--n_seqs"), ("--n-secs", "--n-seqs")],
)
def test_generate_takes_other_projects_flags(model, capsys, seconds, pieces):
    assert run("generate", model, seconds, 0.02, pieces, 2, "--json") == 0
    assert [reading.probe(file).frames for file in strict_json(capsys.readouterr().out)["files"]] == [160, 160]


def test_generate_to_standard_output_is_a_wav_and_nothing_else(model, tmp_path, capsysbinary, quiet):
    assert make(model, "-o", "-") == 0
    shown = capsysbinary.readouterr()
    assert shown.err == b"" and list(tmp_path.iterdir()) == []
    samples, rate = soundfile.read(io.BytesIO(shown.out))
    assert rate == RATE and samples.shape == (160,)
    assert make(model) == 0
    assert np.array_equal(samples, soundfile.read("tune-seed0.wav")[0])
    capsysbinary.readouterr()


def test_generate_json_is_one_object(model, capsys):
    assert make(model, "--json", "--num-samples", 2, "--seed", 5) == 0
    made = strict_json(capsys.readouterr().out)
    assert made["files"] == ["tune-seed5-00.wav", "tune-seed5-01.wav"]
    assert made["seed"] == 5 and made["streams"] == [0, 1] and made["x_real_time"] > 0
    assert made["model_sha256"] == describe(model)["model_sha256"]


def levels_of(path, model):
    return quantize.for_config(srnn.load(model).config).encode(reading.read(path)[0])


def test_temperatures_of_several_pieces_and_curves(model, capsys):
    exact = ("--backend", "reference", "--dtype", "float64")
    assert make(model, "--num-samples", 2, "--temperature", 0.5, 1.5, "-o", "pair.wav", *exact) == 0
    for index, heat in enumerate((0.5, 1.5)):
        alone = srnn.generate(
            model, duration=0.02, temperature=heat, first_stream=index, backend="reference", dtype="float64"
        )
        assert np.array_equal(levels_of(f"pair-{index:02d}.wav", model), alone.tokens[0])
    assert make(model, "--temperature", "0:0.5,0.01:0", "-o", "curve.wav") == 0
    curve = srnn.generate(model, duration=0.02, temperature=lambda t: max(0.0, 0.5 - 50 * t) if t < 0.00998 else 0.0)
    assert np.array_equal(levels_of("curve.wav", model), curve.tokens[0])


def test_shards_make_the_files_of_one_process(model, tmp_path, capsys):
    args = ("--num-samples", 5, "--seed", 3, "--backend", "reference", "--dtype", "float64")
    args += ("--temperature", 0.6, 0.7, 0.8, 0.9, 1.0)
    assert make(model, *args, "-o", "all/x.wav") == 0
    for index in range(3):
        shard = ("--batch", 1, "--num-shards", 3, "--shard-index", index)
        assert make(model, *args, "-o", "shards/x.wav", *shard) == 0
    made = {path.name: path.read_bytes() for path in (tmp_path / "shards").glob("*.wav")}
    assert sorted(made) == [f"x-{index:02d}.wav" for index in range(5)]
    assert made == {path.name: path.read_bytes() for path in (tmp_path / "all").iterdir()}
    assert len(set(made.values())) == 5


def test_a_shard_without_pieces_does_nothing(model, tmp_path, capsys):
    assert make(model, "--num-shards", 2, "--shard-index", 0) == 0
    assert make(model, "--num-shards", 5, "--shard-index", 0, "--num-samples", 2) == 0
    assert capsys.readouterr().err.count("nothing to do") == 2
    assert list(tmp_path.iterdir()) == []
    assert make(model, "--num-shards", 2, "--shard-index", 1) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tune-seed0.job", "tune-seed0.wav"]


def test_a_prompt_from_a_file(model, capsys):
    writing.write("prompt.wav", synthetic.plucked_music(0.1, 0), RATE)
    assert make(model, "--prompt", "prompt.wav") == 0
    assert np.array_equal(
        levels_of("tune-seed0.wav", model), srnn.generate(model, duration=0.02, prompt="prompt.wav").tokens[0]
    )
    assert make(model, "-o", "free.wav") == 0
    assert not np.array_equal(levels_of("free.wav", model), levels_of("tune-seed0.wav", model))


INTERRUPTED = """
import sys
from pathlib import Path
from samplernn_fast.commands import main
from samplernn_fast.engine.engine import Engine

run = Engine.run

def run_and_tell(self, state, n):
    levels = run(self, state, n)
    print("slice", file=sys.stderr, flush=True)
    return levels

Engine.run = run_and_tell
main.main(sys.argv[1:])
"""


def test_ctrl_c_keeps_what_is_done(model, tmp_path):
    args = ["generate", str(model), "--duration", "80000", "--seed", "4", "-o", "kept.wav"]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(2):
        while process.stderr.readline() not in ("slice\n", ""):
            pass  # a slow machine says that it is loading
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    messages = [line for line in err.splitlines() if line.startswith("samplernn-fast: ")]
    assert process.returncode == 130, err
    samples, _ = reading.read(tmp_path / "kept.wav")
    seconds = len(samples) / RATE
    assert messages == [f"samplernn-fast: interrupted: kept the first {seconds:.2f} seconds"]
    assert 0 < seconds < 80000 and out.startswith("kept.wav\n")
    kept = levels_of(tmp_path / "kept.wav", model)[:4000]
    assert len(kept) > 256  # more than the first block
    assert np.array_equal(kept, srnn.generate(model, duration=0.5, seed=4).tokens[0, : len(kept)])


@pytest.mark.parametrize("flag", ["-o", "--out", "--output"])
def test_every_command_calls_its_output_by_the_same_names(flag, data_folder, monkeypatch):
    given = {"prepare": ["music"], "import": ["theirs.pt"], "generate": [], "demo": []}
    for name, args in given.items():
        read = functools.wraps(main.COMMANDS[name].load())(lambda *args, **flags: flags)
        found = flags.parse(read, name, [*args, flag, "there"])
        assert str(found.get("out") or found.get("output")) == "there", name
    asked = []
    monkeypatch.setattr(
        "samplernn_fast.training.trainer.train", lambda config, **_: asked.append(config) or sys.exit(0)
    )
    for spelling in ([flag, "there"], [f"{flag}=there"]):
        assert run("train", "laptop", "--data", data_folder, *spelling) == 0
    assert [config.out for config in asked] == [Path("there")] * 2
