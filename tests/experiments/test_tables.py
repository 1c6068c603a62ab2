"""The paper's tables: equal budgets, entries that are trained once, figures beside the paper's, and what is refused."""

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from samplernn_fast import files, terminal
from samplernn_fast.commands.training import read_flags
from samplernn_fast.errors import ConfigError, DataError, Interrupted, SampleRNNError
from samplernn_fast.experiments import entries, plan, probe, report
from samplernn_fast.experiments.entries import Entry, Score
from samplernn_fast.experiments.places import data_name
from samplernn_fast.experiments.plan import Budget, Plan
from samplernn_fast.experiments.probe import Cost
from samplernn_fast.experiments.systems import LABELS, Variant, command, settings
from samplernn_fast.experiments.tables import TABLES, reproduce
from samplernn_fast.training import starting
from samplernn_fast.training.presets import PRESETS
from samplernn_fast.training.trainer import Trainer

TWO = replace(TABLES["table4"], rows=(Variant("multi-softmax"), Variant("no-embedding-real")))
GMM = replace(TABLES["table2"], rows=(Variant("samplernn-gmm"),))
STEPS = Budget(steps=2)


@pytest.fixture(scope="module")
def finished(data_folder, tmp_path_factory):
    """The folder of a table of two systems, finished. Shared: never write into it."""
    out = tmp_path_factory.mktemp("experiments") / "out"
    reproduce(TWO, [data_folder], out, STEPS)
    return out


@pytest.fixture
def no_training(monkeypatch):
    """From here on, training is a mistake."""

    def refuse(*args, **kwargs):
        raise AssertionError("it trains")

    monkeypatch.setattr(entries, "train", refuse)


def shown(rows, data, table=TWO, budget=STEPS):
    return report.Shown("table4", table, rows, [data], budget, "small", "the command")


def test_what_is_finished_is_not_trained_again(finished, data_folder, no_training):
    rows = reproduce(TWO, [data_folder], finished, STEPS)
    assert [row.variant.preset for row in rows] == ["multi-softmax", "no-embedding-real"]
    for row in rows:
        (score,) = row.scores[data_name(data_folder)]
        assert score.updates == 2 and score.audio_seconds == 2 * 16 * 1024 / 8000
        assert len(score.splits["test"]["bits"]) == 3 and len(score.splits["valid"]["bits"]) == 1


def test_another_table_uses_the_runs_that_are_there(finished, data_folder, no_training):
    one = replace(TABLES["systems"], rows=(Variant("multi-softmax"),))
    assert reproduce(one, [data_folder], finished, STEPS)[0].scores


def test_shards_share_the_work(data_folder, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("samplernn_fast.experiments.tables.finish", lambda entry, scale, device: made.append(entry))
    table = TABLES["systems"]
    for index in range(5):
        reproduce(table, [data_folder], tmp_path, STEPS, seeds=(0, 1), shard=(index, 5))
    named = [(entry.variant.name, entry.seed) for entry in made]
    assert sorted(named) == sorted((row.name, seed) for row in table.rows for seed in (0, 1))


def test_an_entry_that_a_signal_stopped_goes_on_exactly(finished, data_folder, tmp_path, monkeypatch):
    update = Trainer.update

    def stop_after_one(self, batch):
        update(self, batch)
        self.caught.append(2)

    one = replace(TWO, rows=(Variant("multi-softmax"),))
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Trainer, "update", stop_after_one)
        reproduce(one, [data_folder], tmp_path / "out", STEPS)
    (row,) = reproduce(one, [data_folder], tmp_path / "out", STEPS)
    (whole,) = reproduce(one, [data_folder], finished, STEPS)
    name = data_name(data_folder)
    assert row.scores[name][0].splits == whole.scores[name][0].splits


def test_another_budget_is_refused_and_nothing_is_lost(finished, data_folder, no_training):
    with pytest.raises(ConfigError, match="the run had 2 updates, this budget gives 3"):
        reproduce(TWO, [data_folder], finished, Budget(steps=3))
    assert reproduce(TWO, [data_folder], finished, STEPS)


def test_other_data_of_the_same_name_are_refused(finished, data_folder, make_data, tmp_path, no_training):
    folder = tmp_path / data_folder.parent.name
    make_data(folder, (0.3, 0.2, 0.2), valid=(1,), test=(2,))
    with pytest.raises(DataError, match="is of other data than"):
        reproduce(TWO, [folder / "data"], finished, STEPS)


def test_another_scale_is_refused(finished, data_folder, no_training):
    with pytest.raises(ConfigError, match="scale must be small"):
        reproduce(TWO, [data_folder], finished, STEPS, scale="paper")


