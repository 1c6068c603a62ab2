"""`Ledger`: units that are made whole or not at all, and what is found where one is wrong."""

import json
import os
import time
from pathlib import Path

import pytest

from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.jobs.ledger import INSIDE, MISSING, Ledger, Plan, find_jobs, job_folder
from samplernn_fast.jobs.status import check_complete, status_of

UNITS = tuple(f"tune-{number:02d}.wav" for number in range(6))
PLAN = Plan("generate", {"seed": 1, "temperature": 0.5}, UNITS)


@pytest.fixture
def ledger(tmp_path):
    return Ledger.begin(tmp_path / "tune.job", PLAN)


def make(ledger, *names):
    with ledger.making() as folder:
        for name in names:
            (folder / name).write_bytes(content(name))
            ledger.adopt(name, folder / name)


def content(name):
    return name.encode() * 50


def test_units_are_made_once(ledger, tmp_path):
    assert ledger.to_make(UNITS, pytest.fail) == list(UNITS)
    make(ledger, *UNITS[:4])
    again = Ledger.begin(tmp_path / "tune.job", PLAN)
    assert again.to_make(UNITS, pytest.fail) == list(UNITS[4:])
    assert (tmp_path / UNITS[0]).read_bytes() == content(UNITS[0])
    assert not list((ledger.folder / "making").iterdir())


def test_a_job_with_other_settings_is_refused(ledger, tmp_path):
    other = Plan("generate", {"seed": 2, "temperature": 0.5}, UNITS)
    with pytest.raises(ConfigError, match="has another job: seed is 1 there and 2 here"):
        Ledger.begin(ledger.folder, other)
    with pytest.raises(ConfigError, match='command is "generate" there and "prepare" here'):
        Ledger.begin(ledger.folder, Plan("prepare", PLAN.settings, UNITS))
    with pytest.raises(ConfigError, match="has another job: top_k is null there and null here"):
        Ledger.begin(ledger.folder, Plan("generate", PLAN.settings | {"top_k": None}, UNITS))
    for units, message in (
        (UNITS[1:], f"it makes {UNITS[0]} there and {UNITS[1]} here"),
        ((*UNITS, "z.wav"), "it makes no further file there and z.wav here"),
    ):
        with pytest.raises(ConfigError, match=f"has another job: {message}; choose another output"):
            Ledger.begin(ledger.folder, Plan("generate", PLAN.settings, units))
    with pytest.raises(ConfigError, match="a unit's name must be that of a file"):
        Ledger.begin(tmp_path / "x.job", Plan("generate", {}, ("../tune.wav",)))
    assert not (tmp_path / "x.job").exists()


def test_a_tuple_in_the_settings_is_the_list_that_json_makes_of_it(ledger, tmp_path):
    for values in ((1, 2), [1, 2]):
        Ledger.begin(tmp_path / "x.job", Plan("generate", {"temperature": values}, UNITS))


def test_what_is_wrong_is_set_aside_reported_and_made_again(ledger, tmp_path):
    make(ledger, *UNITS[:4])
    cut, flipped, foreign, gone = (tmp_path / name for name in (UNITS[0], UNITS[1], UNITS[4], UNITS[2]))
    os.truncate(cut, 100)
    flipped.write_bytes(bytes([flipped.read_bytes()[0] ^ 1]) + flipped.read_bytes()[1:])
    foreign.write_text("somebody's own")
    gone.unlink()
    (tmp_path / "tune-77.wav").write_text("another number")
    status = status_of(ledger)
    assert (status.done, status.missing, status.complete) == (1, [UNITS[2], UNITS[5]], False)
    assert status.broken == {
        UNITS[0]: "has 100 bytes, and 550 were written",
        UNITS[1]: "holds other bytes than were written",
        UNITS[4]: "was not made by this job",
    }
    assert status.unknown == ["tune-77.wav"] and "tune-77.wav is no unit of this job" in status.text()
    assert status_of(ledger, deep=False).broken.keys() == {UNITS[0], UNITS[4]}
    with pytest.raises(DataError, match=r"5 of 6 units are still to be made: .*has 100 bytes"):
        check_complete(status)

    said = []
    assert ledger.to_make(UNITS, said.append) == [*UNITS[:3], *UNITS[4:]]
    assert len(said) == 3 and all("is moved to" in line for line in said)
    aside = sorted((ledger.folder / "set-aside").iterdir())
    assert [path.name[: len(UNITS[0])] for path in aside] == [UNITS[0], UNITS[1], UNITS[4]]
    assert aside[2].read_text() == "somebody's own"
    make(ledger, *UNITS)
    assert status_of(ledger).complete and ledger.to_make(UNITS, pytest.fail) == []


