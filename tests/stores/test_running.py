"""A run at an address: the bits of one in a folder, on one machine after another; nothing is lost if sending fails."""

import json
import os
import signal
import time

import pytest
from command_line import TINY, run
from runs import assert_same_run, tiny

pytest.importorskip("fsspec", reason="needs the extra `store`")

from fsspec.spec import AbstractFileSystem

from samplernn_fast.errors import ConfigError, StoreError
from samplernn_fast.models.places import LAST_FILE, MARKS, MODEL_FILE
from samplernn_fast.stores import lease, running
from samplernn_fast.stores.reading import local
from samplernn_fast.stores.store import Store
from samplernn_fast.training.trainer import train

RUN = "memory://b/runs/x"


@pytest.fixture(scope="module")
def straight(data_folder, tmp_path_factory):
    """A run of twelve steps in a folder, which was never stopped."""
    out = tmp_path_factory.mktemp("straight") / "x"
    train(tiny(data_folder, out, steps=12), progress=False)
    return out


def at(data_folder, steps, **settings):
    return tiny(data_folder, RUN, steps=steps, **settings)


def brought():
    """The whole run as it is in the store."""
    return local(RUN)


def test_a_run_at_an_address_has_the_bits_of_one_in_a_folder(memory, data_folder, straight):
    result = train(at(data_folder, 12), progress=False)
    assert_same_run(brought(), straight)
    assert_same_run(result.run, straight)
    assert json.loads(memory.cat_file("/b/runs/x/config.json"))["out"] == RUN
    assert not memory.exists(f"/b/runs/x/{lease.LEASE_FILE}")


def test_another_machine_goes_on_with_the_same_bits(memory, data_folder, straight, another_machine):
    train(at(data_folder, 7), progress=False)
    another_machine()
    train(at(data_folder, 12), progress=False)
    assert_same_run(brought(), straight)


def test_models_that_are_kept_no_more_are_removed_there_too(memory, data_folder):
    result = train(at(data_folder, 30, eval_every=2, keep=2), progress=False)
    there = sorted(name.rpartition("/")[2] for name in memory.find("/b/runs/x/models"))
    assert there == sorted(path.name for path in (result.run / "models").iterdir()) and len(there) == 2


def test_everything_is_sent_before_the_files_that_say_where_the_run_stands(memory, data_folder, monkeypatch):
    order, put = [], Store.put
    monkeypatch.setattr(Store, "put", lambda self, name, file: (order.append(name), put(self, name, file)))
    train(at(data_folder, 5, save_every=5), progress=False)
    first = order[: order.index(LAST_FILE) + 1]
    assert first[-2:] == [MODEL_FILE, LAST_FILE] and {"config.json", "log.csv"} <= set(first[:-2])


class Killed(BaseException):
    """Ends a run as SIGKILL does: nothing is sent and nothing is given back."""


def kill_at(monkeypatch, name, times):
    """The run is killed when it sends the file `name` for the time of that number."""
    put, seen = Store.put, []

    def killing(self, one, file):
        seen.append(one)
        if seen.count(name) == times:
            raise Killed
        put(self, one, file)

    monkeypatch.setattr(Store, "put", killing)
    monkeypatch.setattr(running.Mirror, "finish", lambda self, *args, **kwargs: self.lease._done.set())


@pytest.mark.parametrize(
    ("name", "elsewhere"), [("log.csv", True), (MODEL_FILE, False), (LAST_FILE, True), (LAST_FILE, False)]
)
def test_a_run_that_was_killed_while_it_sent_goes_on(
    memory, data_folder, straight, monkeypatch, another_machine, name, elsewhere
):
    with monkeypatch.context() as patch:
        kill_at(patch, name, times=2)
        with pytest.raises(Killed):
            train(at(data_folder, 12, save_every=3), progress=False)
    if elsewhere:
        another_machine()
        monkeypatch.setattr(lease, "EXPIRES_SECONDS", 0.0)
    else:  # another process of the same machine
        running._mirrors.clear()
    train(at(data_folder, 12), progress=False)
    assert_same_run(brought(), straight)


def test_what_was_sent_just_before_a_kill_is_known_again(memory, data_folder, straight, monkeypatch):
    """The checkpoint has arrived, and the run was killed before it noted that."""
    with monkeypatch.context() as patch:
        put, files = Store.put, Store.files

        def killing(self, *args):
            if memory.exists(f"/b/runs/x/{LAST_FILE}"):
                raise Killed
            return files(self, *args)

        patch.setattr(Store, "files", killing)
        patch.setattr(running.Mirror, "finish", lambda self, *args, **kwargs: self.lease._done.set())
        with pytest.raises(Killed):
            train(at(data_folder, 12, save_every=3), progress=False)
        assert put is Store.put
    running._mirrors.clear()
    train(at(data_folder, 12), progress=False)
    assert_same_run(brought(), straight)


