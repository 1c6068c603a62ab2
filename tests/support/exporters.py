"""Our models under other projects' names and in their files: what those projects would have written.

Each function is the inverse of what an importer does, so that checkpoints of any shape can be made for tests.
"""

import pickle
import struct
from pathlib import Path

import numpy as np
import torch
from cases import make_model
from torch import Tensor, nn

from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.models.sample_rnn import SampleRNN

Matrix = tuple[Tensor, Tensor | None]


def float32_model(config: SampleRNNConfig, seed: int = 0) -> SampleRNN:
    """A model with every term at work, as a checkpoint keeps it. Initial states that are not learned are zero."""
    model = make_model(config, seed=seed, dtype=torch.float32)
    if not config.learn_h0:
        for tier in model.tiers:
            tier.rnn.h0.zero_()
    return model


def parts(module: nn.Module, name: str = "weight") -> Matrix:
    """A matrix before weight norm, and its gains."""
    if nn.utils.parametrize.is_parametrized(module, name):
        original = module.parametrizations[name]
        return original.original1.detach(), original.original0.detach().flatten()
    return getattr(module, name).detach(), None


def deepsound_state(
    model: SampleRNN, prefix: str = "model.", *, h0_in_gru: bool = False, new_style: bool = False
) -> dict[str, Tensor]:
    """The state dict of deepsound's Predictor, or of s4's model where h0 lies in the GRU (and only a learned one)."""
    config, state = model.config, {}
    gain_name, direction_name = ("parametrizations.weight.original0", "parametrizations.weight.original1")
    if not new_style:
        gain_name, direction_name = "weight_g", "weight_v"

    def put(name: str, weight: Tensor, gain: Tensor | None) -> None:
        if gain is None:
            state[f"{name}.weight"] = weight
        else:
            state[f"{name}.{gain_name}"], state[f"{name}.{direction_name}"] = gain.reshape(-1, 1, 1), weight

    for index, tier in enumerate(model.tiers):
        name = f"frame_level_rnns.{index}"
        weight, gain = parts(tier.expand)
        put(f"{name}.input_expand", weight.unsqueeze(2), gain)
        state[f"{name}.input_expand.bias"] = tier.expand.bias
        for layer, module in enumerate(tier.rnn.layers):
            for ours, theirs in (
                ("w_ih", "weight_ih"),
                ("w_hh", "weight_hh"),
                ("b_ih", "bias_ih"),
                ("b_hh", "bias_hh"),
            ):
                state[f"{name}.rnn.{theirs}_l{layer}"] = getattr(module, ours)
        if not h0_in_gru:
            state[f"{name}.h0"] = tier.rnn.h0
        elif config.learn_h0:
            state[f"{name}.rnn.h0"] = tier.rnn.h0.unsqueeze(1)
        weight, gain = parts(tier.up)
        put(f"{name}.upsampling.conv_t", weight.unflatten(0, (tier.ratio, -1)).permute(2, 1, 0).contiguous(), gain)
        state[f"{name}.upsampling.bias"] = tier.up.bias.unflatten(0, (tier.ratio, -1)).t().contiguous()
    mlp, name = model.mlp, "sample_level_mlp"
    state[f"{name}.embedding.weight"] = mlp.embedding.weight
    weight, gain = parts(mlp.input)
    put(f"{name}.input", weight.unflatten(1, (mlp.taps, -1)).transpose(1, 2).contiguous(), gain)
    for theirs, layer in (("hidden", mlp.hidden[0]), ("output", mlp.output)):
        weight, gain = parts(layer)
        put(f"{name}.{theirs}", weight.unsqueeze(2), gain)
        state[f"{name}.{theirs}.bias"] = layer.bias
    return {prefix + name: tensor.detach().clone() for name, tensor in state.items()}


