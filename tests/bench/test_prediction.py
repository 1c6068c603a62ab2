"""The prediction has the sizes of the compiled kernel, and its times follow from its constants."""

import argparse
import dataclasses
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from cases import CASES

from samplernn_fast.backends.cuda import constants
from samplernn_fast.backends.cuda.grouping import Grouping, grid_blocks
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.reference import modes

ROOT = Path(__file__).parents[2]
H200 = (132, 227 << 10)
PAPER = SampleRNNConfig()


def layout_of(config=PAPER, dtype="float32", streams=1, exchange=None):
    """The layout that "auto" chooses on an H200, or one of all blocks with the exchange that is named."""
    from bench.gpu.prediction.layout import Layout
    from bench.gpu.prediction.machine import Machine
    from bench.gpu.prediction.predict import grouping

    group = grouping(config, dtype, streams, Machine())
    if exchange is not None:
        group = Grouping(streams, 1, grid_blocks(config.dim, 132), exchange)
    return Layout(config, dtype, group, H200[1])


@pytest.mark.parametrize(
    ("changes", "streams", "expected"),
    [
        # Each sample waits for the hidden layer and the logits, every second one also for the state and the upsampling
        # of tier 0, and every eighth one for the state of tier 1.
        ({}, 1, 2 + 2 / 2 + 1 / 8),
        ({"dim": 256}, 1, 2 + 2 / 2 + 1 / 8),  # a cluster waits as often
        ({"reset_after": False}, 1, 2 + 3 / 2 + 2 / 8),  # each tier exchanges its gates before its state
        ({"frame_sizes": (16, 16), "n_rnn": 3}, 1, 2 + 4 / 16),  # two layers wait for the layer below them
        ({"mlp_hidden": 3}, 1, 3 + 2 / 2 + 1 / 8),
        ({"mlp_hidden": 1}, 1, 1 + 2 / 2 + 1 / 8),
        ({}, 64, 4 + 1 / 2 + 1 / 8),  # many streams exchange the MLP's input and the levels too
        ({"dim": 32}, 1, 0),  # one block waits for nobody
    ],
)
def test_exchanges_of_a_sample(changes, streams, expected):
    from bench.gpu.prediction.machine import Machine
    from bench.gpu.prediction.predict import FirstBlock

    layout = layout_of(dataclasses.replace(PAPER, **changes), "float32", streams)
    block = FirstBlock(layout, Machine())
    block.period()
    block.forget()
    block.period()
    assert block.waits / layout.config.lookback == expected


@pytest.mark.parametrize(
    ("dtype", "rows", "row"),
    [
        ("float32", 2 + 8 + 2 * 8 + 24, 4096),
        ("bfloat16", 2 + 8 + 2 * 8 + 24 + 24, 2048 + 64),
        ("int8", 2 + 8 + 2 * 8 + 24 + 4 * 24 + 24, 1024),
    ],
)
def test_bytes_that_stay_in_a_block(dtype, rows, row):
    """Each of 128 blocks owns 8 units and 2 logits. It keeps the rows of the output layer, of the hidden layer, of two
    upsampling maps and of the lower tier's recurrent matrix, and then those of the upper tier that fit."""
    assert layout_of(dtype=dtype).resident_bytes == rows * row


SIZES = """
#include <cstdio>
#include "cuda/device/memory.cuh"
using namespace srnn;
static void tell(const char* name, int number, Resident placed) {
  if (placed.on) std::printf("%s%d %llu\\n", name, number, (unsigned long long)placed.offset);
}
int main() {
  std::printf("arrays 0 %llu\\nend 0 %llu\\n", (unsigned long long)kArraysBytes, (unsigned long long)kResidents.end);
  tell("output ", 0, kResidents.output);
  for (int i = 0; i < kHidden; ++i) tell("hidden ", i, kResidents.hidden[i]);
  for (int i = 0; i < kTiers; ++i) {
    tell("up ", i, kResidents.up[i]), tell("recurrent ", i, kResidents.recurrent[i]);
    tell("stack ", i, kResidents.stack[i]);
  }
}
"""


def kernels_own(layout, folder):
    """Where memory.cuh places a block's matrices, and where its arrays and all of it end: {(name, number): bytes}."""
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    if shutil.which(compiler[0]) is None:
        pytest.skip("no C++ compiler")
    group = layout.group
    shape = (group.batch, group.blocks, layout.threads, layout.shared_bytes, group.exchange, group.groups)
    macros = [f"-D{name}={value}" for name, value in constants.defines(layout.config, layout.dtype, *shape).items()]
    (folder / "sizes.cpp").write_text(SIZES)
    command = [*compiler, "-std=c++17", f"-I{ROOT / 'csrc'}", *macros, str(folder / "sizes.cpp")]
    subprocess.run([*command, "-o", str(folder / "sizes")], check=True)
    text = subprocess.run([folder / "sizes"], capture_output=True, text=True, check=True).stdout
    return {(what, int(number)): int(size) for what, number, size in map(str.split, text.splitlines())}


