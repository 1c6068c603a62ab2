"""`prepare` as the work of many processes: the same data folder byte for byte, whatever happens to the processes."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from recordings import RATE, noise, write, write_noise

from samplernn_fast import files
from samplernn_fast.data import preparation
from samplernn_fast.data.preparation import prepare
from samplernn_fast.data.settings import Settings
from samplernn_fast.data.shared import parts, sharing
from samplernn_fast.data.shared.sharing import ShareReport, prepare_share, put_together
from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.jobs.ledger import Ledger
from samplernn_fast.jobs.shards import Shard
from samplernn_fast.jobs.status import status_of

SETTINGS = Settings(sample_rate=RATE, workers=2)
UNFINISHED = Path(__file__).parents[1] / "support" / "unfinished.py"


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MOST_FILES", 3)


@pytest.fixture
def inputs(tmp_path: Path, small_parts: None) -> Path:
    """Twenty files of all kinds: broken, silent, twins, another rate, channels that cancel each other, an image."""
    folder = write_noise(tmp_path / "in", [300 + 50 * n for n in range(12)])
    write(folder / "deep" / "er" / "1.flac", noise(900, 50))
    write(folder / "deep" / "other rate.wav", noise(2000, 51), rate=2 * RATE)
    write(folder / "deep" / "opposite.wav", np.stack([noise(700, 52), -noise(700, 52)], 1))
    write(folder / "constant.wav", np.full(500, 77, np.int16))
    write(folder / "loud.wav", np.where(np.arange(600) % 9, 0.1, 2.5), subtype="FLOAT")
    shutil.copy(folder / "3.wav", folder / "twin.wav")
    (folder / "broken.wav").write_bytes((folder / "5.wav").read_bytes()[:30])
    (folder / "empty.flac").write_bytes(b"")
    (folder / "cover.jpg").write_bytes(b"x")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def text(report: object) -> str:
    """A report without where and how long."""
    words = str(report)
    return re.sub(r"took [\d.]+ s", "", words[words.index(": ") :])


def share(inputs: Path, out: Path, index: int, count: int, settings: Settings = SETTINGS, **lists: Path) -> ShareReport:
    return prepare_share(Shard(index, count), [inputs], out, settings, **lists)


def arguments(settings: Settings) -> dict[str, object]:
    return vars(settings)


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        Settings(sample_rate=RATE, join=True, join_seconds=0.3, join_pause=0.01, split_seed=4, gain=0.7),
        Settings(sample_rate=RATE, trim_silence_db=-40, channels="left", pad_seconds=0.1, split=(6, 2, 2)),
    ],
    ids=["usual", "joined", "padded"],
)
def test_the_data_folder_and_its_report_are_those_of_one_process(settings, count, inputs, tmp_path):
    plain = prepare(inputs, tmp_path / "plain", **arguments(settings))
    reports = [share(inputs, tmp_path / "data", index, count, settings) for index in reversed(range(count))]
    assert content(tmp_path / "data") == content(tmp_path / "plain")
    assert [report.whole is None for report in reports] == [True] * (count - 1) + [False]
    assert text(reports[-1].whole) == text(plain)
    assert {name for name, _ in reports[-1].whole.dropped} >= {"broken.wav", "empty.flac"}
    assert sum(report.made for report in reports) == 7 and not reports[-1].there


def test_lists_and_cutting_are_decided_over_all_files(inputs, tmp_path):
    (tmp_path / "test.txt").write_text("1?.wav\n3.wav\n")
    lists = {"test_files": tmp_path / "test.txt"}
    plain = prepare(inputs, tmp_path / "plain", sample_rate=RATE, **lists)
    reports = [share(inputs, tmp_path / "data", index, 3, **lists) for index in range(3)]
    assert content(tmp_path / "data") == content(tmp_path / "plain")
    assert text(reports[-1].whole) == text(plain)
    write(tmp_path / "long" / "mix.wav", np.tile(noise(RATE), 70))
    prepare(tmp_path / "long", tmp_path / "plain-2", sample_rate=RATE)
    assert share(tmp_path / "long", tmp_path / "data-2", 0, 2).missing == 1
    assert share(tmp_path / "long", tmp_path / "data-2", 1, 2).whole.splits["valid"].entries
    assert content(tmp_path / "data-2") == content(tmp_path / "plain-2")


def test_a_shard_that_is_killed_goes_on(tmp_path):
    folder = write_noise(tmp_path / "in", [200] * 330)
    out = tmp_path / "data"
    prepare(folder, tmp_path / "plain", sample_rate=RATE)
    command = [sys.executable, UNFINISHED, "6", "prepare", folder, "-o", out, "--sample-rate", str(RATE)]
    process = subprocess.Popen([*command, "--num-shards", "1", "--workers", "1"], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while time.monotonic() < until and len(list(tmp_path.glob("data.job/units/*.json"))) < 2:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -9, "the process was done before it was killed"
    made = len(list((tmp_path / "data.job" / "units").glob("*.json")))
    report = prepare_share(Shard(0, 1), [folder], out, SETTINGS)
    assert made - 1 <= report.there <= made and report.made + report.there == 6
    assert content(out) == content(tmp_path / "plain")


KILLED = """
import os, signal, sys
from pathlib import Path
from samplernn_fast import files
from samplernn_fast.data import preparation
from samplernn_fast.data.settings import Settings
from samplernn_fast.data.shared import parts, sharing
from samplernn_fast.jobs.ledger import Ledger
from samplernn_fast.jobs.shards import Shard

