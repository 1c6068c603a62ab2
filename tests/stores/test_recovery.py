"""Runs at an address in bad times: the store lost them, another machine took them, what they began from is gone."""

import json

import pytest
from runs import tiny

from samplernn_fast.errors import ConfigError, StoreError
from samplernn_fast.models.places import LAST_FILE, MARKS, MODEL_FILE, TEACHER_FILE
from samplernn_fast.stores import lease, running
from samplernn_fast.stores.store import Store
from samplernn_fast.training.resuming import checkpoint_of
from samplernn_fast.training.starting import command
from samplernn_fast.training.trainer import train

RUN = "memory://b/runs/x"


@pytest.fixture(scope="module")
def straight(data_folder, tmp_path_factory):
    """A run of four steps in a folder."""
    out = tmp_path_factory.mktemp("straight") / "x"
    train(tiny(data_folder, out, steps=4), progress=False)
    return out


def at(data_folder, steps, **settings):
    return tiny(data_folder, RUN, steps=steps, **settings)


@pytest.mark.parametrize("gone", [[LAST_FILE], [MODEL_FILE, LAST_FILE, "log.csv", "config.json"]])
def test_a_run_that_is_gone_from_the_store_is_not_removed_here(memory, data_folder, gone):
    train(at(data_folder, 3), progress=False)
    folder = running.working_folder(RUN)
    for name in gone:
        memory.rm_file(f"/b/runs/x/{name}")
    if len(gone) > 1:
        memory.rm("/b/runs/x", recursive=True)
    running._mirrors.clear()
    with pytest.raises(ConfigError, match=r"has no (last|model).safetensors any more, and its copy in .* is kept"):
        train(at(data_folder, 6), progress=False)
    assert (folder / LAST_FILE).is_file() and (folder / "log.csv").is_file()
    assert not memory.exists(f"/b/runs/x/{LAST_FILE}")


def test_a_run_that_was_taken_over_at_its_end_is_not_said_to_be_sent_later(memory, data_folder):
    with pytest.raises(StoreError, match="was taken over by a run on m2; the run is kept in") as raised:
        with running.training_in(running.working_folder(RUN), MARKS, first=True, say=False):
            memory.pipe_file(f"/b/runs/x/{lease.LEASE_FILE}", json.dumps({"token": "o", "machine": "m2"}).encode())
    assert "the same command" not in str(raised.value)


def test_a_run_that_torchrun_starts_again_waits_for_the_lease_of_a_machine_that_is_gone(memory, monkeypatch):
    monkeypatch.setattr(lease, "EXPIRES_SECONDS", 0.3)
    dead = lease.Lease(Store(RUN), "dead")
    dead.take()
    dead._done.set()
    second = lease.Lease(Store(RUN), "second")
    with pytest.raises(ConfigError, match="is being trained in on"):
        second.take()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert second.take()
    second.release()


def test_a_lease_that_lives_is_not_waited_for(memory, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    monkeypatch.setattr(lease, "RENEWED_SECONDS", 0.05)
    monkeypatch.setattr(lease, "ASKED_SECONDS", 0.2)
    first = lease.Lease(Store(RUN), "first")
    first.take()
    with pytest.raises(ConfigError, match="is being trained in on"):
        lease.Lease(Store(RUN), "second").take()
    first.release()


def test_what_a_killed_process_left_beside_a_run_goes(memory, data_folder):
    folder = running.working_folder(RUN)
    (folder.parent / "x.partial-1-ab").mkdir(parents=True)
    (folder.parent / "0123456789abcdef.tmp").write_bytes(b"")
    train(at(data_folder, 2), progress=False)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["bringing", "owner", "x"]


def test_a_run_goes_on_when_what_it_began_from_is_gone(memory, data_folder, straight, tmp_path):
    for name in (MODEL_FILE, LAST_FILE):
        memory.pipe_file(f"/b/other/{name}", (straight / name).read_bytes())
    for resume in ("memory://b/other", "memory://b/other", "memory://b/other/last.safetensors", "auto"):
        on = tiny(data_folder, tmp_path / "on", steps=6, resume=resume)
        assert train(on, progress=False).steps == 6
        memory.store.clear()
    with pytest.raises(ConfigError, match="holds another run"):
        train(tiny(data_folder, tmp_path / "on", steps=6, resume="memory://b/third"), progress=False)


def test_the_teacher_comes_with_the_checkpoint_of_an_address(memory, straight):
    memory.pipe({f"/b/other/{name}": b"0" for name in (LAST_FILE, TEACHER_FILE, "log.csv")})
    path = checkpoint_of(f"memory://b/other/{LAST_FILE}")
    assert sorted(one.name for one in path.parent.iterdir()) == [LAST_FILE, TEACHER_FILE]


def test_advice_for_a_run_at_an_address_names_an_address(memory, data_folder):
    config = at(data_folder, 3)
    config.out.mkdir(parents=True)
    assert f"--out {RUN}-2" in command(config, init_from="m")
