"""Predicts the time of every phase of a sample in the persistent CUDA kernel by counting; it measures nothing.

    python bench/gpu/prediction/predict.py [--dim 1024] [--batch-size 1] [--dtype int8] [--constant l2_hop=800 ...]

The model follows the first block through the samples of one period, phase by phase in the kernel's order, and adds up
what it does: bytes of weights and activations from shared memory and from L2, multiply-adds, barriers, the waits for
other blocks. It takes all blocks to be equally fast, so a result arrives one hop after this block has published its
own. The phases are those of `constants.phase_names`, which a profiled kernel times; bench/gpu/stage_times.py prints
both side by side.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))

from bench.gpu.prediction.block import LOADING, LOADS_AHEAD, UNITS_AHEAD, BlockTime, Predicted
from bench.gpu.prediction.layout import Layout
from bench.gpu.prediction.machine import Machine, add_options, with_options
from samplernn_fast.backends.cuda.grouping import Grouping, cluster_groupings
from samplernn_fast.backends.cuda.grouping import grouping as grouping_without_clusters
from samplernn_fast.backends.cuda.launcher import launch_steps
from samplernn_fast.backends.cuda.stages import Stage, Walk
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.models.layout import packed_hidden
from samplernn_fast.reference import modes

INPUT, AHEAD, OUTPUT, DRAW = "input of the MLP", "products made ahead", "output layer", "draw"


def predict(layout: Layout, machine: Machine) -> dict[str, Predicted]:
    """Every phase of a sample whose levels are all drawn, as the mean over a period of the top tier."""
    block = FirstBlock(layout, machine)
    block.period()
    block.forget()  # the first period starts without products made ahead, so it is not counted
    block.period()
    length = layout.config.lookback
    for phase in block.phases.values():
        phase.cycles, phase.exchange = phase.cycles / length, phase.exchange / length
        phase.causes = Counter({cause: cycles / length for cause, cycles in phase.causes.items()})
    loading = layout.resident_bytes / block.l2_share / launch_steps(layout.group.batch * layout.group.groups)
    block.phases[LOADING] = Predicted(loading, 0.0, Counter({"weights from L2": loading}))
    return block.phases


class FirstBlock(BlockTime):
    """The first block, which makes samples whose levels are all drawn, in the order of csrc/cuda/device/walk.cuh.

    The stages of `Walk` say which tiers run at a sample; the persistent kernel makes them all in one launch.
    """

    def period(self) -> None:
        """Makes the samples of one period of the top tier."""
        samples = Walk.of(self.config).period
        for sample, following in zip(samples, [*samples[1:], samples[0]], strict=True):
            self.sample(sample, following)

    def sample(self, sample: list[Stage], following: list[Stage]) -> None:
        """Makes one sample. following: the stages of the next one."""
        begun = frames_of(sample)
        for stage in sample:
            if stage.kernel == "srnn_cell":
                self.layer(stage.tier, stage.layer)
            elif stage.kernel == "srnn_gru_candidate":
                self.candidate(stage.tier, stage.layer)
            elif stage.kernel == "srnn_skip_output":
                self.skip_output(stage.tier)
            elif stage.kernel == "srnn_upsample" and stage.tier in begun:
                self.phase = f"upsampling of tier {stage.tier}"
                self.upsample(stage.tier, new=True)
        self.input(made_ahead=0 not in begun)
        if not self.layout.whole_input:
            self.ahead(following)
        for hidden in range(packed_hidden(self.config)):
            self.hidden(hidden)
            if self.layout.whole_input and hidden == 0:
                self.ahead(following)
        self.output()
        if self.layout.whole_input and not packed_hidden(self.config):
            self.ahead(following)
        self.ahead_for_itself(begun, following)
        if self.layout.whole_input and 0 not in frames_of(following):
            self.phase = INPUT
            self.gather("upsampled", self.layout.units, self.layout.group.batch)
        self.draw()

    def layer(self, tier: int, layer: int) -> None:
        """Runs a layer's cell in a frame of a tier, or the first half of a GRU that resets before the product."""
        layout, self.phase = self.layout, f"cells of tier {tier}"
        for rows in self.tiles():
            if layer > 0:
                self.fill_rows(f"state {tier} {layer - 1}", rows)
                self.product(f"tier{tier}.stack", layout.gates * layout.units, layout.units)
            # The frame's samples and their columns of the frame input map are loaded.
            loads = -(-self.config.frame_sizes[tier + 1] // LOADS_AHEAD)
            self.spend(self.rounds(layout.units) * loads * self.machine.l2_latency, "latency of L2")
            self.spend(self.rounds(layout.units) * self.machine.cell, "arithmetic")
        two_halves = self.config.rnn == "gru" and not self.config.reset_after
        self.publish(f"gates {tier} {layer}" if two_halves else f"state {tier} {layer}", layout.units)

    def candidate(self, tier: int, layer: int) -> None:
        """Runs the second half of a GRU that resets before the product."""
        for rows in self.tiles():
            self.fill_rows(f"gates {tier} {layer}", rows)
            self.product(f"tier{tier}.recurrent", self.layout.units, self.layout.units)
            self.spend(self.rounds(self.layout.units) * self.machine.cell / 2, "arithmetic")
        self.publish(f"state {tier} {layer}", self.layout.units)

    def skip_output(self, tier: int) -> None:
        """Computes a tier's output with skip connections: the sum of maps of all layers' outputs."""
        layers, self.phase = self.config.n_rnn, f"upsampling of tier {tier}"
        for rows in self.tiles():
            for layer in range(layers):
                self.gather(f"state {tier} {layer}", self.layout.units, rows, needed=layer + 1 == layers)
            self.finish_rows(rows, layers * self.config.dim)
            self.product("skip_out", self.layout.units, self.layout.units, layers * self.config.dim)
        self.publish(f"output {tier}", self.layout.units)

    def output_of(self, tier: int) -> str:
        """The exchange of the tier's output, which it upsamples."""
        return f"output {tier}" if self.layout.skips else f"state {tier} {self.config.n_rnn - 1}"

    def upsample(self, tier: int, new: bool) -> None:
        """Upsamples the tier's output for one unit below it.

        With `whole_input` the lowest tier's result is published to all blocks. new: whether the frame begins now, so
        that the next result needs the output at once.
        """
        layout, source = self.layout, self.output_of(tier)
        together = 1 if tier == 0 else layout.gates
        for rows in self.tiles():
            self.fill_output_rows(source, rows, needed=new)
            for _ in range(0, layout.upsampled_gates(tier), together):
                self.product(f"tier{tier}.up", together * layout.units, layout.units)
        if tier == 0 and layout.whole_input:
            self.publish("upsampled", layout.units)

    def input(self, made_ahead: bool) -> None:
        """Computes the MLP's input from rows of the tables and the lowest tier's upsampling.

        made_ahead: whether the block has read that upsampling during the sample before.
        """
        layout, self.phase = self.layout, INPUT
        if layout.whole_input:
            if not made_ahead:
                self.gather("upsampled", layout.units, layout.group.batch, needed=True)
            batch, dim = layout.group.batch, self.config.dim
            turns, threads = self.turns(batch, batch)
            trips = turns * -(-dim // threads // UNITS_AHEAD)
            latency = trips * (self.machine.l2_latency + self.machine.shared_latency)
            reading = 4 * dim * (self.config.frame_sizes[0] * batch + 1) / self.l2_share
            self.spend(max(latency, reading), "latency of L2" if latency > reading else "table rows from L2")
            self.barrier()
            self.finish_rows(layout.group.batch, self.config.dim)
        else:
            for _ in self.tiles():
                self.spend(self.rounds(layout.units) * self.machine.l2_latency, "latency of L2")
            self.publish("input 0", layout.units)

    def hidden(self, layer: int) -> None:
        """Computes and publishes a hidden layer of the MLP."""
        self.phase = f"hidden layer {layer}"
        self.mlp_layer(layer, f"mlp.hidden{layer}", self.layout.units)
        self.publish(f"input {layer + 1}", self.layout.units)

    def output(self) -> None:
        """Computes and publishes the logits."""
        self.phase = OUTPUT
        self.mlp_layer(packed_hidden(self.config), "mlp.output", self.layout.logit_rows)
        self.publish("logits", self.layout.logit_rows)

    def mlp_layer(self, number: int, matrix: str, own: int) -> None:
        """Computes the outputs of an MLP layer that this block owns, `own` for each stream."""
        for rows in self.tiles():
            if number > 0 or not self.layout.whole_input:
                self.fill_rows(f"input {number}", rows, needed=True)
            self.product(matrix, own, own)

    def ahead(self, following: list[Stage]) -> None:
        """Prepares what all blocks need for the next sample, while a hidden layer is exchanged."""
        self.phase = AHEAD
        self.spend(self.machine.l2_latency, "latency of L2")  # the block looks up how the next sample is drawn
        self.barrier()
        if 0 in continued(following):
            self.upsample(0, new=False)

    def ahead_for_itself(self, begun: set[int], following: list[Stage]) -> None:
        """Computes what this block alone needs for later samples, while the logits are exchanged.

        That is the upsampling of the upper tiers that continue their frame, and the recurrent products of the tiers
        whose frame began with this sample (`begun`).
        """
        self.phase, layout = AHEAD, self.layout
        for tier in range(len(self.config.ratios)):
            if tier > 0 and tier in continued(following):
                self.upsample(tier, new=False)
            for layer in range(self.config.n_rnn if tier in begun else 0):
                for rows in self.tiles():
                    state = f"state {tier} {layer}"
                    fill = self.fill_output_rows if state == self.output_of(tier) else self.fill_rows
                    fill(state, rows, needed=False)
                    self.product(f"tier{tier}.recurrent", layout.recurrent_gates * layout.units, layout.units)

    def draw(self) -> None:
        """Draws the levels: every block draws all of them, or each draws some and publishes them."""
        layout, self.phase = self.layout, DRAW
        own = layout.draw_streams
        for first in range(0, own, layout.tile):
            rows = min(layout.tile, own - first)
            self.gather("logits", layout.logit_rows, rows, needed=True, most=own)
            self.spend(-(-rows // layout.warps) * self.machine.draw * self.config.q_levels / 256, "arithmetic")
        if not layout.draw_all:
            self.publish("levels", own, rows=1)
            self.gather("levels", own, 1, needed=True, most=1)
        self.barrier()


def frames_of(sample: list[Stage]) -> set[int]:
    """The tiers whose frame begins with a sample."""
    return {stage.tier for stage in sample if stage.kernel == "srnn_cell"}


def continued(following: list[Stage]) -> set[int]:
    """The tiers that continue their frame at the next sample, where a unit below them begins."""
    return {stage.tier for stage in following if stage.kernel == "srnn_upsample"} - frames_of(following)


def grouping(config: SampleRNNConfig, dtype: str, streams: int, machine: Machine) -> Grouping:
    """The grouping that `Program.build` chooses for "auto".

    It takes the GPU to hold as many clusters as its multiprocessors have room for.
    """
    limits = (machine.multiprocessors, machine.shared_bytes)
    found = grouping_without_clusters(config, dtype, streams, *limits, "auto")
    if found.exchange == "alone" or not machine.clusters:
        return found
    clusters = cluster_groupings(config, dtype, streams, *limits)
    fitting = (group for group in clusters if Layout(config, dtype, group, machine.shared_bytes).fits_a_cluster)
    return next(fitting, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dim", type=int, nargs="+", default=[1024, 256])
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1])
    parser.add_argument("--dtype", nargs="+", choices=modes.MODES, default=["int8", "bfloat16", "float32"])
    add_options(parser)
    args = parser.parse_args()
    machine = with_options(Machine(), args)
    for dim in args.dim:
        for streams in args.batch_size:
            for dtype in args.dtype:
                config = SampleRNNConfig(dim=dim)
                group = grouping(config, dtype, streams, machine)
                print_table(Layout(config, dtype, group, machine.shared_bytes), machine)


def print_table(layout: Layout, machine: Machine) -> None:
    """Prints a line for each phase, in microseconds of a sample."""
    group, phases = layout.group, predict(layout, machine)
    print(
        f"\npredicted, not measured: {machine.name}, dim {layout.config.dim}, {layout.dtype}, {group.groups} x "
        f"{group.batch} streams, {group.blocks} blocks each, exchange {group.exchange}; of a block "
        f"{layout.resident_bytes} bytes of weights stay in shared memory ({', '.join(layout.resident) or 'none'})"
    )
    print(f"{'phase':22}{'predicted us':>14}{'in exchanges':>14}  mostly")
    for name, phase in phases.items():
        us, exchange = (machine.microseconds(cycles) for cycles in (phase.cycles, phase.exchange))
        print(f"{name:22}{us:14.3f}{exchange:14.3f}  {phase.bound}")
    total = machine.microseconds(sum(phase.cycles for phase in phases.values()))
    print(f"{'a sample':22}{total:14.3f}  or {1 / total / 0.016:.1f}x real time at 16 kHz, predicted")


if __name__ == "__main__":
    main()
