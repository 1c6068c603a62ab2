"""The Generator of deepsound-project/samplernn-pytorch, with our engine behind it."""

import torch
from torch import Tensor, nn

from samplernn_fast.importing.live import AcceleratedSampler, accelerate


class Generator:
    """Takes the place of the project's `model.Generator`: called in the same way, it gives the same.

    The model may be trained between two calls, as there: its weights are read again when they have changed. The draws
    depend on `seed` and on how many streams were made before, not on torch's global generator. `dtype` is that of
    `accelerate`.
    """

    def __init__(self, model: nn.Module, cuda: bool = False, *, seed: int = 0, dtype: str = "fastest") -> None:
        self.model, self.cuda, self.dtype = model, cuda, dtype
        self._seed = seed
        self._sampler: AcceleratedSampler | None = None
        self._weights: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, n_seqs: int, seq_len: int) -> Tensor:
        """Draws new levels, (n_seqs, seq_len), a LongTensor on the CPU. Each of the n_seqs streams follows silence."""
        return self._current(n_seqs)(n_seqs, seq_len)

    def _current(self, n_seqs: int) -> AcceleratedSampler:
        """The sampler of the model's present weights. A new one is made for about so many streams, which decides what
        a GPU plays it on, and goes on with the stream numbers of the old one."""
        weights = self.model.state_dict()
        same = self._weights.keys() == weights.keys() and all(
            torch.equal(kept, weights[name]) for name, kept in self._weights.items()
        )
        if self._sampler is None or not same:
            device = "cuda" if self.cuda else "cpu"
            sampler = accelerate(self.model, seed=self._seed, device=device, dtype=self.dtype, num_streams=n_seqs)
            sampler.next_stream = self._sampler.next_stream if self._sampler is not None else 0
            self._sampler = sampler
            self._weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
        return self._sampler
