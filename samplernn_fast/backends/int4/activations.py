"""What the matrices of a model multiply, over audio that the model itself makes: a forward pass in NumPy.

It is the pass of `reference.known_levels` in float32, which keeps the inputs of every product. Letters as in
`models.layout`, and N frames.
"""

import numpy as np

from samplernn_fast.models.layout import packed_hidden
from samplernn_fast.reference.folding import PackedWeights

Grams = dict[tuple[str, int], np.ndarray]
"""(matrix of the layout, layer) -> the sum of x xT over its inputs x, (K, K). Without layers it is 0. What
the candidate of a GRU that resets before the product reads is `tier{i}.candidate`."""

_STREAMS = 8  # so many run at once, whose conditioning takes little memory
_ROWS = 16384  # inputs of one matrix that are taken at most, evenly among all


def grams_of(weights: PackedWeights, levels: np.ndarray) -> Grams:
    """The Gram matrices of all matrices but the output layer, over known levels (B, L + T), T whole top frames, each
    stream from the initial state."""
    parts = [levels[first : first + _STREAMS] for first in range(0, len(levels), _STREAMS)]
    forward = _ForwardPass(weights, _ROWS // len(parts))
    for part in parts:
        forward.run(part)
    return forward.grams


class _ForwardPass:
    """Runs a model over known levels."""

    def __init__(self, weights: PackedWeights, most_rows: int) -> None:
        """most_rows: inputs of one matrix that are taken at most in one run."""
        self.config, self._weights, self._most_rows = weights.config, weights.float32(), max(1, most_rows)
        self._bias = [self._parts(weights, tier) for tier in range(len(self.config.ratios))]
        self.grams: Grams = {}

    def run(self, levels: np.ndarray) -> None:
        """Adds the Gram matrices over levels (B, L + T)."""
        config, conditioning = self.config, np.empty(0, np.float32)
        steps = levels.shape[1] - config.lookback
        for tier in reversed(range(len(config.ratios))):
            size = config.frame_sizes[tier + 1]
            frames = levels[:, config.lookback - size : config.lookback - size + steps].reshape(len(levels), -1, size)
            read = self._read_frames(tier, frames)
            if conditioning.size:
                read += conditioning
            conditioning = self._upsample(tier, self._layers(tier, read))
        x = self._taps(levels, conditioning)
        for layer in range(packed_hidden(config)):
            name = f"mlp.hidden{layer}"
            self._keep(name, x)
            x = np.maximum(x @ self._weights[name].T + self._weights[f"{name}_bias"], 0)

    def _parts(self, weights: PackedWeights, tier: int) -> tuple[np.ndarray, np.ndarray]:
        """The gates' own bias (n, G D) of a tier, and what the upsampling to the unit below adds (r, O)."""
        own = weights.sums[f"tier{tier}.input_bias"][0][0]
        if tier == 0:
            return own.astype(np.float32), self._weights["mlp.input_bias"]
        added = weights.sums[f"tier{tier - 1}.input_bias"][1]
        return own.astype(np.float32), added[:, : self.config.readers].reshape(len(added), -1).astype(np.float32)

    def _read_frames(self, tier: int, frames: np.ndarray) -> np.ndarray:
        """What a tier's frames of levels (B, N, F) add to the gates that read them: (B, N, I G D)."""
        if self.config.reads_levels:
            return self._weights[f"tier{tier}.table"][frames[..., 0]]
        return self._weights["frame_values"][frames] @ self._weights[f"tier{tier}.frame"].T

    def _layers(self, tier: int, read: np.ndarray) -> np.ndarray:
        """A tier's layers over N frames: read (B, N, I G D) -> the tier's outputs (B, N, D)."""
        weights, name, (bias, _) = self._weights, f"tier{tier}.", self._bias[tier]
        width, outputs = bias.shape[1], list[np.ndarray]()
        for layer in range(self.config.n_rnn):
            gates = np.broadcast_to(bias[layer], (*read.shape[:2], width)).copy()
            if (layer + 1) * width <= read.shape[2]:
                gates += read[..., layer * width : (layer + 1) * width]
            if layer:
                self._keep(name + "stack", outputs[-1], layer - 1)
                gates += outputs[-1] @ weights[name + "stack"][layer - 1].T
            outputs.append(self._cell(tier, layer, gates))
        if self.config.skip == "none":
            return outputs[-1]
        every = np.concatenate(outputs, axis=2)
        self._keep(name + "skip_out", every)
        return every @ weights[name + "skip_out"].T + weights[name + "skip_bias"]

    def _cell(self, tier: int, layer: int, gates: np.ndarray) -> np.ndarray:
        """One layer over gates (B, N, G D), which hold all but its recurrent product: outputs (B, N, D)."""
        name, dim, config = f"tier{tier}.", self.config.dim, self.config
        matrix = self._weights[name + "recurrent"][layer].T
        h0 = self._weights[name + "h0"][layer]
        h, c = (np.repeat(part[None], len(gates), axis=0) for part in (h0[:dim], h0[dim:]))
        before, out, inner = [], np.empty((*gates.shape[:2], dim), np.float32), list[np.ndarray]()
        for frame in range(gates.shape[1]):
            now = gates[:, frame]
            before.append(h)
            if config.rnn == "lstm":
                i, f, g, o = np.split(now + h @ matrix, 4, axis=1)
                c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
                h = _sigmoid(o) * np.tanh(c)
            elif config.reset_after:
                product = h @ matrix
                r, z = np.split(_sigmoid(now[:, : 2 * dim] + product[:, : 2 * dim]), 2, axis=1)
                n = np.tanh(now[:, 2 * dim :] + r * (product[:, 2 * dim :] + self._weights[name + "bias_n"][layer]))
                h = n + z * (h - n)
            else:
                r, z = np.split(_sigmoid(now[:, : 2 * dim] + h @ matrix[:, : 2 * dim]), 2, axis=1)
                inner.append(r * h)
                n = np.tanh(now[:, 2 * dim :] + inner[-1] @ matrix[:, 2 * dim :])
                h = n + z * (h - n)
            out[:, frame] = h
        self._keep(name + "recurrent", np.stack(before, axis=1), layer)
        if inner:
            self._keep(name + "candidate", np.stack(inner, axis=1), layer)
        return out

    def _upsample(self, tier: int, out: np.ndarray) -> np.ndarray:
        """Eq. 6: outputs (B, N, D) of a tier -> conditioning (B, N r, O) of the units below."""
        up, bias = self._weights[f"tier{tier}.up"], self._bias[tier][1]
        self._keep(f"tier{tier}.up", out)
        made = out @ up.reshape(-1, up.shape[2]).T + bias.reshape(-1)
        return made.reshape(len(out), -1, up.shape[1])

    def _taps(self, levels: np.ndarray, x: np.ndarray) -> np.ndarray:
        """ReLU of the conditioning (B, T, D) and the rows of tables of the last levels, which is changed in place."""
        taps, steps = self.config.taps, x.shape[1]
        for tap in range(taps):
            start = self.config.lookback - taps + tap
            x += self._weights["mlp.tables"][tap][levels[:, start : start + steps]]
        return np.maximum(x, 0, out=x)

    def _keep(self, name: str, x: np.ndarray, layer: int = 0) -> None:
        """Adds the Gram matrix of inputs (..., K) to that of a matrix."""
        rows = x.reshape(-1, x.shape[-1])
        rows = rows[:: max(1, len(rows) // self._most_rows)]
        gram = rows.T @ rows
        self.grams[name, layer] = self.grams[name, layer] + gram if (name, layer) in self.grams else gram


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))  # which does not overflow