def test_an_older_checkpoint_that_was_sent_from_here_is_known_again(memory, data_folder, straight, monkeypatch):
    """The first checkpoint arrives, but not the answer, and nothing after it; the copy has gone on meanwhile."""

    def until_it_arrives(before):
        def failing(self, *args):
            if memory.exists(f"/b/runs/x/{LAST_FILE}"):
                raise StoreError(f"{self.address}: the network is down")
            return before(self, *args)

        return failing

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", until_it_arrives(Store.put))
        patch.setattr(Store, "files", until_it_arrives(Store.files))
        with pytest.raises(StoreError, match="the network is down"):
            train(at(data_folder, 7, save_every=3), progress=False)
    running._mirrors.clear()
    train(at(data_folder, 12), progress=False)
    assert_same_run(brought(), straight)


def test_a_network_that_fails_does_not_end_the_run(memory, data_folder, straight, monkeypatch, capsys):
    put, calls = Store.put, []

    def failing(self, name, file):
        calls.append(name)
        if 3 < len(calls) < 9:
            raise StoreError(f"{self.address}: cannot be written: the network is down")
        put(self, name, file)

    monkeypatch.setattr(Store, "put", failing)
    train(at(data_folder, 12, save_every=1))
    shown = capsys.readouterr().err
    assert shown.count("the network is down; training goes on") == 1
    assert shown.count("is up to date again") == 1
    assert_same_run(brought(), straight)


def test_a_run_that_cannot_be_sent_at_its_end_is_kept_and_sent_later(memory, data_folder, straight, monkeypatch):
    def failing(self, name, file):
        raise StoreError(f"{self.address}: cannot be written: the network is down")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", failing)
        with pytest.raises(StoreError, match=r"the run is kept in .*, and the same command sends it") as raised:
            train(at(data_folder, 12), progress=False)
    kept = running.working_folder(RUN)
    assert str(kept) in str(raised.value)
    assert_same_run(kept, straight)
    running._mirrors.clear()
    train(at(data_folder, 12), progress=False)
    assert_same_run(brought(), straight)


@pytest.mark.parametrize("network", [True, False])
def test_a_run_that_ends_by_an_error_is_sent_and_keeps_its_error(memory, data_folder, monkeypatch, capsys, network):
    def fails(step, seconds, bits):
        if not network:
            monkeypatch.setattr(Store, "put", breaks)
        raise ValueError("no more of this")

    def breaks(self, name, file):
        raise StoreError(f"{self.address}: the network is down")

    with pytest.raises(ValueError, match="no more of this"):
        train(at(data_folder, 12, save_every=5), watch=fails)
    rows = (running.working_folder(RUN) / "log.csv").read_bytes()
    assert (memory.cat_file("/b/runs/x/log.csv") == rows) == network
    assert ("the run is kept in" in capsys.readouterr().err) != network
    assert not memory.exists(f"/b/runs/x/{lease.LEASE_FILE}")


def test_a_store_that_takes_nothing_refuses_before_training(memory, data_folder, monkeypatch):
    def forbidden(*args, **kwargs):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(memory, "pipe_file", forbidden)
    with pytest.raises(StoreError, match=r"no right to do that \(Access Denied\)"):
        train(at(data_folder, 3), progress=False)
    assert not memory.find("/b/runs")


def test_two_machines_do_not_train_the_same_run(memory, data_folder, another_machine, monkeypatch):
    store = Store(RUN)
    first = lease.Lease(store, "first")
    first.take()
    with pytest.raises(ConfigError, match=r"is being trained in on .* 0 s ago; stop it there") as raised:
        train(at(data_folder, 3), progress=False)
    assert "\n" not in str(raised.value)
    first.release()
    assert not memory.find("/b/runs/x")
    train(at(data_folder, 3), progress=False)


def test_a_lease_that_nobody_renews_runs_out(memory, monkeypatch):
    store = Store(RUN)
    dead = lease.Lease(store, "dead")
    dead.take()
    dead._done.set()
    with monkeypatch.context() as patch:
        later = time.time() + lease.EXPIRES_SECONDS + 1
        patch.setattr(time, "time", lambda: later)
        second = lease.Lease(store, "second")
        second.take()
    with pytest.raises(ConfigError, match="was taken over by a run on"):
        dead.check()
    dead.release()
    assert json.loads(memory.cat_file(f"/b/runs/x/{lease.LEASE_FILE}"))["owner"] == "second"
    second.release()


def test_a_lease_is_renewed(memory, monkeypatch):
    monkeypatch.setattr(lease, "RENEWED_SECONDS", 0.01)
    mine = lease.Lease(Store(RUN), "mine")
    mine.take()
    began = json.loads(memory.cat_file(f"/b/runs/x/{lease.LEASE_FILE}"))["time"]
    deadline = time.monotonic() + 60
    while json.loads(memory.cat_file(f"/b/runs/x/{lease.LEASE_FILE}"))["time"] == began:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    mine.release()


def test_a_run_that_was_taken_over_stops_and_is_kept(memory, data_folder, monkeypatch):
    send = running.Mirror.send

    def taken(self, *args):
        memory.pipe_file(f"/b/runs/x/{lease.LEASE_FILE}", json.dumps({"token": "other", "machine": "m2"}).encode())
        send(self, *args)

    monkeypatch.setattr(running.Mirror, "send", taken)
    with pytest.raises(ConfigError, match="was taken over by a run on m2"):
        train(at(data_folder, 12, save_every=3), progress=False)
    assert (running.working_folder(RUN) / LAST_FILE).is_file()
    assert not memory.exists(f"/b/runs/x/{LAST_FILE}")


