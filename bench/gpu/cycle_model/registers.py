"""The registers of one warp of 32 lanes, and the operands of its instructions.

Every register is a row of 32 uint32; uniform registers are one number. Predicates are rows of 32 bools. An operand is
read from its text, as nvdisasm writes it: R12, UR4, 0x1f, 1.5, -R3, ~R3, |R3|, c[0x0][0x210], P0, !UP1.
"""

import re
from functools import lru_cache

import numpy as np

U32, U64, F32 = np.uint32, np.uint64, np.float32
LANES = np.arange(32)
LOCAL_BYTES = 4096
"""A thread has so much local memory here, which is more than any kernel takes."""
LOW = U64(0xFFFFFFFF)
_SPECIAL = {"+INF": np.inf, "-INF": -np.inf, "INF": np.inf, "+QNAN": np.nan, "QNAN": np.nan, "-QNAN": np.nan}


def signed(x: np.ndarray) -> np.ndarray:
    """uint32 as two's complement, in int64."""
    return x.astype(np.int64) - ((x.astype(np.int64) >> 31) << 32)


def low32(x: np.ndarray) -> np.ndarray:
    """The lower 32 bits of int64 or uint64."""
    return (x & 0xFFFFFFFF).astype(U32)


@lru_cache(None)
def _parse(text: str) -> tuple[str, object, bool, bool, bool]:
    """(kind, value, negative, inverted, absolute) of an operand."""
    negative = text[0] == "-"
    text = text[negative:]
    inverted = text[0] == "~"
    text = text[inverted:]
    absolute = text[0] == "|"
    text = text.strip("|")
    if found := re.match(r"^R(\d+|Z)(?:\.(?:H0_H0|H1_H1|64|U32))?$", text):
        kind, value = ("zero", None) if found[1] == "Z" else ("R", int(found[1]))
    elif text.startswith("UR"):
        kind, value = ("zero", None) if text == "URZ" else ("UR", int(re.match(r"UR(\d+)", text)[1]))
    elif text.startswith("c["):
        kind, value = "c", int(re.match(r"c\[0x\w+\]\[(?:U?R\w+\+)?(0x\w+)\]", text)[1], 16)
    elif text == "SRZ":
        kind, value = "zero", None
    elif re.match(r"^0x[0-9a-f]+$", text):
        kind, value = "number", np.full(32, int(text, 16) & 0xFFFFFFFF, U32)
    else:
        number = _SPECIAL[text] if text in _SPECIAL else float(text)
        kind, value = "number", np.full(32, F32(number)).view(U32)
    return kind, value, negative, inverted, absolute


@lru_cache(None)
def _plain_number(text: str) -> np.ndarray | None:
    decimal = re.match(r"^-?\d+(\.\d+)?(e[-+]?\d+)?$", text)
    return np.full(32, F32(float(text))) if decimal else None


@lru_cache(None)
def _register(text: str) -> tuple[str, int | None]:
    """("R" or "UR", its number or None for the one that is always 0); ("", None) for anything else."""
    found = re.match(r"^(U?R)(\d+|Z)", text)
    return (found[1], None if found[2] == "Z" else int(found[2])) if found else ("", None)


