"""The compiler of GPU kernels as tests ask for it."""

import pytest

from samplernn_fast.backends.cuda.compiler import open_nvrtc
from samplernn_fast.errors import BackendUnavailable


def nvrtc_or_skip(capability):
    """The newest NVRTC that makes code for a compute capability; the test is skipped where there is none."""
    try:
        return open_nvrtc(None, capability)
    except BackendUnavailable as unavailable:
        pytest.skip(f"no NVRTC: pip install -e '.[test]' ({unavailable})")
