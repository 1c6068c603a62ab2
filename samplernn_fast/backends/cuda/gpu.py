"""One GPU of the driver: opening it, what it lacks, and what `doctor` tells of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from samplernn_fast.backends.cuda.compiler import CUBINS, open_nvrtc
from samplernn_fast.backends.cuda.first_look import MEASURED
from samplernn_fast.errors import BackendUnavailable, DeviceError
from samplernn_fast.native import native, why_missing

if TYPE_CHECKING:
    from samplernn_fast._C import CudaDevice, CudaDriver

_LEAST_CAPABILITY = (8, 0)  # the lowest compute capability that the kernels are written for


@dataclass(frozen=True)
class Gpu:
    """A device of the driver and the newest CUDA that it runs (13020 is 13.2)."""

    device: "CudaDevice"
    version: int

    @classmethod
    def open(cls, ordinal: int) -> "Gpu":
        """The GPU of that number. SAMPLERNN_FAST_LIBCUDA names another libcuda than the system's. CudaError."""
        driver: CudaDriver = native().CudaDriver(os.environ.get("SAMPLERNN_FAST_LIBCUDA", ""))
        return cls(native().CudaDevice(driver, ordinal), driver.version)


def missing(ordinal: int) -> list[str]:
    """What a machine lacks to run the kernel on its GPU of that number; empty where nothing is."""
    if not_built := why_missing():
        return [not_built]
    try:
        gpu = Gpu.open(ordinal)
        name, capability = gpu.device.name, gpu.device.capability
    except native().CudaError as reason:
        return [str(reason)]
    reasons = []
    if capability < _LEAST_CAPABILITY:
        needed, found = (".".join(map(str, one)) for one in (_LEAST_CAPABILITY, capability))
        reasons.append(f"needs a GPU of compute capability {needed} or newer, {name} has {found}")
    if not reasons:
        try:
            open_nvrtc(gpu.version, capability)
        except BackendUnavailable as reason:
            reasons.append(str(reason))
    return reasons


def describe() -> dict[str, str]:
    """The driver, the compiler and the folders of what is kept, or why there is none; for `doctor`."""
    if why_missing():
        return {"driver": "not asked: the native part is not built"}
    newest, found = None, {}
    try:
        driver = native().CudaDriver(os.environ.get("SAMPLERNN_FAST_LIBCUDA", ""))
        newest = driver.version
        found["driver"] = f"CUDA {newest // 1000}.{newest % 1000 // 10}, {driver.path}"
    except native().CudaError as reason:
        found["driver"] = str(reason)
    try:
        nvrtc = open_nvrtc(newest, _LEAST_CAPABILITY)
        found["NVRTC"] = f"{nvrtc.version[0]}.{nvrtc.version[1]}, {nvrtc.path}"
    except BackendUnavailable as reason:
        found["NVRTC"] = str(reason)
    for name, store in (("compiled kernels", CUBINS), ("measured waits", MEASURED)):
        try:
            found[name] = str(store.folder())
        except RuntimeError as reason:
            found[name] = f"not kept: {reason}"
    return found


@contextmanager
def driver_errors_as(kind: type[DeviceError] | type[BackendUnavailable]) -> Iterator[None]:
    """What the driver refuses, as one of the package's errors."""
    try:
        yield
    except native().CudaError as error:
        raise kind(str(error)) from None
