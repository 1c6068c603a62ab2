"""What `doctor` reports: versions, devices, and which backends can run here, with reasons."""

import importlib.metadata
import platform
from typing import Any

import torch

from samplernn_fast._version import __version__
from samplernn_fast.backends import registry
from samplernn_fast.backends.cuda import gpu
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.native import native, why_missing

_OPTIONAL = {
    "soxr": "converts sample rates",
    "tensorboard": "shows training with sound and spectrograms",
    "triton": "makes audio on NVIDIA GPUs",
}


def diagnose() -> dict[str, dict[str, Any]]:
    """Sections of name -> value, JSON-able."""
    config = SampleRNNConfig()
    devices = [torch.device("cpu")] + [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    found: dict[str, Any] = {}
    for device in devices:
        for name, backend in registry.BACKENDS.items():
            reasons = backend.unavailable_reasons(config, device)
            found[f"{name} on {device}"] = "; ".join(reasons) or "runs"
    gpus = {str(d): torch.cuda.get_device_name(d) for d in devices if d.type == "cuda"} or {"GPU": "torch sees none"}
    return {
        "versions": {
            "samplernn": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            **{name: _version(name) for name in ("numpy", "soundfile", "safetensors")},
        },
        "machine": {
            "system": platform.platform(),
            "CPU": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            **gpus,
        },
        "backends": found,
        "numeric modes": {name: ", ".join(backend.dtypes) for name, backend in registry.BACKENDS.items()},
        "native": _native(),
        "CUDA": gpu.describe(),
        "optional": {name: _version(name) or f"not installed; {what}" for name, what in _OPTIONAL.items()},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _native() -> dict[str, Any]:
    """Whether the compiled part was built and what it finds here; where it was not, what to do."""
    if missing := why_missing():
        return {"samplernn_fast._C": missing}
    found = native()
    isas, cores = found.available_isas(), found.usable_cores()
    return {
        "samplernn_fast._C": ", ".join(f"{key} {value}" for key, value in found.build_info().items()),
        "instruction sets": ", ".join(isas),  # built and found here, best first
        "built, but not for this machine": ", ".join(isa for isa in found.built_isas() if isa not in isas) or "none",
        "instruction set used": isas[0],
        "usable cores": cores,
        "threads": f"1 to {cores}, by the model's size and the streams; --num-threads sets them",
    }
