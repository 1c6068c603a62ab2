"""The device that a benchmark runs on."""

from samplernn_fast.backends import devices
from samplernn_fast.errors import SampleRNNError


def device_or_exit(name: str) -> str:
    """A device of torch by what a command line calls it. Ends the program with the reason where there is none."""
    try:
        return devices.resolve_device(name)
    except SampleRNNError as reason:
        raise SystemExit(str(reason)) from None
