"""Many seeded cases of one target, in a child process under limits of memory and time.

A fuzz test says what one case is, and what a reader does with it:

    @fuzz_cases
    def test_settings(cases, tmp_path):
        def make(random):
            return mutate(random, b'{"quantization": "mu-law"}')

        def target(case):
            write_case(tmp_path / "a.json", case)
            read_settings(tmp_path / "a.json")

        fuzz(target, make, cases, valid=[b'{"quantization": "mu-law"}'])

A case may end well, or in an error of the classes `refusals` whose message is one line. Everything else is reported
with the case: another exception, an exception of memory behind the error, a signal, a case that takes more than
`seconds` of a processor, or eight times as long by the clock, and a process that grows by more than `growth` bytes. The
child is forked from the test, so a target may be any function, and what it writes into files stays. `make` gets a
generator whose seed is the number of the case and FUZZ_SEED; so a reported case is made again by its number.
"""

import faulthandler
import itertools
import json
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from samplernn_fast.errors import SampleRNNError

GROWTH = 300 << 20
"""By how many bytes a process may grow."""
SECONDS = 5.0
"""How much of a processor's time one case may take."""
_PATIENCE = 8  # how many times as long it may take by the clock, on a machine that does other work
_MOST_FAILURES = 10  # after which a run ends
_MOST_CHARACTERS = 1000  # of an error's message

fuzz_cases = pytest.mark.parametrize(
    "cases", [2000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])]
)
"""Gives a test its argument `cases`: 2,000 in `make test`, 100,000 in `make soak`."""


@dataclass(frozen=True)
class Failure:
    """A case that did harm."""

    number: int
    """The number of the case; -1 - n for the n-th of `valid`."""
    reason: str
    """What happened, in one line."""
    detail: str
    """The traceback, where there is one."""


def fuzz(
    target: Callable[[Any], object],
    make: Callable[[Any], Any],
    cases: int,
    *,
    valid: Sequence[Any] = (),
    refusals: tuple[type[BaseException], ...] = (SampleRNNError,),
    seconds: float = SECONDS,
    growth: int = GROWTH,
) -> None:
    """Runs `target` on every case that `make` makes. Raises AssertionError, which names the cases that did harm.

    valid: cases that the target must take without an error. They are run first, so that what is loaded at first use is
    not counted as growth.
    """
    found = run_cases(target, make, cases, valid=valid, refusals=refusals, seconds=seconds, growth=growth)
    if found:
        raise AssertionError(_report(found, lambda number: _case(number, make, valid)))


def fuzz_each(
    target: Callable[[Any], object],
    cases: Sequence[Any],
    *,
    valid: Sequence[Any] = (),
    refusals: tuple[type[BaseException], ...] = (SampleRNNError,),
    seconds: float = SECONDS,
    growth: int = GROWTH,
) -> None:
    """The same for cases that are known and need no generator."""

    def make(source: Numbered) -> Any:
        return cases[source.number]

    fuzz(target, make, len(cases), valid=valid, refusals=refusals, seconds=seconds, growth=growth)


def run_cases(
    target: Callable[[Any], object],
    make: Callable[[Any], Any],
    cases: int,
    *,
    valid: Sequence[Any] = (),
    refusals: tuple[type[BaseException], ...] = (SampleRNNError,),
    seconds: float = SECONDS,
    growth: int = GROWTH,
) -> list[Failure]:
    """Does the work of `fuzz`, and returns the cases that did harm, about `_MOST_FAILURES` at most."""
    found: list[Failure] = []
    first = 0
    limits = (refusals, seconds, growth)
    while first < cases and len(found) < _MOST_FAILURES:
        with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as failures, mmap.mmap(-1, 8) as place:
            child = _fork()
            if child == 0:
                _be_the_child(target, make, (first, cases), valid, limits, (log, failures, place))
            status = _wait(child, seconds, place)
            failures.seek(0)
            found += [Failure(**json.loads(line)) for line in failures]
            number = struct.unpack("q", place[:])[0]
            if status == 0:
                break
            if status != _GREW:
                detail = _tail(log)
                found.append(Failure(number, _what(status, detail, seconds), detail))
            first = number + 1
    return found


_GREW = 77  # the child's exit status after a case by which it grew too much


def write_case(file: Path, content: bytes) -> Path:
    """Writes a case into a file, and returns the file.

    It is removed before, because some file systems flush a file to the disk that is cut to nothing and written again,
    which takes 5 ms.
    """
    file.unlink(missing_ok=True)
    file.write_bytes(content)
    return file


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of threads; the child uses none of the test's
        sys.stdout.flush()
        sys.stderr.flush()
        return os.fork()


