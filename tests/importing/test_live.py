"""Live modules of other projects, sampled by our engine."""

import time

import numpy as np
import pytest
import torch
from exporters import deepsound_state, float32_model
from foreign_configs import torch_config
from torch import nn

import samplernn_fast as srnn
from samplernn_fast.compat.deepsound import Generator
from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.importing import live
from samplernn_fast.models.config import SampleRNNConfig

CONFIG = torch_config((2, 6), q=20, dim=9, n=2)


class Held(nn.Module):
    """A module that holds tensors under dotted names, as any project's model does."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name, tensor in state.items():
            *path, last = name.split(".")
            place: nn.Module = self
            for part in path:
                if not hasattr(place, part):
                    place.add_module(part, nn.Module())
                place = getattr(place, part)
            place.register_parameter(last, nn.Parameter(tensor))


def deepsound_like(config: SampleRNNConfig = CONFIG, prefix: str = "") -> Held:
    return Held(deepsound_state(float32_model(config), prefix))


def greedy(engine: srnn.Engine, n: int) -> np.ndarray:
    return engine.run(engine.init_state(2, temperature=0), n)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_it_samples_the_modules_weights(prefix):
    fast = srnn.accelerate(deepsound_like(prefix=prefix))
    assert fast.engine.config == CONFIG
    direct = srnn.Engine(float32_model(CONFIG), dtype="fastest")
    assert np.array_equal(greedy(fast.engine, 60), greedy(direct, 60))
    drawn = direct.run(direct.init_state(3), 50)
    assert np.array_equal(fast(3, 50).numpy(), drawn)
    later = direct.run(direct.init_state(2, first_stream=3), 50)
    assert np.array_equal(fast(2, 50).numpy(), later)


def test_its_settings_reach_the_engine():
    fast = srnn.accelerate(deepsound_like(), seed=5, backend="reference", dtype="float64", sample_rate=8000)
    assert (fast.engine.backend.name, fast.engine.dtype, fast.engine.config.sample_rate) == (
        "reference",
        "float64",
        8000,
    )
    prompt = torch.arange(13) % 20
    engine = fast.engine
    wanted = engine.run(engine.init_state(2, seed=5, temperature=0.5, top_k=3, prompt=prompt), 20)
    assert np.array_equal(fast(2, 20, temperature=0.5, top_k=3, prompt=prompt).numpy(), wanted)


@pytest.mark.parametrize(
    "call", [lambda: srnn.accelerate(deepsound_like(), num_streams=100), lambda: Generator(deepsound_like())(100, 8)]
)
def test_it_says_for_how_many_streams_its_engine_is(call, monkeypatch):
    asked = []

    def engine(*given, num_streams, **settings):
        asked.append(num_streams)
        return srnn.Engine(*given, **settings)

    monkeypatch.setattr(live, "Engine", engine)
    call()
    assert asked == [100]


def test_weights_are_read_once():
    module = deepsound_like()
    fast = srnn.accelerate(module)
    before = greedy(fast.engine, 40)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert np.array_equal(greedy(fast.engine, 40), before)


@pytest.mark.parametrize("kind", ["linear", "mu-law"])
def test_s4_modules_say_their_quantizer(kind):
    config = torch_config((2, 4), dim=6, emb=5, quantization=f"{kind}-s4")
    state = deepsound_state(float32_model(config), "", h0_in_gru=True)
    module = Held(state)
    with pytest.raises(ConfigError, match="quantization"):
        srnn.accelerate(module)
    assert srnn.accelerate(module, quantization=kind).engine.config == config
    module.quantization = kind
    wrapper = nn.Module()
    wrapper.model = module
    assert srnn.accelerate(wrapper).engine.config == config


def test_modules_that_do_not_fit():
    with pytest.raises(ConfigError, match="a model of samplernn_fast already"):
        srnn.accelerate(srnn.SampleRNN(SampleRNNConfig(dim=8, emb_size=8)))
    with pytest.raises(ConfigError, match="must be a torch module, got dict"):
        srnn.accelerate({})
    with pytest.raises(CheckpointError, match=r"accelerate: no tensor is called frame_level_rnns"):
        srnn.accelerate(nn.Linear(2, 2))
    module = deepsound_like()
    del module.sample_level_mlp.hidden.bias
    with pytest.raises(CheckpointError, match=r"tensor sample_level_mlp.hidden.bias is missing"):
        srnn.accelerate(module)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensor: tensor.to("meta"), "must hold plain numbers"),
        (lambda tensor: tensor.to_sparse(), "must hold plain numbers"),
        (lambda tensor: tensor.to(torch.float8_e4m3fn), "must be of floating-point numbers, not torch.float8"),
        (lambda tensor: tensor.to(torch.complex64), "must be of floating-point numbers, not torch.complex64"),
    ],
    ids=["meta", "sparse", "float8", "complex"],
)
def test_tensors_that_are_no_plain_numbers_are_named(change, words):
    state = deepsound_state(float32_model(CONFIG), "")
    state["sample_level_mlp.hidden.bias"] = change(state["sample_level_mlp.hidden.bias"])
    with pytest.raises(CheckpointError, match=f"tensor sample_level_mlp.hidden.bias {words}"):
        srnn.accelerate(Held(state))


def test_generator_is_reached_from_the_package():
    assert srnn.compat.deepsound.Generator is Generator


def test_generator_answers_as_deepsounds_does():
    generator = Generator(deepsound_like())
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    made = generator(3, 50)
    assert made.dtype == torch.int64 and made.shape == (3, 50) and made.device.type == "cpu"
    assert type(made) is torch.Tensor and made.type() == "torch.LongTensor"
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(generator(3, 50), made)  # new sequences every time
    assert torch.equal(Generator(deepsound_like())(3, 50), made)
    assert Generator(deepsound_like(), dtype="float32")._current(1).engine.dtype == "float32"


def test_generator_follows_a_model_that_is_trained():
    module = deepsound_like()
    generator = Generator(module)
    first = generator(2, 30)
    sampler = generator._sampler
    generator(2, 30)
    assert generator._sampler is sampler  # nothing changed: nothing is read again
    other = float32_model(CONFIG, seed=9)
    module.load_state_dict(deepsound_state(other, ""))
    engine = srnn.Engine(other, dtype="fastest")
    assert np.array_equal(generator(2, 30).numpy(), engine.run(engine.init_state(2, first_stream=4), 30))
    for parameter in module.parameters():
        parameter.data.mul_(1.5)  # leaves no trace in a tensor's version
    assert generator._current(2) is not sampler and first.shape == (2, 30)


@pytest.mark.filterwarnings("ignore")
def test_deepsounds_own_generator_and_ours_agree(peer, monkeypatch):
    """Their loop with argmax for its draw gives our greedy levels."""
    torch.manual_seed(0)
    theirs = peer.SampleRNN([4, 3], 2, 24, True, 64, True)
    monkeypatch.setattr(torch.Tensor, "multinomial", lambda rows, n: rows.argmax(dim=1, keepdim=True))
    with torch.no_grad():
        wanted = peer.Generator(theirs)(2, 100)
    assert wanted.unique().numel() > 3
    fast = srnn.accelerate(peer.Predictor(theirs), dtype="float32")
    assert torch.equal(fast(2, 100, temperature=0), wanted)
    ours = Generator(theirs)(2, 100)
    assert ours.dtype == wanted.dtype and ours.shape == wanted.shape


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_deepsounds_default_model_goes_faster(peer):
    """Their default config, dim 1024, one sequence. The figure belongs to the benchmark; the direction is tested."""
    theirs = peer.SampleRNN([16, 4], 2, 1024, True, 256, True)
    seconds = {}
    for name, generator in (("theirs", peer.Generator(theirs)), ("ours", Generator(theirs))):
        with torch.no_grad():
            generator(1, 64)
            began = time.perf_counter()
            generator(1, 512)
            seconds[name] = time.perf_counter() - began
    assert seconds["ours"] < seconds["theirs"]
