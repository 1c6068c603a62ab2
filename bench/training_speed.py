"""Training speed: ours beside the same model in torch's own layers, and beside deepsound's samplernn-pytorch.

    python bench/training_speed.py [--dim 128 256 512] [--peer CLONE] [--json bench/results/training_speed.json]

A step is forward, backward, clipping and Adam on levels of the same shape. The logits of ours and of plain torch are
compared first, and nothing is timed when they differ. Each contestant runs in processes of its own, in turn: ours with
the settings that `train` makes on a CPU, the others with torch's own. The medians are reported.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.common import record
from bench.common.devices import device_or_exit
from samplernn_fast.models.base import bits_per_sample
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.models.sample_rnn import SampleRNN
from samplernn_fast.training.process import fast_cpu_training

Q = 256
SAME_AS_THEIRS = "ours, deepsound's model"
"""Names our model with deepsound's settings, which is compared with deepsound's own code."""


class PlainSampleRNN(nn.Module):
    """The paper's 3-tier model as one would write it first: nn.GRU, nn.Linear, nn.Embedding, no folding."""

    def __init__(self, config: SampleRNNConfig) -> None:
        super().__init__()
        dim, (self.taps, self.low, self.top) = config.dim, config.frame_sizes
        self.top_rnn, self.top_up = nn.GRU(self.top, dim, batch_first=True), nn.Linear(dim, self.top // self.low * dim)
        self.low_in, self.low_rnn = nn.Linear(self.low, dim), nn.GRU(dim, dim, batch_first=True)
        self.low_up = nn.Linear(dim, self.low * dim)
        self.embedding = nn.Embedding(Q, config.emb_size)
        self.w_x = nn.Linear(self.taps * config.emb_size, dim, bias=False)
        self.hidden1, self.hidden2, self.output = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, Q)

    def forward(self, levels: torch.Tensor, state: tuple | None = None) -> tuple[torch.Tensor, tuple]:
        batch, steps = levels.shape[0], levels.shape[1] - self.top
        values = 2 * (levels.float() / (Q / 2) - 1)
        state_top, state_low = state if state is not None else (None, None)
        h, state_top = self.top_rnn(values[:, :steps].reshape(batch, -1, self.top), state_top)
        c = self.top_up(h).reshape(batch, steps // self.low, -1)
        start = self.top - self.low
        x = self.low_in(values[:, start : start + steps].reshape(batch, -1, self.low)) + c
        h, state_low = self.low_rnn(x, state_low)
        c = self.low_up(h).reshape(batch, steps, -1)
        windows = self.embedding(levels[:, self.top - self.taps : -1]).unfold(1, self.taps, 1)
        x = self.w_x(windows.transpose(2, 3).reshape(batch, steps, -1)) + c
        return self.output(torch.relu(self.hidden2(torch.relu(self.hidden1(x))))), (state_top, state_low)

    @torch.no_grad()
    def copy_from(self, model: SampleRNN) -> None:
        """Takes the weights of one of our models of the same shape, which has no weight norm."""
        low, top = model.tiers
        pairs = [(self.top_up, top.up), (self.low_in, low.expand), (self.low_up, low.up), (self.w_x, model.mlp.input)]
        pairs += [(self.hidden1, model.mlp.hidden[0]), (self.hidden2, model.mlp.hidden[1])]
        for mine, theirs in pairs + [(self.output, model.mlp.output), (self.embedding, model.mlp.embedding)]:
            mine.load_state_dict(theirs.state_dict())
        for gru, stack in ((self.top_rnn, top.rnn), (self.low_rnn, low.rnn)):
            layer = stack.layers[0]
            for name, value in (("weight_ih", "w_ih"), ("weight_hh", "w_hh"), ("bias_ih", "b_ih"), ("bias_hh", "b_hh")):
                getattr(gru, f"{name}_l0").copy_(getattr(layer, value))


def trainer(model: nn.Module, lookback: int) -> Callable[[torch.Tensor], float]:
    """A function that makes one update on levels (B, L + T), the state carried, and returns the loss in bits."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    state = None

    def step(levels: torch.Tensor) -> float:
        nonlocal state
        logits, after = model(levels) if state is None else model(levels, state)
        state = tuple(part.detach() for part in after)
        loss = bits_per_sample(logits, levels[:, lookback:]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_value_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def deepsound_trainer(clone: Path, ratios: list[int], dim: int) -> Callable[[torch.Tensor], float]:
    """A function that makes one update with deepsound's own, unmodified Predictor and optimizer wrapper."""
    their_model, their_nn, their_optim = record.peer_modules(clone, "model", "nn", "optim")
    model = their_model.SampleRNN(frame_sizes=ratios, n_rnn=1, dim=dim, learn_h0=True, q_levels=Q, weight_norm=True)
    predictor = their_model.Predictor(model)
    optimizer = their_optim.gradient_clipping(torch.optim.Adam(predictor.parameters()))
    reset = True

    def step(levels: torch.Tensor) -> float:
        nonlocal reset
        result: dict[str, float] = {}

        def closure() -> torch.Tensor:
            # Their clipping expects a gradient on every weight, which the torch of their time kept.
            optimizer.zero_grad(set_to_none=False)
            targets = levels[:, model.lookback :].contiguous()
            loss = their_nn.sequence_nll_loss_bits(predictor(levels[:, :-1], reset), targets)
            loss.backward()
            result["loss"] = loss.item()
            return loss

        optimizer.step(closure)
        reset = False
        return result["loss"]

    return step


def contestant(name: str, args: argparse.Namespace, dim: int) -> tuple[Callable[[torch.Tensor], float], int]:
    """The training step called `name` at this dim, and its lookback."""
    config = SampleRNNConfig(dim=dim, weight_norm="none")
    # Their ratios 2 4 are our frame sizes 2, 2, 8. Their model has one more input map, a shorter MLP and weight norm.
    like_theirs = replace(config, top_input_linear=True, mlp_hidden=1, mlp_input_relu=True, weight_norm="linear")
    if name == "deepsound":
        return deepsound_trainer(args.peer, [2, 4], dim), config.lookback
    model = (
        PlainSampleRNN(config) if name == "plain torch" else SampleRNN(like_theirs if "deepsound" in name else config)
    )
    return trainer(model.to(args.device), config.lookback), config.lookback


def time_one(name: str, args: argparse.Namespace, dim: int) -> list[float]:
    """The seconds of single steps, after three that do not count. It runs in a process of its own."""
    with fast_cpu_training() if name.startswith("ours") and args.device == "cpu" else nullcontext():
        step, lookback = contestant(name, args, dim)
        levels = torch.randint(0, Q, (args.batch_size, lookback + args.seq_len), device=args.device)
        times = []
        for turn in range(args.rounds + 3):
            began = time.perf_counter()
            step(levels)
            if turn >= 3:
                times.append(time.perf_counter() - began)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dim", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--batch-size", type=int, default=128, help="the paper's and deepsound's")
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=4, help="steps a process is timed for")
    parser.add_argument("--passes", type=int, default=2, help="processes for each contestant, in turn")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument(
        "--device", default="cpu", choices=["cpu", "cuda"], help="deepsound's own code is timed on a CPU"
    )
    parser.add_argument("--peer", type=Path, help="a clone of deepsound-project/samplernn-pytorch")
    parser.add_argument("--json", type=record.file, help="append the results to this file")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer and args.device != "cpu":
        parser.error("--peer is for --device cpu")
    device_or_exit(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.only:
        print(json.dumps(time_one(args.only, args, args.dim[0])))
        return
    rows = []
    for dim in args.dim:
        rows.append(measure(args, dim))
        print_row(rows[-1])
    if args.json:
        record.append(args.json, rows, args.device)


def measure(args: argparse.Namespace, dim: int) -> dict:
    """Compares logits, and then makes the row of this dim: samples per second of each contestant."""
    config = SampleRNNConfig(dim=dim, weight_norm="none")
    ours, plain = SampleRNN(config), PlainSampleRNN(config)
    plain.copy_from(ours)
    levels = torch.randint(0, Q, (4, config.lookback + 256))
    with torch.no_grad():
        gap = (ours(levels)[0] - plain(levels)[0]).abs().max().item()
    if gap > 1e-3:
        raise SystemExit(f"dim {dim}: logits differ by {gap:.2g} between ours and plain torch; nothing was timed")
    names = ["ours", "plain torch"] + ([SAME_AS_THEIRS, "deepsound"] if args.peer else [])
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(args.passes):
        for name in names:
            times[name] += in_own_process(name, args, dim)
    samples = args.batch_size * args.seq_len
    speeds = {name: samples / statistics.median(values) for name, values in times.items()}
    return {
        "dim": dim,
        "batch_size": args.batch_size,
        "seq_len": args.seq_len,
        "gap": gap,
        "samples_per_second": speeds,
    }


def in_own_process(name: str, args: argparse.Namespace, dim: int) -> list[float]:
    """The seconds of a contestant's steps in a fresh process: the allocator's settings are for a whole process."""
    command = [sys.executable, "-W", "ignore", __file__, "--only", name, "--dim", str(dim)]
    for flag in ("batch_size", "seq_len", "rounds", "threads", "device"):
        command += [f"--{flag.replace('_', '-')}", str(getattr(args, flag))]
    command += ["--peer", str(args.peer)] if args.peer else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def print_row(row: dict) -> None:
    speeds = row["samples_per_second"]
    parts = [f"{name} {value / 1000:.1f}k/s" for name, value in speeds.items()]
    ratios = [f"{speeds['ours'] / speeds['plain torch']:.2f}x plain torch"]
    if "deepsound" in speeds:
        ratios.append(f"{speeds[SAME_AS_THEIRS] / speeds['deepsound']:.2f}x deepsound")
    print(f"dim {row['dim']}: {', '.join(parts)}  ->  {', '.join(ratios)}", flush=True)


if __name__ == "__main__":
    main()
