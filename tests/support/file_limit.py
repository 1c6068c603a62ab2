"""A limit on the length of files, at which a write fails in its middle as on a full disk."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file of this process becomes longer than `size` bytes in the block. Skips where the system has no such
    limit."""
    resource = pytest.importorskip("resource", reason="the system has no limit on the length of files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    keeps_none = sys.dont_write_bytecode
    # Python would keep a module that is loaded meanwhile cut off, and would take it for whole later.
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = keeps_none
        signal.signal(signal.SIGXFSZ, ignored)
