"""The interpreter of a machine whose GPU is played, for programs of bench/ that are run whole.

python played_machine.py SCRIPT ARGUMENT... runs a benchmark where torch's tensors on the CPU are the memory of the GPU,
with a small model and one stream, because every thread of that GPU is a fibre. Other programs run as they are, among
them tests for a GPU, which need torch to see one. The environment names the libraries that play the GPU.
"""

import importlib
import multiprocessing
import os
import shlex
import sys
from collections.abc import Sequence

SMALLER = {"--device": ["cpu"], "--dim": ["16"], "--batch-size": ["1"], "--seconds": ["0.01"], "--rounds": ["1"]}
"""What the values of the benchmarks' options become."""
OF_ITS_OWN = {"training_speed": ["--batch-size", "4", "--seq-len", "128", "--passes", "1"]}
"""Further options of a benchmark."""
BENCHMARKS = ("sampling_speed", "training_speed", "gpu.stage_times", "gpu.compile_ahead")


def main(script: str, *words: str) -> None:
    name = script.removeprefix("bench/").removesuffix(".py").replace("/", ".")
    if name not in BENCHMARKS:
        os.execv(sys.executable, [sys.executable, script, *words])
    if name == "gpu.compile_ahead":
        lines = [shlex.join(smaller(shlex.split(line))) for line in words if not line.startswith("tests/")]
    else:
        lines = [*smaller(words), *OF_ITS_OWN.get(name, [])]
    sys.argv = [script, *lines]
    play()
    program = importlib.import_module(f"bench.{name}")
    if name == "gpu.stage_times":
        program.rows_of.__defaults__ = (8, 2)  # samples, and repeats of a stage
    program.main()


def smaller(words: Sequence[str]) -> list[str]:
    """A command line with the values of SMALLER in place of its own, and with the first of several modes."""
    kept, option, place = [], "", 0
    for word in words:
        option, place = (word, 0) if word.startswith("--") else (option, place + 1)
        if place == 0:
            kept += [word, *SMALLER.get(word, [])]
        elif option not in SMALLER and (option != "--dtype" or place == 1):
            kept.append(word)
    return kept


def play() -> None:
    """Lets the package take the CPU for a GPU, before anything else imports what is replaced here."""
    from samplernn_fast.backends import devices, registry
    from samplernn_fast.backends.cuda import launcher, program
    from samplernn_fast.backends.cuda.backend import CudaBackend
    from samplernn_fast.backends.cuda.gpu import missing
    from samplernn_fast.commands.benchmark import checks

    usual, context = registry.unavailable_reasons, multiprocessing.get_context
    devices.resolve_device = lambda name: "cpu"
    CudaBackend.unavailable_reasons = staticmethod(lambda config, device: missing(0))
    registry.unavailable_reasons = lambda name, *about: missing(0) if name == "cuda" else usual(name, *about)
    program.THREADS, launcher.LAUNCH_STEPS, checks.DRAWN_LEVELS = 64, 16, 32
    multiprocessing.get_context = lambda how: context("fork")  # so that all of this reaches other processes


if __name__ == "__main__":
    main(*sys.argv[1:])
