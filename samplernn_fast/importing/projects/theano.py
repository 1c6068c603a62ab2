"""Reads soroushmehr/sampleRNN_ICLR2017, the authors' code, and dadabots' fork: pickled 2- and 3-tier models.

Every matrix can have weight norm, with one gain for each output column (W0 is (in, out)). The GRU has its reset gate
before the product, its columns are [update | reset | candidate], and its update gate is our 1 - z. The LSTM's columns
are [i | f | o | g], and its state is [h | c]. The top tier's RNN reads the frame itself, without a linear map.
Letters: H units, F frame size, Q levels, E embedding, n layers, G gates.
"""

import itertools
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samplernn_fast.errors import CheckpointError
from samplernn_fast.importing.formats.array_pickle import read_pickle
from samplernn_fast.importing.settings import Settings
from samplernn_fast.importing.tensors import NamedTensors, Placed, config_of_sizes
from samplernn_fast.models.config import SampleRNNConfig

# The 3-tier script builds and saves these, and does not use them for its predictions.
_UNUSED = re.compile(r"BigFrameLevel\.IndependentPreds\.")


def read(path: Path, settings: Settings) -> tuple[SampleRNNConfig, dict[str, Tensor]]:
    """Reads config and tensors from a params_*.pkl. Raises CheckpointError and ConfigError."""
    content = read_pickle(path)
    if not isinstance(content, dict) or not all(isinstance(array, np.ndarray) for array in content.values()):
        raise CheckpointError(f"{path}: must hold a dict of NumPy arrays, as the authors' code saves its parameters")
    _read_beside(path, settings)
    tensors = {str(name): _tensor(array, path, name) for name, array in content.items()}
    named = NamedTensors(tensors, str(path), r"FrameLevel\.|BigFrameLevel\.|SampleLevel\.")
    names = ["BigFrameLevel", "FrameLevel"] if named.any(r"BigFrameLevel\.") else ["FrameLevel"]
    tiers = names[::-1]  # lowest first
    config = _config(named, settings, tiers)
    placed = Placed()
    for tier, name in enumerate(tiers):
        _place_tier(named, placed, config, tier, name)
    _place_mlp(named, placed, config)
    named.finish(lambda name: bool(_UNUSED.search(name)))
    return config, placed.tensors


def _tensor(array: np.ndarray, path: Path, name: object) -> Tensor:
    """An array of any byte order as a tensor. Raises CheckpointError for an array that does not hold numbers."""
    if array.dtype.kind not in "fiu":
        raise CheckpointError(f"{path}: tensor {name} must be of numbers, not {array.dtype}")
    return torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))


def _read_beside(path: Path, settings: Settings) -> None:
    """Reads the run's command line, which the project pickles as args.pkl into the folder of the run, above params/."""
    for file in (path.with_name("args.pkl"), path.parent.parent / "args.pkl"):
        if os.path.lexists(file):
            words = read_pickle(file)
            words = [word for word in words if isinstance(word, str)] if isinstance(words, list) else []
            line = [part for word in words for part in word.split("=", 1)]
            values = {flag[2:]: _value(word) for flag, word in itertools.pairwise(line) if flag[:2] == "--"}
            settings.add_beside(values | _rate_of_script(" ".join(line[:1])), file.name)
            return
    # The folder of a run is named after its command line: ...two_tier.py-expX-...-q_typemu-law-batch_size128...
    folder = str(path.parent.resolve())
    found = re.search(r"-q_type(linear|mu-law)-", folder)
    if found:
        settings.add_beside({"q_type": found[1]} | _rate_of_script(folder), "the name of its folder")


def _rate_of_script(text: str) -> dict[str, int]:
    """The rate is a constant of the script: 16 kHz, or in dadabots' scripts the one in its name (two_tier32k.py)."""
    script = re.search(r"(?:two|three)_tier(?:_generate)?(\d{1,3})?k?\w*\.py", text)
    return {"sample_rate": 1000 * int(script[1] or 16)} if script else {}


def _value(word: str) -> Any:
    """The value of a word of the command line. True and false may be shortened, as the project allows it."""
    if re.fullmatch(r"\d{1,18}", word):
        return int(word)
    upper = word.upper()
    if upper and ("TRUE".startswith(upper) or "FALSE".startswith(upper)):
        return "TRUE".startswith(upper)
    return word


