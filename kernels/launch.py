"""The one place where kernels are launched, and the one that captures launches in a CUDA graph."""

import threading
from collections.abc import Callable
from typing import Any

import torch

_CAPTURES = threading.Lock()  # torch can capture only one graph at a time


def launch(
    kernel: Any, grid: tuple[int, ...], *args: Any, warps: int = 4, stages: int = 3, fuse: bool = True, **constants: Any
) -> None:
    """Start a kernel on torch's current stream. fuse: whether the compiler may turn a multiplication and an addition
    into one instruction that rounds once; it is always passed, because Triton's default changed between versions."""
    options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": fuse}
    _start(kernel, grid, args, constants | options)


def _start(kernel: Any, grid: tuple[int, ...], args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Tests replace this function to see what would be launched."""
    kernel[grid](*args, **options)


def _forget_workspaces() -> None:
    """Lets cuBLAS allocate its workspaces anew. Before a capture, so that they lie in memory that the graph keeps for
    as long as it lives; after it, so that no other product writes there."""
    forget = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)  # A torch for the CPU has none.
    if forget is not None:
        forget()


class Replay:
    """A fixed sequence of launches, which a GPU captures once and then starts as one CUDA graph. On other devices every
    call makes the launches one by one.

    Before a capture the sequence runs once, on whatever its buffers hold, because that compiles its kernels.
    """

    def __init__(self, sequence: Callable[[], None], device: torch.device) -> None:
        self.sequence, self.graph = sequence, None
        if device.type != "cuda":
            return
        cuda_stream = torch.cuda.Stream(device)
        cuda_stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(cuda_stream):
            sequence()
        torch.cuda.current_stream(device).wait_stream(cuda_stream)
        graph = torch.cuda.CUDAGraph()
        with _CAPTURES:
            _forget_workspaces()
            try:
                with torch.cuda.graph(graph, stream=cuda_stream, capture_error_mode="thread_local"):
                    sequence()
            finally:
                _forget_workspaces()
        self.graph = graph

    def __call__(self) -> None:
        if self.graph is None:
            self.sequence()
        else:
            self.graph.replay()
