"""Random search: ranges, trials that are drawn once, several processes, crashes, and what is written."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from runs import tiny
from warm_python import warm_python

from samplernn_fast import files
from samplernn_fast.errors import ConfigError, DataError, Interrupted
from samplernn_fast.training import trainer as trainer_module
from samplernn_fast.training.search import page
from samplernn_fast.training.search.spans import Span
from samplernn_fast.training.trainer import Trainer

optuna = pytest.importorskip("optuna")

from samplernn_fast.training.search import study  # noqa: E402

SPANS = ("lr=1e-4:1e-1:log", "seq-len=32:64", "rnn=gru,lstm")


def space(data, spans=SPANS, about="about", steps=2):
    """A space of tiny runs; `calls` of its function has the flags and folders that were asked for."""
    calls = []

    def configure(flags, run):
        calls.append((tuple(flags), run))
        values = dict(zip((flag[2:] for flag in flags[::2]), flags[1::2], strict=True))
        if values.get("rnn") == "broken":
            raise ConfigError("rnn must be gru or lstm")
        settings = {"lr": float(values["lr"])} if "lr" in values else {}
        return tiny(data, run, steps=steps, model={"rnn": values.get("rnn", "gru")}, sample_every=0, keep=0, **settings)

    made = study.Space(tuple(map(Span.parse, spans)), configure, about)
    return made, calls


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("lr=1e-4:1e-2:log", Span("lr", 1e-4, 1e-2, log=True)),
        ("dim=64:256", Span("dim", 64, 256, whole=True)),
        ("grad-clip=0.5:2", Span("grad_clip", 0.5, 2)),
        ("rnn=gru,lstm", Span("rnn", choices=("gru", "lstm"))),
        ("frame-sizes=2 2 8, 4 4 16", Span("frame_sizes", choices=("2 2 8", "4 4 16"))),
    ],
)
def test_a_range_is_read(text, span):
    assert Span.parse(text) == span


@pytest.mark.parametrize(
    "text", ["lr", "lr=", "lr=1", "lr=a,a", "lr=a,", "lr=1:1", "lr=2:1", "lr=0:1:log", "lr=1:2:exp", "lr=x:2",
             "lr=nan:2", "lr=1:inf", "=1:2", "data=a,b", "out=a,b", "quantization=linear,mu-law", "q-levels=64:256"]
)  # fmt: skip
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ConfigError, match="range must"):
        Span.parse(text)


def test_values_become_flags():
    fixed = optuna.trial.FixedTrial
    assert Span("frame_sizes", choices=("2 2 8", "x")).flag(fixed({"frame_sizes": "2 2 8"})) == [
        "--frame-sizes", "2", "2", "8"
    ]  # fmt: skip
    truth = Span("weight_norm", choices=("true", "false"))
    assert [truth.flag(fixed({"weight_norm": one})) for one in ("true", "false")] == [
        ["--weight-norm"], ["--no-weight-norm"]
    ]  # fmt: skip
    assert Span("dim", 1, 9, whole=True).flag(fixed({"dim": 3})) == ["--dim", "3"]


def test_trials_lie_in_their_ranges_and_the_best_comes_first(data_folder, tmp_path):
    made, calls = space(data_folder)
    found = study.search(tmp_path, made, 4, progress=False)
    assert [trial.bits for trial in found] == sorted(trial.bits for trial in found) and len(calls) == 4
    assert sorted(trial.number for trial in found) == [0, 1, 2, 3]
    for trial in found:
        flags = dict(zip(trial.flags[::2], trial.flags[1::2], strict=True))
        assert 1e-4 <= float(flags["--lr"]) <= 1e-1 and 32 <= int(flags["--seq-len"]) <= 64
        assert flags["--rnn"] in ("gru", "lstm")
        assert (tmp_path / f"trial-{trial.number:04d}" / "run" / "model.safetensors").is_file()


def test_more_trials_go_on_and_are_those_of_a_longer_search(data_folder, tmp_path):
    made, calls = space(data_folder)
    study.search(tmp_path / "a", made, 1, progress=False)
    study.search(tmp_path / "a", made, 3, progress=False)
    assert [run.parent.name for _, run in calls] == ["trial-0000", "trial-0001", "trial-0002"]
    whole, wanted = space(data_folder)
    study.search(tmp_path / "b", whole, 3, progress=False)
    assert [flags for flags, _ in calls] == [flags for flags, _ in wanted]
    other, differ = space(data_folder)
    study.search(tmp_path / "c", other, 1, seed=1, progress=False)
    assert differ[0][0] != wanted[0][0]


def test_a_finished_search_makes_nothing(data_folder, tmp_path):
    made, calls = space(data_folder)
    first = study.search(tmp_path, made, 2, progress=False)
    assert study.search(tmp_path, made, 2, progress=False) == first and len(calls) == 2


def test_a_trial_that_was_stopped_goes_on(data_folder, tmp_path, monkeypatch):
    made, calls = space(data_folder, steps=4)
    update = Trainer.update

    def stop_at_two(self, batch):
        update(self, batch)
        if self.step == 2:
            self.caught.append(15)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Trainer, "update", stop_at_two)
        study.search(tmp_path / "a", made, 2, progress=False)
    steps = []
    monkeypatch.setattr(Trainer, "update", lambda self, batch: (update(self, batch), steps.append(self.step)))
    found = study.search(tmp_path / "a", made, 2, progress=False)
    assert steps == [3, 4, 1, 2, 3, 4] and calls[0] == calls[1]
    monkeypatch.undo()
    assert found == study.search(tmp_path / "b", space(data_folder, steps=4)[0], 2, progress=False)


def test_a_trial_that_another_process_makes_is_left_alone(data_folder, tmp_path):
    made, calls = space(data_folder)
    with files.held(tmp_path):
        study._enqueue(study._study(tmp_path, made, 0), made, 2, 0)
    theirs = study._study(tmp_path, made, 0).ask()
    with files.held(study._folder(tmp_path, theirs.number)):
        found = study.search(tmp_path, made, 2, progress=False)
    assert theirs.number == 0 and [trial.number for trial in found] == [1] and len(calls) == 1
    assert {trial.number for trial in study.search(tmp_path, made, 2, progress=False)} == {0, 1}


def test_fewer_trials_than_were_drawn_are_those_in_all(data_folder, tmp_path):
    made, calls = space(data_folder)
    with files.held(tmp_path):
        study._enqueue(study._study(tmp_path, made, 0), made, 5, 0)
    assert len(study.search(tmp_path, made, 2, progress=False)) == 2 and len(calls) == 2


def test_a_trial_that_was_just_finished_is_not_taken_again(data_folder, tmp_path, monkeypatch):
    """Another process tells of its trial between our look at the states and our hold of the folder."""
    made, calls = space(data_folder)
    with files.held(tmp_path):
        known = study._study(tmp_path, made, 0)
        study._enqueue(known, made, 2, 0)
    theirs, held = known.ask(), files.held
    made.flags(theirs)

    def told_meanwhile(folder, **options):
        if folder.name == "trial-0000" and known.get_trials()[0].state.name == "RUNNING":
            known.tell(theirs.number, 1.0)
        return held(folder, **options)

    monkeypatch.setattr(files, "held", told_meanwhile)
    found = study.search(tmp_path, made, 2, progress=False)
    assert sorted(trial.number for trial in found) == [0, 1] and len(calls) == 1


def test_a_search_that_was_killed_while_it_began_goes_on(data_folder, tmp_path):
    made, _ = space(data_folder)
    optuna.create_study(storage=study._address(tmp_path / "search.db"), study_name="search")
    assert len(study.search(tmp_path, made, 1, progress=False)) == 1


@pytest.mark.parametrize("name", ["what?now", "a b#c%20d", "ü&x=1"])
def test_a_folder_may_have_any_name(name, data_folder, tmp_path):
    study.search(tmp_path / name, space(data_folder)[0], 1, progress=False)
    assert (tmp_path / name / "search.db").is_file() and [path.name for path in tmp_path.iterdir()] == [name]


def test_several_processes_share_a_search(data_folder, tmp_path):
    text = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "support")!r})
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_search import space
from samplernn_fast.training.search import study
made, calls = space(Path({str(data_folder)!r}))
study.search(Path({str(tmp_path)!r}), made, 6, progress=False)
print(len(calls))
"""
    running = [subprocess.Popen([warm_python(), "-c", text], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    made = [int(process.communicate(timeout=240)[0]) for process in running]
    assert sum(made) == 6 and all(process.returncode == 0 for process in running)
    assert len(study.search(tmp_path, space(data_folder)[0], 6, progress=False)) == 6


def test_a_trial_that_cannot_work_fails_and_the_search_goes_on(data_folder, tmp_path):
    made, _ = space(data_folder, spans=("rnn=gru,broken",))
    found = study.search(tmp_path, made, 6, progress=False)
    failed = [trial for trial in found if trial.bits is None]
    assert 0 < len(failed) < 6 and found[-1] in failed and failed[0].reason == "rnn must be gru or lstm"
    assert "rnn must be gru or lstm" in page.table(found)


def test_a_hopeless_trial_ends_early(data_folder, tmp_path, monkeypatch):
    """The sixth trial's bits are far above those of the others at every tenth; the first four are never stopped."""
    plain, _ = space(data_folder, spans=("lr=1e-3:1e-2:log",), steps=10)
    often = {"eval_every": 1, "save_every": 100}
    made = replace(
        plain, stop_hopeless=True, configure=lambda flags, run: replace(plain.configure(flags, run), **often)
    )
    evaluated, validate, steps = trainer_module.evaluate, Trainer._validate, {}

    def scored(model, data, split, **settings):
        result = evaluated(model, data, split, **settings)
        return replace(result, nll_bits=result.nll_bits + 50 * (tmp_path / "trial-0005").exists())

    def noted(self, log):
        validate(self, log)
        steps[self.config.out.parent.name] = self.step

    monkeypatch.setattr(trainer_module, "evaluate", scored)
    monkeypatch.setattr(Trainer, "_validate", noted)
    found = study.search(tmp_path, made, 6, progress=False)
    assert steps["trial-0005"] < 10 and all(steps[f"trial-{number:04d}"] == 10 for number in range(4))
    assert found[-1].number == 5 and found[-1].bits is None and "was hopeless after" in found[-1].reason
    assert found == study.search(tmp_path, made, 6, progress=False)


@pytest.mark.parametrize("other", [{"spans": SPANS[:2]}, {"about": "another budget"}])
def test_another_search_in_the_folder_is_refused(data_folder, tmp_path, other):
    study.search(tmp_path, space(data_folder)[0], 1, progress=False)
    with pytest.raises(ConfigError, match=r"holds a search (of other ranges|with other flags)"):
        study.search(tmp_path, space(data_folder, **other)[0], 1, progress=False)
    with pytest.raises(ConfigError, match="holds a search of another seed"):
        study.search(tmp_path, space(data_folder)[0], 1, seed=5, progress=False)


def test_a_folder_that_holds_something_else_is_refused(data_folder, tmp_path):
    (tmp_path / "manifest.json").touch()
    with pytest.raises(ConfigError, match=r"holds something else than a search .manifest"):
        study.search(tmp_path, space(data_folder)[0], 1, progress=False)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_damaged_study_is_named(data_folder, tmp_path):
    (tmp_path / "search.db").write_bytes(b"no database" * 100)
    with pytest.raises(DataError, match=r"search\.db: cannot be read as a search"):
        study.search(tmp_path, space(data_folder)[0], 1, progress=False)


def test_data_that_cannot_be_read_end_the_search(tmp_path):
    made, _ = space(tmp_path / "missing")
    with pytest.raises(DataError, match="no such folder"):
        study.search(tmp_path / "out", made, 2, progress=False)


def test_the_page_has_commands_that_train(data_folder, tmp_path):
    trials = [
        study.Trial(
            1, ("--lr", "0.01", "--frame-sizes", "2", "2", "8"), 3.5, values={"lr": 0.01, "frame_sizes": "2 2 8"}
        ),
        study.Trial(
            0, ("--lr", "0.1", "--frame-sizes", "4", "4", "16"), 4.5, values={"lr": 0.1, "frame_sizes": "4 4 16"}
        ),
        study.Trial(2, ("--lr", "1.0", "--frame-sizes", "2", "2", "8"), None, "no number"),
    ]
    lines = page.commands(trials, ["samplernn-fast", "train", "laptop", "--data", "d e"], most=1)
    assert lines == ["samplernn-fast train laptop --data 'd e' --lr 0.01 --frame-sizes 2 2 8 --out best-1"]
    spans = tuple(map(Span.parse, ("lr=0.001:1:log", "frame_sizes=2 2 8,4 4 16")))
    written = page.write(tmp_path, trials, spans, "What it is.", lines)
    text = written[0].read_text()
    assert text.index("| 2 | 3.5000 |") < text.index("| 1 | 4.5000 |") and lines[0] in text and "What it is." in text
    if len(written) > 1:
        assert written[1].read_bytes().startswith(b"\x89PNG")


def test_each_setting_has_the_axis_that_its_values_want():
    figures = pytest.importorskip("matplotlib.figure")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    spans = tuple(map(Span.parse, ("lr=0.001:0.002:log", "rnn=gru,lstm", "dim=64,128,1024", "n_layers=1:3")))
    drawn = [(0.001, "gru", "64", 1), (0.002, "lstm", "1024", 3), (0.0015, "gru", "128", 2)]
    names = [span.name for span in spans]
    trials = [
        study.Trial(number, (), 4.0 - number, values=dict(zip(names, values, strict=True)))
        for number, values in enumerate(drawn)
    ]
    figure = figures.Figure()
    page._draw(figure, trials, spans)
    FigureCanvasAgg(figure).draw()
    axes = dict(zip(("turns", *names), figure.axes, strict=False))
    assert {name: axes[name].get_xscale() for name in names} == {
        "lr": "log",
        "rnn": "linear",
        "dim": "linear",
        "n_layers": "linear",
    }
    assert [label.get_text() for label in axes["rnn"].get_xticklabels()] == ["gru", "lstm"]
    points = axes["dim"].lines[0].get_xydata().tolist()
    assert points == [[64.0, 4.0], [128.0, 2.0], [1024.0, 3.0]]  # each choice with the bits of its own trial