def die(*args, **settings):
    os.kill(os.getpid(), signal.SIGKILL)

parts.MOST_FILES = 3
module, _, name = sys.argv[3].partition(":")
setattr({"files": files, "preparation": preparation, "Ledger": Ledger}[module], name, die)
sharing.prepare_share(Shard(1, 2), [sys.argv[1]], Path(sys.argv[2]), Settings(sample_rate=8000, workers=2))
"""


@pytest.mark.parametrize("where", ["preparation:write_manifest", "files:_move_into_place", "Ledger:close"])
def test_a_process_that_is_killed_while_it_makes_the_folder_leaves_nothing_behind(where, inputs, tmp_path):
    prepare(inputs, tmp_path / "plain", sample_rate=RATE)
    share(inputs, tmp_path / "data", 0, 2)
    command = [sys.executable, "-c", KILLED, inputs, tmp_path / "data", where]
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode == -9
    assert (tmp_path / "data").exists() == (where == "Ledger:close")
    assert share(inputs, tmp_path / "data", 1, 2).made == 0
    assert content(tmp_path / "data") == content(tmp_path / "plain")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "data.job", "in", "plain"]
    assert not list((tmp_path / "data.job" / "making").iterdir())


@contextlib.contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, where: object, name: str) -> Iterator[None]:
    """A process that ends where it calls something: nothing behind that runs."""

    def die(*args: object, **settings: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(where, name, die)
        yield


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (sharing, "write_part"),
        (Ledger, "adopt"),
        (sharing, "write_folder"),
        (files, "_move_into_place"),
        (Ledger, "close"),
        (Ledger, "write_manifest"),
        (shutil, "rmtree"),
    ],
)
def test_a_process_may_end_anywhere(where, name, inputs, tmp_path, monkeypatch):
    prepare(inputs, tmp_path / "plain", sample_rate=RATE)
    share(inputs, tmp_path / "data", 0, 2)
    with dying(monkeypatch, where, name):
        share(inputs, tmp_path / "data", 1, 2)
    share(inputs, tmp_path / "data", 1, 2)
    assert content(tmp_path / "data") == content(tmp_path / "plain")
    ledger = Ledger.open(tmp_path / "data.job")
    assert ledger.is_closed() and not (ledger.folder / "parts").exists() and status_of(ledger).complete


@pytest.mark.parametrize("change", ["changed", "new", "gone"])
def test_a_file_that_changes_between_two_shards_is_noticed(change, inputs, tmp_path):
    share(inputs, tmp_path / "data", 0, 3)
    if change == "changed":
        write(inputs / "0.wav", noise(300, seed=99))
        os.utime(inputs / "0.wav", (1, 1))
    elif change == "new":
        write(inputs / "another.wav", noise(300))
    else:
        (inputs / "8.wav").unlink()
    words = "0.wav was changed" if change == "changed" else "began with other audio files"
    with pytest.raises(DataError, match=words):
        share(inputs, tmp_path / "data", 1, 3)


def test_a_file_that_changes_while_it_is_decoded_is_noticed(inputs, tmp_path, monkeypatch):
    decode = sharing.decode_all

    def decode_and_change(*args: object) -> object:
        os.utime(inputs / "0.wav", (1, 1))
        return decode(*args)

    monkeypatch.setattr(sharing, "decode_all", decode_and_change)
    with pytest.raises(DataError, match=r"0\.wav was changed while it was decoded"):
        share(inputs, tmp_path / "data", 0, 1)
    assert not (tmp_path / "data").exists()


def flip(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[10] ^= 1
    path.write_bytes(damaged)


def test_a_damaged_part_is_named_and_made_again(inputs, tmp_path, capsys):
    prepare(inputs, tmp_path / "plain", sample_rate=RATE)
    share(inputs, tmp_path / "data", 0, 2)
    first = tmp_path / "data.job" / "parts" / "part-00000.f32"
    flip(first)
    with pytest.raises(DataError, match=r"part-00000\.f32 holds other bytes .* run the same prepare command again"):
        share(inputs, tmp_path / "data", 1, 2)
    assert not (tmp_path / "data").exists()
    report = share(inputs, tmp_path / "data", 0, 2)
    assert "made again" in capsys.readouterr().err and report.made == 1
    assert content(tmp_path / "data") == content(tmp_path / "plain")


@pytest.mark.parametrize("locks", [True, False])
def test_two_processes_may_put_it_together_at_once(locks, inputs, tmp_path, monkeypatch):
    """One does where folders can be held; where they cannot, both may, and the folder is right all the same."""
    prepare(inputs, tmp_path / "plain", sample_rate=RATE)
    with monkeypatch.context() as patched:
        patched.setattr(sharing, "put_together", lambda ledger, progress: None)
        for index in range(2):
            share(inputs, tmp_path / "data", index, 2)
    if not locks:
        monkeypatch.setattr(files, "held", lambda folder, wait=False: contextlib.nullcontext())
    ledger = Ledger.open(tmp_path / "data.job")
    with ThreadPoolExecutor(2) as pool:
        reports = [job.result() for job in [pool.submit(put_together, ledger) for _ in range(2)]]
    assert sum(report is not None for report in reports) in ((1,) if locks else (1, 2))
    assert content(tmp_path / "data") == content(tmp_path / "plain")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "data.job", "in", "plain"]


def test_a_process_whose_folder_is_being_removed_puts_nothing_in_place(inputs, tmp_path, monkeypatch):
    """Where folders cannot be held, the quicker process removes what the slower one is making, file by file."""
    prepare(inputs, tmp_path / "plain", sample_rate=RATE)
    with monkeypatch.context() as patched:
        patched.setattr(sharing, "put_together", lambda ledger, progress: None)
        share(inputs, tmp_path / "data", 0, 1)
    monkeypatch.setattr(files, "held", lambda folder, wait=False: contextlib.nullcontext())
    ledger, write_manifest, reports = Ledger.open(tmp_path / "data.job"), preparation.write_manifest, []

    def remove_audio_alone(folder: Path, ignore_errors: bool = False) -> None:
        for path in folder.glob("**/audio.i16"):
            path.unlink()

    def be_overtaken(*args: object) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(preparation, "write_manifest", write_manifest)
            patched.setattr(shutil, "rmtree", remove_audio_alone)
            reports.append(put_together(ledger))
        write_manifest(*args)

    monkeypatch.setattr(preparation, "write_manifest", be_overtaken)
    assert put_together(ledger) is None and reports[0].recordings == 18
    assert content(tmp_path / "data") == content(tmp_path / "plain")


def test_it_is_put_together_from_the_parts_alone(inputs, tmp_path, monkeypatch):
    prepare(inputs, tmp_path / "plain", sample_rate=RATE)
    with monkeypatch.context() as patched:
        patched.setattr(sharing, "put_together", lambda ledger, progress: None)
        share(inputs, tmp_path / "data", 0, 1)
    shutil.rmtree(inputs)
    assert put_together(Ledger.open(tmp_path / "data.job")).recordings == 18
    assert content(tmp_path / "data") == content(tmp_path / "plain")


def test_a_job_that_is_done_is_left_alone(inputs, tmp_path):
    share(inputs, tmp_path / "data", 0, 1)
    made = (tmp_path / "data" / "audio.i16").stat()
    again = share(inputs, tmp_path / "data", 0, 1)
    assert (again.made, again.there, again.whole) == (0, 7, None)
    assert (tmp_path / "data" / "audio.i16").stat() == made
    assert put_together(Ledger.open(tmp_path / "data.job")) is None
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(DataError, match=r"is gone or another now; remove the job's folder"):
        share(inputs, tmp_path / "data", 0, 1)


def test_what_is_not_this_job_is_refused(inputs, tmp_path):
    share(inputs, tmp_path / "data", 0, 2)
    with pytest.raises(ConfigError, match=r"gain is \"auto\" there and 0\.5 here"):
        share(inputs, tmp_path / "data", 1, 2, Settings(sample_rate=RATE, gain=0.5))
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="data exists"):
        share(inputs, tmp_path / "data", 1, 2)
    with pytest.raises(DataError, match="data exists"):
        share(inputs, tmp_path / "data", 0, 2)
    (tmp_path / "new").mkdir()
    with pytest.raises(DataError, match="new exists"):
        share(inputs, tmp_path / "new", 0, 2)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gain": -1}, "gain must be"),
        ({"split": 3}, "cannot be followed"),
        ({"versions": {"samplernn_fast": "0"}}, "it was begun by"),
        ({"held_out": {"a": "b"}}, "unknown splits"),
        ({"unlisted": [1]}, "cannot be followed"),
        ({"files": 3}, "cannot be followed"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(settings, words, inputs, tmp_path):
    share(inputs, tmp_path / "data", 0, 2)
    ledger = Ledger.open(tmp_path / "data.job")
    ledger.plan.settings.update(settings)
    with pytest.raises(DataError, match=words):
        put_together(ledger)


def test_putting_together_takes_no_more_memory_for_more_audio(tmp_path, monkeypatch):
    """20 MB of parts, of which 1 MB is in memory at once, and as much in its other forms."""
    for number in range(6):
        write(tmp_path / "in" / f"{number}.wav", np.tile(noise(RATE, number), 100))
    monkeypatch.setattr(sharing, "put_together", lambda ledger, progress: None)
    share(tmp_path / "in", tmp_path / "data", 0, 1)
    tracemalloc.start()
    report = put_together(Ledger.open(tmp_path / "data.job"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.recordings == 6 and peak < 8e6, f"{peak / 1e6:.1f} MB"


def test_the_command_takes_its_share_from_the_scheduler(inputs, tmp_path, monkeypatch, capsys):
    command = ["prepare", str(inputs), "--out", str(tmp_path / "data"), "--sample-rate", str(RATE)]
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    for index in range(2):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(index))
        assert run(*command) == 0
        assert f"shard {index} of 2, as SLURM_ARRAY_TASK_ID says" in capsys.readouterr().out
    prepare(inputs, tmp_path / "plain", sample_rate=RATE)
    assert content(tmp_path / "data") == content(tmp_path / "plain")
    assert run(*command, "--overwrite") == 2
    assert "--overwrite makes no sense where work is shared" in capsys.readouterr().err


def test_jobs_merge_and_status(inputs, tmp_path, monkeypatch, capsys):
    plain = prepare(inputs, tmp_path / "plain", sample_rate=RATE)
    with monkeypatch.context() as patched:
        patched.setattr(sharing, "put_together", lambda ledger, progress: None)
        share(inputs, tmp_path / "data", 0, 2)
        ledger = Ledger.open(tmp_path / "data.job")
        with pytest.raises(DataError, match="4 of 7 units are still to be made"):
            put_together(ledger)
        share(inputs, tmp_path / "data", 1, 2)
    capsys.readouterr()
    assert run("jobs", "merge", tmp_path / "data") == 0
    shown = capsys.readouterr().out.strip().replace("--channels left", 'channels="left"')  # the command's spelling
    assert text(shown) == text(plain)
    assert content(tmp_path / "data") == content(tmp_path / "plain")
    for part in ("merge", "status"):
        assert run("jobs", part, tmp_path / "data") == 0
        assert {"merge": "the data folder of", "status": "7 of 7 units"}[part] in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 7])
def test_two_thousand_files(count, tmp_path):
    draw = np.random.default_rng(count)
    folder = tmp_path / "in"
    for number in range(2000):
        write(folder / f"{number % 40}" / f"{number}.wav", noise(int(draw.integers(100, 4000)), number))
    for number in (17, 500, 1999):
        (folder / "0" / f"broken-{number}.wav").write_bytes(b"RIFF")
    plain = prepare(folder, tmp_path / "plain", sample_rate=RATE)
    command = [sys.executable, "-m", "samplernn_fast", "prepare", folder, "-o", tmp_path / "data"]
    command += ["--sample-rate", str(RATE), "--num-shards", str(count), "--shard-index"]
    outputs = [subprocess.run([*command, str(n)], capture_output=True, text=True, check=True) for n in range(count)]
    assert content(tmp_path / "data") == content(tmp_path / "plain")
    assert text(outputs[-1].stdout.partition("\n")[2].strip()) == text(plain)
