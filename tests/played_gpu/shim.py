"""The CUDA kernels on a CPU: their text compiled by the C++ compiler, every thread a fibre (cuda_shim/)."""

import ctypes
import dataclasses
import itertools
from pathlib import Path

import numpy as np
import torch
from binaries import kernel_library
from torch import Tensor

from samplernn_fast.backends.cuda import constants, grouping, packing
from samplernn_fast.backends.cuda.stages import Stage, Walk
from samplernn_fast.reference.folding import PackedWeights

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "csrc"


class Params(ctypes.Structure):
    """`srnn::Params` of csrc/cuda/params.h."""

    _fields_ = [
        *(
            (name, ctypes.c_void_p)
            for name in ("weights", "hidden", "new_hidden", "history", "forced", "levels", "logits")
        ),
        *((name, ctypes.c_void_p) for name in ("temperature", "drawings", "workspace", "error", "profile")),
        ("first_look", ctypes.c_uint32),
        ("time_limit", ctypes.c_uint64),
        ("t", ctypes.c_int64),
        ("steps", ctypes.c_int32),
    ]


DRAWING = np.dtype(
    [("seed", "u8"), ("ahead", "i8"), ("stream", "u4"), ("top_k", "i4"), ("use_top_p", "u4"), ("top_p_fraction", "u4")]
)
"""`srnn::StreamDrawing` of csrc/cuda/params.h."""


class Launch(ctypes.Structure):
    """`Launch` of cuda_shim/launches.h."""

    _fields_ = [("kernel", ctypes.c_char_p), *((name, ctypes.c_int32) for name in ("tier", "layer", "begins"))]


@dataclasses.dataclass
class Settings:
    """How streams are drawn, and under which schedule. A list has an entry for each stream."""

    temperature: float | list[float] = 1.0
    top_k: int | list[int] = 0
    top_p: float | list[float] = 1.0
    seed: int | list[int] = 0
    ahead: int | list[int] = 0
    first_stream: int = 0
    schedule: int = 0
    time_limit: int = 1 << 62
    lose_store: int = -1

    def drawings(self, streams: int) -> np.ndarray:
        """(B,) of DRAWING."""
        rows = np.zeros(streams, DRAWING)
        rows["seed"], rows["ahead"], rows["top_k"] = self.seed, self.ahead, self.top_k
        rows["stream"] = np.arange(self.first_stream, self.first_stream + streams)
        share = np.broadcast_to(self.top_p, streams)
        rows["use_top_p"] = share < 1
        rows["top_p_fraction"] = np.where(share < 1, share * 2**32, 0)
        return rows


def build(defines: dict[str, str], kernels: Path = KERNELS) -> Path:
    """The kernel for one set of defines, compiled where that has not been done before."""
    macros = [f"-D{name}={value}" for name, value in defines.items()]
    texts = sorted([*kernels.glob("model/*.h"), kernels / "cuda" / "params.h", *kernels.glob("cuda/device/*")])
    return kernel_library(kernels, texts, macros)


def launches(walk: Walk, t: int, steps: int) -> list[Stage]:
    """Every launch of a call that makes `steps` samples from time t on, as `launch_stages` of csrc/cuda/host/stages.cpp
    has them."""
    samples = [walk.period[now % len(walk.period)] for now in range(t, t + steps)]
    return [*walk.before, *itertools.chain.from_iterable(samples), *walk.after]


class ShimError(Exception):
    """The kernel did what no kernel may do: see fibres.h."""


class KernelError(Exception):
    """The kernel gave up and said so: words of its error report."""


