"""The machine code of a kernel: its instructions with their control bits, and the numbers that a text exports.

nvdisasm names the instructions. Control bits are read from the cubin itself: on sm_70 and later each instruction has 16
bytes, which end with the stall cycles (4 bits), a hint (1), the scoreboard that its result sets (3), the one that the
reading of its operands sets (3), and the scoreboards that it waits for (6). Published dissections of Volta to Hopper
describe this layout.
"""

import importlib.util
import os
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

Frame = tuple[str, int]
"""A file's name and a line."""


def nvdisasm() -> Path:
    """The disassembler of a CUDA toolkit on PATH, or the one that Triton brings."""
    on_path, triton = shutil.which("nvdisasm"), importlib.util.find_spec("triton")
    found = [Path(on_path)] if on_path else []
    if triton and triton.origin:
        found.append(Path(triton.origin).parent / "backends/nvidia/bin/nvdisasm")
    for file in found:
        if file.is_file():
            return file
    raise SystemExit("no nvdisasm: pip install triton, or put the bin folder of a CUDA toolkit into PATH")


def _section_headers(cubin: bytes) -> list[tuple[int, ...]]:
    """The name, type, flags, address, offset, size, link, info, alignment and entry size of each section."""
    (table,) = struct.unpack_from("<Q", cubin, 40)
    (number,) = struct.unpack_from("<H", cubin, 60)
    return [struct.unpack_from("<IIQQQQIIQQ", cubin, table + 64 * k) for k in range(number)]


def _name_at(cubin: bytes, start: int) -> str:
    return cubin[start : cubin.index(b"\0", start)].decode()


def section(cubin: bytes, name: str) -> bytes:
    """The bytes of a section. Raises KeyError where there is none of that name."""
    headers = _section_headers(cubin)
    names = headers[struct.unpack_from("<H", cubin, 62)[0]][4]
    for header in headers:
        if _name_at(cubin, names + header[0]) == name:
            return cubin[header[4] : header[4] + header[5]]
    raise KeyError(name)


def exported_numbers(cubin: bytes, name: str) -> tuple[int, ...]:
    """The 64-bit numbers of a constant that the text exports. Raises KeyError where there is none of that name."""
    headers = _section_headers(cubin)
    symbols = next(header for header in headers if header[1] == 2)
    for at in range(symbols[4], symbols[4] + symbols[5], 24):
        text, _, _, where, value, length = struct.unpack_from("<IBBHQQ", cubin, at)
        if _name_at(cubin, headers[symbols[6]][4] + text) == name:
            return struct.unpack_from(f"<{length // 8}Q", cubin, headers[where][4] + value)
    raise KeyError(name)


class Instruction:
    """One instruction: what it does, what it waits for, and the source lines that it was made from."""

    __slots__ = ("address", "args", "frames", "mods", "negated", "op", "predicate", "reads", "stall", "text", "waits")
    __slots__ += ("writes",)

    def __init__(self, address: int, predicate: str, text: str, frames: tuple[Frame, ...], high: int) -> None:
        """frames: the innermost function first. high: the last 8 bytes."""
        self.address, self.text, self.frames = address, text, frames
        self.negated, self.predicate = predicate.startswith("!"), predicate.lstrip("!")
        name, _, args = text.partition(" ")
        self.op, *mods = name.split(".")
        self.mods = tuple(mods)
        self.args = [arg.replace(".reuse", "") for arg in _split(args)]
        control = high >> 41
        self.stall = control & 15
        self.writes, self.reads = control >> 5 & 7, control >> 8 & 7
        self.waits = tuple(k for k in range(6) if control >> 11 + k & 1)


def not_modelled(i: Instruction) -> SystemExit:
    """The error of an instruction that the model cannot execute, and where it can be taught to."""
    where = "".join(f", from {file}:{line}" for file, line in i.frames[:1])
    return SystemExit(f"the cycle model does not know {i.text}{where}; add it to bench/gpu/cycle_model/instructions.py")


def _split(args: str) -> list[str]:
    """Splits at the commas that stand outside brackets. A label stands as `(name)."""
    parts, depth, current = [], 0, ""
    for c in args:
        depth += (c in "[(") - (c in "])")
        if c == "," and depth <= 0:
            parts.append(current.strip())
            current = ""
        elif c != "`":
            current += c
    return [*parts, current.strip()] if current.strip() else parts


_FRAME = re.compile(r'\s*//## File "([^"]+)", line (\d+)')
_LABEL = re.compile(r"(\.L_x_\d+|\$\w+):")
_LINE = re.compile(r"\s+/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P[0-9T]+)\s+)?\s*([A-Z0-9][\w.]*\s*.*?)\s*;")


def decode(cubin: bytes, kernel: str) -> tuple[list[Instruction], dict[str, int]]:
    """The instructions of a kernel, and where in their list the labels are."""
    code = section(cubin, f".text.{kernel}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        done = subprocess.run([str(nvdisasm()), "-c", "-gi", str(file)], capture_output=True, text=True)
    if done.returncode != 0 or f".text.{kernel}:" not in done.stdout:
        reason = [*done.stderr.strip().splitlines(), "it lists no instructions"][0]
        raise SystemExit(f"{nvdisasm()} cannot read code for sm_90: {reason}")
    program: list[Instruction] = []
    labels: dict[str, int] = {}
    waiting: list[str] = []
    pending: list[Frame] = []
    frames: tuple[Frame, ...] = ()
    inside = False
    for line in done.stdout.splitlines():
        if line.startswith(".text."):
            inside = line.startswith(f".text.{kernel}:")
        elif not inside:
            continue
        elif found := _FRAME.match(line):
            pending.append((os.path.basename(found[1]), int(found[2])))
        elif found := _LABEL.match(line):
            waiting.append(found[1])
        elif found := _LINE.match(line):
            if pending:
                frames, pending = tuple(pending), []
            address = int(found[1], 16)
            (high,) = struct.unpack_from("<Q", code, address + 8)
            labels.update(dict.fromkeys(waiting, len(program)))
            waiting = []
            program.append(Instruction(address, found[2] or "", re.sub(r"\s+", " ", found[3]), frames, high))
    return program, labels
