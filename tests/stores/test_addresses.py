"""What is an address and what is a path, also where a Path has lost a slash."""

import pickle
from pathlib import Path

import pytest

from samplernn_fast.errors import ConfigError
from samplernn_fast.stores import addresses
from samplernn_fast.stores.addresses import address_of, path_of, placed, spelled


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("s3://bucket/run", "s3://bucket/run"),
        ("s3://bucket/run/", "s3://bucket/run"),
        (Path("s3://bucket/run"), "s3://bucket/run"),
        (Path("gs://bucket/a b/c"), "gs://bucket/a b/c"),
        ("memory://x", "memory://x"),
        ("memory:///x", "memory://x"),
        ("sftp://host/home/run", "sftp://host/home/run"),
        ("new+kind://x", "new+kind://x"),
    ],
)
def test_addresses_are_known(name, address):
    assert address_of(name) == address
    assert address_of(path_of(name)) == address
    assert str(path_of(name)) == address


@pytest.mark.parametrize(
    "name", ["run", "./s3/run", "a:b", "C:/x", "odd:/x", "demo", "", b"s3://x", 3, None, "x/s3://y"]
)
def test_everything_else_is_none(name):
    assert address_of(name) is None


def test_a_file_address_is_a_path():
    assert path_of("file:///tmp/x") == path_of(Path("file:///tmp/x")) == path_of("local:///tmp/x") == Path("/tmp/x")
    assert address_of("file:///tmp/x") is None


def test_a_folder_that_is_called_like_a_scheme_stays_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert address_of(Path("s3:/run")) == "s3://run"
    (tmp_path / "s3:").mkdir()
    assert address_of(Path("s3:/run")) is None


def test_a_path_of_an_address_works_as_a_path():
    run = path_of("s3://bucket/runs/x")
    assert str(run / "model.safetensors") == "s3://bucket/runs/x/model.safetensors"
    assert (run.name, str(run.parent), run.suffix) == ("x", "s3://bucket/runs", "")
    assert str(pickle.loads(pickle.dumps(run))) == str(run)
    assert not run.exists()


def test_messages_name_the_address_in_place_of_the_copy(tmp_path):
    addresses.remember(tmp_path / "copy" / "x", "s3://bucket/x")
    text = f"{tmp_path}/copy/x/log.csv: damaged; see {tmp_path}/copy/x, not {tmp_path}/copy/x-2"
    assert spelled(text) == f"s3://bucket/x/log.csv: damaged; see s3://bucket/x, not {tmp_path}/copy/x-2"
    assert placed(tmp_path / "copy" / "x" / "a.wav") == "/s3:/bucket/x/a.wav"
    addresses.forget(tmp_path / "copy" / "x")
    assert spelled(text) == text


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://bucket/..", "must not have . or .. as a part"),
        ("memory://a/../b", "must not have . or .. as a part"),
        ("s3://bucket/./x", "must not have . or .. as a part"),
        ("sftp://me:SECRET@host/run", "must not hold a password"),
    ],
)
def test_what_no_address_may_be(address, message):
    for named in (address, Path(address)):
        if "/./" in address and isinstance(named, Path):
            continue  # a Path has no such part any more
        with pytest.raises(ConfigError, match=message) as refused:
            address_of(named)
        assert "SECRET" not in str(refused.value)
    assert address_of("sftp://me@host/run") == "sftp://me@host/run"