def test_a_score_without_the_split_that_is_shown_is_damaged(finished, data_folder, tmp_path, no_training):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    file = Entry(Variant("multi-softmax"), data_folder, 0, 2, out).file
    values = json.loads(file.read_text())
    del values["splits"]["test"]
    file.write_text(json.dumps(values))
    with pytest.raises(DataError, match="damaged"):
        reproduce(TWO, [data_folder], out, STEPS)


def test_a_seed_twice_is_refused(data_folder, tmp_path):
    with pytest.raises(ConfigError, match="seeds must be different ones"):
        reproduce(TWO, [data_folder], tmp_path, STEPS, seeds=(0, 0))


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors", "song.wav"])
def test_a_folder_that_holds_something_else_is_refused(name, data_folder, tmp_path):
    (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=rf"holds something else than experiments .{name}"):
        reproduce(TWO, [data_folder], tmp_path, STEPS)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_another_process_trains_is_left_to_it(data_folder, tmp_path, monkeypatch, capsys):
    made = []
    monkeypatch.setattr("samplernn_fast.experiments.tables.finish", lambda entry, *args: made.append(entry))
    busy = Entry(TWO.rows[0], data_folder, 0, 2, tmp_path / "out")
    busy.run.mkdir(parents=True)
    (tmp_path / "out" / "plan.json").write_text('{"scale": "small", "device": "cpu", "costs": {}}')
    with files.held(busy.run):
        rows = reproduce(TWO, [data_folder], tmp_path / "out", STEPS)
    assert [entry.variant for entry in made] == [TWO.rows[1]] and "is left to it" in capsys.readouterr().err
    assert "**2 of 2 entries are still to be made" in report.markdown(shown(rows, data_folder))


def test_two_data_folders_of_one_name_are_refused(data_folder, tmp_path):
    with pytest.raises(ConfigError, match="would both be called"):
        reproduce(TWO, [data_folder, data_folder], tmp_path, STEPS)


def test_data_without_the_split_that_is_shown_are_refused(make_data, tmp_path):
    data = make_data(tmp_path, (0.3, 0.2), valid=(1,))
    with pytest.raises(DataError, match="no recordings in the split test"):
        reproduce(TWO, [data], tmp_path / "out", STEPS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "damage",
    ["", "[]", "{", '{"updates": 2}', {"bits": []}, {"bits": ["x"]}, {"bits": [None]}, {"samples": [0]}, {"nats": 1}],
    ids=str,
)
def test_a_damaged_score_is_named(finished, data_folder, tmp_path, damage):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    entry = Entry(Variant("multi-softmax"), data_folder, 0, 2, out)
    values = json.loads(entry.file.read_text())
    if isinstance(damage, dict):
        for split in values["splits"].values():
            split |= {name: one * len(split["bits"]) if one != 1 else one for name, one in damage.items()}
        damage = json.dumps(values)
    entry.file.write_text(damage)
    with pytest.raises(DataError, match=r"seed0\.json: damaged: .*; remove it to score the run again"):
        Score.read(entry)


def test_the_page_has_our_numbers_beside_the_papers(finished, data_folder, no_training):
    rows = reproduce(TWO, [data_folder], finished, STEPS)
    page = report.markdown(shown(rows, data_folder))
    score = rows[0].scores[data_name(data_folder)][0]
    found = report.of_row(TWO, [score], "test")
    valid = report.of_row(TWO, [score], "valid").value
    row = next(line for line in page.splitlines() if line.startswith("| Multi-Softmax"))
    assert f"| {found.value:.3f} ({valid:.3f}) |" in row  # three recordings have no interval
    assert row.endswith("| 1.685 (1.656) |")
    assert "**Every system has 2 updates**" in page and "samplernn-fast train multi-softmax" in page


def test_a_seed_more_is_a_mean(finished, data_folder, no_training):
    rows = reproduce(TWO, [data_folder], finished, STEPS)
    score = rows[0].scores[data_name(data_folder)][0]
    bits = [value + 1 for value in score.splits["test"]["bits"]]
    other = replace(score, seed=1, splits={"test": {**score.splits["test"], "bits": bits}})
    alone, both = (report.of_row(TWO, scores, "test").value for scores in ([score], [score, other]))
    assert both == pytest.approx(alone + 0.5)


