"""The three laws for new models, and the rules of other projects against their own numbers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplernn_fast.audio.laws import QUANTIZATIONS
from samplernn_fast.audio.quantize import Quantizer, for_config, quantizer
from samplernn_fast.errors import AudioError, ConfigError
from samplernn_fast.models.config import SampleRNNConfig

LAWS = ("linear", "mu-law", "a-law")
PER_FILE = ("linear-deepsound", "linear-theano", "linear-s4", "mu-law-theano", "mu-law-s4")
ROOT = Path(__file__).resolve().parents[2]
FIXTURES = sorted((ROOT / "../shared/fixtures").resolve().glob("*/*/meta.json"))

laws = st.sampled_from(LAWS)
level_counts = st.integers(2, 65536)
amplitudes = st.floats(-1.0, 1.0)


@given(laws, level_counts)
@settings(deadline=None, max_examples=60)
def test_every_level_survives_decode_and_encode(law: str, q_levels: int) -> None:
    quant = quantizer(law, q_levels)
    levels = np.arange(q_levels)
    np.testing.assert_array_equal(quant.encode(quant.decode(levels)), levels)
    np.testing.assert_array_equal(quant.encode(quant.decode_table()), levels)
    assert (np.diff(quant.decode_table()) > 0).all()


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("q_levels", [2, 3, 51, 255, 256, 4096, 65535, 65536])
def test_silence_is_the_middle_level_and_exactly_zero(law: str, q_levels: int) -> None:
    quant = quantizer(law, q_levels)
    assert quant.zero == q_levels // 2 == SampleRNNConfig(q_levels=q_levels).q_zero
    assert quant.decode(quant.zero) == 0.0 and quant.decode_table()[quant.zero] == 0.0
    tiny = quant.decode_table()[[quant.zero - 1]] / 1000
    assert (quant.encode(np.array([0.0, -0.0, tiny[0], -tiny[0]])) == quant.zero).all()


@given(laws, level_counts, amplitudes, amplitudes)
@settings(deadline=None, max_examples=300)
def test_encode_is_monotone(law: str, q_levels: int, a: float, b: float) -> None:
    low, high = quantizer(law, q_levels).encode(np.array(sorted((a, b))))
    assert 0 <= low <= high < q_levels


@given(laws, level_counts, amplitudes)
@settings(deadline=None, max_examples=300)
def test_error_is_at_most_half_a_step(law: str, q_levels: int, x: float) -> None:
    """x lies between the middles (in the companded domain) to the neighbours; hence between the neighbours."""
    quant = quantizer(law, q_levels)
    table, level = quant.decode_table(), int(quant.encode(x))
    if law == "linear" and level < q_levels - 1:
        assert abs(x - table[level]) <= (1 / q_levels) * (1 + 1e-9)
    if level > 0:
        assert x > table[level - 1]
    if level < q_levels - 1:
        assert x < table[level + 1]


@pytest.mark.parametrize(("law", "q_levels"), [("mu-law", 256), ("mu-law", 65536), ("a-law", 256)])
def test_companded_error_is_at_most_half_a_step(law: str, q_levels: int) -> None:
    """The compressor is written out here once more, from its definition."""
    x = np.linspace(-1, 0.95, 20001)
    size = np.abs(x)
    if law == "mu-law":
        y = np.sign(x) * np.log(1 + (q_levels - 1) * size) / np.log(q_levels)
    else:
        bent = (1 + np.log(np.maximum(87.6 * size, 1))) / (1 + np.log(87.6))
        y = np.sign(x) * np.where(87.6 * size < 1, 87.6 * size / (1 + np.log(87.6)), bent)
    level = quantizer(law, q_levels).encode(x)
    decoded = (level - q_levels // 2) / (q_levels / 2)
    assert np.abs(decoded - y).max() <= (1 + 1e-6) / q_levels


def test_linear_with_65536_levels_is_16_bit_pcm() -> None:
    quant = quantizer("linear", 65536)
    pcm = np.arange(-32768, 32768)
    np.testing.assert_array_equal(quant.lut_int16(), pcm + 32768)
    np.testing.assert_array_equal(quant.decode(pcm + 32768) * np.float32(32768), pcm)


@pytest.mark.parametrize("law", LAWS)
def test_the_range_is_fixed_and_clips(law: str) -> None:
    quant = quantizer(law, 256)
    np.testing.assert_array_equal(quant.encode([1.0, 7.0, -1.0, -7.0]), [255, 255, 0, 0])
    assert quant.encode([0.1, 0.2])[0] == quant.encode([0.1, 0.9])[0]
    assert quant.decode([0])[0] == -1.0


@pytest.mark.parametrize("name", QUANTIZATIONS)
def test_shapes_and_types(name: str) -> None:
    quant = quantizer(name, 256)
    x = np.linspace(-0.9, 0.9, 24, dtype=np.float32)
    levels = quant.encode(x.reshape(2, 3, 4))
    assert levels.shape == (2, 3, 4) and levels.dtype == np.int32
    assert quant.encode(np.float32(0.3)).shape == () and quant.encode(np.zeros((2, 0))).shape == (2, 0)
    assert quant.decode(levels).shape == (2, 3, 4) and quant.decode(levels).dtype == np.float32
    assert np.abs(quant.decode(np.arange(256))).max() <= 1.0
    assert quant.decode_table().shape == (256,) and quant.decode_table().dtype == np.float64


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["linear", "linear-deepsound"])
def test_encode_refuses_what_is_not_a_number(name: str, bad: float) -> None:
    with pytest.raises(AudioError, match="NaN or infinite") as caught:
        quantizer(name, 256).encode([0.0, bad])
    assert "\n" not in str(caught.value)


def test_encode_refuses_integers_and_decode_refuses_other_levels() -> None:
    quant = quantizer("mu-law", 256)
    with pytest.raises(AudioError, match="int16"):
        quant.encode(np.zeros(3, np.int16))
    for bad in ([256], [-1], [0.5]):
        with pytest.raises(ConfigError, match="levels must be"):
            quant.decode(bad)


@pytest.mark.parametrize("name", QUANTIZATIONS)
def test_constant_rows_are_silence_where_rows_are_normalised(name: str) -> None:
    quant = quantizer(name, 256)
    assert quant.per_file == (name in PER_FILE)
    x = np.array([[0.25] * 4, [0.0] * 4, [-0.5, 0.0, 0.25, 0.5]], np.float32)
    with np.errstate(all="raise"):
        levels = quant.encode(x)
    assert (levels[1] == 128).all()
    assert (levels[0] == (128 if quant.per_file else levels[0, 0])).all()
    assert (np.diff(levels[2]) > 0).all()
    if quant.per_file:
        assert levels[2, 0] == 0 and levels[2, -1] == 255  # whatever the other rows hold
        with pytest.raises(ConfigError, match="linear, mu-law or a-law"):
            quant.lut_int16()


@pytest.mark.parametrize("law", [*LAWS, "linear-prism", "mu-law-prism"])
def test_lut_agrees_with_encode(law: str) -> None:
    quant = quantizer(law, 256)
    pcm = np.array([-32768, -20000, -1, 0, 1, 77, 20000, 32767])
    for gain in (1.0, 2.5):
        table = quant.lut_int16(gain)
        assert table.shape == (65536,) and table.dtype == np.uint16
        np.testing.assert_array_equal(table[pcm + 32768], quant.encode(gain * pcm / 32768))


def test_frame_values() -> None:
    even, odd, q = quantizer("mu-law", 256), quantizer("linear", 51), np.arange(51)
    np.testing.assert_allclose(even.frame_values("code", 2.0), 2 * (np.arange(256) / 128 - 1), rtol=0, atol=1e-15)
    np.testing.assert_allclose(odd.frame_values("code", 2.0), 2 * (q - 25) / 25.5, rtol=1e-15)
    np.testing.assert_allclose(odd.frame_values("code-half", 3.0), 3 * (q / 25.5 - 1), atol=1e-15)
    np.testing.assert_allclose(odd.frame_values("code-floor", 1.0), q / 25 - 1, atol=1e-15)
    np.testing.assert_array_equal(even.frame_values("amplitude", 2.0), 2 * even.decode_table())
    assert even.frame_values("code", 2.0).dtype == np.float64
    with pytest.raises(ConfigError, match="frame_input must be one of"):
        even.frame_values("codes", 1.0)  # type: ignore[arg-type]


def test_unknown_names_and_impossible_numbers() -> None:
    with pytest.raises(ConfigError, match="linear, mu-law, a-law"):
        quantizer("ulaw", 256)
    for bad in (1, 0, 65537, 256.0, True, "256"):
        with pytest.raises(ConfigError, match="q_levels must be"):
            quantizer("linear", bad)  # type: ignore[arg-type]
    for name in ("mu-law-prism", "mu-law-s4", "linear-s4", "mu-law-theano"):
        with pytest.raises(ConfigError, match="256 levels"):
            quantizer(name, 128)


def test_for_config_and_equality() -> None:
    config = SampleRNNConfig(quantization="a-law", q_levels=100)
    assert for_config(config) == Quantizer("a-law", 100) and hash(for_config(config)) == hash(Quantizer("a-law", 100))


@pytest.mark.parametrize("q_levels", [64, 100, 255, 256])
def test_prism_linear_never_leaves_the_range(q_levels: int) -> None:
    """In float32 the project's own arithmetic gives level 100 of 100 for +1."""
    assert quantizer("linear-prism", q_levels).encode([-1.0, 1.0]).tolist() == [0, q_levels - 1]


