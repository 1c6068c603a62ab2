"""Builds samplernn_fast._C, the optional native extension. pyproject.toml holds everything else.

No torch is needed to build: the extension takes NumPy arrays. Without a compiler the install succeeds and
the package works without it. After editing C++ in a checkout: python setup.py build_ext --inplace
"""

import copy
import hashlib
import os
import platform
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError
from setuptools.modified import newer_group

try:
    from pybind11.setup_helpers import Pybind11Extension
except ImportError:  # without build isolation it may be missing; the package works without the extension
    Pybind11Extension = None

X86_64 = platform.machine().lower() in ("x86_64", "amd64")
if sys.platform == "darwin":  # a universal Python would compile for Arm with flags of x86, or the other way round
    os.environ.setdefault("ARCHFLAGS", f"-arch {platform.machine()}")

# Contraction into fused multiply-adds would change the sampler's bits from machine to machine. Functions of long
# vectors are inlined, so GCC need not say how such vectors are passed where a processor has none (psabi).
CXX_FLAGS = ["-O3", "-ffp-contract=off", "-fno-trapping-math", "-Wall", "-Wextra", "-Wno-psabi"]
# The templates of pybind11 run once a call, and compiling them well takes longer than all instruction sets together.
BINDINGS_FLAGS = ["-O1"]

# csrc/cpu/isa/kernels_<name>.cpp is compiled for one instruction set; csrc/cpu/dispatch.cpp chooses among them when the
# program runs. This is the order of linking: the instruction set that most machines have comes first.
_AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"]
ISA_FLAGS = {
    "avx2": ["-mavx2", "-mfma"],
    "avx512": _AVX512,
    "avx512_vnni": [*_AVX512, "-mavx512vnni"],
    "amx": [*_AVX512, "-mavx512vnni", "-mamx-tile", "-mamx-int8", "-mamx-bf16"],
}
# Old compilers and assemblers do not know these instructions; they build the other instruction sets.
ISA_PROBES = {
    "avx512": "__m512i f(__m512i a) { return _mm512_madd_epi16(a, a); }",
    "avx512_vnni": "__m512i f(__m512i a) { return _mm512_dpbusd_epi32(a, a, a); }",
    "amx": "void f() { _tile_dpbssd(0, 1, 2); _tile_dpbf16ps(0, 1, 2); }",
}
# Tests run the text of the wide instruction sets on a machine that has AVX2. They are short, so better code would take
# the compiler longer than it saves in them.
if X86_64 and os.environ.get("SAMPLERNN_FAST_EMULATE"):
    CXX_FLAGS += ["-O1", "-DSRNN_EMULATED"]
    BINDINGS_FLAGS = ["-O0"]
    ISA_FLAGS |= {isa: [*ISA_FLAGS["avx2"], "-DSRNN_LANES=16", "-Wno-psabi"] for isa in ISA_PROBES}
    ISA_PROBES = {}


class BuildExt(build_ext):
    """Compiles each source with flags of its own, several at a time; setuptools links the objects."""

    def build_extension(self, ext):
        if self.compiler.compiler_type != "unix":
            raise CompileError("the CPU engine needs GCC or Clang")
        unknown = [isa for isa in ISA_FLAGS if not self._knows(isa)]
        flags = [*ext.extra_compile_args, *CXX_FLAGS, *(f"-DSRNN_NO_{isa.upper()}" for isa in unknown)]
        sources = sorted((source for source in ext.sources if isa_of(source) not in unknown), key=place_in_link)
        shared = flags, self.build_temp, ext.include_dirs, self.force
        with ThreadPoolExecutor(jobs()) as pool:
            # Sources with flags of their own take longest, so they start first.
            started = sorted(sources, key=lambda source: not own_flags(source))
            objects = {source: pool.submit(compile_source, self.compiler, source, *shared) for source in started}
        linked = copy.copy(ext)
        linked.sources, linked.extra_objects = [], [objects[source].result() for source in sources]
        self.force = self.compiler.force = True  # other objects may be older than what was last linked
        super().build_extension(linked)

    def _knows(self, isa):
        """Whether the compiler can build this instruction set; no other kind of processor has any of them."""
        if isa not in ISA_PROBES:
            return X86_64
        source = Path(self.build_temp, "probes", f"kernels_{isa}.cpp")
        text = f"#include <immintrin.h>\n{ISA_PROBES[isa]}\n"
        if not source.exists() or source.read_text() != text:
            source.parent.mkdir(parents=True, exist_ok=True)
            source.write_text(text)
        try:
            compile_source(self.compiler, str(source), [], self.build_temp, [])
        except CompileError:
            return False
        return True


def jobs():
    """How many compilers run at once: MAX_JOBS, else as many as the processors that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("MAX_JOBS") or usable
    try:
        return max(1, int(wanted))
    except ValueError:
        raise CompileError(f"MAX_JOBS must be a whole number, got {wanted!r}") from None


def compile_source(compiler, source, flags, folder, include_dirs, force=False):
    """Compiles one source unless its object is newer than everything it includes; returns the object's path.

    An object's folder is named after its command, so objects made with other flags are not mistaken for it.
    """
    flags = [*flags, *own_flags(source)]
    command = shlex.join([*compiler.compiler_so_cxx, *flags])
    folder = os.path.join(folder, hashlib.sha256(command.encode()).hexdigest()[:12])
    [target] = compiler.object_filenames([source], output_dir=folder)
    if force or newer_group(_included(target), target, missing="newer"):
        compiler.compile([source], output_dir=folder, include_dirs=include_dirs, extra_postargs=[*flags, "-MMD"])
    return target


def _included(target):
    """The source and the headers that an object was made of, from the list that the compiler wrote beside it."""
    listed = Path(target).with_suffix(".d")
    if not listed.exists():
        return [str(listed)]
    return shlex.split(listed.read_text().replace("\\\n", "").partition(":")[2])


def isa_of(source):
    """The instruction set that a source is compiled for; None if it runs on every machine."""
    isa = Path(source).stem.removeprefix("kernels_")
    return isa if isa in ISA_FLAGS else None


def own_flags(source):
    """Flags of this source beside those of all."""
    return BINDINGS_FLAGS if Path(source).name == "module.cpp" else ISA_FLAGS.get(isa_of(source), [])


def place_in_link(source):
    """Templates of the standard library that several objects hold are kept from the object linked first: it must run on
    every machine, and the next on as many as possible."""
    return [None, *ISA_FLAGS].index(isa_of(source)), source


native = Pybind11Extension and Pybind11Extension(
    "samplernn_fast._C",
    sorted(glob("csrc/**/*.cpp", recursive=True)),
    depends=sorted(glob("csrc/**/*.h", recursive=True)),  # for source archives
    include_dirs=["csrc"],
    libraries=["dl"] if platform.system() == "Linux" else [],
    cxx_std=17,
    optional=True,
)
setup(ext_modules=[native] if native else [], cmdclass={"build_ext": BuildExt})
