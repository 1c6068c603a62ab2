"""The shortest time that one step of the cpu backend could take, by the measured memory and arithmetic of the CPU."""

from samplernn_fast.backends.cpu import CpuBackend
from samplernn_fast.models.config import PackedConfig
from samplernn_fast.models.layout import OUTPUT, packed_hidden
from samplernn_fast.reference.modes import INT4, WEIGHT_BYTES


def matrix_work(config: PackedConfig) -> dict[str, tuple[float, float]]:
    """Matrix of the layout -> the multiply-adds that it takes for one sample of one stream, and its weights."""
    square, layers = config.dim**2, config.n_rnn
    gates = config.gates * square
    found = {f"mlp.hidden{layer}": (float(square), float(square)) for layer in range(packed_hidden(config))}
    found[OUTPUT] = (float(config.q_levels * config.dim),) * 2
    for tier, ratio in enumerate(config.ratios):
        name, size = f"tier{tier}.", config.frame_sizes[tier + 1]
        below = square if tier == 0 else config.readers * gates
        step = {"recurrent": layers * gates, "stack": (layers - 1) * gates}
        step["skip_out"] = layers * square if config.skip != "none" else 0
        found |= {name + what: (weights / size, float(weights)) for what, weights in step.items()}
        found[name + "up"] = (ratio * below / size, float(ratio * below))
    return found


def roofline(backend: CpuBackend, streams: int, threads: int, block_share: float = 1.0) -> float:
    """The seconds that one step takes at best: the longer of reading its weights and making its multiply-adds.

    block_share: how many of its blocks a sparse model has, which it is played by in float32 and int8.

    With fewer streams than threads, the threads share each step and each reads its part of the weights. Otherwise each
    thread makes streams of its own and reads all weights.
    """
    left = block_share if backend.dtype in ("float32", "int8") else 1.0
    work = {
        name: (macs, stored) if name == OUTPUT else (left * macs, left * stored)
        for name, (macs, stored) in matrix_work(backend.config).items()
    }
    sizes = {name: _weight_bytes(backend, name) for name in work}
    read, stored = (sum(sizes[name] * parts[place] for name, parts in work.items()) for place in (0, 1))
    readers = 1 if streams < threads else threads
    bandwidth = backend.native.read_bandwidth(int(stored) * readers, threads)
    multiplying = sum(macs for macs, _ in work.values()) * streams / backend.native.peak_rate(threads)
    return max(read * readers / bandwidth, multiplying)


def _weight_bytes(backend: CpuBackend, name: str) -> float:
    """The bytes of a weight of a matrix. In int4 some matrices have eight bits."""
    eight = backend.dtype == INT4 and name not in backend.four_bits
    return WEIGHT_BYTES["int8" if eight else backend.dtype]
