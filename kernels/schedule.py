"""The tier walk over one top-tier period, as launches with fixed addresses: what a CUDA graph holds.

Per-call values (time, seed, truncation, forced levels, temperatures) lie in device memory, drawn levels are written
there, and the last launch of a period moves the clock on, so a replay needs nothing from the host.
"""

import torch
from torch import Tensor

from samplernn_fast.kernels.cells import CellInput, CellScratch, CellWeights, launch_cell
from samplernn_fast.kernels.clock import BAD, advance_kernel, clock_values
from samplernn_fast.kernels.draw import launch_draw
from samplernn_fast.kernels.launch import Replay, launch
from samplernn_fast.kernels.products import Blocks, blocks_for, library_product, style_for
from samplernn_fast.kernels.sample_step import SampleInput, SampleScratch, launch_logits
from samplernn_fast.kernels.upsample import upsample_kernel
from samplernn_fast.reference import draw
from samplernn_fast.reference.weights import PackedWeights, packed_hidden

_MOST_COLUMNS, _MOST_LEVELS = 4096, 1 << 21


def cell_weights(weights: PackedWeights, tier: int, layer: int) -> CellWeights:
    """One layer's part of the packed weights."""
    config, name = weights.config, f"tier{tier}."
    rows = weights[name + "bias"].shape[1]
    frame = weights[name + "frame"]
    reads = layer == 0 or config.skip == "full"
    return CellWeights(
        recurrent=weights[name + "recurrent"][layer],
        bias_n=weights[name + "bias_n"][layer] if config.rnn == "gru" and config.reset_after else None,
        frame=frame[layer * rows : (layer + 1) * rows] if reads else None,
        stack=weights[name + "stack"][layer - 1] if layer > 0 else None,
    )


