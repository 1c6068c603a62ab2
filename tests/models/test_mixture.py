"""Mixtures of Gaussians: their density, their bits, their draws, and degenerate signals."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from runs import tiny

from samplernn_fast.data.folder import AudioData
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.evaluation.likelihood import evaluate
from samplernn_fast.models import checkpoint
from samplernn_fast.models.gaussian import RNNGMM
from samplernn_fast.models.layers.mixture import density_nats, level_nats, linear_level, mixture_of
from samplernn_fast.models.other_configs import RNNGMMConfig, SampleRNNGMMConfig
from samplernn_fast.reference.mixture import draw_mixture, nearest_level
from samplernn_fast.reference.randomness import Randomness
from samplernn_fast.training.trainer import train

FLOOR = 1e-3
CONFIG = RNNGMMConfig(dim=8, mean=0.01, std=0.1)


def raw(*shape: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def theirs(outputs: torch.Tensor) -> torch.distributions.MixtureSameFamily:
    logits, means, scales = outputs.chunk(3, dim=-1)
    normal = torch.distributions.Normal(means, FLOOR + torch.nn.functional.softplus(scales))
    return torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=logits), normal)


def test_the_density_is_that_of_torchs_mixture():
    outputs, values = raw(500), 2 * torch.randn(500, dtype=torch.float64)
    ours = density_nats(mixture_of(outputs, FLOOR), values)
    torch.testing.assert_close(ours, -theirs(outputs).log_prob(values), rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 10.0, 1e4])
def test_the_256_levels_have_a_probability_of_1_together(scale):
    outputs = raw(50, scale=scale)
    nats = level_nats(mixture_of(outputs[:, None], FLOOR), torch.arange(256).expand(50, -1), 0.01, 0.1)
    assert not nats.isnan().any()
    torch.testing.assert_close(nats.neg().exp().sum(1), torch.ones(50, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_bits_of_a_level_are_the_integral_of_the_density():
    outputs = raw(3)
    amplitudes = torch.linspace(-0.5, 0.5, 128 * 4096 + 1, dtype=torch.float64)[:-1] + 0.5 / (128 * 4096)
    density = density_nats(mixture_of(outputs[:, None], FLOOR), (amplitudes - 0.01) / 0.1).neg().exp() / 0.1
    whole = density[:, 2048:-2048].unflatten(1, (-1, 4096)).sum(2) / (128 * 4096)  # levels 65 to 191
    nats = level_nats(mixture_of(outputs[:, None], FLOOR), torch.arange(65, 192).expand(3, -1), 0.01, 0.1)
    torch.testing.assert_close(nats.neg().exp(), whole, rtol=1e-5, atol=1e-12)


def test_the_linear_level_is_that_of_the_law():
    from samplernn_fast.audio.quantize import quantizer

    samples = np.arange(-32768, 32768) / 32768
    assert (linear_level(torch.arange(65536)).numpy() == quantizer("linear", 256).encode(samples)).all()


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_gradients_are_finite_for_extreme_outputs(scale):
    outputs = raw(300, scale=scale).float().requires_grad_()
    model = RNNGMM(CONFIG)
    levels = torch.randint(65536, (300,))
    model.losses(outputs, levels).sum().backward()
    assert torch.isfinite(outputs.grad).all()


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_draws_have_the_mixtures_distribution(temperature):
    """Kolmogorov-Smirnov over 10^5 draws: the statistic is below 1.95 / sqrt(n) with a probability of 0.999."""
    n, outputs = 100_000, raw(1) + torch.tensor([0.0] * 4 + [-1.0, 0, 1, 2] + [-1.0] * 4)
    words = torch.from_numpy(Randomness(7, np.arange(n, dtype=np.uint32)).words(3, 1)[:, 0].astype(np.int64))
    levels = draw_mixture(outputs.expand(n, -1), words, torch.full((n,), temperature), CONFIG)
    weights, means, scales = mixture_of(outputs, FLOOR)
    weights = (weights / temperature).softmax(1)
    edges = ((levels.double().sort().values - 32767.5) / 32768 - 0.01) / 0.1
    below = torch.special.ndtr((edges[:, None] - means) / (scales * math.sqrt(temperature)))
    inner = (levels.sort().values > 0) & (levels.sort().values < 65535)
    distances = ((weights * below).sum(1) - torch.arange(1, n + 1) / n).abs()[inner]
    # Equal levels share one edge, so the empirical distribution at it may be less by the samples of a level.
    assert inner.float().mean() > 0.9 and distances.max() < 1.95 / math.sqrt(n) + 1e-3


def test_temperature_0_takes_the_likeliest_components_mean():
    outputs = torch.tensor([[0.0, 3, 1, 2, 0.1, 0.2, 0.3, 0.4, 0, 0, 0, 0]])
    level = draw_mixture(outputs, torch.tensor([[5, 6, 7, 8]]), torch.zeros(1), CONFIG)
    assert level.item() == round((0.2 * 0.1 + 0.01) * 32768) + 32768
    assert torch.equal(
        draw_mixture(outputs * math.nan, torch.zeros(1, 4).long(), torch.ones(1), CONFIG), level * 0 + 65536
    )


def test_a_level_survives_being_a_value():
    assert torch.equal(nearest_level(RNNGMM(CONFIG).values, CONFIG), torch.arange(65536))


@pytest.mark.parametrize("kind", ["silence", "constant", "square"])
@pytest.mark.parametrize("floor", [1e-3, 0.1])
def test_the_floor_bounds_the_loss_of_degenerate_signals(kind, floor):
    signal = {"silence": [32768] * 2, "constant": [40000] * 2, "square": [0, 65535]}[kind]
    levels = torch.tensor(signal).repeat(2, 33)[:, :65]
    heard = levels.double() / 32768 - 1
    config = replace(
        CONFIG, scale_floor=floor, mean=heard.mean().item(), std=max(heard.std(correction=0).item(), 2**-15)
    )
    model = RNNGMM(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    bound = -math.log2(1 / (floor * math.sqrt(2 * math.pi)))
    losses = []
    for _ in range(200):
        loss = model.losses(model(levels)[0], levels[:, 1:]).mean()
        losses.append(loss.item())
        assert math.isfinite(losses[-1]) and losses[-1] >= bound - 1e-4
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(model.parameters(), 1)  # as training does
        optimizer.step()
    assert losses[0] < 8 and losses[-1] < losses[0]


def test_mean_and_deviation_are_the_training_splits_and_are_kept(data_folder, tmp_path):
    data = AudioData.open(data_folder)
    heard = np.concatenate([data.samples(one) for one in data.recordings("train")]) / 32768
    start = SampleRNNGMMConfig(dim=8, frame_sizes=(4, 8), sample_rate=0, gain=0.0)
    train(tiny(data_folder, tmp_path / "run", steps=2, model=start, sample_every=0), progress=False)
    config = checkpoint.load_model(tmp_path / "run").config
    assert config.mean == pytest.approx(heard.mean(), abs=1e-15) and config.std == pytest.approx(heard.std(), rel=1e-12)
    train(tiny(data_folder, tmp_path / "run", steps=4, model=start, sample_every=0), progress=False)
    again = tiny(data_folder, tmp_path / "next", steps=2, model=start, sample_every=0, init_from=str(tmp_path / "run"))
    train(again, progress=False)
    for name in ("run", "next"):
        assert checkpoint.load_model(tmp_path / name).config == config
    result = evaluate(tmp_path / "next", data, "test")
    assert math.isfinite(result.nll_nats) and result.to_dict()["per_file"][0]["nll_nats"] == result.per_file[0].nll_nats


def test_what_a_mixture_cannot_do_is_said_in_one_line(data_folder):
    engine = Engine(RNNGMM(CONFIG))
    state = engine.init_state()
    with pytest.raises(ConfigError, match="top_k and top_p choose among levels"):
        engine.init_state(top_k=3)
    with pytest.raises(CheckpointError, match="top_k and top_p choose among levels"):
        state.load_state_dict(state.state_dict() | {"top_p": 0.5})
    with pytest.raises(ConfigError, match="densities"):
        engine.score(torch.zeros(1, 9, dtype=torch.long))
    with pytest.raises(ConfigError, match="16-bit samples"):
        replace(CONFIG, q_levels=256)
    rate = AudioData.open(data_folder).sample_rate
    for backend in ("cpu", "stepping"):
        with pytest.raises(ConfigError, match="no backend scores"):
            evaluate(RNNGMM(replace(CONFIG, sample_rate=rate)), data_folder, backend=backend)


def test_a_stream_depends_on_model_seed_and_its_number_alone():
    engine = Engine(RNNGMM(CONFIG).double(), dtype="float64")
    together = engine.run(engine.init_state(3, seed=5), 40)
    state = engine.init_state(1, seed=5, first_stream=2)
    first = engine.run(state, 15)
    other = engine.init_state(1)
    other.load_state_dict(state.state_dict())
    assert np.array_equal(np.concatenate((first, engine.run(other, 25)), axis=1)[0], together[2])
    forced = np.full((1, 4), -1)
    forced[0, 1] = 12345
    assert engine.run(engine.init_state(1), 4, forced)[0, 1] == 12345


def test_the_sign_of_a_normalized_vector_of_one_number_stays(data_folder, tmp_path):
    """What rounding leaves of its gradient would let Adam turn signs, and with one the weight that the RNN reads by."""
    config = tiny(data_folder, tmp_path / "run", steps=20, model=RNNGMMConfig(dim=12, sample_rate=0, gain=0.0))
    config = replace(config, sample_every=0, keep=0)
    train(config, progress=False)
    model = checkpoint.load_model(tmp_path / "run")
    fresh = RNNGMM(model.config, seed=config.seed)
    gains, directions = (f"rnn.layers.0.parametrizations.w_ih.original{part}" for part in (0, 1))
    assert torch.equal(model.get_parameter(directions), fresh.get_parameter(directions))
    assert not torch.equal(model.get_parameter(gains), fresh.get_parameter(gains))
