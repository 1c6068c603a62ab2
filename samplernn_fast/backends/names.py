"""The words of --backend, --dtype and --device, without torch, so that a wrong one is refused before it is loaded."""

import re
from collections.abc import Mapping, Sequence

from samplernn_fast.errors import ConfigError, did_you_mean, quoted

MODES: dict[str, tuple[str, ...]] = {
    "cuda": ("float32", "bfloat16", "int8"),
    "cpu": ("float32", "bfloat16", "int8", "int4"),
    "triton": ("float32", "bfloat16"),
    "reference": ("float32", "float64"),
    "stepping": ("float32", "float64"),
}
"""The numeric modes of each backend, fastest backend first; a test compares it with `registry.BACKENDS`."""


def check_backend(name: str, dtype: str, offered: Mapping[str, Sequence[str]] = MODES) -> None:
    """Raises ConfigError for a backend that there is not, and for a numeric mode that none that may run has.

    offered: the numeric modes of each backend.
    """
    if name != "auto" and name not in offered:
        known = ["auto", *offered]
        raise ConfigError(f"backend must be one of {', '.join(known)}, got {quoted(name)}{did_you_mean(name, known)}")
    modes = list(dict.fromkeys(mode for one in offered if name in ("auto", one) for mode in offered[one]))
    if dtype not in ("auto", "fastest", *modes):
        names = f"auto, fastest or one of {', '.join(modes)}" + ("" if name == "auto" else f" on {name}")
        raise ConfigError(f"dtype must be {names}, got {quoted(dtype)}{did_you_mean(dtype, modes)}")


def check_threads(name: str, num_threads: int | None) -> None:
    """Raises ConfigError where a number of threads is given to a backend that does not take one."""
    if num_threads is not None and name not in ("auto", "cpu"):
        raise ConfigError(f"num_threads is for the cpu backend; leave it out for {name}")


def check_device(name: str) -> None:
    """Raises ConfigError for a word that names no device. Whether there is such a GPU, `devices` knows."""
    if not re.fullmatch(r"auto|(cpu|cuda)(:\d{1,3})?", name, re.ASCII):
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {quoted(name)}")


def check(backend: str, dtype: str, device: str, num_threads: int | None) -> None:
    """All three, for whoever takes the same four flags. Raises ConfigError for the first that cannot be."""
    check_backend(backend, dtype)
    check_threads(backend, num_threads)
    check_device(device)