def test_differences_are_taken_recording_by_recording(finished, data_folder, no_training):
    """Systems that differ by the same on every recording differ surely, however much recordings do."""
    many = 12
    rows = reproduce(TWO, [data_folder], finished, STEPS)
    name = data_name(data_folder)
    score = rows[0].scores[name][0]
    bits = {
        place: {"samples": [100] * many, "bits": [float(number) + place for number in range(many)]} for place in (0, 1)
    }
    shifted = [
        replace(row, scores={name: [replace(score, splits={"test": bits[place]})]}) for place, row in enumerate(rows)
    ]
    page = report.markdown(shown(shifted, data_folder))
    assert (
        f"- {name}: Multi-Softmax, Without Embedding (real-valued samples) (+1.000 [1.000, 1.000], on 12 of 12)."
        in page
    )
    row = next(line for line in page.splitlines() if line.startswith("| Multi-Softmax"))
    assert "| 5.500 [3.5" in row
    assert "- paper, Blizzard: Without Embedding (real-valued samples), Multi-Softmax." in page


def test_the_sheet_has_a_line_for_each_split(finished, data_folder, no_training):
    rows = reproduce(TWO, [data_folder], finished, STEPS)
    lines = list(csv.DictReader(io.StringIO(report.as_csv(shown(rows, data_folder)))))
    assert [(line["system"], line["split"]) for line in lines] == [
        (preset, split) for preset in ("multi-softmax", "no-embedding-real") for split in ("valid", "test")
    ]
    assert all(float(line["nll"]) > 0 and line["recordings"] in ("1", "3") for line in lines)
    theirs = [line["paper_blizzard"] for line in lines]
    assert theirs == ["1.656", "1.685", "1.539", "1.566"]


def test_files_are_written_and_the_figure_is_a_picture(finished, data_folder, tmp_path, no_training):
    pytest.importorskip("matplotlib")
    rows = reproduce(TWO, [data_folder], finished, STEPS)
    written = report.write(shown(rows, data_folder), tmp_path)
    assert [path.name for path in written] == ["table4.md", "table4.csv", "table4.png"]
    assert written[2].read_bytes().startswith(b"\x89PNG")


