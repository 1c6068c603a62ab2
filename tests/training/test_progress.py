"""What a run says: before its first step, at the first steps, and while it goes on."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from runs import tiny, trainer

from samplernn_fast import terminal
from samplernn_fast.audio import writing
from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.preparation import prepare
from samplernn_fast.models.config import OneTierConfig
from samplernn_fast.models.other_configs import HybridRNNWaveNetConfig, SampleRNNGMMConfig, WaveNetConfig
from samplernn_fast.models.registry import build_model
from samplernn_fast.training import progress
from samplernn_fast.training.progress import expected_step, forecast, header, warnings
from samplernn_fast.training.trainer import Trainer, train

CPU = torch.device("cpu")


def warned(config):
    """The warnings of a run with the model and the data of `config`."""
    run = trainer(config)
    return list(warnings(run.config, run.data, run.model, CPU))


def untimed(shown):
    """The lines on standard error, without those that come by the clock on a busy machine."""
    return [line for line in shown.splitlines() if not re.match(r"\d+ (of \d+ )?steps|.* \.\.\.$", line)]


def test_the_header_comes_before_the_first_step(data_folder, tmp_path, monkeypatch, capsys):
    def no_step(self, batch):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "update", no_step)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(data_folder, tmp_path / "run", steps=500), preset="laptop")
    shown = capsys.readouterr()
    lines = untimed(shown.err)
    assert shown.out == "" and [line.split()[0] for line in lines] == ["model", "data", "work", "output"]
    assert "3 tiers (frames of 2, 2, 8), GRU of 16 units, 0.01 million parameters" in lines[0]
    assert "random weights of seed 0" in lines[0]
    assert "2.1 s at 8000 Hz (train 1.3 s, valid 0.1 s, test 0.7 s)" in lines[1] and str(data_folder) in lines[1]
    assert "preset laptop; cpu, 1 thread; a step reads 4 x 64 samples" in lines[2] and "500 steps in all" in lines[2]
    assert "a validation every 7 steps, 4 s of sound in samples/ early and every 2500, a checkpoint every 5" in lines[3]


def test_the_header_says_where_a_run_goes_on_or_starts_from(data_folder, tmp_path, capsys):
    config = tiny(data_folder, tmp_path / "run", steps=2)
    train(config)
    train(replace(config, max_steps=3))
    assert f"goes on from step 2 of {config.out / 'last.safetensors'}" in capsys.readouterr().err
    train(replace(config, out=tmp_path / "other", init_from=str(config.out), max_steps=1))
    assert f"starts from {config.out}" in capsys.readouterr().err


def test_the_header_can_be_left_out(data_folder, tmp_path, capsys):
    train(tiny(data_folder, tmp_path / "run", steps=1), header=False)
    assert untimed(capsys.readouterr().err)[0].startswith("step 1: ")


def test_the_header_names_nothing_that_comes_after_the_end(data_folder, tmp_path):
    data = AudioData.open(data_folder)
    config = tiny(data_folder, tmp_path / "run", steps=99, eval_every=100, save_every=250)
    config = replace(config, model=replace(config.model, sample_rate=8000))
    output = header(config, data, build_model(config.model), CPU, "random")[3]
    assert "a validation at the end" in output and "sound" not in output


def test_a_finished_run_says_that_nothing_is_left(data_folder, tmp_path, capsys):
    config = tiny(data_folder, tmp_path / "run", steps=2)
    train(config)
    assert "nothing is left" not in capsys.readouterr().err
    train(config)
    assert (
        "nothing is left to do: step 2 has reached max_steps, which must be raised to go on" in capsys.readouterr().err
    )


def test_progress_can_be_silent(data_folder, tmp_path, capsys):
    train(tiny(data_folder, tmp_path / "run", steps=8), progress=False)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_the_first_steps_have_lines_and_then_the_speed_is_known(data_folder, tmp_path, capsys):
    train(tiny(data_folder, tmp_path / "run", steps=14, log_every=5))
    lines = untimed(capsys.readouterr().err)[4:]
    assert re.fullmatch(r"step 1: \d\.\d{3} bits per sample", lines[0])
    at = [line.partition(":")[0] for line in lines]
    assert at[:3] == ["step 1", "step 7", "step 10"] and lines[3].startswith("speed   ")
    assert re.search(r"[\d.e-]+ s a step, [\d.]+ s of audio a second; .*validation in 0 s.*step 14 in 0 s", lines[3])
    assert "nan" not in "".join(lines)
    assert re.fullmatch(r"step 7: valid \d\.\d{3}, train \d\.\d{3} bits per sample \(the best so far, kept\)", lines[1])


def test_the_training_bits_beside_a_validation_are_of_the_latest_steps(data_folder, tmp_path, monkeypatch, capsys):
    present = []
    validate = Trainer._validate
    monkeypatch.setattr(
        Trainer, "_validate", lambda self, log: (present.append(self.sums.tolist()), validate(self, log))
    )
    train(tiny(data_folder, tmp_path / "run", steps=6, log_every=4, eval_every=3, lr=0.03))
    lines = [line for line in capsys.readouterr().err.splitlines() if ": valid " in line]
    told = [float(re.search(r", train (\d\.\d{3}) bits", line)[1]) for line in lines]
    assert told == [round(bits / count, 3) for bits, count in present] and len(set(told)) == 2


def test_lines_go_on_where_no_terminal_watches(data_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(terminal, "_FIRST_WAIT", 0.02)
    monkeypatch.setattr(terminal, "_SECOND_WAIT", 0.02)
    train(tiny(data_folder, tmp_path / "run", steps=None, max_minutes=0.02))
    notes = [line for line in capsys.readouterr().err.splitlines() if re.match(r"\d+ steps", line)]
    assert any(re.search(r"steps/s, \d\.\d{3} bits, [\d.]+ s of audio/s, [01] s left", line) for line in notes), notes


def test_the_bar_moves_at_every_step(data_folder, tmp_path, monkeypatch):
    moved = []

    class Display:
        def update(self, done, note):
            moved.append(done)

        def write(self, line):
            pass

        def close(self):
            pass

    monkeypatch.setattr(terminal, "is_watched", lambda: True)
    monkeypatch.setattr(terminal, "_TerminalBar", lambda *args: Display())
    train(tiny(data_folder, tmp_path / "run", steps=6, log_every=50))
    assert {1, 2, 3, 4, 5, 6} <= set(moved) and moved == sorted(moved)


def test_forecast(data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=1000, eval_every=500, save_every=250)
    config = replace(config, model=replace(config.model, sample_rate=8000))
    said = forecast(config, 10, 0.5, 5.0, validates=True)
    assert said == (
        "speed   0.5 s a step, 0.064 s of audio a second; sound in 45 s, checkpoint in 2 min 0 s,"
        " validation in 4 min 5 s, step 1000 in 8 min 15 s"
    )
    assert "validation" not in forecast(config, 10, 0.5, 5.0, validates=False)
    short = forecast(replace(config, max_steps=20), 10, 0.5, 5.0, validates=True)
    assert short.endswith("second; step 20 in 5 s")


def test_a_forecast_ends_with_the_minutes_of_the_run(data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=None, max_minutes=1.5, eval_every=500, save_every=150)
    config = replace(config, model=replace(config.model, sample_rate=8000))
    said = forecast(config, 10, 0.5, 5.0, validates=True)  # 170 more steps
    assert said.endswith("second; sound in 45 s, checkpoint in 1 min 10 s, the end in 1 min 25 s")
    said = forecast(replace(config, max_steps=100), 10, 0.5, 5.0, validates=True)
    assert said.endswith("second; sound in 45 s, step 100 in 45 s")


def test_a_note_comes_every_second_and_lines_at_the_first_steps(data_folder, tmp_path, monkeypatch):
    class Log(SimpleNamespace):
        step = 0

        def advance(self):
            self.step += 1

        def note(self, text):
            self.notes.append(self.step)

        def say(self, line):
            self.lines.append(line.split()[0] + line.split()[1])

    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    config = tiny(data_folder, tmp_path / "run", steps=20)
    config = replace(config, model=replace(config.model, sample_rate=8000))
    quick, slow = Log(notes=[], lines=[]), Log(notes=[], lines=[])
    reporter = progress.Reporter(quick, config, validates=True)
    asked = []
    for step in range(1, 12):
        clock[0] += 3.0 if step == 1 else 0.25
        reporter.step_done(step, clock[0] - 100, lambda step=step: asked.append(step) or 5.0)
    assert quick.notes == [0, 1, 5, 9, 10] and asked == quick.notes[1:]
    assert quick.lines == ["step1:", "step10:", "speed0.25"]
    reporter = progress.Reporter(slow, config, validates=True)
    clock[0] += 120
    reporter.step_done(1, 120, lambda: 5.0)
    assert slow.lines == ["step1:", "speed2"]  # nobody waits for nine more steps of two minutes


def test_a_model_too_large_for_a_cpu_is_said_before_the_first_step(data_folder, tmp_path, monkeypatch):
    config = tiny(data_folder, tmp_path / "run", steps=5)
    assert warned(config) == []
    monkeypatch.setattr(progress, "_CPU_WORK", 1e5)
    (line,) = warned(config)
    assert re.match(r"one step of this model takes about \d+ s on this CPU.*preset laptop", line)
    parameters = 18_750_976  # the preset paper-3tier took one to two minutes a step on two cores
    monkeypatch.undo()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert 40 < expected_step(replace(config, batch_size=128, seq_len=512), parameters, CPU) < 240
    assert expected_step(config, parameters, torch.device("cuda")) == 0


@pytest.mark.parametrize("value", [0, 900])
def test_silent_audio_is_said(value, make_data, tmp_path):
    data = make_data(tmp_path, [0.3])
    audio = np.fromfile(data / "audio.i16", "<i2")
    np.full_like(audio, value).tofile(data / "audio.i16")
    said = warned(tiny(data, tmp_path / "run", steps=1))
    assert any(line.startswith("all of train is silence") and "makes nothing else" in line for line in said)
    assert any("no validation split" in line for line in said)


def test_held_out_splits_of_silence_are_said_before_the_best_model_is_chosen_by_them(make_data, tmp_path):
    data = make_data(tmp_path, [0.3, 0.3, 0.3], valid=[1], test=[2])
    assert warned(tiny(data, tmp_path / "run", steps=1)) == []
    audio = np.fromfile(data / "audio.i16", "<i2")
    audio[len(audio) // 3 :] = 0
    audio.tofile(data / "audio.i16")
    valid, test = warned(tiny(data, tmp_path / "run", steps=1))
    assert valid.startswith("all of valid is silence, or nearly so") and "cannot tell which model is best" in valid
    assert test.startswith("all of test is silence, or nearly so")


def test_another_gain_and_what_it_clips_are_said(data_folder, tmp_path):
    gain = AudioData.open(data_folder).gain
    source = tiny(data_folder, tmp_path / "source", steps=1)
    train(source)
    (tmp_path / "audio").mkdir()
    loud = np.sin(np.arange(8000) / 5).astype(np.float32)
    writing.write(tmp_path / "audio" / "0.wav", loud, 8000)
    writing.write(tmp_path / "audio" / "1.wav", loud[:4000], 8000)
    prepare([tmp_path / "audio"], tmp_path / "data", sample_rate=8000, split=(1, 1, 0), gain=0.5)
    config = replace(source, data=tmp_path / "data", out=tmp_path / "run", init_from=str(source.out))
    (said,) = [line for line in warned(config) if "gain" in line]
    assert f"keeps its gain of {gain:.4g}" in said and f"multiplied by {gain / 0.5:.3g}" in said
    assert re.search(r"; \d\d\.\d\d% of it clips", said)


def test_the_one_tier_baseline_is_described(data_folder, tmp_path):
    model = OneTierConfig(sample_rate=0, gain=0.0, dim=8, n_rnn=2)
    config = tiny(data_folder, tmp_path / "run", steps=1, model=model, sample_every=0)
    lines = header(config, AudioData.open(data_folder), build_model(model), CPU, "random")
    assert "one tier, 2 x GRU of 8 units" in lines[0] and "sound" not in lines[3]


@pytest.mark.parametrize(
    "model, words",
    [
        (
            SampleRNNGMMConfig(sample_rate=0, gain=0.0, dim=8),
            "samplernn-gmm, 3 tiers (frames of 2, 2, 8), GRU of 8 units",
        ),
        (WaveNetConfig(sample_rate=0, gain=0.0, dim=8, layers=2), "wavenet, 8 dilated layers of 8 channels"),
        (
            HybridRNNWaveNetConfig(sample_rate=0, gain=0.0, dim=8, layers=2),
            "hybrid-rnn-wavenet, 8 dilated layers of 8 channels, GRU of 8 units over frames of 128",
        ),
    ],
)
def test_other_systems_are_described(model, words, data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=1, model=model, sample_every=0)
    lines = header(config, AudioData.open(data_folder), build_model(model), CPU, "random")
    assert words in lines[0]
