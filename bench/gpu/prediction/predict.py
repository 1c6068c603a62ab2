"""What every stage of a sample should take in the persistent CUDA kernel, by counting. Nothing here was measured.

    python bench/gpu/prediction/predict.py [--dim 1024] [--batch-size 1] [--dtype int8] [--constant l2_hop=800 ...]

The model goes with the first block through the samples of one period, stage by stage in the kernel's order, and adds up
what it does: bytes of weights and activations from shared memory and from L2, multiply-adds, barriers, the waits for
other blocks. All blocks are taken to be equally fast, so a result arrives one hop after this block gave its own. Stages
are those of `constants.phase_names`, which a profiled kernel times; bench/gpu/stage_times.py prints both side by side.
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
from samplernn_fast.reference import modes
from samplernn_fast.reference.weights import packed_hidden

INPUT, AHEAD, OUTPUT, DRAW = "input of the MLP", "products made ahead", "output layer", "draw"


def predict(layout: Layout, machine: Machine) -> dict[str, Predicted]:
    """Every stage of a sample that draws all of its levels, averaged over a period of the top tier."""
    walk = FirstBlock(layout, machine)
    walk.period()
    walk.forget()  # the first period has nothing made ahead
    walk.period()
    length = layout.config.lookback
    for stage in walk.stages.values():
        stage.cycles, stage.exchange = stage.cycles / length, stage.exchange / length
        stage.causes = Counter({cause: cycles / length for cause, cycles in stage.causes.items()})
    loading = layout.resident_bytes / walk.l2_share / launch_steps(layout.group.batch * layout.group.groups)
    walk.stages[LOADING] = Predicted(loading, 0.0, Counter({"weights from L2": loading}))
    return walk.stages


class FirstBlock(BlockTime):
    """One block on its way through samples that draw all of their levels, in the order of csrc/cuda/device/walk.cuh."""

    def period(self) -> None:
        """One period of the top tier."""
        samples = Walk.of(self.config).period
        for sample, following in zip(samples, [*samples[1:], samples[0]], strict=True):
            self.sample(sample, following)

    def sample(self, sample: list[Stage], following: list[Stage]) -> None:
        begun = frames_of(sample)
        for stage in sample:
            if stage.kernel == "srnn_cell":
                self.layer(stage.tier, stage.layer)
            elif stage.kernel == "srnn_gru_candidate":
                self.candidate(stage.tier, stage.layer)
            elif stage.kernel == "srnn_skip_output":
                self.skip_output(stage.tier)
            elif stage.kernel == "srnn_upsample" and stage.tier in begun:
                self.stage = f"upsampling of tier {stage.tier}"
                self.give(stage.tier, new=True)
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
            self.stage = INPUT
            self.gather("given", self.layout.units, self.layout.group.batch)
        self.draw()

    def layer(self, tier: int, layer: int) -> None:
        """A layer of a tier's frame, up to its state or, of a GRU that resets before the product, to its gates."""
        layout, self.stage = self.layout, f"cells of tier {tier}"
        for rows in self.tiles():
            if layer > 0:
                self.stage_vector(f"state {tier} {layer - 1}", rows)
                self.product(f"tier{tier}.stack", layout.gates * layout.units, layout.units)
            loads = -(-self.config.frame_sizes[tier + 1] // LOADS_AHEAD)  # of the frame's levels and their weights
            self.spend(self.rounds(layout.units) * loads * self.machine.l2_latency, "latency of L2")
            self.spend(self.rounds(layout.units) * self.machine.cell, "arithmetic")
        two_halves = self.config.rnn == "gru" and not self.config.reset_after
        self.publish(f"gates {tier} {layer}" if two_halves else f"state {tier} {layer}", layout.units)

    def candidate(self, tier: int, layer: int) -> None:
        """The second half of such a GRU."""
        for rows in self.tiles():
            self.stage_vector(f"gates {tier} {layer}", rows)
            self.product(f"tier{tier}.recurrent", self.layout.units, self.layout.units)
            self.spend(self.rounds(self.layout.units) * self.machine.cell / 2, "arithmetic")
        self.publish(f"state {tier} {layer}", self.layout.units)

    def skip_output(self, tier: int) -> None:
        """The sum of maps of all layers' outputs."""
        layers, self.stage = self.config.n_rnn, f"upsampling of tier {tier}"
        for rows in self.tiles():
            for layer in range(layers):
                self.gather(f"state {tier} {layer}", self.layout.units, rows, needed=layer + 1 == layers)
            self.to_codes(rows, layers * self.config.dim)
            self.product("skip_out", self.layout.units, self.layout.units, layers * self.config.dim)
        self.publish(f"output {tier}", self.layout.units)

    def output_of(self, tier: int) -> str:
        """The exchange of what a tier gives from."""
        return f"output {tier}" if self.layout.skips else f"state {tier} {self.config.n_rnn - 1}"

    def give(self, tier: int, new: bool) -> None:
        """What a tier gives to one unit below it, for the lowest tier to all blocks."""
        layout, source = self.layout, self.output_of(tier)
        together = 1 if tier == 0 else layout.gates
        for rows in self.tiles():
            self.stage_output(source, rows, needed=new)
            for _ in range(0, layout.below_blocks(tier), together):
                self.product(f"tier{tier}.up", together * layout.units, layout.units)
        if tier == 0 and layout.whole_input:
            self.publish("given", layout.units)

    def input(self, made_ahead: bool) -> None:
        """The input of the sample-level network: rows of the tables, and what the lowest tier gave."""
        layout, self.stage = self.layout, INPUT
        if layout.whole_input:
            if not made_ahead:
                self.gather("given", layout.units, layout.group.batch, needed=True)
            batch, dim = layout.group.batch, self.config.dim
            turns, threads = self.turns(batch, batch)
            trips = turns * -(-dim // threads // UNITS_AHEAD)
            latency = trips * (self.machine.l2_latency + self.machine.shared_latency)
            reading = 4 * dim * (self.config.frame_sizes[0] * batch + 1) / self.l2_share
            self.spend(max(latency, reading), "latency of L2" if latency > reading else "table rows from L2")
            self.barrier()
            self.to_codes(layout.group.batch, self.config.dim)
        else:
            for _ in self.tiles():
                self.spend(self.rounds(layout.units) * self.machine.l2_latency, "latency of L2")
            self.publish("input 0", layout.units)

    def hidden(self, layer: int) -> None:
        """A hidden layer of the sample-level network."""
        self.stage = f"hidden layer {layer}"
        self.network_layer(layer, f"mlp.hidden{layer}", self.layout.units)
        self.publish(f"input {layer + 1}", self.layout.units)

    def output(self) -> None:
        """The output layer."""
        self.stage = OUTPUT
        self.network_layer(packed_hidden(self.config), "mlp.output", self.layout.logit_rows)
        self.publish("logits", self.layout.logit_rows)

    def network_layer(self, number: int, matrix: str, own: int) -> None:
        for rows in self.tiles():
            if number > 0 or not self.layout.whole_input:
                self.stage_vector(f"input {number}", rows, needed=True)
            self.product(matrix, own, own)

    def ahead(self, following: list[Stage]) -> None:
        """What all blocks need for the next sample, while a hidden layer is on its way."""
        self.stage = AHEAD
        self.spend(self.machine.l2_latency, "latency of L2")  # how the next sample is to be drawn
        self.barrier()
        if 0 in goes_on(following):
            self.give(0, new=False)

    def ahead_for_itself(self, begun: set[int], following: list[Stage]) -> None:
        """What the next sample needs of the other frames that go on, and the recurrent products of those that began,
        while the logits are on their way."""
        self.stage, layout = AHEAD, self.layout
        for tier in range(len(self.config.ratios)):
            if tier > 0 and tier in goes_on(following):
                self.give(tier, new=False)
            for layer in range(self.config.n_rnn if tier in begun else 0):
                for rows in self.tiles():
                    state = f"state {tier} {layer}"
                    stage = self.stage_output if state == self.output_of(tier) else self.stage_vector
                    stage(state, rows, needed=False)
                    self.product(f"tier{tier}.recurrent", layout.early_gates * layout.units, layout.units)

    def draw(self) -> None:
        """The levels: by every block, or by some and given to all."""
        layout, self.stage = self.layout, DRAW
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
    """Tiers whose frame begins with a sample."""
    return {stage.tier for stage in sample if stage.kernel == "srnn_cell"}


def goes_on(following: list[Stage]) -> set[int]:
    """Tiers that give to a unit below in the middle of their frame when the next sample begins."""
    return {stage.tier for stage in following if stage.kernel == "srnn_upsample"} - frames_of(following)


def grouping(config: SampleRNNConfig, dtype: str, streams: int, machine: Machine) -> Grouping:
    """What `Program.build` takes for "auto", where the GPU holds as many clusters as it has room for."""
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
    """A line for each stage, in microseconds of a sample."""
    group, stages = layout.group, predict(layout, machine)
    print(
        f"\npredicted, not measured: {machine.name}, dim {layout.config.dim}, {layout.dtype}, {group.groups} x "
        f"{group.batch} streams, {group.blocks} blocks each, exchange {group.exchange}; of a block "
        f"{layout.resident_bytes} bytes of weights stay in shared memory ({', '.join(layout.resident) or 'none'})"
    )
    print(f"{'stage':22}{'predicted us':>14}{'in exchanges':>14}  mostly")
    for name, stage in stages.items():
        us, exchange = (machine.microseconds(cycles) for cycles in (stage.cycles, stage.exchange))
        print(f"{name:22}{us:14.3f}{exchange:14.3f}  {stage.bound}")
    total = machine.microseconds(sum(stage.cycles for stage in stages.values()))
    print(f"{'a sample':22}{total:14.3f}  or {1 / total / 0.016:.1f}x real time at 16 kHz, predicted")


if __name__ == "__main__":
    main()
