"""What is an address and what is a path, also where a Path has lost a slash."""

import pickle
from pathlib import Path

import pytest
from command_line import run

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
    "name", ["memory://e/..", "memory://e/../x", "s3://b/./x", "s3:/b/..", "sftp://h/a\0b", "s3://.."]
)
def test_a_part_that_leads_out_of_a_folder_is_refused(name):
    with pytest.raises(ConfigError, match="no part of an address may be"):
        address_of(name)


@pytest.mark.parametrize("name", ["sftp://me:SECRET@host/run", Path("sftp://me:SECRET@host/run"), "ftp://:SECRET@h"])
def test_a_password_is_refused_and_not_shown(name):
    with pytest.raises(ConfigError, match="no password") as raised:
        path_of(name)
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize("name", ["sftp://me@host/a:b@c", "sftp://host:22/x", "abfs://box@account/x", "s3://b/...x"])
def test_a_user_alone_is_no_password(name):
    assert address_of(name) == name


def test_a_file_address_is_a_path_wherever_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    there = tmp_path / "out"
    for words in (
        ("-o", f"file://{there}/"),
        (f"--output=file://{there}/",),
        ("-o", f"local://{there}/", "--batch", 1),
    ):
        assert run("generate", "demo", "--duration", 0.01, *words) == 0
    assert run("jobs", "status", f"file://{there}") == 0
    assert sorted(path.name for path in there.iterdir()) == [
        "demo-seed0-2.wav",
        "demo-seed0.job",
        "demo-seed0.wav",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert "1 of 1 units" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--output=~/x.wav"], ["-o=~/x.wav"], ["-o~/x.wav"], ["-o", "~/x.wav"]])
def test_the_home_of_the_user_is_meant_where_the_shell_leaves_its_sign(tmp_path, monkeypatch, words):
    """A folder whose name is ~ is one that nobody wants, or dares to remove."""
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    assert run("generate", "demo", "--duration", 0.01, *words) == 0
    assert list(tmp_path.iterdir()) == [home] and (home / "x.wav").is_file()
    assert run("generate", "demo", "--duration", 0.01, "-o", "~x.wav") == 0
    assert (tmp_path / "~x.wav").is_file()
