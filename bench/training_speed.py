"""Training speed: ours beside the same model in torch's own layers, and beside deepsound's samplernn-pytorch.

    python bench/training_speed.py [--dim 128 256 512] [--peer CLONE] [--json bench/results/training.json]

Every step is forward, backward, clipping and Adam on the same levels. The models' logits are compared first, and
nothing is timed when they differ. Rounds alternate between the contestants; medians are reported.
"""

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn

from samplernn_fast.config import SampleRNNConfig
from samplernn_fast.model import SampleRNN, bits_per_sample
from samplernn_fast.train_process import fast_cpu_training

Q = 256
SAME_AS_THEIRS = "ours, deepsound's model"


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
        """Take the weights of one of our models of the same shape, without weight norm."""
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
    """One update of deepsound's own, unmodified Predictor and optimiser wrapper."""
    sys.path.insert(0, str(clone))
    try:
        their_model, their_nn = importlib.import_module("model"), importlib.import_module("nn")
        their_optim = importlib.import_module("optim")
    finally:
        sys.path.remove(str(clone))
    model = their_model.SampleRNN(frame_sizes=ratios, n_rnn=1, dim=dim, learn_h0=True, q_levels=Q, weight_norm=True)
    predictor = their_model.Predictor(model)
    optimizer = their_optim.gradient_clipping(torch.optim.Adam(predictor.parameters()))
    reset = True

    def step(levels: torch.Tensor) -> float:
        nonlocal reset
        result: dict[str, float] = {}

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            # Their data carries one more sample at the end than the input they read.
            loss = their_nn.sequence_nll_loss_bits(predictor(levels[:, :-1], reset), levels[:, model.lookback :])
            loss.backward()
            result["loss"] = loss.item()
            return loss

        optimizer.step(closure)
        reset = False
        return result["loss"]

    return step


def race(steps: dict[str, Callable[[torch.Tensor], float]], levels: torch.Tensor, rounds: int) -> dict[str, float]:
    """Median seconds of one step of each contestant, in alternating rounds after two that do not count."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 2):
        for name, step in steps.items():
            began = time.perf_counter()
            step(levels)
            if turn >= 2:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dim", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--peer", type=Path, help="a clone of deepsound-project/samplernn-pytorch")
    parser.add_argument("--json", type=Path, help="append the results to this file")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = []
    with fast_cpu_training():
        for dim in args.dim:
            rows.append(measure(args, dim))
            print_row(rows[-1])
    if args.json:
        record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), "rows": rows}
        record |= {"torch": torch.__version__, "threads": torch.get_num_threads(), "processor": processor()}
        runs = json.loads(args.json.read_text()) if args.json.exists() else []
        args.json.write_text(json.dumps([*runs, record], indent=1) + "\n")


def measure(args: argparse.Namespace, dim: int) -> dict:
    """One row: parity first, then samples per second of each contestant at this dim."""
    config = SampleRNNConfig(dim=dim, weight_norm="none")
    ours, plain = SampleRNN(config), PlainSampleRNN(config)
    plain.copy_from(ours)
    levels = torch.randint(0, Q, (args.batch_size, config.lookback + args.seq_len))
    with torch.no_grad():
        gap = (ours(levels)[0] - plain(levels)[0]).abs().max().item()
    if gap > 1e-3:
        raise SystemExit(f"dim {dim}: logits differ by {gap:.2g} between ours and plain torch; nothing was timed")
    steps = {"ours": trainer(ours, config.lookback), "plain torch": trainer(plain, config.lookback)}
    if args.peer:
        # Their 2 4 is our (2, 2, 8), with their extra input map, shorter MLP and weight norm; ours takes the same.
        like_theirs = SampleRNNConfig(
            dim=dim, top_input_linear=True, mlp_hidden=1, mlp_input_relu=True, weight_norm="linear"
        )
        steps[SAME_AS_THEIRS] = trainer(SampleRNN(like_theirs), like_theirs.lookback)
        steps["deepsound"] = deepsound_trainer(args.peer, [2, 4], dim)
    seconds = race(steps, levels, args.rounds)
    speeds = {name: args.batch_size * args.seq_len / value for name, value in seconds.items()}
    return {
        "dim": dim,
        "batch_size": args.batch_size,
        "seq_len": args.seq_len,
        "gap": gap,
        "samples_per_second": speeds,
    }


def print_row(row: dict) -> None:
    speeds = row["samples_per_second"]
    parts = [f"{name} {value / 1000:.1f}k/s" for name, value in speeds.items()]
    ratios = [f"{speeds['ours'] / speeds['plain torch']:.2f}x plain torch"]
    if "deepsound" in speeds:
        ratios.append(f"{speeds[SAME_AS_THEIRS] / speeds['deepsound']:.2f}x deepsound")
    print(f"dim {row['dim']}: {', '.join(parts)}  ->  {', '.join(ratios)}", flush=True)


def commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


def processor() -> str:
    """The processor's name, and what torch makes of it."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
    ]
    return f"{names[0] if names else 'unknown'} ({torch.backends.cpu.get_cpu_capability()})"


if __name__ == "__main__":
    main()