MODES = [("float32", 1), ("bfloat16", 3), ("int8", 1), ("int8", 9), ("float32", 70)]
LAYOUTS = [
    (CASES[name], *MODES[at % len(MODES)], (None, "tagged", "counters")[at % 3]) for at, name in enumerate(CASES)
]
LAYOUTS += [(PAPER, dtype, streams, None) for dtype, streams in (("int8", 1), ("bfloat16", 8), ("float32", 64))]
LAYOUTS += [(dataclasses.replace(PAPER, dim=dim), "int8", 8, None) for dim in (256, 512)]


@pytest.mark.parametrize(("config", "dtype", "streams", "exchange"), LAYOUTS)
def test_the_layout_is_the_kernels_own(config, dtype, streams, exchange, tmp_path):
    """Both agree on an H200, and with so little shared memory that not all matrices fit into it."""
    for shared_bytes in (H200[1], 12 << 10):
        layout = dataclasses.replace(layout_of(config, dtype, streams, exchange), shared_bytes=shared_bytes)
        own = kernels_own(layout, tmp_path)
        assert layout.array_bytes == own.pop(("arrays", 0))
        assert layout.used_bytes == own.pop(("end", 0))
        at, expected = layout.array_bytes, {}
        for name, size in layout.resident.items():
            group, what = name.split(".")
            number = (
                group.removeprefix("tier") if group != "mlp" else what.removeprefix("hidden").removeprefix("output")
            )
            expected[what.rstrip("0123456789"), int(number or 0)] = at
            at += size
        assert own == expected


def test_a_hidden_layer_by_hand():
    """One stream in float32. Eight warps read eight rows of 4 KB, and the vector once for each row: 128 bytes in a
    cycle, after a latency of 29. They add up their sums in five shuffles of 25 cycles, and meet at a barrier of 40
    cycles before they publish the result."""
    from bench.gpu.prediction.machine import Machine
    from bench.gpu.prediction.predict import predict

    phase = predict(layout_of(), Machine())["hidden layer 0"]
    assert phase.cycles == 29 + (8 * 4096 + 8 * 4096) / 128 + 5 * 25 + 40
    assert phase.exchange == 0 and phase.bound == "weights and activations from shared memory"
    # Where no weights stay they come from L2, with 30 bytes in a cycle for each of 128 blocks.
    small = dataclasses.replace(layout_of(), shared_bytes=8 << 10)
    away = predict(small, Machine(l2_rate=30 * 128))["hidden layer 0"]
    assert away.bound == "weights from L2" and away.cycles == 263 + 8 * 4096 / 30 + 5 * 25 + 40


def test_a_draw_by_hand():
    """Two tiers in float32. The logits of 128 blocks, a packet from each, arrive a hop after this block has published
    its own. In every second sample they are there already, because the block multiplies 24 recurrent rows in between
    and reads the next sample's input: 384 packets with 256 threads, each of which has two reads under way together."""
    from bench.gpu.prediction.machine import Machine
    from bench.gpu.prediction.predict import predict

    rate = 3942 / 128
    product = 29 + (24 * 4096 + 8 * 4096) / 128 + 5 * 25
    input_read = 40 + max(263, 16 * 384 / rate) + 2 * 60 + 40
    assert 40 + product + input_read > 700
    there = 40 + 263 + 60 + 40 + 240 + 40
    waited = 700 + 16 * 128 / rate + 60 + 40 + 240 + 40
    phases = predict(layout_of(dataclasses.replace(PAPER, frame_sizes=(2, 2))), Machine())
    assert phases["draw"].cycles == pytest.approx((there + waited) / 2)
    assert phases["draw"].exchange == pytest.approx(phases["draw"].cycles - 240 - 40)
    # Ahead of every sample the block looks up how to draw, and ahead of every second one it multiplies eight rows of
    # upsampling, publishes the result, and makes the recurrent product.
    upsampling = 29 + (8 * 4096 + 8 * 4096) / 128 + 5 * 25
    assert phases["products made ahead"].cycles == pytest.approx(263 + 40 + (upsampling + 40 + product) / 2)


