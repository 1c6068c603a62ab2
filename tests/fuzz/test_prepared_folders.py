"""Data folders with a damaged manifest, or audio that is not what the manifest says."""

import json
import random
import re
from pathlib import Path

import pytest
from fuzzing import fuzz, fuzz_cases, write_case
from mutations import mutate, mutate_value
from recordings import RATE, write_noise

from samplernn_fast.data import index
from samplernn_fast.data.batches import TBPTTBatches
from samplernn_fast.data.folder import AUDIO_FILE, AudioData
from samplernn_fast.data.manifest import MANIFEST_FILE
from samplernn_fast.data.preparation import prepare
from samplernn_fast.models.config import SampleRNNConfig

MODEL = SampleRNNConfig(sample_rate=RATE, gain=0.0, frame_sizes=(2, 8), dim=8, emb_size=8, q_levels=64)


@pytest.mark.parametrize("join", [False, True])
@fuzz_cases
def test_a_prepared_folder(join: bool, cases: int, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    joining = {"join": True, "join_seconds": 0.05} if join else {}
    prepare(write_noise(tmp_path / "in", [300, 200, 250, 220]), folder, sample_rate=RATE, **joining)
    manifest, audio = (folder / MANIFEST_FILE).read_bytes(), (folder / AUDIO_FILE).read_bytes()
    values = json.loads(manifest)

    def make(source: random.Random) -> tuple[bytes, bytes]:
        kind = source.random()
        if kind < 0.05:
            return manifest, mutate(source, audio)
        if kind < 0.4:
            return mutate(source, manifest), audio
        return json.dumps(mutate_value(source, values)).encode(), audio

    def target(case: tuple[bytes, bytes]) -> None:
        write_case(folder / MANIFEST_FILE, case[0])
        write_case(folder / AUDIO_FILE, case[1])
        data = AudioData.open(folder)
        for entry in data.manifest.recordings:
            assert data.samples(entry).shape == (entry.length,)
            assert not re.search(r"[\n\r\ud800-\udfff]", entry.path)
        next(TBPTTBatches(data, MODEL, batch_size=2, seq_len=16, seed=0))

    target((manifest, audio))  # loads torch, which may take longer than a case
    fuzz(target, make, cases, valid=[(manifest, audio)])


@fuzz_cases
def test_an_index(cases: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    monkeypatch.setattr(index, "LEAST_INDEXED", 1)
    joining = {"join": True, "join_seconds": 0.05}
    prepare(write_noise(tmp_path / "in", [300, 200, 250, 220]), folder, sample_rate=RATE, **joining)
    whole = (folder / index.INDEX_FILE).read_bytes()
    header = 24 + int.from_bytes(whole[16:24], "little")

    def make(source: random.Random) -> bytes:
        if source.random() < 0.5:
            return mutate(source, whole)
        return whole[:header] + mutate(source, whole[header:])

    def target(case: bytes) -> None:
        write_case(folder / index.INDEX_FILE, case)
        data = AudioData.open(folder)
        for entry in data.manifest.recordings:
            assert data.samples(entry).shape == (entry.length,)
            assert not re.search(r"[\n\r\ud800-\udfff]", entry.path)
        next(TBPTTBatches(data, MODEL, batch_size=2, seq_len=16, seed=0))

    target(whole)
    fuzz(target, make, cases, valid=[whole])
