"""The whole way from file to file: a second of music is learnt by heart, and comes back as a WAV."""

import numpy as np
import pytest

from samplernn_fast import audio
from samplernn_fast.api import generate, prompt_levels
from samplernn_fast.checkpoint import load_model
from samplernn_fast.config import SampleRNNConfig, TrainConfig
from samplernn_fast.data import AudioData, prepare
from samplernn_fast.demo import plucked_music
from samplernn_fast.evaluation import evaluate
from samplernn_fast.quantize import for_config
from samplernn_fast.training import train

RATE, PROMPT = 8000, 800
MODELS = {
    "two-tiers": ({"frame_sizes": (4, 16), "dim": 96}, 4e-3, 700),
    "three-tiers": ({"frame_sizes": (8, 8, 16), "dim": 64}, 6e-3, 700),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_second_of_music_is_learnt_by_heart_and_generated_again(name, tmp_path):
    fields, lr, steps = MODELS[name]
    audio.write(tmp_path / "audio.wav", plucked_music(1.0, seed=3), RATE)
    prepare([tmp_path / "audio.wav"], tmp_path / "data", sample_rate=RATE, split=(1, 0, 0))
    shape = {"sample_rate": 0, "gain": 0.0, "emb_size": 32, "q_levels": 64, "quantization": "mu-law"}
    model = SampleRNNConfig.from_dict(shape | fields)
    settings = {"batch_size": 1, "seq_len": 800, "lr": lr, "lr_schedule": "cosine", "warmup_steps": 20}
    config = TrainConfig(data=tmp_path / "data", out=tmp_path / "run", model=model, max_steps=steps, **settings)
    train(config)
    assert evaluate(tmp_path / "run", tmp_path / "data", "train").nll_bits < 0.1

    data = AudioData.open(tmp_path / "data")
    pcm = data.samples(data.recordings("train")[0])
    quantizer = for_config(load_model(tmp_path / "run").config)
    recorded = quantizer.encode(pcm / 32768.0)
    assert len(np.unique(recorded)) > 40  # music, not silence

    # The prompt is a file of its own: the first tenth of a second, before the gain of the data folder.
    samples, _ = audio.read(tmp_path / "audio.wav")
    audio.write(tmp_path / "prompt.wav", samples[:PROMPT], RATE)
    assert (
        prompt_levels(load_model(tmp_path / "run").config, tmp_path / "prompt.wav").tolist()
        == recorded[:PROMPT].tolist()
    )
    made = generate(tmp_path / "run", duration=1 - PROMPT / RATE, temperature=0, prompt=tmp_path / "prompt.wav")
    made.save(tmp_path / "out.wav")

    back, rate = audio.read(tmp_path / "out.wav")
    assert rate == RATE and len(back) == RATE - PROMPT
    levels = quantizer.encode(back)
    assert levels.tolist() == made.tokens[0].tolist()
    wrong = np.flatnonzero(levels != recorded[PROMPT:])
    assert len(wrong) == 0, f"{len(wrong)} of {len(levels)} samples differ, the first is number {wrong[0]}"
    # As sound: the error is that of 64 levels.
    error = back - pcm[PROMPT:] / 32768.0
    assert np.sqrt(np.mean(error**2)) < 0.1 * np.sqrt(np.mean(back**2))