@pytest.mark.parametrize("dtype", modes.MODES)
@pytest.mark.parametrize(("streams", "changes"), [(1, {}), (8, {"dim": 256}), (64, {"n_rnn": 2, "skip": "full"})])
def test_phases_add_up(dtype, streams, changes):
    from bench.gpu.prediction.machine import Machine
    from bench.gpu.prediction.predict import FirstBlock

    block = FirstBlock(layout_of(dataclasses.replace(PAPER, **changes), dtype, streams), Machine())
    block.period()
    assert list(block.phases) == constants.phase_names(block.config)
    assert sum(phase.cycles for phase in block.phases.values()) == pytest.approx(block.now)
    for name, phase in block.phases.items():
        assert sum(phase.causes.values()) == pytest.approx(phase.cycles), name
        assert 0 <= phase.exchange <= phase.cycles and (phase.cycles > 0) == (name != "loading and saving"), name


def test_every_constant_counts():
    from bench.gpu.prediction.machine import CONSTANTS, Machine
    from bench.gpu.prediction.predict import predict

    layouts = [layout_of(), layout_of(dtype="int8"), layout_of(dtype="bfloat16"), layout_of(streams=8)]
    layouts += [layout_of(dataclasses.replace(PAPER, dim=256)), layout_of(exchange="counters")]
    layouts += [layout_of(dataclasses.replace(PAPER, dim=32), dtype, 64) for dtype in modes.MODES]

    def total(machine):
        return [sum(machine.microseconds(phase.cycles) for phase in predict(one, machine).values()) for one in layouts]

    usual = total(Machine())
    assert len(CONSTANTS) == 19
    for name in CONSTANTS:
        for factor in (0.01, 100):
            if total(dataclasses.replace(Machine(), **{name: factor * getattr(Machine(), name)})) != usual:
                break
        else:
            raise AssertionError(f"{name} changes nothing")


def options(**values):
    return argparse.Namespace(**{"constant": [], "constants": None} | values)


def test_constants_can_be_replaced_by_measured_ones(tmp_path):
    from bench.gpu.prediction.machine import Machine, with_options

    file = tmp_path / "constants.json"
    file.write_text(json.dumps({"l2_hop": 800, "draw": 200.5}))
    found = with_options(Machine(), options(constants=file, constant=["draw=300"]))
    assert found == dataclasses.replace(Machine(), l2_hop=800.0, draw=300.0)
    hop = {"part": "hop_l2", "row": "tagged", "ok": True, "ctas": 132, "payload": 1024, "cycles": 650}
    rows = [
        hop,
        hop | {"payload": 8192, "cycles": 900},
        hop | {"ctas": 2, "cycles": 300},
        hop | {"payload": 512, "ok": False, "cycles": 10},
        {"part": "hop_cluster", "row": "push", "ok": True, "cluster": 16, "payload": 512, "cycles": 250},
        {"part": "ceilings", "row": "read", "ok": True, "mb": 20, "bytes_per_cycle_per_sm_at_1980mhz": 25.0},
        {"part": "ceilings", "row": "read", "ok": True, "mb": 1024, "bytes_per_cycle_per_sm_at_1980mhz": 99.0},
    ]
    file.write_text(json.dumps({"device": {}, "rows": rows}))
    expected = dataclasses.replace(Machine(), l2_hop=650.0, cluster_hop=250.0, l2_rate=25.0 * 132)
    assert with_options(Machine(), options(constants=file)) == expected
    file.write_text("[800]")
    with pytest.raises(SystemExit, match="must hold an object"):
        with_options(Machine(), options(constants=file))
    for wrong in (["hop=3"], ["l2_hop"], ["l2_hop=fast"], ["l2_hop=-1"], ["l2_hop=nan"]):
        with pytest.raises(SystemExit, match=r"NAME=NUMBER|positive numbers"):
            with_options(Machine(), options(constant=wrong))


def test_a_table_says_that_it_is_predicted(monkeypatch, capsys):
    from bench.gpu.prediction import predict

    monkeypatch.setattr("sys.argv", ["predict.py", "--dim", "256", "--batch-size", "1", "8", "--constant", "draw=99"])
    predict.main()
    tables = capsys.readouterr().out.strip().split("\n\n")
    assert len(tables) == 6 and all(table.startswith("predicted, not measured") for table in tables)
    for table in tables:
        phases = [line[:22].strip() for line in table.splitlines()[2:]]
        assert phases == [*constants.phase_names(PAPER), "a sample"]
    assert "16 blocks each, exchange cluster" in tables[0]
