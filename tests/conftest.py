"""Fixtures that several test files share: data folders of a little synthesised music."""

import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch

from samplernn_fast import audio
from samplernn_fast.data import prepare
from samplernn_fast.demo import plucked_music

RATE = 8000

# The models are tiny: more threads only wait for each other, for minutes where another process holds a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(scope="session")
def make_data() -> Callable[..., Path]:
    """make_data(folder, seconds, valid, test): a data folder of one 8 kHz recording for each length in `seconds`, named
    0.wav, 1.wav, ...; `valid` and `test` are the numbers of those that are held out."""

    def make(folder: Path, seconds: Sequence[float], valid: Sequence[int] = (), test: Sequence[int] = ()) -> Path:
        (folder / "audio").mkdir(parents=True)
        for number, length in enumerate(seconds):
            audio.write(folder / "audio" / f"{number}.wav", plucked_music(length, seed=number), RATE)
        lists = {}
        for name, numbers in (("valid_files", valid), ("test_files", test)):
            if numbers:
                lists[name] = folder / f"{name}.txt"
                lists[name].write_text("".join(f"{number}.wav\n" for number in numbers))
        everything = {} if lists else {"split": (1, 0, 0)}
        prepare([folder / "audio"], folder / "data", sample_rate=RATE, chunk_seconds=0.2, **lists, **everything)
        return folder / "data"

    return make


@pytest.fixture(scope="session")
def data_folder(make_data: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.3 s to train on in 5 recordings, 1 to validate, 3 to test. Shared: never write into it."""
    seconds = (0.11, 0.36, 0.2, 0.27, 0.4, 0.15, 0.12, 0.31, 0.22)
    return make_data(tmp_path_factory.mktemp("music"), seconds, valid=(5,), test=(6, 7, 8))


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """deepsound's own `model`, from a clone of deepsound-project/samplernn-pytorch: DEEPSOUND_CLONE, or peer in the
    folder for temporary files."""
    clone = Path(os.environ.get("DEEPSOUND_CLONE", Path(tempfile.gettempdir()) / "peer"))
    if not (clone / "model.py").is_file():
        pytest.skip(f"no clone of deepsound-project/samplernn-pytorch at {clone}")
    names = ("model", "nn", "utils")  # its files; other packages may have modules of such names
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    monkeypatch.syspath_prepend(str(clone))
    yield importlib.import_module("model")
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(before)