class Warp:
    """Registers, and where the lanes are: each has a place in the program, may wait for others to meet, may be done."""

    def __init__(self, number: int, constants: dict[int, int]) -> None:
        self.number, self.constants = number, constants
        self.tid = U32(32 * number) + LANES.astype(U32)
        self.R = np.zeros((256, 32), U32)
        self.local = np.zeros((LOCAL_BYTES // 4 + 4, 32), U32)
        self.P = np.zeros((8, 32), bool)
        self.P[7] = True
        self.UR = [0] * 64
        self.UP = [False] * 7 + [True]
        self.meeting = [np.zeros(32, bool) for _ in range(16)]  # who meets at each convergence barrier
        self.pc = np.zeros(32, np.int64)
        self.alive = np.ones(32, bool)
        self.waits_for = np.full(32, -1)  # the convergence barrier, or -1
        self.next = (0, self.alive.copy())  # the place of the next instruction, and the lanes that execute it
        self.time = self.ready = 0  # when the next instruction comes up, and when all that it waits for is there
        self.scoreboards = [0] * 6
        self.at_barrier = self.voted = self.done = False
        self.count = 0  # of the instructions that were executed

    def _bits(self, text: str) -> tuple[np.ndarray, bool, bool, bool]:
        kind, value, negative, inverted, absolute = _parse(text)
        if kind == "R":
            bits = self.R[value]
        elif kind == "UR":
            bits = np.full(32, self.UR[value], U32)
        elif kind == "c":
            bits = np.full(32, self.constants.get(value, 0), U32)
        elif kind == "zero":
            bits = np.zeros(32, U32)
        else:
            bits = value
        return bits, negative, inverted, absolute

    def int32(self, text: str) -> np.ndarray:
        bits, negative, inverted, _ = self._bits(text)
        if negative:
            bits = (~bits) + U32(1)
        return ~bits if inverted else bits

    def float32(self, text: str) -> np.ndarray:
        plain = _plain_number(text)
        if plain is not None:
            return plain
        bits, negative, _, absolute = self._bits(text)
        value = bits.view(F32)
        if absolute:
            value = np.abs(value)
        return -value if negative else value

    def int64(self, text: str) -> np.ndarray:
        negative, text = text[0] == "-", text.lstrip("-")
        kind, number = _register(text)
        if not kind:
            value = self.int32(text).astype(U64)
        elif number is None:
            value = np.zeros(32, U64)
        elif kind == "R":
            value = self.R[number].astype(U64) | (self.R[number + 1].astype(U64) << U64(32))
        else:
            value = np.full(32, self.UR[number] | (self.UR[number + 1] << 32), U64)
        return (~value) + U64(1) if negative else value

    def float64(self, text: str) -> np.ndarray:
        negative, text = text[0] == "-", text.lstrip("-")
        absolute, text = text[0] == "|", text.strip("|")
        value = self.int64(text).view(np.float64) if _register(text)[0] else np.full(32, float(text))
        if absolute:
            value = np.abs(value)
        return -value if negative else value

    def predicate(self, text: str) -> np.ndarray:
        inverted, text = text[0] == "!", text.lstrip("!")
        if text.startswith("UP"):
            value = np.full(32, self.UP[7 if text == "UPT" else int(text[2:])])
        else:
            value = self.P[7 if text == "PT" else int(text[1:])]
        return ~value if inverted else value

    def set32(self, text: str, value: np.ndarray, lanes: np.ndarray) -> None:
        kind, number = _register(text)
        if number is None:
            return
        if kind == "UR":
            self.UR[number] = int(value[np.argmax(lanes)])
        else:
            self.R[number][lanes] = value.astype(U32, copy=False)[lanes]

    def set64(self, text: str, value: np.ndarray, lanes: np.ndarray) -> None:
        kind, number = _register(text)
        if number is not None:
            value = value.astype(U64, copy=False)
            self.set32(f"{kind}{number}", (value & LOW).astype(U32), lanes)
            self.set32(f"{kind}{number + 1}", (value >> U64(32)).astype(U32), lanes)

    def set_predicate(self, text: str, value: np.ndarray, lanes: np.ndarray) -> None:
        if text in ("PT", "UPT"):
            return
        if text.startswith("UP"):
            self.UP[int(text[2:])] = bool(value[np.argmax(lanes)])
        else:
            self.P[int(text[1:])][lanes] = value[lanes]

    def address(self, text: str) -> np.ndarray:
        """The addresses (32,) uint64 of [R8+0x10], desc[UR6][R8.64+0x10] or [UR4+R2.X4+0x8]."""
        total = np.zeros(32, U64)
        for part, kind, number in _address_parts(text):
            if kind == "R":
                total = total + self.R[number].astype(U64)
            elif kind == "wide":
                total = total + self.int64(part)
            elif kind == "scaled":
                total = total + self.R[number[0]].astype(U64) * U64(number[1])
            elif kind == "UR":
                total = total + U64(self.UR[number])
            else:
                total = total + U64(number)
        return total

    def release(self, barrier: int) -> None:
        """Lets the lanes at a convergence barrier go on where all that are to meet there have come."""
        waiting, needed = self.waits_for == barrier, self.meeting[barrier] & self.alive
        if (waiting & needed == needed).all():
            self.waits_for[waiting] = -1


@lru_cache(None)
def _address_parts(text: str) -> list[tuple[str, str, object]]:
    parts = []
    for part in re.findall(r"[-+]?[^-+]+", text[text.rindex("[") :].strip("[]")):
        part = part.lstrip("+")
        if found := re.match(r"^R(\d+)(\.U32)?$", part):
            parts.append((part, "R", int(found[1])))
        elif re.match(r"^R\d+\.64$", part):
            parts.append((part[:-3], "wide", None))
        elif found := re.match(r"^R(\d+)\.X(\d+)$", part):
            parts.append((part, "scaled", (int(found[1]), int(found[2]))))
        elif found := re.match(r"^UR(\d+)", part):
            parts.append((part, "UR", int(found[1])))
        elif part != "RZ":
            parts.append((part, "number", int(part, 16) & 0xFFFFFFFFFFFFFFFF))
    return parts
