"""A checkpoint's tensors by name, and the tensors of our model that they become.

A reader takes each tensor from `NamedTensors`, with the shape that the rest of the file demands, and puts it into
`Placed` under our name.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.models.checkpoint import FLOATS
from samplernn_fast.models.config import SampleRNNConfig

_MOST_NAME = 200  # most characters of a tensor's name
_MOST_PARTS = 1000  # most tiers or layers; a larger number in a name means that the file is damaged


class NamedTensors:
    """Tensors under the names that a project gave them. CheckpointError names the tensor that does not fit."""

    def __init__(self, tensors: Mapping[str, Tensor], source: str, marker: str) -> None:
        """source: the file, for messages. marker: the pattern with which the project's own names begin. What is before
        it (`model.`, `module.`) is the prefix of all names."""
        if any(len(name) > _MOST_NAME for name in tensors):
            raise CheckpointError(f"{source}: a tensor's name has more than {_MOST_NAME} characters")
        prefixes = {match[0] for name in tensors if (match := re.match(rf".*?(?={marker})", name))}
        if not prefixes:
            first = marker.split("|")[0].replace("\\", "")
            raise CheckpointError(f"{source}: no tensor is called {first}..., so this is no checkpoint of that project")
        self.prefix = min(prefixes, key=lambda prefix: (len(prefix), prefix))
        self.source = source
        self._tensors = dict(tensors)
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self._tensors

    def count(self, pattern: str, first: int = 0) -> int:
        """How many numbered parts there are: 1 + the largest number that the group of `pattern` finds - `first`."""
        matches = (re.match(re.escape(self.prefix) + pattern, name) for name in self._tensors)
        numbers = [int(match[1]) for match in matches if match]
        found = max(numbers, default=first - 1) + 1 - first
        if not 0 < found <= _MOST_PARTS:
            raise CheckpointError(
                f"{self.source}: {str(found)[:20]} parts are named {pattern}, and there must be 1 to {_MOST_PARTS}"
            )
        return found

    def any(self, pattern: str) -> bool:
        """Whether `pattern` is found in some name."""
        return any(re.search(pattern, name) for name in self._tensors)

    def dimensions(self, name: str) -> int:
        """How many dimensions a tensor has. Raises CheckpointError when it is missing."""
        return self._find(name).dim()

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        """The shape of a tensor from which sizes of the model are read. It must have this number of dimensions."""
        shape = tuple(self._find(name).shape)
        if len(shape) != dimensions or 0 in shape:
            raise CheckpointError(f"{self.source}: tensor {name} must have {dimensions} dimensions, found {shape}")
        return shape

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Takes a tensor, which must have this shape and hold finite floating-point numbers."""
        tensor = self._find(name)
        if tuple(tensor.shape) != shape:
            raise CheckpointError(f"{self.source}: tensor {name} must be {shape}, found {tuple(tensor.shape)}")
        if tensor.dtype not in FLOATS:
            raise CheckpointError(f"{self.source}: tensor {name} must be of floating-point numbers, not {tensor.dtype}")
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{self.source}: tensor {name} holds a value that is not finite")
        self._taken.add(self.prefix + name)
        return tensor.detach()

    def finish(self, unused: Callable[[str], bool] = lambda name: False) -> None:
        """Raises CheckpointError if a tensor was not taken, unless `unused` answers True for its full name."""
        extra = sorted(name for name in self._tensors if name not in self._taken and not unused(name))
        if extra:
            raise CheckpointError(
                f"{self.source}: {len(extra)} tensor(s) do not belong to this model: {', '.join(extra[:3])}"
            )

    def _find(self, name: str) -> Tensor:
        if name not in self:
            raise CheckpointError(f"{self.source}: tensor {self.prefix}{name} is missing")
        return self._tensors[self.prefix + name]


class Placed:
    """The tensors of a model of ours, which a reader puts here one by one. Gains of weight norm are kept as gains."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def put(self, name: str, tensor: Tensor) -> None:
        """Puts a tensor under the name of a parameter or buffer."""
        self.tensors[name] = tensor.contiguous()

    def put_matrix(self, module: str, name: str, matrix: Tensor, gain: Tensor | None) -> None:
        """Puts a matrix of a module, with its gains where it has weight norm: W = gain * matrix / |matrix|."""
        if gain is None:
            self.put(f"{module}.{name}", matrix)
            return
        self.put(f"{module}.parametrizations.{name}.original0", gain)
        self.put(f"{module}.parametrizations.{name}.original1", matrix)


def config_of_sizes(source: str, fields: dict[str, Any]) -> SampleRNNConfig:
    """The config with these fields. Raises CheckpointError where sizes found in a file cannot be a model's."""
    try:
        return SampleRNNConfig(**fields)
    except ConfigError as error:
        raise CheckpointError(f"{source}: its model cannot be used: {error}") from None