def test_a_table_that_is_not_finished_says_so(data_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("samplernn_fast.experiments.tables.finish", lambda *args: None)
    rows = reproduce(TWO, [data_folder], tmp_path, STEPS)
    page = report.markdown(shown(rows, data_folder))
    assert "| Multi-Softmax | — |" in page and "Nothing is finished yet." in page and "best to worst" not in page


def test_mixtures_are_shown_in_nats(data_folder, tmp_path):
    rows = reproduce(GMM, [data_folder], tmp_path, STEPS)
    (score,) = rows[0].scores[data_name(data_folder)]
    assert set(score.splits["test"]) == {"samples", "bits", "nats"}
    lines = csv.DictReader(io.StringIO(report.as_csv(shown(rows, data_folder, GMM))))
    assert [line["unit"] for line in lines] == ["bits", "nats", "bits", "nats"]


class TestPlan:
    @pytest.fixture
    def costs(self, monkeypatch):
        """What each update costs, in the order in which it was asked for: 4 s first, as on a busy machine, then 2 s."""
        asked = []

        def measured(config):
            asked.append(config.out.name)
            turn = asked.count(config.out.name)
            return Cost(4.0 if turn == 1 else 2.0 + 0.01 * turn, 10**6 * turn)

        monkeypatch.setattr(plan, "measure", measured)
        monkeypatch.setattr("samplernn_fast.experiments.tables.finish", lambda *args: None)
        return asked

    def test_minutes_become_updates_once_two_measures_agree(self, costs, data_folder, tmp_path):
        for _ in range(2):
            reproduce(TWO, [data_folder], tmp_path, Budget(minutes=1))
        first, second = (row.preset for row in TWO.rows)
        assert costs == [first, second, second, first, first, second]
        known = Plan.read(tmp_path, "small", "cpu").costs[first]
        assert known == Cost(2.02, 3 * 10**6) and Budget(minutes=1).count(known) == 30

    def test_a_busy_machine_is_told(self, data_folder, tmp_path, monkeypatch, capsys):
        times = iter(range(100, 0, -7))
        monkeypatch.setattr(plan, "measure", lambda config: Cost(float(next(times)), None))
        monkeypatch.setattr("samplernn_fast.experiments.tables.finish", lambda *args: None)
        one = replace(TWO, rows=TWO.rows[:1])
        reproduce(one, [data_folder], tmp_path, Budget(minutes=1))
        told = capsys.readouterr().err
        assert ("the machine is busy" in told) == (next(times) < 60), told

    def test_another_device_is_refused(self, costs, data_folder, tmp_path):
        Plan(tmp_path, "small", "cuda").write()
        with pytest.raises(ConfigError, match="device must be cuda"):
            reproduce(TWO, [data_folder], tmp_path, Budget(minutes=1))

    def test_only_what_is_missing_is_measured(self, costs, data_folder, tmp_path):
        reproduce(TWO, [data_folder], tmp_path, Budget(minutes=1))
        more = replace(TWO, rows=(*TWO.rows, Variant("rnn")))
        reproduce(more, [data_folder], tmp_path, Budget(minutes=1))
        assert costs[6:] == ["rnn"] * 3

    def test_lengths_of_subsequences_read_equally_much_audio(self, costs, data_folder, tmp_path, monkeypatch):
        made = []
        monkeypatch.setattr("samplernn_fast.experiments.tables.finish", lambda entry, *args: made.append(entry))
        reproduce(TABLES["table3"], [data_folder], tmp_path, Budget(minutes=1))
        assert {entry.updates * entry.config("small").seq_len for entry in made} == {30 * 512}

    def test_steps_time_what_the_table_shows_and_nothing_else(self, costs, data_folder, tmp_path, monkeypatch, capsys):
        totals = []
        shown = terminal.Bar

        def bar(total, *args, **settings):
            totals.append(total)
            return shown(total, *args, **settings)

        monkeypatch.setattr(plan.terminal, "Bar", bar)
        reproduce(TWO, [data_folder], tmp_path / "two", STEPS)
        assert costs == [] and "timing" not in capsys.readouterr().err
        table = replace(TABLES["table3"], rows=TABLES["table3"].rows[:2])
        reproduce(table, [data_folder], tmp_path / "lengths", STEPS)
        assert set(costs) == {row.name for row in table.rows}  # and not the row by which minutes become updates
        assert totals == [2, 2, 2]
        assert "timing updates of 2 systems, whose speed and memory the table shows" in capsys.readouterr().err

    def test_a_damaged_plan_is_named(self, data_folder, tmp_path):
        (tmp_path / "plan.json").write_text('{"scale": "small", "device": "cpu", "costs": {"rnn": {"seconds": -1}}}')
        with pytest.raises(DataError, match=r"plan\.json: .*; put a whole copy in its place"):
            reproduce(TWO, [data_folder], tmp_path, STEPS)

    @pytest.mark.parametrize("given", [{}, {"minutes": 1, "steps": 2}])
    def test_a_budget_is_given_once(self, given):
        with pytest.raises(ConfigError, match="must be given once"):
            Budget(**given)


def test_an_update_is_measured_in_a_process_of_its_own(data_folder, tmp_path):
    short, long = (
        probe.measure(settings(Variant("paper-3tier", length), "small", data_folder, tmp_path / "none", updates=1))
        for length in (8, 512)
    )
    assert 0 < short.seconds < long.seconds and not (tmp_path / "none").exists()
    if short.memory_bytes is not None and long.memory_bytes is not None:
        assert 0 <= short.memory_bytes < long.memory_bytes < 4e9


def test_a_process_that_fails_says_why(tmp_path):
    with pytest.raises(SampleRNNError, match=r"rnn could not be measured: .*no such folder"):
        probe.measure(settings(Variant("rnn"), "small", tmp_path / "missing", tmp_path / "rnn", updates=1))


@pytest.mark.parametrize("scale", ["small", "paper"])
@pytest.mark.parametrize("preset", LABELS)
def test_the_command_that_is_printed_trains_the_same(preset, scale, monkeypatch):
    monkeypatch.setattr(starting, "check_early", lambda config: None)  # there are no data
    looked_at = ("save_every", "sample_every", "keep", "device")
    config = settings(Variant(preset, 2048 if "wavenet" in preset else None), scale, Path("d"), Path("o"), updates=7)
    words = command(replace(config, seed=3), preset)
    assert words[:3] == ["samplernn-fast", "train", preset]
    read = read_flags(preset, words[3:], "samplernn-fast train").to_dict()
    wanted = replace(config, seed=3).to_dict()
    assert {key: value for key, value in read.items() if key not in looked_at} == {
        key: value for key, value in wanted.items() if key not in looked_at
    }


def test_every_system_has_256_levels_or_a_density():
    for preset in LABELS:
        model = settings(Variant(preset), "paper", Path("d"), Path("o"), updates=1).model
        assert model.mixture or (model.quantization, model.q_levels) == ("linear", 256)


def test_the_paper_scale_is_the_preset():
    for preset in LABELS:
        config = settings(Variant(preset), "paper", Path("d"), Path("o"), updates=1)
        before = PRESETS[preset][1]
        for name in ("batch_size", "seq_len", "lr", "lr_schedule", "warmup_steps", "grad_clip"):
            assert getattr(config, name) == getattr(before, name), (preset, name)


def test_the_papers_numbers_are_those_of_rows_that_exist():
    for table in TABLES.values():
        assert set(table.paper) <= {row.name for row in table.rows}
        assert all(len(numbers) == len(table.columns) for numbers in table.paper.values())