def test_two_processes_of_one_machine_do_not_train_the_same_run(memory, data_folder):
    with running.training_in(running.working_folder(RUN), MARKS, first=True, say=False):
        running._mirrors.clear()
        with pytest.raises(ConfigError, match="is being trained in by another process"):
            train(at(data_folder, 3), progress=False)


def test_where_both_the_store_and_the_copy_have_gone_on_neither_is_lost(memory, data_folder, another_machine):
    train(at(data_folder, 3), progress=False)
    another_machine()
    train(at(data_folder, 6), progress=False)
    another_machine("cache")  # the first one
    folder = running.working_folder(RUN)
    before = memory.cat_file(f"/b/runs/x/{LAST_FILE}")
    (folder / LAST_FILE).write_bytes((folder / LAST_FILE).read_bytes() + b" ")
    with pytest.raises(ConfigError, match="have both gone on since they were one run") as raised:
        train(at(data_folder, 9), progress=False)
    assert str(folder) in str(raised.value)
    assert memory.cat_file(f"/b/runs/x/{LAST_FILE}") == before


def test_the_command_trains_goes_on_and_scores_at_addresses(memory, data_folder, straight, another_machine, capsys):
    for path in data_folder.iterdir():
        memory.pipe_file(f"/b/data/{path.name}", path.read_bytes())
    train_to = f"train laptop --data memory://b/data --out {RUN} {TINY} --max-steps".split()
    assert run(*train_to, 4) == 0
    another_machine()
    assert run(*train_to, 6) == 0
    shown = capsys.readouterr()
    assert f"goes on from step 4 of {RUN}/last.safetensors" in shown.err
    assert f"{RUN}: 6 steps in" in shown.out
    assert run("info", RUN) == 0
    assert f"{RUN}/models/step-000006" in capsys.readouterr().out
    assert run("evaluate", RUN, "--data", "memory://b/data", "--split", "valid") == 0


def test_a_signal_sends_what_is_saved(memory, data_folder, straight):
    def stop(step, seconds, bits):
        os.kill(os.getpid(), signal.SIGINT)
        return False

    assert train(at(data_folder, 12), progress=False, watch=stop).stopped == "signal"
    train(at(data_folder, 12), progress=False)
    assert_same_run(brought(), straight)


def test_a_run_starts_from_and_resumes_another_at_an_address(memory, data_folder, straight, tmp_path):
    for name in (MODEL_FILE, LAST_FILE):
        memory.pipe_file(f"/b/other/{name}", (straight / name).read_bytes())
    on = tiny(data_folder, tmp_path / "on", steps=14, resume="memory://b/other")
    assert train(on, progress=False).steps == 14
    begun = tiny(data_folder, tmp_path / "begun", steps=2, init_from="memory://b/other")
    assert begun.init_from == "memory://b/other"
    assert train(begun, progress=False).steps == 2


def test_a_store_that_lists_nothing_takes_nothing_away(memory, data_folder, monkeypatch):
    run_ = train(at(data_folder, 6), progress=False).run
    kept = {path.name for path in running_folder().iterdir()}
    assert LAST_FILE in kept and run_
    listed = memory.ls

    def fails(path, **kwargs):
        raise ConnectionResetError("the server hung up")

    # Stores without a search of their own have fsspec's, which leaves out what cannot be listed.
    monkeypatch.setattr(type(memory), "find", AbstractFileSystem.find)
    monkeypatch.setattr(memory, "ls", fails)
    with pytest.raises(StoreError, match="hung up"):
        train(at(data_folder, 9), progress=False)
    monkeypatch.setattr(memory, "ls", listed)
    memory.rm("/b/runs/x", recursive=True)
    with pytest.raises(ConfigError, match=r"any more, and its copy in .* is kept"):
        train(at(data_folder, 9), progress=False)
    assert {path.name for path in running_folder().iterdir()} >= kept


def running_folder():
    """The folder in the cache where the run at `RUN` is trained."""
    from samplernn_fast import files

    return next(path.parent for path in files.cache_folder("stores").rglob(LAST_FILE) if "runs" in path.parts)


def test_a_run_goes_on_when_what_it_began_with_is_gone(memory, data_folder):
    train(at(data_folder, 4), progress=False)
    there = "memory://b/runs/y"
    train(tiny(data_folder, there, steps=6, resume=RUN), progress=False)
    memory.rm("/b/runs/x", recursive=True)
    for steps, resume in ((7, RUN), (8, f"{RUN}/{LAST_FILE}"), (9, "auto")):
        assert train(tiny(data_folder, there, steps=steps, resume=resume), progress=False).steps == steps
    with pytest.raises(ConfigError, match="holds another run"):
        train(tiny(data_folder, there, steps=10, resume="memory://b/runs/z"), progress=False)