def prism_arrays(model: SampleRNN, prefix: str = "") -> dict[str, np.ndarray]:
    """The variables of PRiSM's model, by TensorFlow's names, and some of its optimiser."""
    config, arrays = model.config, {}

    def gates(rows: Tensor) -> Tensor:
        if config.rnn == "lstm":
            return rows
        r, z, n = rows.chunk(3)
        return torch.cat((z, r, n))

    for tier, name in zip(model.tiers, ("frame_rnn", "big_frame_rnn"), strict=True):
        arrays[f"{name}/inputs/kernel"], arrays[f"{name}/inputs/bias"] = tier.expand.weight.t(), tier.expand.bias
        for layer, module in enumerate(tier.rnn.layers):
            cell = f"{name}/rnn/layer_{layer}/cell"
            arrays[f"{cell}/kernel"], arrays[f"{cell}/recurrent_kernel"] = (
                gates(module.w_ih).t(),
                gates(module.w_hh).t(),
            )
            biases = [module.b_ih] if module.b_hh is None else [module.b_ih, module.b_hh]
            bias = torch.stack([gates(bias) for bias in biases])
            arrays[f"{cell}/bias"] = bias[0] if config.rnn == "lstm" else bias
            if config.skip == "prism":
                arrays[f"{name}/rnn/layer_{layer}_skip_out/kernel"] = tier.rnn.skip_out[layer].weight.t()
        if config.skip == "prism":
            arrays[f"{name}/rnn/layer_0_skip_out/bias"] = tier.rnn.skip_out[0].bias
        arrays[f"{name}/upsample"] = tier.up.weight.unflatten(0, (tier.ratio, -1))
    mlp = model.mlp
    arrays["sample_mlp/embedding/embeddings"] = mlp.embedding.weight
    arrays["sample_mlp/inputs/kernel"] = mlp.input.weight.t().unflatten(0, (mlp.taps, -1))
    for name, layer in (("hidden1", mlp.hidden[0]), ("hidden2", mlp.hidden[1]), ("outputs", mlp.output)):
        arrays[f"sample_mlp/{name}/kernel"], arrays[f"sample_mlp/{name}/bias"] = layer.weight.t(), layer.bias
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    named = {prefix + name + suffix: tensor.detach().numpy().copy() for name, tensor in arrays.items()}
    moment = f"{prefix}frame_rnn/inputs/kernel/.OPTIMIZER_SLOT/optimizer/m{suffix}"
    return named | {moment: np.ones((2, 3), "f4"), f"optimizer/iter{suffix}": np.array(7, "i8")}


def write_bundle(prefix: Path, arrays: dict[str, np.ndarray], shards: int = 1, block_entries: int = 5) -> None:
    """A TensorFlow checkpoint: PREFIX.index and its data files, keys prefix-compressed, several blocks."""
    data = [bytearray() for _ in range(shards)]
    entries = [(b"", _number(1, shards) + _bytes(3, _number(1, 1)))]
    for index, (name, array) in enumerate(sorted(arrays.items())):
        shard, raw = index % shards, array.tobytes()
        shape = b"".join(_bytes(2, _number(1, size)) for size in array.shape)
        dtype = {"f4": 1, "f8": 2, "i8": 9, "f2": 19}[array.dtype.str[1:]]
        place = _number(3, shard) + _number(4, len(data[shard])) + _number(5, len(raw))
        entries.append((name.encode(), _number(1, dtype) + _bytes(2, shape) + place + b"\x35abcd"))  # 6: a checksum
        data[shard] += raw
    table, handles = bytearray(), []
    for start in range(0, len(entries), block_entries):
        block = entries[start : start + block_entries]
        handles.append((block[-1][0], _append(table, block)))
    meta, index_handle = _append(table, []), _append(table, handles)
    footer = (meta + index_handle).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    prefix.with_name(prefix.name + ".index").write_bytes(bytes(table) + footer)
    for shard, raw in enumerate(data):
        prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}").write_bytes(raw)