@pytest.mark.skipif(not FIXTURES, reason="../shared/fixtures is absent: nothing to compare with")
@pytest.mark.parametrize("meta_file", FIXTURES, ids=lambda path: f"{path.parts[-3]}/{path.parts[-2]}")
def test_levels_of_other_projects(meta_file: Path) -> None:
    meta = json.loads(meta_file.read_text())
    common, scaling = meta["common"], meta["input_scaling"]
    quant = quantizer(f"{common['q_type']}-{meta['project']}", common["q_levels"])
    assert quant.zero == common["q_zero"]
    with np.load(meta_file.with_name("expected.npz")) as expected:
        np.testing.assert_array_equal(quant.encode(expected["wave"]), expected["wave_tokens"])
        if "decode" in expected:
            decoded = expected["decode"]
            np.testing.assert_allclose(quant.decode(np.arange(quant.q_levels)), decoded, rtol=0, atol=2e-7)
            np.testing.assert_allclose(quant.decode_table(), decoded, rtol=0, atol=2e-7)
            if meta["project"] == "s4":
                np.testing.assert_allclose(quant.frame_values("amplitude", 2.0), 2 * decoded, rtol=0, atol=4e-7)
    if "divisor" in scaling:
        choice = "code-floor" if meta["project"] == "theano" else "code-half"
        wanted = scaling["gain"] * (np.arange(quant.q_levels) / scaling["divisor"] + scaling["offset"])
        np.testing.assert_allclose(quant.frame_values(choice, scaling["gain"]), wanted, rtol=0, atol=1e-15)


def test_quantize_and_audio_load_neither_torch_nor_soundfile() -> None:
    code = (
        "import sys, samplernn_fast.audio.quantize, samplernn_fast.audio.reading;"
        " print({'torch', 'soundfile', 'soxr'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