class ShimKernel:
    """One compiled kernel and a model's weights. `groups` of at most `blocks` blocks each make `batch` streams. A block
    has as many teams as suit the streams where `teams` is None."""

    def __init__(
        self,
        weights: PackedWeights,
        dtype: str = "float32",
        batch: int = 1,
        blocks: int = 4,
        threads: int = 64,
        shared_bytes: int = 1 << 17,
        exchange: str = "tagged",
        groups: int = 1,
        profile: bool = False,
        teams: int | None = None,
        kernels: Path = KERNELS,
    ) -> None:
        self.config, self.batch = weights.config, groups * batch
        blocks = grouping.grid_blocks(self.config.dim, blocks)
        teams = teams or grouping.block_teams(batch, exchange, shared_bytes)
        group = grouping.Grouping(batch, groups, blocks, exchange, teams)
        defines = constants.defines(self.config, dtype, group, threads, shared_bytes, profile)
        library = ctypes.CDLL(str(build(defines, kernels)))
        self.launch = library.srnn_shim_launch
        self.launch.restype = ctypes.c_char_p
        stages = [ctypes.POINTER(Launch), ctypes.c_int]
        self.launch.argtypes = [ctypes.POINTER(Params), *stages, ctypes.c_uint, ctypes.c_long]
        self.walk = Walk.of(self.config) if exchange == "launches" else None
        self.sizes = list((ctypes.c_uint64 * 7).in_dll(library, "srnn_sizes"))
        self.profile = np.zeros(self.sizes[5] // 8, dtype=np.uint64)
        self.weights = packing.pack_weights(weights, dtype)
        assert self.sizes[:2] == [ctypes.sizeof(Params), len(self.weights)]
        h0 = [torch.from_numpy(weights[f"tier{tier}.h0"]).float() for tier in range(len(self.config.ratios))]
        self.h0 = torch.cat([h.unsqueeze(1).repeat(1, self.batch, 1).flatten() for h in h0])

    def initial(self) -> tuple[Tensor, Tensor]:
        """Hidden states of all tiers, one after another, and silence for a history (B, L)."""
        silence = torch.full((self.batch, self.config.lookback), self.config.q_zero)
        return self.h0.clone(), silence

    def run(
        self,
        hidden: Tensor,
        history: Tensor,
        t: int,
        steps: int,
        forced: Tensor | None = None,
        want_logits: bool = False,
        settings: Settings | None = None,
    ) -> tuple[Tensor, Tensor]:
        """A launch, or those of its stages: levels (B, steps), logits (B, steps, Q) where wanted; advances `hidden`.

        ShimError for an illegal access, a deadlock or a wrong meeting; KernelError for what the kernel reports. Then
        `made` has the levels that were stored before, and -7 for the others.
        """
        settings = settings or Settings()
        levels = self.made = torch.full((self.batch, steps), -7, dtype=torch.int32)
        new_hidden = torch.full_like(hidden, torch.nan)
        logits = torch.full((self.batch, steps, self.config.q_levels), torch.nan)
        temperature = torch.as_tensor(settings.temperature, dtype=torch.float32).reshape(-1, 1)
        arrays = {
            "weights": self.weights.numpy(),
            "hidden": hidden.numpy(),
            "new_hidden": new_hidden.numpy(),
            "history": history.int().contiguous().numpy(),
            "forced": None if forced is None else forced.int().contiguous().numpy(),
            "levels": levels.numpy(),
            "logits": logits.numpy() if want_logits else None,
            "temperature": temperature.expand(self.batch, steps).contiguous().numpy(),
            "drawings": settings.drawings(self.batch),
            "error": np.zeros(8, dtype=np.uint32),
            "profile": self.profile if self.sizes[5] else None,
        }
        pointers = {name: None if array is None else array.ctypes.data for name, array in arrays.items()}
        params = Params(
            **pointers,
            workspace=None,
            time_limit=settings.time_limit,
            t=t,
            steps=steps,
            first_look=self.sizes[6],
        )
        stages = launches(self.walk, t, steps) if self.walk else [Stage("srnn_generate")]
        rows = (Launch * len(stages))(*((stage.kernel.encode(), *stage[1:]) for stage in stages))
        how = (settings.schedule, settings.lose_store)
        problem = self.launch(ctypes.byref(params), rows, len(stages), *how)
        if problem:
            raise ShimError(problem.decode())
        if arrays["error"].any():
            raise KernelError(*arrays["error"].tolist())
        hidden.copy_(new_hidden)
        return levels.long(), logits