def _config(named: NamedTensors, settings: Settings, tiers: list[str]) -> SampleRNNConfig:
    """The config, whose sizes are read from the tensors' shapes. Settings must not contradict them."""
    lstm = named.any(r"FrameLevel\.LSTM\d")
    cell = "LSTM" if lstm else "GRU"
    layers = named.count(rf"{tiers[0]}\.{cell}(\d+)(?:\+inpskip)?\.Step\.", first=1)
    dim, q_levels = named.shape("SampleLevel.Output.W0", 2)
    low, _ = named.shape("FrameLevel.InputExpand.W0" if len(tiers) > 1 else f"FrameLevel.{cell}1.Step.Input.W0", 2)
    frame_sizes = [low, low]
    if len(tiers) > 1:
        frame_sizes.append(named.shape(f"BigFrameLevel.{cell}1.Step.Input.W0", 2)[0])
        if frame_sizes[2] % low:
            raise CheckpointError(f"{named.source}: the frame sizes {low} and {frame_sizes[2]} do not divide")
    one_hot = len(tiers) == 1 and "SampleLevel.Embedding" not in named  # emb_size 0 of the 2-tier script
    width = 0 if one_hot else named.shape("SampleLevel.Embedding", 2)[1]
    skips = named.any(r"\+inpskip\.")
    facts = {
        "frame_size": low,
        "dim": dim,
        "n_rnn": layers,
        "rnn_type": cell,
        "emb_size": width,
        "q_levels": q_levels,
        "skip_conn": skips,
    }
    settings.agree(facts | ({"big_frame_size": frame_sizes[2]} if len(tiers) > 1 else {}), named.source)
    kinds = ("linear", "mu-law") if q_levels == 256 else ("linear",)
    h0_width = 2 * dim if lstm else dim
    initial = [named.take(f"{name}.h0", (layers, h0_width)) for name in tiers]
    fields = dict(
        sample_rate=settings.sample_rate(),
        quantization=settings.quantization("theano", ["q_type"], kinds),
        q_levels=q_levels,
        frame_sizes=tuple(frame_sizes),
        dim=dim,
        n_rnn=layers,
        rnn="lstm" if lstm else "gru",
        reset_after=False,
        emb_size=width,
        learn_h0=any(bool(h0.any()) for h0 in initial),
        weight_norm="all" if named.any(r"\.g0$") else "none",
        skip="full" if skips else "none",
        frame_input="code-floor",
    )
    return config_of_sizes(named.source, fields)


def _place_tier(named: NamedTensors, placed: Placed, config: SampleRNNConfig, tier: int, theirs: str) -> None:
    """Puts a tier: linear map (not in the top tier), cells with their skips, initial state, upsampling."""
    dim, ours = config.dim, f"tiers.{tier}"
    is_top = tier == len(config.ratios) - 1
    inputs = config.frame_sizes[tier + 1]
    if not is_top:
        _linear(named, placed, config, f"{theirs}.InputExpand", f"{ours}.expand", (inputs, dim))
        inputs = dim
    cell = config.rnn.upper()
    for layer in range(config.n_rnn):
        name = f"{theirs}.{cell}{layer + 1}"
        deeper = config.skip == "full" and layer > 0
        reads = inputs if layer == 0 else dim + inputs if deeper else dim
        place = _place_lstm if config.rnn == "lstm" else _place_gru
        step = f"{name}{'+inpskip' if deeper else ''}.Step"
        place(named, placed, config, step, f"{ours}.rnn.layers.{layer}", reads)
        if config.skip == "full":
            skip = f"{name if config.rnn == 'lstm' else f'{theirs}.GRU'}.outskip{layer + 1}y"
            _linear(named, placed, config, skip, f"{ours}.rnn.skip_out.{layer}", (dim, dim), bias=layer == 0)
    placed.put(f"{ours}.rnn.h0", named.take(f"{theirs}.h0", (config.n_rnn, 2 * dim if cell == "LSTM" else dim)))
    # Columns j H ... (j + 1) H make the vector j, as our rows do.
    _linear(named, placed, config, f"{theirs}.Output", f"{ours}.up", (dim, config.ratios[tier] * dim))


