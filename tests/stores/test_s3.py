"""The same against a server that speaks S3, on this machine: prepare, train, go on, make audio; and SIGKILL."""

import logging
import os
import signal
import subprocess
import sys
import time

import pytest
from command_line import TINY, assert_one_line_error, run
from runs import curve, everything

from samplernn_fast.audio import writing
from samplernn_fast.audio.synthetic import plucked_music
from samplernn_fast.errors import ConfigError, StoreError
from samplernn_fast.stores import lease
from samplernn_fast.stores.reading import local
from samplernn_fast.stores.store import Store

pytest.importorskip("s3fs", reason="s3fs is not installed")
moto = pytest.importorskip("moto.server", reason="moto is not installed")

CHILD = """
import asyncio, pathlib, sys
import s3fs

stop_at, flag, folder = sys.argv[1:]
s3fs.core.calculate_chunksize = lambda size, chunksize=None: 5 << 20
before = s3fs.S3FileSystem._call_s3

async def stopping(self, method, *args, **kwargs):
    if method == stop_at and kwargs["Key"].endswith(".tmp"):
        pathlib.Path(flag).touch()
        await asyncio.sleep(60)
    return await before(self, method, *args, **kwargs)

s3fs.S3FileSystem._call_s3 = stopping
from samplernn_fast.stores.store import Store

files = {path.name: path for path in pathlib.Path(folder).iterdir()}
Store("s3://bucket/killed").put_all(files, last=["manifest.json"])
"""
"""Sends a folder that replaces another, and stops for ever at one call."""


@pytest.fixture(scope="module")
def server():
    """The address of a server with an empty bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    served = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    yield f"http://{host}:{port}"
    served.stop()


@pytest.fixture
def s3(server, monkeypatch):
    """A file system of fsspec with an empty bucket."""
    import s3fs

    known = {"AWS_ENDPOINT_URL": server, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    for name, value in (known | {"AWS_DEFAULT_REGION": "us-east-1"}).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    if system.exists("bucket"):
        system.rm("bucket", recursive=True)
    system.mkdir("bucket")
    yield system
    s3fs.S3FileSystem.clear_instance_cache()


def test_everything_at_addresses_is_what_it_is_in_folders(s3, tmp_path, another_machine, capsys):
    for number in range(4):
        path = tmp_path / "here" / "wavs" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        writing.write(path, plucked_music(1.0, seed=number), 8000)
        s3.put_file(str(path), f"bucket/wavs/{number}.wav")
    printed = {}
    for base in (str(tmp_path / "here"), "s3://bucket"):
        assert run("prepare", f"{base}/wavs", "--out", f"{base}/data", "--sample-rate", 8000) == 0
        train = f"train laptop --data {base}/data --out {base}/runs/x --save-every 4 {TINY} --max-steps".split()
        assert run(*train, 6) == 0
        another_machine()
        assert run(*train, 10) == 0
        assert run("generate", f"{base}/runs/x", "-o", f"{base}/out/", "--num-samples", 2, "--duration", 0.05) == 0
        capsys.readouterr()
        assert run("evaluate", f"{base}/runs/x", "--data", f"{base}/data") == 0
        printed[base] = capsys.readouterr().out
    for name in ("data/audio.i16", "data/manifest.json", "out/x-seed0-00.wav", "out/x-seed0-01.wav"):
        assert s3.cat_file(f"bucket/{name}") == (tmp_path / "here" / name).read_bytes(), name
    one, two = local("s3://bucket/runs/x"), tmp_path / "here" / "runs" / "x"
    assert all(value.equal(everything(two)[name]) for name, value in everything(one).items())
    assert curve(one) == curve(two)
    assert len(set(printed.values())) == 1
    assert not s3.exists(f"bucket/runs/x/{lease.LEASE_FILE}")


@pytest.mark.parametrize("stop_at", ["upload_part", "put_object"])
def test_a_kill_during_an_upload_leaves_the_earlier_version(s3, tmp_path, stop_at):
    """The first file goes in parts and the second in one call; both replace a file of the earlier version."""
    earlier = {"audio.i16": b"earlier audio", "manifest.json": b"earlier manifest"}
    s3.pipe({f"bucket/killed/{name}": content for name, content in earlier.items()})
    folder, flag = tmp_path / "later", tmp_path / "flag"
    folder.mkdir()
    (folder / "audio.i16").write_bytes(b"x" * (11 << 20))
    (folder / "manifest.json").write_bytes(b"later")
    child = subprocess.Popen([sys.executable, "-c", CHILD, stop_at, str(flag), str(folder)])
    deadline = time.monotonic() + 60
    while not flag.exists():
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert {path.name: path.read_bytes() for path in local("s3://bucket/killed").iterdir()} == earlier


def test_only_one_machine_gets_the_lease(s3):
    store = Store("s3://bucket/runs/x")
    assert store.create("x", b"1") and not store.create("x", b"2")
    assert store.read("x") == b"1"
    first, second = lease.Lease(store, "first"), lease.Lease(store, "second")
    first.take()
    with pytest.raises(ConfigError, match="is being trained in on"):
        second.take()
    first.release()


def test_a_bucket_that_is_not_there_is_said(s3, capsys, data_folder):
    assert run("info", "s3://no-such-bucket/run") == 1
    assert "s3://no-such-bucket/run: " in assert_one_line_error(capsys)
    assert run("generate", "demo", "-o", "s3://no-such-bucket/x.wav", "--duration", 0.02) == 1
    assert "bucket does not exist" in capsys.readouterr().err
    train = f"train laptop --data {data_folder} --out s3://no-such-bucket/x --max-steps 2 {TINY}".split()
    assert run(*train) == 1
    assert "bucket does not exist" in assert_one_line_error(capsys)


def test_rights_that_are_missing_are_said(s3, monkeypatch):
    import botocore.exceptions

    async def forbidden(self, method, *args, **kwargs):
        from s3fs.errors import translate_boto_error

        refused = {"Error": {"Code": "AccessDenied", "Message": "Access Denied"}}
        raise translate_boto_error(botocore.exceptions.ClientError(refused, method))

    monkeypatch.setattr(type(s3), "_call_s3", forbidden)
    with pytest.raises(StoreError, match="no right to do that"):
        Store("s3://bucket/x").write("one", b"1")
