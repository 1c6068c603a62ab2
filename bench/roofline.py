"""What a step of the cpu backend could take at best, by the memory and the multiply-adds of the machine at hand."""

from samplernn_fast.engine.engine import Engine
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.reference.weights import packed_hidden

WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


def matrix_work(config: SampleRNNConfig) -> tuple[float, float]:
    """Multiply-adds of the matrix products of one sample of one stream, and the weights of all matrices."""
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


def roofline(engine: Engine, batch_size: int, threads: int) -> float:
    """Seconds of one step at best: its weights read once by every thread that makes streams, or its multiply-adds."""
    work, stored = matrix_work(engine.config)
    native = engine.backend.native
    size = WEIGHT_BYTES[engine.dtype]
    shared = batch_size < threads  # then the threads share each step, and each reads its part
    bandwidth = native.read_bandwidth(int(stored * size) * (1 if shared else threads), threads)
    reading = work * size * (1 if shared else threads) / bandwidth
    return max(reading, work * batch_size / native.peak_rate(threads))
