"""The check at the end of every import: do the samplers give the logits of the model's own forward?

`check_parity` compares the training forward in float64 with the reference, one sample at a time, and with the cpu
backend where it can run.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from samplernn_fast.backends.registry import BACKENDS
from samplernn_fast.errors import CheckpointError
from samplernn_fast.models.sample_rnn import SampleRNN
from samplernn_fast.reference.backend import ReferenceBackend
from samplernn_fast.reference.weights import pack

_LEAST_SAMPLES = 48  # fewest samples of a stream that are compared; they are whole top frames
REFERENCE_LIMIT, CPU_LIMIT = 1e-9, 1e-4
"""The largest differences of log-probabilities that pass, where logits are at most 10: in float64, in float32."""


@dataclass(frozen=True)
class Parity:
    """What was compared, and the largest differences of log-probabilities under teacher forcing."""

    samples: int
    """How many levels of two streams were compared."""
    reference: float
    """The reference, one sample at a time, against the training forward, both in float64."""
    cpu: float | None
    """The cpu backend in float32 against the training forward in float64; None where it cannot run."""
    cpu_missing: str
    """Why the cpu backend cannot run; "" where it can."""
    scale: float
    """What the limits are multiplied by: a tenth of the largest logit, as rounding grows with it, and at least 1."""

    def lines(self) -> list[str]:
        """What was compared and found, as text to print."""
        found = [
            f"parity over {self.samples} samples: reference steps against model.forward, float64:"
            f" {self.reference:.1e} ({self._limit(REFERENCE_LIMIT)})"
        ]
        if self.cpu is None:
            return [*found, f"parity of the cpu backend was not checked: {self.cpu_missing}"]
        return [*found, f"parity of the cpu backend, float32: {self.cpu:.1e} ({self._limit(CPU_LIMIT)})"]

    def _limit(self, limit: float) -> str:
        """A limit in words; one that was raised says why."""
        raised = f" times {self.scale:.1f}, as the largest logit is {10 * self.scale:.0f}" if self.scale > 1 else ""
        return f"limit {limit:.0e}{raised}"


@torch.inference_mode()
def check_parity(model: SampleRNN, source: str) -> Parity:
    """Compares the paths of a model on random levels. Raises CheckpointError when they differ by more than rounding."""
    config = model.config
    exact = copy.deepcopy(model).double()
    steps = -(-_LEAST_SAMPLES // config.lookback) * config.lookback
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, config.q_levels, (2, config.lookback + steps), generator=generator)
    levels[0, : config.lookback] = config.q_zero
    logits, _ = exact(levels)
    wanted = logits.log_softmax(dim=-1)
    weights = pack(model)
    stepped = step_logits(ReferenceBackend(weights, "cpu", "float64"), levels).log_softmax(dim=-1)
    reasons = BACKENDS["cpu"].unavailable_reasons(config, "cpu")
    native = None
    if not reasons:
        backend = BACKENDS["cpu"](weights, "cpu", "float32")
        native = _largest(torch.from_numpy(backend.score(backend.init_hidden(2), levels.numpy())), wanted)
    scale = max(1.0, float(logits.abs().max()) / 10)
    found = Parity(2 * steps, _largest(stepped, wanted), native, "; ".join(reasons), scale)
    # The comparison is negated, because a NaN must fail too.
    if not (found.reference <= REFERENCE_LIMIT * scale and (native is None or native <= CPU_LIMIT * scale)):
        raise CheckpointError(f"{source}: nothing was imported: {'; '.join(found.lines())}")
    return found


def step_logits(backend: ReferenceBackend, levels: Tensor) -> Tensor:
    """The reference's logits (B, T, Q) for levels (B, L + T) under teacher forcing, made one sample at a time."""
    lookback, logits = backend.config.lookback, []
    hidden = [torch.from_numpy(h) for h in backend.init_hidden(levels.shape[0])]
    for t in range(levels.shape[1] - lookback):
        backend.run_frame_network(hidden, levels[:, : lookback + t], t)
        logits.append(backend.run_sample_network(hidden, levels[:, : lookback + t], t))
    return torch.stack(logits, dim=1)


def _largest(got: Tensor, wanted: Tensor) -> float:
    return float((got.double() - wanted).abs().max())