def _append(table: bytearray, entries: list[tuple[bytes, bytes]]) -> bytes:
    """Add one block to a table; its handle."""
    block, previous = bytearray(), b""
    for key, value in entries:
        shared = next((i for i, (a, b) in enumerate(zip(key, previous, strict=False)) if a != b), None)
        shared = min(len(key), len(previous)) if shared is None else shared
        block += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        previous = key
    block += struct.pack("<II", 0, 1)  # one restart
    handle = _varint(len(table)) + _varint(len(block))
    table += block + b"\0" + b"crc."
    return handle


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def theano_arrays(model: SampleRNN) -> dict[str, np.ndarray]:
    """The parameters of the authors' code: W0 (in, out), g0 per output column, the head that predicts nothing."""
    config, arrays = model.config, {}
    cell = config.rnn.upper()

    def put(name: str, matrix: Matrix, bias: Tensor | None = None) -> None:
        arrays[f"{name}.W0"] = matrix[0].t()
        if matrix[1] is not None:
            arrays[f"{name}.g0"] = matrix[1]
        if bias is not None:
            arrays[f"{name}.b"] = bias

    def columns(rows: Tensor, negative: bool) -> Tensor:
        if cell == "LSTM":
            i, f, g, o = rows.chunk(4)
            return torch.cat((i, f, o, g))
        r, z, n = rows.chunk(3)
        return torch.cat((-z if negative else z, r, n))

    def block(matrix: Matrix, begin: int, end: int) -> Matrix:
        weight, gain = matrix
        ordered = None if gain is None else columns(gain, negative=False)[begin:end]
        return columns(weight, negative=True)[begin:end], ordered

    dim = config.dim
    names = ("FrameLevel", "BigFrameLevel")[: len(model.tiers)]
    for tier, name in zip(model.tiers, names, strict=True):
        if tier.expand is not None:
            put(f"{name}.InputExpand", parts(tier.expand), tier.expand.bias)
        for layer, module in enumerate(tier.rnn.layers):
            step = f"{name}.{cell}{layer + 1}{'+inpskip' if config.skip == 'full' and layer else ''}.Step"
            bias = columns(module.b_ih, negative=True)
            if cell == "LSTM":
                put(f"{step}.Input", block(parts(module, "w_ih"), 0, 4 * dim))
                put(f"{step}.Recurrent_Gates", block(parts(module, "w_hh"), 0, 4 * dim))
                arrays[f"{step}.b"] = bias
            else:
                put(f"{step}.Input", block(parts(module, "w_ih"), 0, 3 * dim), bias)
                put(f"{step}.Recurrent_Gates", block(parts(module, "w_hh"), 0, 2 * dim))
                put(f"{step}.Recurrent_Candidate", block(parts(module, "w_hh"), 2 * dim, 3 * dim))
            if config.skip == "full":
                of_layer = f"LSTM{layer + 1}" if cell == "LSTM" else "GRU"
                skip = tier.rnn.skip_out[layer]
                put(f"{name}.{of_layer}.outskip{layer + 1}y", parts(skip), skip.bias)
        arrays[f"{name}.h0"] = tier.rnn.h0
        put(f"{name}.Output", parts(tier.up), tier.up.bias)
    if len(names) > 1:
        gain = torch.ones(config.q_levels * 2) if config.weight_norm == "all" else None
        put("BigFrameLevel.IndependentPreds", (torch.ones(config.q_levels * 2, dim), gain))
    mlp = model.mlp
    if mlp.embedding is not None:
        arrays["SampleLevel.Embedding"] = mlp.embedding.weight
    put("SampleLevel.L1_PrevSamples", parts(mlp.input))
    for name, layer in (("L2", mlp.hidden[0]), ("L3", mlp.hidden[1]), ("Output", mlp.output)):
        put(f"SampleLevel.{name}", parts(layer), layer.bias)
    return {name: tensor.detach().numpy().copy() for name, tensor in arrays.items()}


def python2_pickle(arrays: dict[str, np.ndarray]) -> bytes:
    """A dict of float32 arrays as Python 2 pickles it with protocol 0: text, and bytes in escapes."""
    out = ["(d"]
    for name, array in arrays.items():
        shape = "".join(f"I{size}\n" for size in array.shape)
        raw = "".join(f"\\x{byte:02x}" for byte in np.ascontiguousarray(array).tobytes())
        out.append(
            f"S'{name}'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
            f"(I1\n({shape}tcnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'{raw}'\ntbs"
        )
    return "".join([*out, "."]).encode("ascii")


def write_theano(path: Path, arrays: dict[str, np.ndarray], protocol: int | None = None) -> None:
    """A params_*.pkl; protocol None is Python 2's."""
    path.write_bytes(python2_pickle(arrays) if protocol is None else pickle.dumps(arrays, protocol))
