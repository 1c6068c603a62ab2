"""Builds samplernn_fast._C, the optional native extension. pyproject.toml holds everything else.

No torch is needed to build: the extension takes NumPy arrays. Without a compiler the install succeeds and
the package works without it. After editing C++ in a checkout: python setup.py build_ext --inplace
"""

import contextlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from glob import glob
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

try:
    from pybind11.setup_helpers import Pybind11Extension
except ImportError:  # without build isolation it may be missing; the package works without the extension
    Pybind11Extension = None

try:
    from ninja import ninja_syntax
except ImportError:  # sources are then compiled one after another
    ninja_syntax = None

# Contraction into fused multiply-adds would change the sampler's bits from machine to machine.
CXX_FLAGS = ["-O3", "-ffp-contract=off", "-fno-trapping-math", "-Wall", "-Wextra"]

# The CPU engine is compiled once for each instruction set; csrc/cpu/dispatch.cpp chooses when the program runs. In the
# order of how many machines have it.
_AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"]
ISA_FLAGS = {
    "kernels_avx2.cpp": ["-mavx2", "-mfma"],
    "kernels_avx512.cpp": _AVX512,
    "kernels_avx512_vnni.cpp": [*_AVX512, "-mavx512vnni"],
    "kernels_amx.cpp": [*_AVX512, "-mavx512vnni", "-mamx-tile", "-mamx-int8", "-mamx-bf16"],
}
# Templates that run once a call: compiling them well would take longer than all instruction sets of the engine.
UNIT_FLAGS = {"module.cpp": ["-O1"], **ISA_FLAGS}
# What a compiler and its assembler must know to build one of them.
PROBES = {
    "kernels_avx512.cpp": "#include <immintrin.h>\n__m512i f(__m512i a) { return _mm512_madd_epi16(a, a); }\n",
    "kernels_avx512_vnni.cpp": "#include <immintrin.h>\nauto f(__m512i a) { return _mm512_dpbusd_epi32(a, a, a); }\n",
    "kernels_amx.cpp": "#include <immintrin.h>\nvoid f() { _tile_dpbssd(0, 1, 2); _tile_dpbf16ps(0, 1, 2); }\n",
}
# For tests: the text of the wide instruction sets, on a machine that has AVX2.
EMULATED = bool(os.environ.get("SAMPLERNN_FAST_EMULATE"))
if EMULATED:
    CXX_FLAGS.append("-DSRNN_EMULATED")
    for _source in PROBES:
        PROBES[_source] = ""
        UNIT_FLAGS[_source] = ISA_FLAGS[_source] = [*ISA_FLAGS["kernels_avx2.cpp"], "-DSRNN_LANES=16", "-Wno-psabi"]
if sys.platform == "darwin":  # a universal Python would compile for Arm with flags of x86, or the other way round
    os.environ.setdefault("ARCHFLAGS", f"-arch {platform.machine()}")
X86_64 = platform.machine().lower() in ("x86_64", "amd64")


