"""Fixtures that several test files share: data folders of a little synthesised music, small models, a trained run."""

import gc
import importlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from cases import make_model
from command_line import TINY, run
from fake_gpu import FOLDER, FakeGpu, FakeNvrtc, kept_library
from gpu_shapes import SHAPES, TELLING
from played_gpu import cluster_gpu, compiled, gpu  # noqa: F401
from small import CONFIG

from samplernn_fast import files
from samplernn_fast.audio import writing
from samplernn_fast.audio.synthetic import plucked_music
from samplernn_fast.data.preparation import prepare
from samplernn_fast.engine.engine import Engine
from samplernn_fast.models import checkpoint
from samplernn_fast.models.sample_rnn import SampleRNN
from samplernn_fast.training.pictures import album

RATE = 8000

sys.path.append(str(Path(__file__).parents[1]))  # Tests import bench/ as a package; it is not installed.

# The models are tiny: more threads only wait for each other, for minutes where another process holds a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

# A shell starts background jobs with ctrl-C ignored, and such signals stay ignored; the tests send some.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests for a GPU on the shapes of gpu_shapes.py: in their order, and the first ones marked as telling."""
    places = {name: place for place, name in enumerate(SHAPES)}

    def place_of(item: pytest.Item) -> int:
        return places[item.callspec.params["name"]]

    of_gpu = [
        at
        for at, item in enumerate(items)
        if item.path.name == "test_on_gpu.py" and "name" in getattr(item, "fixturenames", ())
    ]
    for at, item in zip(of_gpu, sorted((items[at] for at in of_gpu), key=place_of), strict=True):
        items[at] = item
        if place_of(item) < len(TELLING):
            item.add_marker("telling")


@pytest.fixture(scope="session", autouse=True)
def quick_curves() -> Iterator[None]:
    """A run that this process trains leaves an empty picture as loss.png, in the way that it leaves the real one.

    The real one took two thirds of the time of a run of some twenty steps. `training/test_pictures.py` has it drawn,
    and so have runs in processes of their own.
    """

    def draw(curves: object, path: Path, title: str = "") -> None:
        load_figure()
        with files.replacing(path) as temporary:
            temporary.write_bytes(b"\x89PNG\r\n\x1a\n")

    load_figure = album.curves.load_figure
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(album, "curves", SimpleNamespace(draw=draw, load_figure=load_figure))
        yield


@pytest.fixture(scope="session")
def make_data() -> Callable[..., Path]:
    """make_data(folder, seconds, valid, test): a data folder of one 8 kHz recording for each length in `seconds`, named
    0.wav, 1.wav, ...; `valid` and `test` are the numbers of those that are held out."""

    def make(folder: Path, seconds: Sequence[float], valid: Sequence[int] = (), test: Sequence[int] = ()) -> Path:
        (folder / "audio").mkdir(parents=True)
        for number, length in enumerate(seconds):
            writing.write(folder / "audio" / f"{number}.wav", plucked_music(length, seed=number), RATE)
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


@pytest.fixture(scope="session")
def model() -> SampleRNN:
    """A small model with random weights. Shared: never change it."""
    return make_model(CONFIG, dtype=torch.float32)


@pytest.fixture(scope="session")
def run_folder(model: SampleRNN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that holds `model`."""
    folder = tmp_path_factory.mktemp("run")
    checkpoint.save_model(folder / "model.safetensors", model, {"step": 3})
    return folder


@pytest.fixture(scope="session")
def engine(model: SampleRNN) -> Engine:
    """`model` where rows of a batch are exactly those of a single stream."""
    return Engine(model, backend="reference", dtype="float64", device="cpu")


@pytest.fixture(scope="session")
def trained(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of three steps of training, made by the command line itself."""
    out = tmp_path_factory.mktemp("cli") / "tune"
    assert run(*f"train laptop --data {data_folder} --out {out} --max-steps 3 {TINY}".split()) == 0
    return out


@pytest.fixture(scope="session")
def fake_libcuda() -> FakeGpu:
    """The library that plays a GPU and its driver; tests take `fake_gpu`."""
    gc.freeze()  # `fake_gpu` collects garbage after each test: what is loaded by now takes it longest, and is none
    return FakeGpu(kept_library("libcuda.cpp", "libcuda.so"))


@pytest.fixture
def fake_gpu(fake_libcuda: FakeGpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeGpu]:
    """A machine with one GPU and an empty cache of kernels. Fails a test that leaves something in the driver."""
    fake_libcuda.reset()
    monkeypatch.setenv("SAMPLERNN_FAST_LIBCUDA", fake_libcuda.path)
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(tmp_path / "cache"))
    yield fake_libcuda
    gc.collect()
    assert fake_libcuda.held == 0


@pytest.fixture(scope="session")
def fake_libnvrtc() -> FakeNvrtc:
    """The library that plays NVRTC; tests take `fake_nvrtc`."""
    return FakeNvrtc(kept_library("libnvrtc.cpp", "libnvrtc.so.13"))


@pytest.fixture
def fake_nvrtc(fake_libnvrtc: FakeNvrtc, monkeypatch: pytest.MonkeyPatch) -> FakeNvrtc:
    """The only NVRTC there is. A cubin of it is the options and the source, in text."""
    fake_libnvrtc.reset()
    monkeypatch.setenv("SAMPLERNN_FAST_NVRTC", fake_libnvrtc.path)
    monkeypatch.setenv("FAKE_NVRTC_COMPILER", f"sh {FOLDER / 'copy.sh'}")
    return fake_libnvrtc


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test in a folder of its own, and ctrl-C as it was before."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)
