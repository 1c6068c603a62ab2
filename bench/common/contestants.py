"""The contestants that only bench/sampling_speed.py has: a backend with one of its inner choices made by hand."""

import argparse
import itertools
from collections.abc import Iterator

import torch

from samplernn_fast.backends.cpu import CpuBackend
from samplernn_fast.backends.cuda import constants
from samplernn_fast.backends.cuda.backend import CudaBackend
from samplernn_fast.backends.interface import Backend
from samplernn_fast.backends.triton import TritonBackend
from samplernn_fast.commands.benchmark.contestants import Absences, Contestant, Lineup, Named
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import ConfigError
from samplernn_fast.reference.modes import INT4

ALL = "all"
"""Stands for every exchange of the cuda backend."""


def exchanges(args: argparse.Namespace) -> list[str]:
    """The exchanges that are asked for by name, or all that a model may have."""
    return list(constants.CHOICES[1:]) if ALL in args.exchanges else args.exchanges


def with_choices(args: argparse.Namespace, lineup: Lineup, streams: int, absent: Absences) -> Iterator[Contestant]:
    """The cpu backend with one instruction set each, the triton backend with one style of products each, and the cuda
    backend with one exchange each."""
    engines = itertools.chain(
        _of_instruction_sets(args, lineup, absent), _styled(args, lineup, absent), _exchanging(args, lineup, absent)
    )
    return lineup.checked(engines, streams, absent)


def _of_instruction_sets(args: argparse.Namespace, lineup: Lineup, absent: Absences) -> Iterator[Named]:
    every = itertools.product(args.isa, lineup.options.modes(CpuBackend.name), sorted({*args.threads}))
    for isa, dtype, threads in every:
        name = f"cpu {dtype} {isa}"
        if dtype == INT4 and not args.dtype:
            continue
        with absent.instead_of_failing(name, threads):
            if dtype == INT4:
                raise ConfigError("--isa times no int4, whose weights are chosen with the engine that plays them")
            backend = CpuBackend(lineup.weights, "cpu", dtype, threads, isa)
            yield Named(name, threads, Engine.of(lineup.model, backend))


def _styled(args: argparse.Namespace, lineup: Lineup, absent: Absences) -> Iterator[Named]:
    for style, dtype in itertools.product(args.styles, lineup.options.modes(TritonBackend.name)):
        name = f"triton {dtype} {style}"
        with absent.instead_of_failing(name):
            yield _named(name, lineup, TritonBackend(lineup.weights, lineup.device, dtype, style=style))


def _exchanging(args: argparse.Namespace, lineup: Lineup, absent: Absences) -> Iterator[Named]:
    for exchange, dtype in itertools.product(exchanges(args), lineup.options.modes(CudaBackend.name)):
        name = f"cuda {dtype} {exchange}"
        with absent.instead_of_failing(name, asked_for=ALL not in args.exchanges):
            yield _named(name, lineup, CudaBackend(lineup.weights, lineup.device, dtype, exchange=exchange))


def _named(name: str, lineup: Lineup, backend: Backend) -> Named:
    """An engine that is compared by `check_draws` instead of at its first use."""
    return Named(name, torch.get_num_threads(), Engine.of(lineup.model, backend))
