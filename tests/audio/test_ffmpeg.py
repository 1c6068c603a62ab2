"""Audio that is read through ffmpeg: the real program where it is installed, and scripts that take its place."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import RATE, noise, write_noise
from sounds import fails, peak_hertz, tone

from samplernn_fast.audio import ffmpeg, reading
from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.preparation import prepare

needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs the program ffmpeg (apt install ffmpeg)")
HEADER = '{"streams": [{"sample_rate": "8000", "channels": 2}], "format": {"duration": "0.5"}}'


def convert(source: Path, target: Path, *options: str) -> Path:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(source), *options, str(target)]
    subprocess.run(command, check=True, timeout=60)
    return target


@needs_ffmpeg
@pytest.mark.parametrize(
    "suffix",
    [".m4a", ".wma", *(pytest.param(s, marks=pytest.mark.slow) for s in (".aac", ".webm", ".mka", ".wv", ".ac3"))],
)
def test_formats_that_libsndfile_does_not_read(tmp_path: Path, suffix: str) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([tone(1.0, 48000), 0 * tone(1.0, 48000)], 1), 48000)
    path = convert(tmp_path / "a.wav", tmp_path / f"caf\udce9 -i{suffix}")
    info = reading.probe(path)
    assert (info.sample_rate, info.channels) == (48000, 2)
    samples, rate = reading.read(path, sample_rate=16000, channels="left")
    assert rate == 16000 and len(samples) == pytest.approx(16000, abs=1500)
    assert peak_hertz(samples[2000:14000], 16000) == pytest.approx(440, abs=3)
    assert np.abs(samples[2000:14000]).max() == pytest.approx(0.5, abs=0.05)
    assert np.abs(reading.read(path, channels="right")[0][9600:38400]).max() < 0.05


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".m4a", ".webm", ".wma"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_truncated_and_damaged_files_are_refused(tmp_path: Path, suffix: str, part: float) -> None:
    soundfile.write(tmp_path / "a.wav", tone(2.0, 44100), 44100)
    fast = ["-movflags", "+faststart"] if suffix == ".m4a" else []
    whole = convert(tmp_path / "a.wav", tmp_path / f"a{suffix}", *fast).read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole[: int(part * len(whole))])
    fails(lambda: reading.read(cut), str(cut), "damaged")
    cut.write_bytes(b"not audio at all" * 99)
    fails(lambda: reading.read(cut), str(cut), "damaged, or not audio")


@needs_ffmpeg
def test_a_playlist_under_an_audio_name_opens_no_other_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "secret.wav", tone(1.0, 8000), 8000)
    (tmp_path / "a.aac").write_text(f"ffconcat version 1.0\nfile {tmp_path}/secret.wav\n")
    (tmp_path / "b.aac").write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/secret.wav\n#EXT-X-ENDLIST\n")
    for name in ("a.aac", "b.aac"):
        fails(lambda name=name: reading.read(tmp_path / name), name, "damaged, or not audio")


@needs_ffmpeg
def test_prepare_takes_them_beside_the_others(tmp_path: Path) -> None:
    source = write_noise(tmp_path / "in", [4000, 5000, 6000])
    convert(source / "0.wav", source / "3.m4a")
    (source / "4.m4a").write_bytes(b"damaged")
    report = prepare(source, tmp_path / "out", sample_rate=RATE)
    assert [name for name, _ in report.dropped] == ["4.m4a"]
    assert "3.m4a" in [entry.path for entry in AudioData.open(tmp_path / "out").manifest.recordings]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts scripts in Python in the place of ffprobe and ffmpeg."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(ffprobe: str, ffmpeg: str = "") -> Path:
        for name, text in (("ffprobe", ffprobe), ("ffmpeg", ffmpeg)):
            (folder / name).write_text(f"#!{sys.executable}\nimport os, sys, time\n{text}\n")
            (folder / name).chmod(0o755)
        (tmp_path / "a.m4a").write_bytes(bytes(1000))
        return tmp_path / "a.m4a"

    return put


def test_without_ffmpeg_a_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a song.m4a").write_bytes(bytes(1000))
    fails(
        lambda: reading.read(tmp_path / "a song.m4a"), "a song.m4a: .m4a is read through ffmpeg", "apt install ffmpeg"
    )


def test_samples_come_through_the_pipe_as_they_are(programs) -> None:
    pcm = np.stack([noise(4000), noise(4000, seed=1)], 1) / np.float32(32768)
    path = programs(
        f"print({HEADER!r})", f"sys.stdout.buffer.write(bytes.fromhex({pcm.astype('<f4').tobytes().hex()!r}))"
    )
    assert np.array_equal(reading.read(path, channels=1)[0], pcm[:, 1].astype(np.float32))
    blocks = list(reading.read_blocks(path, channels=1, block_seconds=0.1))
    assert [len(block) for block in blocks] == [800] * 5


def test_what_ffmpeg_is_told_bounds_what_it_may_do(programs, tmp_path: Path) -> None:
    keep = f"import json; open({str(tmp_path / 'told')!r}, 'a').write(json.dumps(sys.argv[1:]) + chr(10))"
    path = programs(f"{keep}; print({HEADER!r})", keep)
    fails(lambda: reading.read(path), "holds no audio")
    for line in (tmp_path / "told").read_text().splitlines():
        told = json.loads(line)
        assert told[told.index("-protocol_whitelist") + 1] == "file,pipe"
        assert not {"hls", "concat", "image2", "dash"} & set(told[told.index("-format_whitelist") + 1].split(","))
        assert told[told.index("-i") + 1] == f"file:{path}"
    assert "-nostdin" in told and "pipe:1" in told


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (HEADER.replace("8000", "200000000"), "claims 200000000 Hz"),
        (HEADER.replace("0.5", "1e8"), "claims 100000000 s of audio"),
        (HEADER.replace(": 2", ": 9000"), "claims 9000 channels"),
        (HEADER.replace('"8000"', "[]"), "does not say rate and channels"),
        ("[1]", "holds no audio"),
        ("{}", "holds no audio"),
        ("no JSON", "is not JSON"),
    ],
)
def test_what_ffprobe_says_is_checked(programs, header: str, words: str) -> None:
    path = programs(f"print({header!r})")
    fails(lambda: reading.read(path), str(path), words)


def test_a_program_that_stands_still_or_gives_without_end_is_ended(programs, monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.monotonic()
    with monkeypatch.context() as patched:  # the next program may take longer until it begins
        patched.setattr(ffmpeg, "_STALL_SECONDS", 0.3)
        path = programs(f"print({HEADER!r})", "time.sleep(600)")
        fails(lambda: reading.read(path), "ffmpeg gave nothing")
    path = programs(f"print({HEADER!r})", "while True: os.write(1, bytes(1 << 20))")
    fails(lambda: reading.read(path), "unpacks to more than")
    monkeypatch.setattr(ffmpeg, "_PROBE_SECONDS", 0.3)
    path = programs("time.sleep(600)")
    fails(lambda: reading.read(path), "ffprobe does not end")
    assert time.monotonic() - started < 200


def test_a_complaint_of_ffmpeg_is_an_error_with_its_first_line(programs) -> None:
    some = "sys.stdout.buffer.write(bytes(8 * 800)); sys.stdout.flush(); "
    path = programs(f"print({HEADER!r})", some + "print('[aac @ 0x1] broken\\nmore', file=sys.stderr)")
    fails(lambda: reading.read(path), str(path), "damaged or cut short after 0.1 s (broken)")
    path = programs(f"print({HEADER!r})", some + "sys.exit(1)")
    fails(lambda: reading.read(path), "ffmpeg failed")
