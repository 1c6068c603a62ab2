"""The shortest time that one step of the cpu backend could take, by the measured memory and arithmetic of the CPU."""

from samplernn_fast.backends.cpu import CpuBackend
from samplernn_fast.models.config import PackedConfig
from samplernn_fast.reference.modes import WEIGHT_BYTES
from samplernn_fast.reference.weights import packed_hidden


def matrix_work(config: PackedConfig) -> tuple[float, float]:
    """The multiply-adds that the matrix products of one sample of one stream take, and the weights of all matrices."""
    dim, square, layers = config.dim, config.dim**2, config.n_rnn
    gates = (3 if config.rnn == "gru" else 4) * square
    readers = layers if config.skip == "full" else 1
    work = stored = float(packed_hidden(config) * square + config.q_levels * dim)
    for tier, ratio in enumerate(config.ratios):
        size = config.frame_sizes[tier + 1]
        step = layers * gates + (layers - 1) * gates + (layers * square if config.skip != "none" else 0)
        below = square if tier == 0 else readers * gates
        work += (step + ratio * below) / size
        stored += step + ratio * below
    return work, stored


def roofline(backend: CpuBackend, streams: int, threads: int) -> float:
    """The seconds that one step takes at best: the longer of reading its weights and making its multiply-adds.

    With fewer streams than threads, the threads share each step and each reads its part of the weights. Otherwise each
    thread makes streams of its own and reads all weights.
    """
    work, stored = matrix_work(backend.config)
    size = WEIGHT_BYTES[backend.dtype]
    readers = 1 if streams < threads else threads
    bandwidth = backend.native.read_bandwidth(int(stored * size) * readers, threads)
    reading = work * size * readers / bandwidth
    return max(reading, work * streams / backend.native.peak_rate(threads))
