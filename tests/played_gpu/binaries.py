"""What the C++ compiler makes for the played GPU.

Each file bears a digest of all that it is made from and is kept in one folder, so that it is compiled once for all
tests, for all processes of a run, and for the runs that follow.
"""

import fcntl
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

SHIM = Path(__file__).parent / "cuda_shim"
# -Og: a kernel is compiled for a few launches only, and -O1 takes the compiler longer than it saves in them.
FLAGS = ("-std=c++17", "-Og", "-Wall", "-Wextra", "-Werror", "-fPIC", "-ffp-contract=off")
# Seconds after which a file that nobody used is deleted.
_KEEP_SECONDS = 2 * 24 * 3600


@functools.cache
def folder() -> Path:
    """Where the files are kept, without those that are too old."""
    path = Path(tempfile.gettempdir()) / f"samplernn-shim-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    for old in path.iterdir():
        if old.is_file() and time.time() - old.stat().st_mtime > _KEEP_SECONDS:
            old.unlink(missing_ok=True)
    return path


def compiler() -> list[str]:
    """The C++ compiler's command; skips the test where there is none."""
    command = shlex.split(os.environ.get("CXX", "c++"))
    if shutil.which(command[0]) is None:
        import pytest  # here, because the compiler of the played NVRTC, a process of its own, has no use for it

        pytest.skip("no C++ compiler")
    return command


@functools.cache
def _compiler_version() -> str:
    return subprocess.run([*compiler(), "--version"], capture_output=True, text=True).stdout


def digest(*parts: str | bytes) -> str:
    """A name for what the compiler makes from these texts and files."""
    every = (_compiler_version(), *parts)
    return hashlib.sha256(b"\0".join(p.encode() if isinstance(p, str) else p for p in every)).hexdigest()[:32]


def make_once(name: str, make: Callable[[Path], None]) -> Path:
    """The file `name` in the folder. Where it does not exist yet, one process calls make(path), and others wait for
    it."""
    target = folder() / name
    if target.exists():
        target.touch()  # used now, so that no other run deletes it
        return target
    with (folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=folder()) as place:
                make(Path(place) / name)
                (Path(place) / name).replace(target)  # so that a file under this name is always whole
    return target


def _ahead() -> Path:
    """A header that stands for fibres.h and guarded.h, which the compiler has read ahead: reading them is a third of
    its work."""
    flags = (*compiler(), *FLAGS)
    text = f'#include "{SHIM / "guarded.h"}"\n'
    header = f"{digest(*flags, text, *_headers())}.h"
    written = make_once(header, lambda path: path.write_text(text) and None)

    def read(path: Path) -> None:
        subprocess.run([*flags, "-x", "c++-header", str(written), "-o", str(path)], check=True)

    make_once(f"{header}.gch", read)
    return written


def _headers() -> list[bytes]:
    return [(SHIM / name).read_bytes() for name in ("fibres.h", "guarded.h")]


def fibres_library() -> Path:
    """The library of fibres and guarded memory, which those of kernels load."""
    flags = (*compiler(), *FLAGS, "-O2", "-shared")
    sources = [SHIM / "fibres.cpp", SHIM / "guarded.cpp"]

    def build(path: Path) -> None:
        subprocess.run([*flags, *map(str, sources), "-o", str(path)], check=True)

    return make_once(f"{digest(*flags, *(source.read_bytes() for source in sources), *_headers())}.so", build)


def kernel_library(headers: Path, texts: Sequence[Path], macros: Sequence[str], *more: Path) -> Path:
    """The shared library of the shim's run.cpp and of `more` sources, under these macros. `headers` is the root of the
    kernel's includes, and `texts` are the files below it that the library is made from.

    CalledProcessError where it does not compile."""
    flags = (*compiler(), *FLAGS)
    sources = (*sorted(SHIM.iterdir()), *more)
    names = [str(text.relative_to(headers)) for text in texts]
    fibres = fibres_library()  # A change of it makes other libraries, because each loads it by its name.
    key = digest(*flags, *macros, *names, str(fibres), *(path.read_bytes() for path in (*texts, *sources)))

    def build(path: Path) -> None:
        includes = ["-include", str(_ahead()), f"-I{headers}", f"-I{SHIM}"]
        command = [*flags, "-shared", *macros, *includes, "-x", "c++", "-", "-x", "none", str(fibres), "-o", str(path)]
        together = "".join(f'#include "{source}"\n' for source in (SHIM / "run.cpp", *more))  # quicker than each alone
        subprocess.run(command, input=together, text=True, check=True)

    return make_once(f"{key}.so", build)
