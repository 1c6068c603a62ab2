import builtins
from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

def philox(seed: int, stream: int, t0: int, n: int) -> NDArray[np.uint32]: ...
def philox_block(counter: Sequence[int], key: Sequence[int]) -> NDArray[np.uint32]: ...
def sample_levels(
    logits: NDArray[np.float32],
    draws: NDArray[np.uint32],
    temperature: NDArray[np.float32],
    top_k: int = 0,
    top_p: float = 1.0,
) -> NDArray[np.int32]: ...
def build_info() -> dict[str, str | int]: ...
def layout_fields(dims: ModelDims) -> list[tuple[str, list[int]]]: ...
def usable_cores() -> int: ...
def available_isas() -> list[str]: ...
def built_isas() -> list[str]: ...

class ModelDims:
    def __init__(
        self,
        *,
        dim: int,
        q_levels: int,
        n_rnn: int,
        taps: int,
        hidden: int,
        lstm: bool,
        reset_after: bool,
        skips: bool,
        readers_all: bool,
        reads_levels: bool,
        frame_sizes: Sequence[int],
    ) -> None: ...

class CpuEngine:
    isa: str
    mode: str
    weight_bytes: int
    partings: int
    def __init__(
        self,
        dims: ModelDims,
        tensors: dict[str, NDArray[np.float32]],
        isa: str = "",
        mode: str = "float32",
        num_threads: int = 0,
        four_bits: dict[str, tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.float32]]] = ...,
    ) -> None: ...
    def threads(self, streams: int) -> int: ...
    def read_bandwidth(self, bytes: int, threads: int = 1) -> float: ...
    def peak_rate(self, threads: int = 1) -> float: ...
    def generate(
        self,
        hidden: Sequence[NDArray[np.float32]],
        levels: NDArray[np.int64],
        t: int,
        seeds: NDArray[np.uint64],
        streams: NDArray[np.uint32],
        times: NDArray[np.int64],
        temperature: NDArray[np.float32],
        top_k: NDArray[np.int32],
        top_p: NDArray[np.float64],
    ) -> None: ...
    def prime(self, hidden: Sequence[NDArray[np.float32]], levels: NDArray[np.int64], t: int) -> None: ...
    def score(self, hidden: Sequence[NDArray[np.float32]], levels: NDArray[np.int64]) -> NDArray[np.float32]: ...

class NotFiniteError(ValueError): ...
class CudaError(RuntimeError): ...
class CudaTooLargeError(CudaError): ...

class Nvrtc:
    path: str
    version: tuple[int, int]
    def __init__(self, path: str) -> None: ...
    def archs(self) -> list[int]: ...
    def compile(self, name: str, text: str, headers: dict[str, str], options: Sequence[str]) -> tuple[bytes, str]: ...

class CudaDriver:
    path: str
    version: int
    def __init__(self, path: str = "") -> None: ...

class CudaDevice:
    name: str
    capability: tuple[int, int]
    multiprocessors: int
    shared_bytes: int
    cooperative: int
    clusters: int
    run_time_limit: int
    def __init__(self, driver: CudaDriver, ordinal: int) -> None: ...
    def clear(self, pointer: int, bytes: int, cuda_stream: int) -> None: ...

class CudaKernel:
    registers: int
    sizes: dict[str, int]
    @overload
    def __init__(self, device: CudaDevice, cubin: bytes, name: str) -> None: ...
    @overload
    def __init__(self, other: CudaKernel, name: str) -> None: ...
    def blocks_per_multiprocessor(self, threads: int, shared_bytes: int) -> int: ...
    def active_clusters(self, cluster: int, threads: int, shared_bytes: int) -> int: ...
    def launch(
        self,
        blocks: int,
        threads: int,
        shared_bytes: int,
        cooperative: bool,
        cuda_stream: int,
        arguments: Sequence[bytes],
        cluster: int = 1,
    ) -> None: ...

class CudaStages:
    def __init__(
        self,
        kernels: Sequence[CudaKernel],
        before: Sequence[tuple[int, int, int, bool]],
        period: Sequence[Sequence[tuple[int, int, int, bool]]],
        after: Sequence[tuple[int, int, int, bool]],
    ) -> None: ...
    def launch(
        self, blocks: int, threads: int, shared_bytes: int, cuda_stream: int, params: bytes, t: int, steps: int
    ) -> None: ...

class CudaReadback:
    bytes: int
    def __init__(self, device: CudaDevice, bytes: int) -> None: ...
    def start(self, from_pointer: int, bytes: int, cuda_stream: int) -> None: ...
    def wait(self, bytes: int) -> builtins.bytes: ...

CUDA_ERROR_BYTES: int
CUDA_TIMED_OUT: int
CUDA_NOT_FINITE: int

def cuda_error(words: bytes) -> dict[str, int]: ...
def cuda_params(
    *,
    weights: int,
    hidden: int,
    new_hidden: int,
    history: int,
    forced: int,
    levels: int,
    logits: int,
    temperature: int,
    drawings: int,
    workspace: int,
    error: int,
    profile: int,
    first_look: int,
    time_limit: int,
    t: int,
    steps: int,
) -> bytes: ...
def cuda_drawings(
    seeds: np.ndarray, streams: np.ndarray, ahead: np.ndarray, top_k: np.ndarray, top_p: np.ndarray
) -> np.ndarray: ...
