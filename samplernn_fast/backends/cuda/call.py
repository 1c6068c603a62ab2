"""One call of the `cuda` backend: one launch after another, each going on where the one before it ended."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from samplernn_fast.backends.cuda.gpu import driver_errors_as
from samplernn_fast.backends.cuda.launcher import Launched, Launcher, LaunchParams
from samplernn_fast.errors import DeviceError
from samplernn_fast.models.layout import Hidden
from samplernn_fast.native import native
from samplernn_fast.reference.randomness import Drawing, MixedDrawing


@dataclass(frozen=True)
class _Buffers:
    """The tensors of one launch, which must live until it was put into the CUDA stream. S padded streams, m samples."""

    forced: Tensor | None
    """(S, m) int32; None where every level of the call is drawn, so that the kernel need not look for others."""
    temperature: Tensor
    """(S, m) float32."""
    out: Tensor
    """Error words, then levels, int32 in a row."""
    levels: Tensor
    """(S, m) int32, a view of `out`."""
    logits: Tensor | None
    """(S, m, Q) float32."""
    new_hidden: Tensor
    """As the call's `hidden`. New states do not overwrite old ones, because blocks that lag behind still read those."""


class Call:
    """One walk over forced levels (B, n), -1 where a level is drawn, from time t on.

    hidden: (n, B, H) for each tier, history: (B, L). logits (B, n, Q) are filled if given.
    """

    def __init__(
        self,
        launcher: Launcher,
        hidden: Hidden,
        history: np.ndarray,
        t: int,
        forced: np.ndarray,
        drawing: Drawing | MixedDrawing,
        logits: Tensor | None = None,
    ) -> None:
        self.launcher, self.t, self.logits = launcher, t, logits
        self.streams, self.device, self.config = forced.shape[0], launcher.device, launcher.config
        self.made_for = self.program_streams(drawing, self.streams)
        how = drawing if isinstance(drawing, MixedDrawing) else MixedDrawing.of(drawing, t)
        self.steps = launcher.steps(self.made_for)
        self.padded_streams = launcher.program(self.made_for).group.streams
        self.hidden = self._stacked(hidden)
        self.recent = self._on_device(history.astype(np.int32))
        rows = native().cuda_drawings(how.seeds, how.streams, how.times - t, how.top_k, how.top_p)
        self.drawings = self._on_device(rows)
        # A copy from the host waits for the launches in the CUDA stream, so there is none between two of them.
        # Padded streams are forced, so that they need no logits.
        drawn = self.padded_streams == self.streams and not (forced >= 0).any()
        self.forced = None if drawn else self._on_device(forced.astype(np.int32))
        self.temperature = self._on_device(how.temperature)

    @staticmethod
    def program_streams(drawing: Drawing | MixedDrawing, streams: int) -> int:
        """The number of streams of the program that makes so many of them.

        Kernels are compiled for a number of streams, and the streams of several listeners come and go one by one, so
        their number is rounded up to a power of two, and few kernels are compiled.
        """
        return 1 << (streams - 1).bit_length() if isinstance(drawing, MixedDrawing) else streams

    def run(self, hidden: Hidden) -> np.ndarray:
        """The levels (B, n) int64; advances `hidden`.

        A launch is put into the CUDA stream before the results of the one before it are waited for.
        """
        made, waiting = [np.empty((self.streams, 0), np.int64)], None
        with driver_errors_as(DeviceError):
            for start in range(0, self.temperature.shape[1], self.steps):
                buffers = self._buffers(start)
                launched = self.launcher.launch(self.made_for, buffers.out, start, self._params(start, buffers))
                self._advance(start, buffers)
                if waiting is not None:
                    made.append(self._levels(waiting))
                waiting = launched
            if waiting is not None:
                made.append(self._levels(waiting))
        self._give(hidden)
        return np.concatenate(made, axis=1)

    def _stacked(self, hidden: Hidden) -> Tensor:
        """The states of all tiers (tiers, n, S, H) on the GPU, where tensors are already."""
        if isinstance(hidden[0], Tensor):
            return pad(torch.stack(hidden), (0, 0, 0, self.padded_streams - self.streams))
        return self._on_device(np.stack(hidden).astype(np.float32), axis=2)

    def _give(self, hidden: Hidden) -> None:
        """Advance `hidden` to where this call ends."""
        if isinstance(hidden[0], Tensor):
            hidden[:] = [advanced[:, : self.streams] for advanced in self.hidden]
            return
        for mine, advanced in zip(hidden, self.hidden.cpu().numpy(), strict=True):
            mine[...] = advanced[:, : self.streams]

    def _on_device(self, array: np.ndarray, axis: int = 0) -> Tensor:
        """An array on the GPU, padded to the streams that the program makes; padded streams are forced to level 0."""
        padding = [(0, 0)] * array.ndim
        padding[axis] = (0, self.padded_streams - self.streams)
        padded = np.ascontiguousarray(np.pad(array, padding))  # the kernel takes rows as they lie
        return torch.from_numpy(padded).to(self.device)

    def _buffers(self, start: int) -> _Buffers:
        """Allocates what the launch needs whose first sample is the start-th of the call."""
        now = slice(start, start + self.steps)
        temperature = self.temperature[:, now].contiguous()
        forced = None if self.forced is None else self.forced[:, now].contiguous()
        words = native().CUDA_ERROR_BYTES // 4
        out = torch.empty(words + temperature.numel(), dtype=torch.int32, device=self.device)
        logits = None if self.logits is None else self.logits.new_zeros(*temperature.shape, self.config.q_levels)
        levels, new_hidden = out[words:].view_as(temperature), torch.empty_like(self.hidden)
        return _Buffers(forced, temperature, out, levels, logits, new_hidden)

    def _params(self, start: int, buffers: _Buffers) -> LaunchParams:
        return LaunchParams(
            hidden=self.hidden.data_ptr(),
            new_hidden=buffers.new_hidden.data_ptr(),
            history=self.recent.data_ptr(),
            forced=0 if buffers.forced is None else buffers.forced.data_ptr(),
            levels=buffers.levels.data_ptr(),
            logits=0 if buffers.logits is None else buffers.logits.data_ptr(),
            temperature=buffers.temperature.data_ptr(),
            drawings=self.drawings.data_ptr(),
            t=self.t + start,
            steps=buffers.levels.shape[1],
        )

    def _advance(self, start: int, buffers: _Buffers) -> None:
        """The next launch starts from this one's states and newest levels. If this one fails, what it leaves behind
        must not become an index, so levels are kept inside their range."""
        self.hidden = buffers.new_hidden
        if self.logits is not None and buffers.logits is not None:
            self.logits[:, start : start + self.steps] = buffers.logits[: self.streams]
        newest = torch.cat((self.recent, buffers.levels), dim=1)[:, -self.config.lookback :]
        self.recent = newest.clamp(0, self.config.q_levels - 1).contiguous()

    def _levels(self, launched: Launched) -> np.ndarray:
        levels = self.launcher.collect(launched).astype(np.int64)
        return levels.reshape(self.padded_streams, -1)[: self.streams]
