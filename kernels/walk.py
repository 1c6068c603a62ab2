"""The tier walk over one period of the top tier, as launches with fixed addresses, which a CUDA graph can hold.

What changes from call to call (time, seed, truncation, forced levels, temperatures) lies in device memory, levels are
drawn there, and the last launch of a period moves the clock on. A replay needs nothing from the CPU.
"""

import torch
from torch import Tensor

from samplernn_fast.kernels.cells import CellScratch, CellStep, CellWeights, launch_cell
from samplernn_fast.kernels.clock import BAD, Place, advance_kernel, clock_values
from samplernn_fast.kernels.draw import launch_draw
from samplernn_fast.kernels.launch import Replay, launch
from samplernn_fast.kernels.product import Blocks, blocks_for, library_product, style_for
from samplernn_fast.kernels.sample_step import SampleInput, SampleScratch, launch_logits
from samplernn_fast.kernels.upsample import launch_upsample
from samplernn_fast.models.layout import packed_hidden
from samplernn_fast.reference.draw import scales
from samplernn_fast.reference.randomness import Drawing
from samplernn_fast.reference.weights import DeviceWeights, as_tensor

# Most samples, and most levels of all streams, that the buffers hold. A longer call is made in slices.
_MOST_COLUMNS, _MOST_LEVELS = 4096, 1 << 21


def cell_weights(weights: DeviceWeights, tier: int, layer: int) -> CellWeights:
    """One layer's part of the packed weights."""
    config, name = weights.config, f"tier{tier}."
    gates_width = weights[name + "input_bias"].shape[2]
    frame = weights[name + "frame"]
    reads_input = layer == 0 or config.skip == "full"
    return CellWeights(
        recurrent=weights[name + "recurrent"][layer],
        bias_n=weights[name + "bias_n"][layer] if config.rnn == "gru" and config.reset_after else None,
        frame=frame[layer * gates_width : (layer + 1) * gates_width] if reads_input else None,
        stack=weights[name + "stack"][layer - 1] if layer > 0 else None,
    )


