"""The one place where kernels are launched, and the one that captures launches in a CUDA graph."""

import threading
from collections.abc import Callable
from typing import Any

import torch

_CAPTURES = threading.Lock()  # torch captures one graph at a time


def launch(
    kernel: Any, grid: tuple[int, ...], *args: Any, warps: int = 4, stages: int = 3, fuse: bool = True, **constants: Any
) -> None:
    """Start a kernel on torch's current stream. fuse: whether a product and a sum may become one instruction, which
    rounds once; said every time, because Triton's default changed."""
    options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": fuse}
    _start(kernel, grid, args, constants | options)


def _start(kernel: Any, grid: tuple[int, ...], args: tuple[Any, ...], options: dict[str, Any]) -> None:
    kernel[grid](*args, **options)


class Replay:
    """A fixed sequence of launches: on a GPU captured once and started as one graph, elsewhere made one by one.

    capture: whether it may be captured. The sequence then runs once when this is made, on whatever its buffers hold:
    kernels are compiled before a capture.
    """

    def __init__(self, sequence: Callable[[], None], device: torch.device, capture: bool) -> None:
        self.sequence, self.graph = sequence, None
        if device.type != "cuda" or not capture:
            return
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            sequence()
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with _CAPTURES, torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
            sequence()
        self.graph = graph

    def __call__(self) -> None:
        if self.graph is None:
            self.sequence()
        else:
            self.graph.replay()
