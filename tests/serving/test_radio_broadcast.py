"""A radio that is stopped or killed, or has no room on the disk, goes on where it was."""

import contextlib
import dataclasses
import errno
import io
import itertools
import json
import os
import shutil

import numpy as np
import pytest
import soundfile
from file_limit import file_limit
from radio import RATE, SETTINGS, engine, played, station

from samplernn_fast.audio import reading
from samplernn_fast.errors import AudioError, ConfigError
from samplernn_fast.serving.radio import outlets
from samplernn_fast.serving.radio.broadcast import Broadcast, Clock
from samplernn_fast.serving.radio.log import LOG_FILE, STOPPED, Log, read

CHANGING = dataclasses.replace(SETTINGS, change=10.0)
HEADER = {"is": "radio", "version": 1, "seed": 1}
LENGTH, SECONDS = 12, 45  # of a file, and of the radio


class Killed(BaseException):
    """Nothing catches this."""


def make(fault="silence"):
    return station(engine(fault), settings=CHANGING)


def broadcast(folder, kind="flac", until=None):
    log = Log(folder, HEADER)
    log.begin()
    return Broadcast(make, outlets.FolderOutlet(folder, kind, RATE, LENGTH * RATE, {}), log, 3.0, until)


def kill_after(broadcast, samples):
    """Ends the writing of a broadcast in the middle of a block."""
    write, out = outlets._put, itertools.count(1)

    def dying(path, offset, content, new=False):
        if next(out) * 2000 > samples:
            write(path, offset, content[: len(content) // 3 // 2 * 2 + 1], new)
            raise Killed
        write(path, offset, content, new)

    return dying


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("radio") / "whole"
    assert broadcast(folder).play(SECONDS)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.*")}


def test_the_files_hold_the_sound_of_the_station(undisturbed):
    sound, _ = played(make(), SECONDS)
    names = [f"radio-{number:05d}.flac" for number in range(4)]
    assert set(contents(undisturbed)) == {LOG_FILE, *names}
    parts = [soundfile.read(undisturbed / name, dtype="int16")[0] for name in names]
    assert [len(part) for part in parts] == [LENGTH * RATE] * 3 + [(SECONDS - 3 * LENGTH) * RATE]
    assert np.array_equal(np.concatenate(parts), outlets.pcm_16(sound[: SECONDS * RATE]))


def test_the_log_says_what_was_played(undisturbed):
    entries = read(undisturbed)
    assert entries[0] == HEADER
    _, events = played(make(), SECONDS)
    assert [entry for entry in entries if entry["is"] == "part"] == events
    states = [entry for entry in entries if entry["is"] == "state"]
    assert len(states) >= 12 and all((undisturbed / "states" / entry["file"]).is_file() for entry in states)
    assert [entry["to"] for entry in entries if entry["is"] == "file"] == [LENGTH * RATE * n for n in (1, 2, 3)] + [
        SECONDS * RATE
    ]


@pytest.mark.parametrize("moments", [(3000, 120_000, 200_000), (95_000, 97_000, 190_000), (20_000, 30_000, 40_000)])
def test_a_radio_that_was_killed_three_times_made_the_same(tmp_path, undisturbed, monkeypatch, moments):
    folder, put = tmp_path / "killed", outlets._put
    for moment in moments:
        one = broadcast(folder)
        monkeypatch.setattr(outlets, "_put", kill_after(one, max(2000, moment - one.station.position)))
        with pytest.raises(Killed):
            one.play(SECONDS)
        monkeypatch.setattr(outlets, "_put", put)
        with open(folder / LOG_FILE, "ab") as log:
            log.write(b'{"is": "par')  # as a line that was being written
    last = broadcast(folder)
    assert last.station.position > 0
    last.play(SECONDS)
    assert contents(folder) == contents(undisturbed)


def test_a_state_that_is_damaged_is_made_again_from_an_earlier_one(tmp_path, undisturbed):
    folder = tmp_path / "damaged"
    shutil.copytree(undisturbed, folder)
    newest = sorted((folder / "states").glob("*.safetensors"))[-2:]
    newest[1].write_bytes(newest[1].read_bytes()[:-9])
    newest[0].unlink()
    one = broadcast(folder)
    assert 0 < one.station.position < int(newest[0].stem)
    one.play(SECONDS)
    assert contents(folder) == contents(undisturbed)


def test_without_the_sound_that_grew_it_begins_where_a_file_is_whole(tmp_path, undisturbed):
    folder = tmp_path / "gone"
    shutil.copytree(undisturbed, folder)
    for growing in (folder / "states").glob("growing*"):
        growing.unlink()
    one = broadcast(folder)
    assert one.station.position % (LENGTH * RATE) == 0
    one.play(SECONDS)
    assert contents(folder) == contents(undisturbed)


def test_a_longer_radio_goes_on_and_replaces_the_shorter_last_file(tmp_path, undisturbed):
    folder = tmp_path / "longer"
    shutil.copytree(undisturbed, folder)
    broadcast(folder).play(SECONDS + 2)
    assert soundfile.info(folder / "radio-00003.flac").frames == (SECONDS + 2 - 3 * LENGTH) * RATE
    sound, _ = played(make(), SECONDS + 2)
    last = soundfile.read(folder / "radio-00003.flac", dtype="int16")[0]
    assert np.array_equal(last, outlets.pcm_16(sound[3 * LENGTH * RATE : (SECONDS + 2) * RATE]))


def test_what_grew_is_removed_when_no_state_needs_it(undisturbed):
    growing = [path.name for path in (undisturbed / "states").glob("growing*")]
    assert growing == ["growing-00003.s16"]


def test_ogg_holds_the_same_sound(tmp_path):
    broadcast(tmp_path, "ogg").play(LENGTH)
    found, rate = reading.read(tmp_path / "radio-00000.ogg")
    sound, _ = played(make(), LENGTH)
    assert rate == RATE and len(found) == LENGTH * RATE
    assert np.corrcoef(found, sound[: len(found)])[0, 1] > 0.99


def test_another_radio_is_not_continued(tmp_path):
    broadcast(tmp_path).play(2)
    log = Log(tmp_path, HEADER | {"seed": 2})
    with pytest.raises(ConfigError, match=r"another radio: seed was 1, and is 2 now; choose another folder"):
        log.begin()


@pytest.mark.parametrize(
    "content", [b"", b"{}\n", b"no log\n", b'{"is": "radio"}\n', b'{"is": "radio", "version": 9}\n']
)
def test_a_file_that_is_no_log_is_left_alone(tmp_path, content):
    (tmp_path / LOG_FILE).write_bytes(content)
    with pytest.raises(AudioError, match="log of"):
        Log(tmp_path, HEADER).begin()
    assert (tmp_path / LOG_FILE).read_bytes() == content


@pytest.mark.parametrize("what", ["folder", "states"])
def test_a_folder_that_is_gone_is_told_in_one_line(tmp_path, what):
    folder = tmp_path / "radio"
    one = broadcast(folder)
    one.play(LENGTH + 2)
    shutil.rmtree(folder if what == "folder" else folder / "states")
    with pytest.raises(AudioError, match="cannot be written: No such file or directory"):
        one.play(SECONDS)
    assert (folder / "radio-00000.flac").exists() == (what == "states")


def test_a_full_disk_is_told_in_one_line_and_what_is_whole_stays(tmp_path, undisturbed):
    """A limit on the size of files fails as a full disk does, in the middle of a write."""
    folder = tmp_path / "full"
    one = broadcast(folder)
    one.play(LENGTH + 3)
    with file_limit(70_000), pytest.raises(AudioError, match="cannot be written: File too large"):
        one.play(SECONDS)
    assert soundfile.info(folder / "radio-00000.flac").frames == LENGTH * RATE
    broadcast(folder).play(SECONDS)
    assert contents(folder) == contents(undisturbed)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_state_that_cannot_be_written_ends_the_radio(tmp_path, undisturbed, monkeypatch, call):
    one = broadcast(tmp_path / "radio")
    one.play(LENGTH + 3)

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(os, call, full)
        with pytest.raises(AudioError, match="cannot be written: No space left on device"):
            one.play(SECONDS)
    broadcast(tmp_path / "radio").play(SECONDS)
    assert contents(tmp_path / "radio") == contents(undisturbed)


@pytest.mark.parametrize("kind", outlets.PIPES)
def test_a_pipe_gets_the_sound(kind):
    pipe = io.BytesIO()
    Broadcast(make, outlets.PipeOutlet(pipe, kind, RATE, None), None, 60.0).play(3.1)
    sound, _ = played(make(), 4)
    sound = sound[: round(3.1 * RATE)]
    content = pipe.getvalue()
    if kind == "wav":
        assert content[:4] == b"RIFF" and content[4:8] == b"\xff\xff\xff\xff"
        content = content[-2 * len(sound) :]
    wanted = sound.astype("<f4") if kind == "f32" else outlets.pcm_16(sound)
    assert content == wanted.tobytes()


def test_a_pipe_that_was_cut_goes_on_behind_what_was_heard(tmp_path):
    heard = b""
    for seconds in (7.3, 8.0, 20.0):
        log = Log(tmp_path, HEADER)
        log.begin()
        pipe = io.BytesIO()
        Broadcast(make, outlets.PipeOutlet(pipe, "s16", RATE, tmp_path), log, 3.0).play(seconds)
        heard += pipe.getvalue()
    sound, _ = played(make(), 20)
    assert heard == outlets.pcm_16(sound[: 20 * RATE]).tobytes()


def test_a_radio_can_be_stopped_and_goes_on(tmp_path, undisturbed):
    asked = itertools.count()
    assert not broadcast(tmp_path).play(None, should_stop=lambda: next(asked) > 70)
    assert [path.name for path in tmp_path.glob("*.flac")] == ["radio-00000.flac"]
    broadcast(tmp_path).play(SECONDS)
    assert contents(tmp_path) == contents(undisturbed)


def test_a_shorter_radio_than_was_made_ends_where_it_should(tmp_path):
    asked = itertools.count()
    assert not broadcast(tmp_path).play(None, should_stop=lambda: next(asked) > 4 * 17)
    broadcast(tmp_path, until=16).play(16)
    found = soundfile.read(tmp_path / "radio-00001.flac", dtype="int16")[0]
    assert np.array_equal(found, outlets.pcm_16(played(make(), 16)[0][LENGTH * RATE : 16 * RATE]))


def stop_after(blocks):
    asked = itertools.count()
    return lambda: next(asked) >= blocks


def test_a_radio_that_is_stopped_again_and_again_advances_and_makes_the_same(tmp_path, undisturbed):
    """Always before its next state, in fades too, at other places of a file each time."""
    places = []
    while True:
        one = broadcast(tmp_path)
        places.append(one.station.position)
        if one.play(SECONDS, should_stop=stop_after(7)):
            break
        assert read(tmp_path) == read(undisturbed)[: len(read(tmp_path))]
    lost = 7 * RATE // 4 - np.diff(places)
    assert 0 in lost and 0 <= lost.min() and 0 < lost.max() <= RATE  # where one part fades into another
    assert contents(tmp_path) == contents(undisturbed)


def test_before_its_first_state_a_radio_that_is_stopped_keeps_its_place_and_forgets_it_later(tmp_path, undisturbed):
    assert not broadcast(tmp_path).play(SECONDS, should_stop=stop_after(2))  # it still fades in
    assert broadcast(tmp_path).station.position == 0
    assert not broadcast(tmp_path).play(SECONDS, should_stop=stop_after(9))
    kept = tmp_path / "states" / STOPPED
    assert [path.name for path in kept.parent.glob("*.safetensors")] == [STOPPED]
    for _ in range(2):  # whoever kills it before its next state loses nothing
        one = broadcast(tmp_path)
        assert one.station.position == 9 * RATE // 4
    one.play(SECONDS)
    assert not kept.exists() and contents(tmp_path) == contents(undisturbed)


@pytest.mark.parametrize("harm", ["cut", "another state", "another log", "no sound"])
def test_a_place_that_does_not_fit_is_left_for_an_earlier_state(tmp_path, undisturbed, harm):
    assert not broadcast(tmp_path).play(SECONDS, should_stop=stop_after(4 * 8))
    kept, log = tmp_path / "states" / STOPPED, tmp_path / LOG_FILE
    if harm == "cut":
        kept.write_bytes(kept.read_bytes()[:-9])
    elif harm == "another state":
        shutil.copy(min(kept.parent.glob("0*.safetensors")), kept)
    elif harm == "another log":
        log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    else:
        os.truncate(tmp_path / "states" / "growing-00000.s16", 15 * RATE)
    one = broadcast(tmp_path)
    assert 0 < one.station.position < 7 * RATE
    one.play(SECONDS)
    assert contents(tmp_path) == contents(undisturbed)


class Cut(io.BytesIO):
    """A pipe whose reader goes away, or whose writer is interrupted, after so many writes."""

    def __init__(self, writes, error):
        super().__init__()
        self.left, self.error = writes, error

    def write(self, content):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().write(content)


@pytest.mark.parametrize(
    ("error", "asked"), [(BrokenPipeError, True), (BrokenPipeError, False), (KeyboardInterrupt, True)]
)
def test_a_pipe_whose_reader_goes_away_goes_on_behind_what_it_took(tmp_path, error, asked):
    heard = b""
    for number in range(3):
        log = Log(tmp_path, HEADER)
        log.begin()
        pipe = Cut(9, error)
        one = Broadcast(make, outlets.PipeOutlet(pipe, "s16", RATE, tmp_path), log, 60.0)
        assert one.station.position == number * 9 * RATE // 4
        ended = contextlib.nullcontext() if error is BrokenPipeError and asked else pytest.raises(error)
        with ended:
            # ctrl-C comes while the last block is written, after the broadcast has asked.
            assert not one.play(SECONDS, should_stop=stop_after(10) if asked else lambda: False)
        heard += pipe.getvalue()
    assert heard == outlets.pcm_16(played(make(), 7)[0][: 27 * RATE // 4]).tobytes()


def test_in_real_time_sound_is_a_few_seconds_ahead_of_the_clock():
    now, ahead = [100.0], []

    def sleep(seconds):
        now[0] += seconds

    clock = Clock(RATE, lambda: now[0], sleep)
    for position in range(0, 60 * RATE, RATE // 4):
        clock.wait(position)
        ahead.append(position / RATE - (now[0] - 100))
    assert max(ahead) == pytest.approx(5.0) and ahead[-1] == pytest.approx(5.0)
    now[0] += 3600  # the machine slept
    before = now[0]
    for position in range(60 * RATE, 80 * RATE, RATE // 4):
        clock.wait(position)
    assert now[0] - before == pytest.approx(80 - 60 - 5, abs=0.5)


def test_the_log_is_json_lines(undisturbed):
    lines = (undisturbed / LOG_FILE).read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
