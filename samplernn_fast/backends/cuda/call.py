"""One call of the `cuda` backend: its launches, and the levels that come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from samplernn_fast.backends.cuda.gpu import driver_errors_as, native
from samplernn_fast.errors import DeviceError

if TYPE_CHECKING:
    from samplernn_fast.backends.cuda.backend import CudaBackend, Hidden, _Drawing, _Launched


class _Call:
    """One walk over forced (B, n) levels, -1 = free, from time t on; `logits` (B, n, Q) are filled if given."""

    def __init__(
        self,
        backend: CudaBackend,
        hidden: Hidden,
        history: Tensor,
        t: int,
        forced: Tensor,
        drawing: _Drawing,
        logits: Tensor | None = None,
    ) -> None:
        self.backend, self.t, self.forced, self.drawing, self.logits = backend, t, forced, drawing, logits
        self.batch, self.device = forced.shape[0], backend.device
        self.steps = backend.launch_steps(self.batch)
        self.program = backend.program(self.batch)
        self.hidden = self._rows(torch.stack(hidden), dim=2)
        self.recent = self._rows(history.to(self.device, torch.int32))
        seeds, streams = np.zeros(self.program.streams, np.uint64), np.zeros(self.program.streams, np.uint32)
        seeds[:], streams[: self.batch] = drawing.randomness.seed, drawing.randomness.streams
        # Signed, because torch moves those everywhere; the kernel takes the bits.
        self.seeds = torch.from_numpy(seeds.view(np.int64)).to(self.device)
        self.streams = torch.from_numpy(streams.view(np.int32)).to(self.device)

    def run(self, hidden: Hidden) -> Tensor:
        """The levels (B, n) int64 on the CPU; advances `hidden`. The next launch is put into the stream before the
        results of the last one are waited for."""
        blocks, waiting = [torch.empty(self.batch, 0, dtype=torch.int64, device="cpu")], None
        with driver_errors_as(DeviceError):
            for start in range(0, self.forced.shape[1], self.steps):
                launched = self._launch(start)
                if waiting is not None:
                    blocks.append(self._levels(waiting))
                waiting = launched
            if waiting is not None:
                blocks.append(self._levels(waiting))
        for mine, advanced in zip(hidden, self.hidden, strict=True):
            mine.copy_(advanced[:, : self.batch])
        return torch.cat(blocks, dim=1)

    def _rows(self, x: Tensor, dim: int = 0) -> Tensor:
        """x with a row of zeros for every stream that nobody asked for: their levels are given, 0, and not drawn."""
        shape = list(x.shape)
        shape[dim] = self.program.streams - self.batch
        return torch.cat((x, x.new_zeros(shape)), dim=dim) if shape[dim] else x.contiguous()

    def _levels(self, launched: _Launched) -> Tensor:
        levels = self.backend.collect(launched).astype(np.int64)
        return torch.from_numpy(levels).view(self.program.streams, -1)[: self.batch]

    def _launch(self, start: int) -> _Launched:
        config, part = self.backend.config, slice(start, start + self.steps)
        forced = self._rows(self.forced[:, part].to(self.device, torch.int32))
        temperature = self._rows(self.drawing.temperature[:, part].to(self.device, torch.float32))
        logits = None if self.logits is None else self._rows(self.logits[:, part])
        words = native().CUDA_ERROR_BYTES // 4
        out = torch.empty(words + forced.numel(), dtype=torch.int32, device=self.device)
        levels = out[words:].view_as(forced)
        new_hidden = torch.empty_like(self.hidden)  # blocks that lag behind still read the old one
        launched = self.backend.launch(
            self.batch,
            out,
            start,
            hidden=self.hidden.data_ptr(),
            new_hidden=new_hidden.data_ptr(),
            history=self.recent.data_ptr(),
            forced=forced.data_ptr(),
            levels=levels.data_ptr(),
            logits=0 if logits is None else logits.data_ptr(),
            temperature=temperature.data_ptr(),
            seeds=self.seeds.data_ptr(),
            streams=self.streams.data_ptr(),
            t=self.t + start,
            steps=forced.shape[1],
            top_k=self.drawing.top_k,
            top_p=self.drawing.top_p,
        )
        self.hidden = new_hidden
        if self.logits is not None and logits is not None:
            self.logits[:, part] = logits[: self.batch]
        # What a launch that failed left behind must not become an index of the next one.
        newest = torch.cat((self.recent, levels), dim=1)[:, -config.lookback :]
        self.recent = newest.clamp(0, config.q_levels - 1).contiguous()
        return launched