class BuildExt(build_ext):
    """`build_ext` that compiles with ninja where it is installed: in parallel, and only what changed."""

    def build_extensions(self):
        unix = self.compiler.compiler_type == "unix"
        for extension in self.extensions:
            extension.extra_compile_args += CXX_FLAGS if unix else ["/O2", "/fp:precise"]
        if unix:
            self._leave_out_unknown_isas()
            _add_unit_flags(self.compiler)
        if unix and ninja_syntax is not None and shutil.which("ninja"):
            self._compile_one_by_one = self.compiler.compile
            self.compiler.compile = self._compile_with_ninja
        if unix:
            _link_plain_objects_first(self.compiler)
        super().build_extensions()

    def _leave_out_unknown_isas(self):
        """Old compilers and assemblers do not know every instruction set: they build the others."""
        for source, probe in PROBES.items() if X86_64 else ():
            if _accepts(self.compiler, ISA_FLAGS[source], probe):
                continue
            for extension in self.extensions:
                extension.sources = [path for path in extension.sources if Path(path).name != source]
                extension.extra_compile_args.append(f"-DSRNN_NO_{source[len('kernels_') : -len('.cpp')].upper()}")

    def _compile_with_ninja(self, sources, output_dir=None, **options):
        """setuptools decides the commands; they are written to build.ninja instead of being run at once."""
        with _recorded_commands(self.compiler) as commands:
            objects = self._compile_one_by_one(sources, output_dir, **options)
        folder = Path(output_dir or ".")
        folder.mkdir(parents=True, exist_ok=True)
        _write_ninja(folder, commands)
        if self.force:
            for path in objects:
                Path(path).unlink(missing_ok=True)
        jobs = ["-j", os.environ["MAX_JOBS"]] if os.environ.get("MAX_JOBS") else []
        # -C would change the folder that relative source paths start from, so only the file is named.
        if subprocess.run(["ninja", "-f", str(folder / "build.ninja"), *jobs]).returncode != 0:
            raise CompileError("the C++ compiler failed; its messages are above")
        return objects


def _accepts(compiler, flags, text):
    """Whether the compiler takes this text with these flags."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cpp")
        source.write_text(text)
        try:
            compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
        except CompileError:
            return False
    return True


def _write_ninja(folder, commands):
    with open(folder / "build.ninja", "w") as file:
        writer = ninja_syntax.Writer(file)
        writer.variable("builddir", ninja_syntax.escape(str(folder)))  # ninja's log and header lists
        writer.rule("cxx", command="$command", description="$command", depfile="$out.d", deps="gcc")
        for command in commands:
            target, source = command[command.index("-o") + 1], command[command.index("-c") + 1]
            line = shlex.join([*command, "-MD", "-MF", f"{target}.d"])
            writer.build([target], "cxx", [source], variables={"command": ninja_syntax.escape(line)})


def _add_unit_flags(compiler):
    """setuptools knows no flags for a single source: they are put into the command that compiles it."""
    compile_one = compiler._compile

    def compile_with_flags(obj, src, ext, cc_args, extra_postargs, pp_opts):
        flags = UNIT_FLAGS.get(Path(src).name, [])
        compile_one(obj, src, ext, cc_args, [*extra_postargs, *flags], pp_opts)

    compiler._compile = compile_with_flags


def _link_plain_objects_first(compiler):
    """Templates of the standard library that several objects hold are linked from the first one: it must be one that
    runs on every machine, then on the most. setuptools sorts by name."""
    compile_all, width = compiler.compile, list(ISA_FLAGS)

    def compile_in_order(sources, **options):
        objects = compile_all(sources, **options)
        names = [Path(path).with_suffix(".cpp").name for path in objects]
        ranks = [width.index(name) + 1 if name in width else 0 for name in names]
        return [path for _, _, path in sorted(zip(ranks, names, objects, strict=True))]

    compiler.compile = compile_in_order


@contextlib.contextmanager
def _recorded_commands(compiler):
    """Collects the commands the compiler object would run, by `call` or, in older setuptools, `spawn`."""
    commands = []
    for method in ("call", "spawn"):
        setattr(compiler, method, lambda command, *args, **kwargs: commands.append(command))
    try:
        yield commands
    finally:
        del compiler.call, compiler.spawn


def native_extension():
    """samplernn_fast._C, with every instruction set of this kind of machine."""
    sources = sorted(glob("csrc/**/*.cpp", recursive=True))
    return Pybind11Extension(
        "samplernn_fast._C",
        [source for source in sources if X86_64 or Path(source).name not in ISA_FLAGS],
        depends=["setup.py", *sorted(glob("csrc/**/*.h", recursive=True))],  # flags stand in setup.py
        include_dirs=["csrc"],
        libraries=["dl"] if platform.system() == "Linux" else [],
        cxx_std=17,
        optional=True,
    )


setup(ext_modules=[native_extension()] if Pybind11Extension else [], cmdclass={"build_ext": BuildExt})