def _be_the_child(
    target: Callable[[Any], object],
    make: Callable[[Any], Any],
    numbers: tuple[int, int],
    valid: Sequence[Any],
    limits: tuple[tuple[type[BaseException], ...], float, int],
    files: tuple[BinaryIO, BinaryIO, mmap.mmap],
) -> None:
    """Runs the cases and ends the process: with 0 after the last one, with `_GREW` after one by which it grew."""
    refusals, seconds, growth = limits
    log, failures, place = files
    status = 1
    try:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        faulthandler.enable(log)
        before = failed = 0
        for number in itertools.chain(range(-len(valid), 0), range(*numbers)):
            if number == numbers[0]:  # what is valid has been run, so that all that is loaded late is loaded
                before = _peak()
                most = _address_space() + growth
                resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
            place[:] = struct.pack("q", number)
            case = _case(number, make, valid)
            began = time.process_time()
            faulthandler.dump_traceback_later(_PATIENCE * seconds, exit=True, file=log)
            failure = _run_one(target, case, number, refusals if number >= 0 else ())
            faulthandler.cancel_dump_traceback_later()
            if failure is None and number >= 0 and time.process_time() - began > seconds:
                failure = Failure(number, f"the case took more than {seconds:g} seconds", "")
            grown = _peak() - before if number >= 0 else 0
            if failure is None and grown > growth:
                failure = Failure(number, f"the process grew by {grown >> 20} MB", "")
            if failure is not None:
                failures.write(json.dumps(vars(failure)).encode() + b"\n")
                failures.flush()
                failed += 1
            if grown > growth:
                status = _GREW
                return
            if failed == _MOST_FAILURES:
                break
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _run_one(
    target: Callable[[Any], object], case: Any, number: int, refusals: tuple[type[BaseException], ...]
) -> Failure | None:
    try:
        target(case)
    except refusals as error:
        return _judge(error, number)
    except BaseException as error:
        return Failure(number, f"{type(error).__name__}: {str(error)[:300]!r}", traceback.format_exc()[-3000:])
    return None


def _judge(error: BaseException, number: int) -> Failure | None:
    """A failure where an error of the right class has a message of several lines, or hides a lack of memory."""
    message = str(error)
    if not message.isprintable() or not 0 < len(message) <= _MOST_CHARACTERS:
        return Failure(number, f"the message is no line: {message[:300]!r}", "")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or "not enough memory" in str(cause) or "t allocate memory" in str(cause):
            return Failure(number, f"too little memory stood behind {message[:300]!r}", _trace_of(cause))
        cause = cause.__context__
    return None


def _trace_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error, chain=False))[-3000:]


def _wait(child: int, seconds: float, place: mmap.mmap) -> int:
    """The child's exit status, or minus the signal that ended it. One that hangs is killed.

    The child watches itself; this watch is for one that cannot, because a case stopped its threads.
    """
    last, since = place[:], time.monotonic()
    try:
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            if place[:] != last:
                last, since = place[:], time.monotonic()
            elif time.monotonic() - since > 2 * _PATIENCE * seconds + 30:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.01)
    except BaseException:
        with suppress(OSError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        raise


def _what(status: int, detail: str, seconds: float) -> str:
    if "Timeout (" in detail or status == -signal.SIGKILL:
        return f"the case took more than {seconds:g} seconds"
    if status < 0:
        return f"the process died of {signal.Signals(-status).name}"
    return f"the process ended by itself with status {status}"


def _tail(log: BinaryIO) -> str:
    """The last report of faulthandler in the child's output, whose innermost call comes first; else its end."""
    log.seek(max(0, log.seek(0, 2) - 50_000))
    text = log.read().decode(errors="replace")
    begins = max(text.rfind("Timeout ("), text.rfind("Fatal Python error"))
    return text[begins : begins + 3000] if begins >= 0 else text[-3000:]


def _case(number: int, make: Callable[[Any], Any], valid: Sequence[Any]) -> Any:
    return valid[number] if number < 0 else make(Numbered(number))


class Numbered(random.Random):
    """The generator of a case, whose seed is the number of the case and FUZZ_SEED."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(int(os.environ.get("FUZZ_SEED", "0")) * 1_000_000_007 + number)


def _report(found: Sequence[Failure], case_of: Callable[[int], Any]) -> str:
    """Failures in words, with their cases, which are kept in files where they are bytes."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    lines = []
    for failure in found:
        case = case_of(failure.number)
        shown = repr(case)
        if isinstance(case, bytes):
            file = folder / str(failure.number)
            file.write_bytes(case)
            shown = f"{case[:100].hex()}{'...' if len(case) > 100 else ''} in {file}"
        lines.append(f"case {failure.number}: {failure.reason}\n  case: {shown[:2000]}\n{failure.detail}")
    return "\n".join(lines)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