class Walk:
    """Buffers and launches for one number of streams. weights: matrices in the numeric mode's type, the rest float32.

    Call `prepare`, then `load`, then `step`, `advance` and `period` in the order of the time, then `read_levels`.
    """

    def __init__(self, weights: DeviceWeights, streams: int, device: torch.device, style: str = "") -> None:
        self.weights, self.config, self.streams, self.device = weights, weights.config, streams, device
        config, layers = self.config, self.config.n_rnn
        self.style = style or style_for(streams, weights["mlp.output"].dtype)
        self.tiers = range(len(config.ratios))
        self.columns = config.lookback * max(1, min(_MOST_COLUMNS, _MOST_LEVELS // streams) // config.lookback)
        self.cells = [[cell_weights(weights, tier, layer) for layer in range(layers)] for tier in self.tiers]
        names = [f"mlp.hidden{layer}" for layer in range(packed_hidden(config))]
        self.mlp_layers = [(weights[name], weights[name + "_bias"]) for name in names]
        self._make_buffers()
        self._periods: dict[bool, Replay] = {}
        self._truncate = False

    def _make_buffers(self) -> None:
        """Levels with the lookback before them, and what the tiers and the sample-level MLP keep, tier 0 first."""
        config, weights, streams = self.config, self.weights, self.streams
        dim, layers = config.dim, config.n_rnn
        matrix_type = weights["mlp.output"].dtype
        # `state` is the float32 hidden state ([h | c] for the LSTM), `hidden` the copy of h that products read. Style
        # "library" keeps one half of it, because its product has read all of it before it changes.
        halves = 1 if self.style == "library" else 2

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=self.device)

        self.clock = clock_values(0, config.lookback).to(self.device)
        self.levels = zeros(streams, config.lookback + self.columns, dtype=torch.int32)
        self.scales = zeros(streams, config.lookback + self.columns)
        self.stream_numbers = zeros(streams, dtype=torch.int64)
        self.state = [zeros(layers, streams, weights["tier0.h0"].shape[1]) for _ in self.tiers]
        self.hidden = [zeros(halves, layers, streams, dim, dtype=matrix_type) for _ in self.tiers]
        self.output = zeros(streams, dim, dtype=matrix_type)
        self.summed = zeros(streams, dim)
        up_shapes = [weights[f"tier{tier}.up"].shape for tier in self.tiers]
        self.conditioning = [zeros(streams, ratio, below) for ratio, below, _ in up_shapes]
        self.sample_scratch = SampleScratch.make(streams, dim, config.q_levels, weights["mlp.output"])
        self.cell_scratch = CellScratch.make(streams, self.cells[0][0])

    def prepare(self, truncate: bool) -> None:
        """Make the launches of a period, with or without top-k and top-p. Overwrites the hidden state."""
        self._truncate = truncate
        if truncate not in self._periods:
            self.clock.copy_(clock_values(0, self.config.lookback))
            self._periods[truncate] = Replay(self._launch_period, self.device)

    def load(self, hidden: list[Tensor], levels: Tensor, t: int, drawing: Drawing) -> None:
        """Start at time t. levels (B, L + T) with -1 for what is drawn, and drawing for T samples; T <= columns."""
        lookback, end = self.config.lookback, levels.shape[1]
        self.clock.copy_(clock_values(t, lookback, drawing.randomness.seed, drawing.top_k, drawing.top_p))
        self.levels[:, :end].copy_(levels)
        self.scales[:, lookback:end].copy_(scales(as_tensor(drawing.temperature, self.device)))
        self.stream_numbers.copy_(torch.from_numpy(drawing.randomness.streams.astype("int64")))
        for tier, given in enumerate(hidden):
            size = self.config.frame_sizes[tier + 1]
            self.state[tier].copy_(given)
            half = -(-t // size) % self.hidden[tier].shape[0]  # the half that the tier's next step reads
            self.hidden[tier][half].copy_(given[..., : self.config.dim])
            if t % size:
                self._upsample(tier, 0)

    def save(self, hidden: list[Tensor]) -> None:
        """Copy the hidden states out, (n, B, H) for each tier."""
        for mine, theirs in zip(self.state, hidden, strict=True):
            theirs.copy_(mine)

    def read_levels(self, start: int, stop: int) -> Tensor:
        """A view of the levels (B, stop - start) int32 of samples since `load`."""
        return self.levels[:, self.config.lookback + start : self.config.lookback + stop]

    def failed(self) -> bool:
        """Whether a logit was not finite since `load`. Waits for the device."""
        return bool(self.clock[BAD.value].item())

    def period(self) -> None:
        """Make a whole period, from the clock's time, which must be a multiple of L, and move the clock on."""
        self._periods[self._truncate]()

    def _launch_period(self) -> None:
        for offset in range(self.config.lookback):
            self.step(offset, offset, True)
        self.advance(self.config.lookback)

    def advance(self, steps: int) -> None:
        """Move the clock on."""
        if steps:
            launch(advance_kernel, (1,), self.clock, steps, warps=1)

    def step(self, phase: int, offset: int, with_draw: bool) -> None:
        """One sample, `offset` samples after the clock, at a time that is `phase` modulo L. Tiers whose frame starts
        there run from the top down; then, with_draw, the sample-level MLP and the draw. Without it every stream's level
        must be forced."""
        for tier in reversed(self.tiers):
            if phase % self.config.frame_sizes[tier + 1] == 0:
                self._run_tier(tier, phase, offset)
                self._upsample(tier, offset)
        if with_draw:
            self._run_sample(phase, offset)

    def _run_tier(self, tier: int, phase: int, offset: int) -> None:
        """Eq. 4-5: one step of every layer of a tier."""
        size, hidden, cells = self.config.frame_sizes[tier + 1], self.hidden[tier], self.cells[tier]
        width, j, conditioning = self.weights[f"tier{tier}.input_bias"].shape[2], 0, None
        if tier + 1 < len(self.tiers):
            j = phase % self.config.frame_sizes[tier + 2] // size
            conditioning = self.conditioning[tier + 1][:, j]
        for layer, weights in enumerate(cells):
            conditioned = conditioning is not None and weights.frame is not None
            step = CellStep(
                state=self.state[tier][layer],
                new_state=self.state[tier][layer],
                hidden=hidden[0, layer],
                new_hidden=hidden[-1, layer],
                half_stride=self._half_stride(tier),
                conditioning=conditioning[:, layer * width :] if conditioned else None,
                bias=self.weights[f"tier{tier}.input_bias"][j, layer],
                below=hidden[0, layer - 1] if layer > 0 else None,
                frame_values=self.weights["frame_values"],
                place=self._place(offset),
                frame_size=size,
            )
            launch_cell(weights, step, self.cell_scratch, self._blocks(self.config.dim, weights.gates))

    def _upsample(self, tier: int, offset: int) -> None:
        """Eq. 6: the conditioning of all frames below a tier's frame, or of all samples below tier 0."""
        place, matrix = self._place(offset), self.weights[f"tier{tier}.up"].flatten(0, 1)
        y = self.conditioning[tier].flatten(1)
        source, half_stride = self.hidden[tier][0, -1], self._half_stride(tier)
        if self.config.skip != "none":
            self._sum_skips(tier, offset)
            source, half_stride, place = self.output, 0, Place()
        if self.style == "library":
            library_product(source, matrix, y)
            return
        size, blocks = self.config.frame_sizes[tier + 1], self._blocks(y.shape[1])
        launch_upsample(place, source, matrix, None, y, blocks, size, half_stride)

    def _sum_skips(self, tier: int, offset: int) -> None:
        """A tier's output (B, D), where it is a sum of maps of all layers' outputs."""
        name, hidden, layers = f"tier{tier}.", self.hidden[tier], self.config.n_rnn
        matrix, bias = self.weights[name + "skip_out"], self.weights[name + "skip_bias"]
        if self.style == "library":
            self.summed.copy_(bias.expand_as(self.summed))
            for layer, part in enumerate(matrix.split(self.config.dim, dim=1)):
                library_product(hidden[0, layer], part, self.sample_scratch.sums)
                self.summed.add_(self.sample_scratch.sums)
            self.output.copy_(self.summed)
            return
        size, blocks = self.config.frame_sizes[tier + 1], self._blocks(self.config.dim)
        strides = (self._half_stride(tier), layers, hidden.stride(1))
        launch_upsample(self._place(offset), hidden[0, 0], matrix, bias, self.output, blocks, size, *strides)

    def _run_sample(self, phase: int, offset: int) -> None:
        """Eq. 7-9, and the draw into `levels`."""
        place, j = self._place(offset), phase % self.config.frame_sizes[1]
        conditioning = self.conditioning[0][:, j]
        input_bias, tables = self.weights["mlp.input_bias"][j], self.weights["mlp.tables"]
        given = SampleInput(conditioning, conditioning.stride(0), input_bias, tables)
        scratch = self.sample_scratch
        launch_logits(place, given, self.mlp_layers, self.weights["mlp.output"], scratch, self.style)
        bias = self.weights["mlp.output_bias"]
        launch_draw(place, scratch.logits, bias, None, self.stream_numbers, self.scales, self._truncate)

    def _place(self, offset: int) -> Place:
        return Place(self.clock, offset, self.levels, self.levels.stride(0))

    def _half_stride(self, tier: int) -> int:
        """The distance between the two halves of a tier's hidden state, or 0 where there is only one."""
        return self.hidden[tier].stride(0) if self.hidden[tier].shape[0] == 2 else 0

    def _blocks(self, units: int, gates: int = 1) -> Blocks:
        return blocks_for(self.style, units, self.config.dim, self.weights["mlp.output"].dtype, self.device, gates)