def test_a_process_that_dies_between_record_and_file_leaves_a_unit_to_make(ledger, monkeypatch):
    def dies(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr("samplernn_fast.files.put_in_place", lambda made, path: os.replace(made, path))
    make(ledger, UNITS[0])
    (ledger.path(UNITS[0])).unlink()
    assert ledger.fault(UNITS[0]) == MISSING
    records = ledger.folder / "units"
    monkeypatch.setattr("samplernn_fast.files.put_in_place", lambda made, path: records in path.parents or dies())
    with pytest.raises(KeyboardInterrupt):
        make(ledger, UNITS[1])
    assert ledger.fault(UNITS[1]) == MISSING and ledger.to_make(UNITS[:2], pytest.fail) == list(UNITS[:2])


def test_the_manifest_tells_every_unit_and_no_time(ledger):
    make(ledger, *UNITS[:3])
    with pytest.raises(DataError, match=r"tune-03.wav: was not made by this job"):
        ledger.write_manifest()
    make(ledger, *reversed(UNITS))
    first = ledger.write_manifest().read_bytes()
    make(ledger, *UNITS)
    assert ledger.write_manifest().read_bytes() == first
    rows = json.loads(first)["units"]
    assert [row["name"] for row in rows] == list(UNITS) and all(len(row["sha256"]) == 64 for row in rows)


def test_leftovers_go_when_they_are_old_or_the_job_is_whole(ledger):
    making = ledger.folder / "making"
    for name, age in (("old", 90_000), ("new", 60)):
        (making / name).mkdir()
        (making / name / "tune-00.wav").write_bytes(b"half")
        for path in (making / name / "tune-00.wav", making / name):
            os.utime(path, (time.time() - age,) * 2)
    Ledger.begin(ledger.folder, PLAN)
    assert [path.name for path in making.iterdir()] == ["new"]
    make(ledger, *UNITS)
    ledger.write_manifest()
    assert [path.name for path in making.iterdir()] == ["new"]  # somebody may still be at work there
    for path in (making / "new" / "tune-00.wav", making / "new"):
        os.utime(path, (time.time() - 4000,) * 2)
    ledger.write_manifest()
    assert not list(making.iterdir())
    making.rmdir()  # as a copy may have lost it
    ledger.write_manifest()


def test_units_may_lie_inside(tmp_path):
    ledger = Ledger.begin(tmp_path / "data.job", Plan("prepare", {}, UNITS, INSIDE))
    make(ledger, UNITS[0])
    assert [path.name for path in tmp_path.iterdir()] == ["data.job"] and ledger.fault(UNITS[0]) is None


def test_a_job_that_is_closed_has_no_units_and_counts_as_whole(tmp_path):
    ledger = Ledger.begin(tmp_path / "data.job", Plan("prepare", {}, UNITS, INSIDE))
    make(ledger, *UNITS[1:])
    with pytest.raises(DataError, match="was not made by this job"):
        ledger.close()
    assert not ledger.is_closed() and ledger.path(UNITS[1]).exists()
    make(ledger, UNITS[0])
    ledger.close()
    ledger.close()
    assert ledger.is_closed() and not ledger.path(UNITS[0]).exists()
    status = status_of(Ledger.begin(ledger.folder, ledger.plan))
    assert status.complete and status.done == len(UNITS) and "are there and right" in status.text()


def test_rate_and_time_left(ledger):
    make(ledger, *UNITS[:4])
    now = time.time()
    for number, name in enumerate(UNITS[:4]):
        os.utime(ledger.folder / "units" / f"{name}.json", (now - 300 + 60 * number,) * 2)
    status = status_of(ledger)
    assert status.units_per_hour == pytest.approx(60) and status.hours_left == pytest.approx(2 / 60)
    assert "60 an hour, 2 min left at that rate, the last one 2 min ago" in status.text()
    assert status.to_dict()["seconds_since_last"] == pytest.approx(120, abs=5)


@pytest.mark.parametrize(
    ("seconds", "rate"),
    [
        ((0, 0.001, 0.002, 0.003), None),  # one batch, whose beginning nobody knows
        ((0, 0.001, 0.002, 60, 60.001, 60.002), 180),  # another of three, a minute later
        ((0, 0.2, 60, 60.2), 2 * 3600 / 60.0),
        ((0, 60), None),
    ],
)
def test_the_rate_of_units_that_come_in_batches(ledger, seconds, rate):
    make(ledger, *UNITS[: len(seconds)])
    for second, name in zip(seconds, UNITS, strict=False):
        os.utime(ledger.folder / "units" / f"{name}.json", (time.time() - 300 + second,) * 2)
    found = status_of(ledger).units_per_hour
    assert found is None if rate is None else found == pytest.approx(rate, rel=0.01)


def test_jobs_are_found_by_their_folder_their_output_or_where_they_lie(ledger, tmp_path, monkeypatch):
    for place in (ledger.folder, tmp_path, tmp_path / "tune.wav", tmp_path / "tune"):
        assert find_jobs(place) == [ledger.folder]
    monkeypatch.chdir(tmp_path)
    assert find_jobs(Path(".")) == [Path("tune.job")]
    with pytest.raises(DataError, match="no job is there"):
        find_jobs(tmp_path / "other.wav")
    with pytest.raises(DataError, match="no job is there"):
        find_jobs(Path("/"))
    assert job_folder(tmp_path / "data") == tmp_path / "data.job"
    assert job_folder(tmp_path / "v1.2") == tmp_path / "v1.2.job"  # a folder
    assert job_folder(tmp_path / "a.b.FLAC") == tmp_path / "a.b.job"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": "samplernn_fast job"}',
        json.dumps(PLAN.to_dict() | {"version": 9}),
        json.dumps(PLAN.to_dict() | {"units": ["a", "a"]}),
        json.dumps(PLAN.to_dict() | {"units": ["../a"]}),
        json.dumps(PLAN.to_dict() | {"place": "/"}),
    ],
)
def test_a_damaged_plan_is_refused(ledger, text):
    (ledger.folder / "plan.json").write_text(text)
    with pytest.raises(DataError, match=r"plan\.json: "):
        Ledger.open(ledger.folder)


def test_a_damaged_record_counts_as_none(ledger):
    make(ledger, UNITS[0])
    for text in ("", "{}", '{"bytes": -1, "sha256": ""}', '{"bytes": 1}'):
        (ledger.folder / "units" / f"{UNITS[0]}.json").write_text(text)
        assert ledger.fault(UNITS[0]) == "was not made by this job"
