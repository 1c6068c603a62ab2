"""Writes the files in this folder: `python tests/house/earlier_version/make.py`, run once, by version 0.1.0.

They must stay as that version wrote them: test_earlier_version.py reads them with today's code. Only public names are
used here, so that a later version can write a set of its own into another folder.
"""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch

import samplernn_fast as srnn
from samplernn_fast.models.stored.arrays import describe

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
RATE = 8000
SHAPES = {
    "three_tiers": {"dim": 24, "frame_sizes": (2, 2, 8)},
    "four_tiers_skips": {"dim": 24, "frame_sizes": (2, 2, 4, 8), "n_rnn": 2, "skip": "full", "weight_norm": "none"},
    "lstm": {"dim": 48, "frame_sizes": (4, 4, 16), "rnn": "lstm"},
}


def tune(number: int) -> np.ndarray:
    """A few hundred samples of a decaying tone, (T,) float32."""
    t = np.arange(400 + 80 * number) / RATE
    return (0.5 * np.sin(2 * np.pi * 220 * (number + 1) * t) * np.exp(-8 * t)).astype(np.float32)


def main() -> None:
    for number in range(5):
        (FOLDER / "audio").mkdir(parents=True, exist_ok=True)
        soundfile.write(FOLDER / "audio" / f"{number}.wav", tune(number), RATE)
    (FOLDER / "valid.txt").write_text("3.wav\n")
    (FOLDER / "test.txt").write_text("4.wav\n")
    lists = {"valid_files": FOLDER / "valid.txt", "test_files": FOLDER / "test.txt"}
    srnn.prepare([FOLDER / "audio"], FOLDER / "data", sample_rate=RATE, chunk_seconds=0.05, **lists)
    model = srnn.SampleRNNConfig(
        sample_rate=0, gain=0.0, quantization="mu-law", q_levels=64, frame_sizes=(2, 2, 8), dim=16, emb_size=8
    )
    config = srnn.TrainConfig(
        data=FOLDER / "data",
        out=FOLDER / "run",
        model=model,
        max_steps=6,
        batch_size=4,
        seq_len=64,
        lr=3e-3,
        log_every=2,
        save_every=3,
        eval_every=3,
        sample_every=0,
        num_threads=1,
        device="cpu",
    )
    srnn.train(config)
    one_tier = replace(model, frame_sizes=(1,), mlp_hidden=3)  # as version 0.1.0 spelled it; OneTierConfig today
    srnn.train(replace(config, out=FOLDER / "rnn-run", model=one_tier))
    engine = srnn.Engine(srnn.load(FOLDER / "run"), backend="cpu", dtype="int8", device="cpu")
    state = engine.init_state(2, seed=7, temperature=(0.9, 1.1), top_k=40, top_p=0.98, first_stream=5)
    first = engine.run(state, 101)
    torch.save(state.state_dict(), FOLDER / "engine-state.pt")
    then = engine.run(state, 99)
    exact = srnn.Engine(srnn.load(FOLDER / "run"), backend="reference", dtype="float64", device="cpu")
    again = exact.run(exact.init_state(2, seed=7), 100)
    split = srnn.evaluate(FOLDER / "run", FOLDER / "data", backend="forward", device="cpu")
    baseline = srnn.evaluate(FOLDER / "rnn-run", FOLDER / "data", backend="forward", device="cpu")
    demo = srnn.generate(
        FOLDER / "demo.safetensors", duration=0.02, num_samples=2, seed=3, backend="cpu", dtype="int8", device="cpu"
    )
    np.savez_compressed(
        FOLDER / "expected.npz",
        first=first.numpy().astype(np.uint8),
        then=then.numpy().astype(np.uint8),
        exact=again.numpy().astype(np.uint8),
        demo=demo.tokens.astype(np.uint8),
        nll_bits=np.array([split.nll_bits, baseline.nll_bits]),
        model_sha256=np.array(engine.model_sha256),
    )
    for leftover in ("audio", "run/tensorboard", "rnn-run/tensorboard"):
        shutil.rmtree(FOLDER / leftover, ignore_errors=True)
    more()


def by_the_reference(name: str) -> tuple[np.ndarray, np.ndarray]:
    """600 levels of two streams behind a prompt, (2, 600), and four rows of scores, (4, Q), of a model of SHAPES."""
    model = srnn.SampleRNN(srnn.SampleRNNConfig(sample_rate=RATE, q_levels=64, emb_size=8, **SHAPES[name]), seed=4)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() == 1:  # biases begin as zeros
                weights.copy_(torch.sin(torch.arange(len(weights)) * 1.7) * 0.3)
    engine = srnn.Engine(model, backend="reference", dtype="float32", device="cpu")
    prompt = torch.arange(300) * 7 % 64
    levels = engine.run(engine.init_state(2, seed=9, prompt=prompt), 600)
    scores = engine.score(torch.cat((prompt[None], prompt[None] // 2), dim=1))
    return np.asarray(levels), np.asarray(scores[0, -4:])


def more() -> None:
    """What the reference makes in float32, of models with several RNN tiers and behind a prompt; and hashes."""
    expected = {"rnn_sha256": describe(FOLDER / "rnn-run")["model_sha256"]}
    torch.set_num_threads(1)
    for name in SHAPES:
        levels, scores = by_the_reference(name)
        expected |= {name: levels.astype(np.uint8), name + "_scores": scores}
    np.savez_compressed(FOLDER / "expected-reference.npz", **expected)


if __name__ == "__main__":
    main()
