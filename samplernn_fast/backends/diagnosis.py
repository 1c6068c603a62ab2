"""What `doctor` reports: first what works here, then versions, devices, and which backends cannot run, with reasons.

It works without torch too, and says so.
"""

import importlib.metadata
import os
import platform
from contextlib import suppress
from ctypes.util import find_library
from pathlib import Path
from typing import Any

from samplernn_fast._version import __version__
from samplernn_fast.backends import registry
from samplernn_fast.backends.cuda import gpu
from samplernn_fast.backends.names import MODES
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.native import native, why_missing
from samplernn_fast.stores import reading
from samplernn_fast.terminal import counted

_OPTIONAL = {
    "soxr": "converts sample rates",
    "tensorboard": "shows training with sound and spectrograms",
    "triton": "makes audio on NVIDIA GPUs",
    "fsspec": "reads and writes at addresses such as s3://bucket/run",
    "sounddevice": "lets `play` use speakers",
    "mido": "lets MIDI keyboards play, with python-rtmidi",
    "python-rtmidi": "lets MIDI keyboards play, with mido",
    "python-osc": "lets OSC messages play",
    "starlette": "shows pages, with uvicorn",
    "uvicorn": "shows pages, with starlette",
    "websockets": "lets `serve` send sound to its page",
    "prometheus-client": "counts what `serve` does",
}


def diagnose() -> dict[str, dict[str, Any]]:
    """Sections of name -> value, JSON-able. The first, "summary", is what a person needs to know."""
    config, torch = SampleRNNConfig(), _torch()
    devices = ["cpu", *(f"cuda:{index}" for index in range(0 if torch is None else torch.cuda.device_count()))]
    found: dict[str, Any] = {}
    for device in devices:
        for name in registry.BACKENDS:
            reasons = registry.unavailable_reasons(name, config, device)
            found[f"{name} on {device}"] = "; ".join(reasons) or "runs"
    return {
        "summary": {device: _summary(device, found, torch) for device in devices} | _without_gpu(torch),
        "versions": {
            "samplernn_fast": __version__,
            "python": platform.python_version(),
            "torch": "not installed; it trains, and makes audio on GPUs" if torch is None else torch.__version__,
            **{name: _version(name) for name in ("numpy", "soundfile", "safetensors")},
        },
        "machine": {
            "system": platform.platform(),
            **_hardware(torch, devices[1:]),
        },
        "backends": found,
        "numeric modes": {name: ", ".join(modes) for name, modes in MODES.items()},
        "native": _native(),
        "CUDA": gpu.describe()
        if _wants_cuda(torch)
        else {"GPU": "this system shows no NVIDIA card, so nothing is missing"},
        "optional": {name: _optional(name, what) for name, what in _OPTIONAL.items()},
        "stores": {"copies of what lies at addresses": reading.describe()},
    }


def _torch() -> Any:
    """torch, or None where it is not installed or cannot be loaded."""
    try:
        return importlib.import_module("torch")
    except (ImportError, OSError):
        return None


def _hardware(torch: Any, gpus: list[str]) -> dict[str, Any]:
    """What torch tells of this machine."""
    if torch is None:
        return {"CPU": platform.processor() or platform.machine()}
    names = {device: torch.cuda.get_device_name(device) for device in gpus} or {"GPU": "torch sees none"}
    return {"CPU": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()} | names


def _summary(device: str, backends: dict[str, str], torch: Any) -> str:
    """What a device can do, in one line."""
    plays = [name for name in registry.BACKENDS if backends[f"{name} on {device}"] == "runs"]
    if not plays:
        return "the CPU can neither train nor make audio: neither torch nor the compiled part is there"
    does = "makes audio" if torch is None else "trains and makes audio"
    line = f"{does}, by the {'backends' if len(plays) > 1 else 'backend'} {', '.join(plays)}"
    if device != "cpu":
        size = torch.cuda.get_device_properties(device).total_memory / 2**30
        return f"{torch.cuda.get_device_name(device)} {line}, with {size:.0f} GB of memory"
    if why_missing():
        return f"the CPU {line}, slowly: the compiled part is missing"
    threads = native().usable_cores()
    return f"the CPU {line}, with {native().available_isas()[0]} and {counted(threads, 'thread')}"


def _without_gpu(torch: Any) -> dict[str, str]:
    """What to do where there is an NVIDIA card that torch does not see, and nothing where there is none."""
    if torch is None:
        return {"torch": "torch is not installed, so nothing trains here; pip install torch"}
    if torch.cuda.is_available() or not _has_nvidia_card():
        return {}
    if torch.version.cuda is None:
        return {
            "GPU": "there is an NVIDIA card, but this torch is built without CUDA; install torch for CUDA to use it"
        }
    return {"GPU": "there is an NVIDIA card, but torch does not see it; the section CUDA says why"}


def _wants_cuda(torch: Any) -> bool:
    """Whether it matters why CUDA does not run: there is a card, a torch for it, or a driver that is named."""
    of_torch = torch is not None and torch.version.cuda is not None
    return of_torch or _has_nvidia_card() or "SAMPLERNN_FAST_LIBCUDA" in os.environ


def _has_nvidia_card() -> bool:
    """Whether Linux lists an NVIDIA device. Elsewhere nobody knows without a driver, and the answer is no."""
    if Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists():
        return True
    for vendor in Path("/sys/bus/pci/devices").glob("*/vendor"):
        with suppress(OSError):
            display = (vendor.parent / "class").read_text().startswith("0x03")
            if display and vendor.read_text().strip() == "0x10de":
                return True
    return False


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _optional(name: str, what: str) -> str:
    """The version of a package, and what it still wants, or what it would do."""
    version = _version(name)
    if version is None:
        return f"not installed; {what}"
    # The package brings PortAudio with it on other systems.
    if name == "sounddevice" and platform.system() == "Linux" and find_library("portaudio") is None:
        return f"{version}, but PortAudio is not installed (Debian: apt install libportaudio2)"
    return version


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
