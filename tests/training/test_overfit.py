"""The whole way from file to file: a second of music is learnt by heart, and comes back as a WAV."""

import numpy as np
import pytest

from samplernn_fast.api import generate
from samplernn_fast.audio import reading, writing
from samplernn_fast.audio.quantize import for_config
from samplernn_fast.audio.synthetic import plucked_music
from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.preparation import prepare
from samplernn_fast.engine.prompt import prompt_levels
from samplernn_fast.evaluation.likelihood import evaluate
from samplernn_fast.models.checkpoint import load_model
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.training.config import TrainConfig
from samplernn_fast.training.trainer import train

RATE, PROMPT = 8000, 800
MODELS = {
    "two-tiers": ((4, 16), 6e-3),
    "three-tiers": ((8, 8, 16), 8e-3),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_second_of_music_is_learnt_by_heart_and_generated_again(name, tmp_path):
    frame_sizes, lr = MODELS[name]
    writing.write(tmp_path / "reading.wav", plucked_music(1.0, seed=3), RATE)
    prepare([tmp_path / "reading.wav"], tmp_path / "data", sample_rate=RATE, split=(1, 0, 0))
    shape = {"sample_rate": 0, "gain": 0.0, "dim": 96, "emb_size": 32, "quantization": "mu-law"}
    model = SampleRNNConfig(frame_sizes=frame_sizes, **shape)
    settings = {"batch_size": 1, "seq_len": 800, "lr": lr, "lr_schedule": "cosine", "warmup_steps": 20}
    config = TrainConfig(data=tmp_path / "data", out=tmp_path / "run", model=model, max_steps=600, **settings)
    train(config)
    assert evaluate(tmp_path / "run", tmp_path / "data", "train").nll_bits < 0.1

    data, learnt = AudioData.open(tmp_path / "data"), load_model(tmp_path / "run").config
    pcm, quantizer = data.samples(data.recordings("train")[0]), for_config(learnt)
    recorded = quantizer.encode(pcm / 32768.0)
    assert len(np.unique(recorded)) > 150  # music, not silence
    # A prompt is read from audio as it was before `prepare`, and has the very levels that were trained on.
    assert prompt_levels(learnt, tmp_path / "reading.wav").tolist() == recorded.tolist()
    samples, _ = reading.read(tmp_path / "reading.wav")
    writing.write(tmp_path / "prompt.wav", samples[:PROMPT], RATE)
    made = generate(tmp_path / "run", duration=1 - PROMPT / RATE, temperature=0, prompt=tmp_path / "prompt.wav")
    made.save(tmp_path / "out.wav")

    back, rate = reading.read(tmp_path / "out.wav")
    assert rate == RATE and len(back) == RATE - PROMPT
    levels = quantizer.encode(back)
    assert levels.tolist() == made.tokens[0].tolist()
    wrong = np.flatnonzero(levels != recorded[PROMPT:])
    assert len(wrong) == 0, f"{len(wrong)} of {len(levels)} samples differ, the first is number {wrong[0]}"
    # As sound: what is left is the rounding to 256 levels, 30 dB below.
    error = back - pcm[PROMPT:] / 32768.0
    assert np.sqrt(np.mean(error**2)) < 0.03 * np.sqrt(np.mean(back**2))