def _place_gru(
    named: NamedTensors, placed: Placed, config: SampleRNNConfig, theirs: str, ours: str, inputs: int
) -> None:
    """Puts a GRU layer that reads `inputs` numbers. Its update rows are negated, for our z is 1 - theirs."""
    dim = config.dim
    _put_gates(placed, ours, "w_ih", [_columns(named, config, f"{theirs}.Input", (inputs, 3 * dim))])
    recurrent = [
        _columns(named, config, f"{theirs}.Recurrent_Gates", (dim, 2 * dim)),
        _columns(named, config, f"{theirs}.Recurrent_Candidate", (dim, dim)),
    ]
    _put_gates(placed, ours, "w_hh", recurrent)
    update, reset, candidate = named.take(f"{theirs}.Input.b", (3 * dim,)).chunk(3)
    placed.put(f"{ours}.b_ih", torch.cat((reset, -update, candidate)))


def _put_gates(placed: Placed, ours: str, name: str, blocks: list[tuple[Tensor, Tensor | None]]) -> None:
    """Puts rows in the order reset, update, candidate. A row that is negated keeps its gain."""
    update, reset, candidate = torch.cat([matrix for matrix, _ in blocks]).chunk(3)
    gains = [gain for _, gain in blocks if gain is not None]
    gain = None
    if gains:
        first, second, third = torch.cat(gains).chunk(3)
        gain = torch.cat((second, first, third))
    placed.put_matrix(ours, name, torch.cat((reset, -update, candidate)), gain)


def _place_lstm(
    named: NamedTensors, placed: Placed, config: SampleRNNConfig, theirs: str, ours: str, inputs: int
) -> None:
    """Puts an LSTM layer that reads `inputs` numbers, with its gates in our order i, f, g, o."""

    def gates(parts: Tensor) -> Tensor:
        i, f, o, g = parts.chunk(4)
        return torch.cat((i, f, g, o))

    for name, part, rows in (("w_ih", "Input", inputs), ("w_hh", "Recurrent_Gates", config.dim)):
        matrix, gain = _columns(named, config, f"{theirs}.{part}", (rows, 4 * config.dim))
        placed.put_matrix(ours, name, gates(matrix), None if gain is None else gates(gain))
    placed.put(f"{ours}.b_ih", gates(named.take(f"{theirs}.b", (4 * config.dim,))))


def _place_mlp(named: NamedTensors, placed: Placed, config: SampleRNNConfig) -> None:
    """Puts the sample-level MLP: embedding unless it is one-hot, sum over the last FS(1) samples, two hidden layers."""
    dim, taps, width = config.dim, config.frame_sizes[0], config.emb_size or config.q_levels
    if config.emb_size:
        placed.put("mlp.embedding.weight", named.take("SampleLevel.Embedding", (config.q_levels, width)))
    _linear(named, placed, config, "SampleLevel.L1_PrevSamples", "mlp.input", (taps * width, dim), bias=False)
    _linear(named, placed, config, "SampleLevel.L2", "mlp.hidden.0", (dim, dim))
    _linear(named, placed, config, "SampleLevel.L3", "mlp.hidden.1", (dim, dim))
    _linear(named, placed, config, "SampleLevel.Output", "mlp.output", (dim, config.q_levels))


def _linear(
    named: NamedTensors,
    placed: Placed,
    config: SampleRNNConfig,
    theirs: str,
    ours: str,
    shape: tuple[int, int],
    bias: bool = True,
) -> None:
    """Puts a linear map whose W0 has `shape`, (in, out)."""
    matrix, gain = _columns(named, config, theirs, shape)
    placed.put_matrix(ours, "weight", matrix, gain)
    if bias:
        placed.put(f"{ours}.bias", named.take(f"{theirs}.b", (shape[1],)))


def _columns(
    named: NamedTensors, config: SampleRNNConfig, name: str, shape: tuple[int, int]
) -> tuple[Tensor, Tensor | None]:
    """W0 (in, out) as rows (out, in), and the gains (out, 1) where the model has weight norm."""
    gain = named.take(f"{name}.g0", (shape[1],)).unsqueeze(1) if config.weight_norm == "all" else None
    return named.take(f"{name}.W0", shape).t(), gain