class Schedule:
    """Buffers and launches of one number of streams. weights: matrices in the numeric mode's type, the rest float32.

    `prepare`, then `load`, then `step` and `period` in any order that follows the time, then `read_levels`.
    """

    def __init__(self, weights: PackedWeights, batch: int, device: torch.device, style: str = "") -> None:
        self.weights, self.config, self.batch, self.device = weights, weights.config, batch, device
        config, dim, layers = self.config, self.config.dim, self.config.n_rnn
        self.style = style or style_for(batch)
        self.tiers = range(len(config.ratios))
        self.columns = config.lookback * max(1, min(_MOST_COLUMNS, _MOST_LEVELS // batch) // config.lookback)
        matrix_type = weights["mlp.output"].dtype
        sides = 1 if self.style == "library" else 2  # a library's product has read all of a state before it changes

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.clock = clock_values(0, config.lookback).to(device)
        self.levels = zeros(batch, config.lookback + self.columns, dtype=torch.int32)
        self.scales = zeros(batch, config.lookback + self.columns)
        self.streams = zeros(batch, dtype=torch.int64)
        width = weights["tier0.h0"].shape[1]
        self.state = [zeros(layers, batch, width) for _ in self.tiers]
        self.feed = [zeros(sides, layers, batch, dim, dtype=matrix_type) for _ in self.tiers]
        self.output = [zeros(batch, dim, dtype=matrix_type) for _ in self.tiers] if config.skip != "none" else []
        self.summed = zeros(batch, dim)
        self.up = [weights[f"tier{tier}.up"] for tier in self.tiers]
        self.read = [zeros(batch, up.shape[0] * up.shape[1]) for up in self.up]
        names = [f"mlp.hidden{layer}" for layer in range(packed_hidden(config))]
        self.hidden = [(weights[name], weights[name + "_bias"]) for name in names]
        self.samples = SampleScratch.make(batch, dim, config.q_levels, weights["mlp.output"])
        self.cells = [[cell_weights(weights, tier, layer) for layer in range(layers)] for tier in self.tiers]
        self.biases = [self._biases(tier) for tier in self.tiers]
        self.scratch = CellScratch.make(batch, self.cells[0][0])
        self._periods: dict[bool, Replay] = {}
        self._truncate = False

    def _biases(self, tier: int) -> Tensor:
        """(r, n, G D): bias of every layer where the tier's frame is the j-th that the one above reads for."""
        bias = self.weights[f"tier{tier}.bias"].unsqueeze(0)
        if tier + 1 == len(self.tiers):
            return bias
        added = self.weights[f"tier{tier + 1}.up_bias"].unflatten(1, (-1, bias.shape[2]))
        biases = bias.repeat(added.shape[0], 1, 1)
        biases[:, : added.shape[1]] += added
        return biases

    def prepare(self, truncate: bool) -> None:
        """Make the launches of a period, with or without top-k and top-p; overwrites the state."""
        self._truncate = truncate
        if truncate not in self._periods:
            self.clock.copy_(clock_values(0, self.config.lookback))
            self._periods[truncate] = Replay(self._launch_period, self.device, capture=self.style != "library")

    def load(
        self,
        hidden: list[Tensor],
        levels: Tensor,
        t: int,
        randomness: draw.Randomness,
        temperature: Tensor,
        top_k: int,
        top_p: float,
    ) -> None:
        """Start at time t. levels (B, L + n) with -1 for what is drawn, temperature (B, n), n <= columns."""
        lookback, end = self.config.lookback, levels.shape[1]
        self.clock.copy_(clock_values(t, lookback, randomness.seed, top_k, top_p))
        self.levels[:, :end].copy_(levels)
        self.scales[:, lookback:end].copy_(draw.scales(temperature))
        self.streams.copy_(torch.from_numpy(randomness.streams.astype("int64")))
        for tier, given in enumerate(hidden):
            size = self.config.frame_sizes[tier + 1]
            self.state[tier].copy_(given)
            self.feed[tier][-(-t // size) % self.feed[tier].shape[0]].copy_(given[..., : self.config.dim])
            if t % size:
                self._hand_down(tier, 0)

    def save(self, hidden: list[Tensor]) -> None:
        """Copy the states out, (n, B, H) for each tier."""
        for mine, theirs in zip(self.state, hidden, strict=True):
            theirs.copy_(mine)

    def read_levels(self, start: int, stop: int) -> Tensor:
        """Levels (B, stop - start) int32 of the samples since `load`, a view."""
        return self.levels[:, self.config.lookback + start : self.config.lookback + stop]

    def failed(self) -> bool:
        """Whether a logit was not finite since `load`; waits for the device."""
        return bool(self.clock[BAD.value].item())

    def period(self) -> None:
        """A whole period from where the clock stands, a multiple of L."""
        self._periods[self._truncate]()

    def _launch_period(self) -> None:
        for offset in range(self.config.lookback):
            self.step(offset, offset, True)
        self.advance(self.config.lookback)

    def advance(self, steps: int) -> None:
        """Move the clock on."""
        if steps:
            launch(advance_kernel, (1,), self.clock, steps, warps=1)

    def step(self, phase: int, offset: int, draw: bool) -> None:
        """One sample, `offset` behind the clock, at a time that is `phase` modulo L: every tier whose frame starts
        there, top first, then, where some stream needs it, the sample level."""
        for tier in reversed(self.tiers):
            if phase % self.config.frame_sizes[tier + 1] == 0:
                self._run_tier(tier, phase, offset)
                self._hand_down(tier, offset)
        if draw:
            self._run_sample(phase, offset)

    def _run_tier(self, tier: int, phase: int, offset: int) -> None:
        """Eq. 4-5: one step of every layer."""
        size, feed = self.config.frame_sizes[tier + 1], self.feed[tier]
        gates_width = self.weights[f"tier{tier}.bias"].shape[1]
        j, read = 0, None
        if tier + 1 < len(self.tiers):
            j = phase % self.config.frame_sizes[tier + 2] // size
            read = self.read[tier + 1].unflatten(1, (self.up[tier + 1].shape[0], -1))[:, j]
        for layer, weights in enumerate(self.cells[tier]):
            reads = weights.frame is not None
            given = CellInput(
                read=read[:, layer * gates_width :] if read is not None and reads else None,
                bias=self.biases[tier][j, layer],
                below=feed[0, layer - 1] if layer > 0 else None,
                clock=self.clock,
                offset=offset,
                frame_size=size,
                levels=self.levels,
                values=self.weights["frame_values"],
            )
            side, state = self._side(tier), self.state[tier][layer]
            new_feed = feed[-1, layer]
            blocks = self._blocks(self.config.dim, weights.gates)
            launch_cell(weights, given, feed[0, layer], new_feed, side, state, state, self.scratch, blocks)

    def _hand_down(self, tier: int, offset: int) -> None:
        """Eq. 6: the tier's output, through the upsampling of every unit below it."""
        size, up, side = self.config.frame_sizes[tier + 1], self.up[tier], self._side(tier)
        source, clocked = self.feed[tier][0, -1], True
        if self.output:
            self._sum_skips(tier, offset)
            source, side, clocked = self.output[tier], 0, False
        matrix = up.flatten(0, 1)
        if self.style == "library":
            library_product(source, matrix, self.read[tier])
            return
        self._upsample(source, side, 0, matrix, None, self.read[tier], offset, size if clocked else 0, 1)

    def _sum_skips(self, tier: int, offset: int) -> None:
        """The tier's output (B, D) where all of its layers are summed."""
        name, feed, dim = f"tier{tier}.", self.feed[tier], self.config.dim
        matrix, bias = self.weights[name + "skip_out"], self.weights[name + "skip_bias"]
        if self.style == "library":
            self.summed.copy_(bias.expand_as(self.summed))
            for layer in range(self.config.n_rnn):
                library_product(feed[0, layer], matrix[:, layer * dim : (layer + 1) * dim], self.samples.sums)
                self.summed.add_(self.samples.sums)
            self.output[tier].copy_(self.summed)
            return
        size, layers = self.config.frame_sizes[tier + 1], self.config.n_rnn
        step = feed.stride(1)
        self._upsample(feed[0, 0], self._side(tier), step, matrix, bias, self.output[tier], offset, size, layers)

    def _upsample(
        self,
        source: Tensor,
        side: int,
        layer_step: int,
        matrix: Tensor,
        bias: Tensor | None,
        y: Tensor,
        offset: int,
        frame_size: int,
        layers: int,
    ) -> None:
        """y = bias + source x matrix; frame_size 0: the source has no sides."""
        blocks = self._blocks(y.shape[1])
        launch(
            upsample_kernel,
            blocks.grid(self.batch, y.shape[1]),
            self.clock,
            offset,
            source,
            side,
            layer_step,
            matrix,
            y if bias is None else bias,
            y,
            self.batch,
            y.shape[1],
            K=self.config.dim,
            LAYERS=layers,
            FRAME_SIZE=max(1, frame_size),
            CLOCKED=frame_size > 0,
            BIAS=bias is not None,
            ROWS=blocks.rows,
            UNITS=blocks.units,
            BLOCK_K=blocks.k,
            STYLE=blocks.style,
            warps=blocks.warps,
            stages=blocks.stages,
        )

    def _run_sample(self, phase: int, offset: int) -> None:
        """Eq. 7-9, and the draw into `levels`."""
        dim, j = self.config.dim, phase % self.config.frame_sizes[1]
        given = SampleInput(
            clock=self.clock,
            offset=offset,
            levels=self.levels,
            conditioning=self.read[0][:, j * dim : (j + 1) * dim],
            up_bias=self.weights["tier0.up_bias"][j],
            tables=self.weights["mlp.tables"],
        )
        launch_logits(given, self.hidden, self.weights["mlp.output"], self.samples, self.style)
        bias, logits = self.weights["mlp.output_bias"], self.samples.logits
        drawing = (self.streams, self.scales, self.levels, self._truncate)
        launch_draw(self.clock, offset, logits, bias, None, *drawing)

    def _side(self, tier: int) -> int:
        """Distance of a feed's two sides; 0 where there is one."""
        return self.feed[tier].stride(0) if self.feed[tier].shape[0] == 2 else 0

    def _blocks(self, units: int, gates: int = 1) -> Blocks:
        return blocks_for(self.style, units, self.config.dim, self.weights["mlp.output"].dtype, self.device, gates)
