"""Each function computes an arithmetic instruction of sm_90 for the 32 lanes of a warp at once.

Only what the kernel uses is here; another instruction ends the model with its text. Products of tensor cores (HMMA,
IMMA) leave their sum as it was: they take their time, but their numbers are not worked out. No drawn level depends on
them, since the model plays what other blocks give.
"""

import re
from collections.abc import Callable

import numpy as np

from bench.gpu.cycle_model.registers import F32, LANES, LOW, U32, U64, low32, signed

COMPUTE: dict[str, Callable] = {}
"""By the instruction's name: (warp, instruction, lanes) -> its own latency, or None for the usual one."""
_PREDICATE = re.compile(r"^U?P(\d|T)$")


def computes(*names: str) -> Callable:
    def keep(function: Callable) -> Callable:
        COMPUTE.update(dict.fromkeys(names, function))
        return function

    return keep


def _lookup(a: np.ndarray, b: np.ndarray, c: np.ndarray, table: int, result: np.ndarray) -> np.ndarray:
    """The function of three bits that the table gives, bit by bit."""
    for k in range(8):
        if table >> k & 1:
            result = result | (a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c)
    return result


def _compare(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return {"EQ": x == y, "NE": x != y, "GT": x > y, "GE": x >= y, "LT": x < y, "LE": x <= y}[name]


def _set_both(w, i, lanes, result: np.ndarray, combined: str) -> None:
    """A comparison's result and its opposite, each joined with a predicate."""
    other = w.predicate(combined)
    yes, no = (result | other, ~result | other) if "OR" in i.mods else (result & other, ~result & other)
    w.set_predicate(i.args[0], yes, lanes)
    w.set_predicate(i.args[1], no, lanes)


def _carries(args: list[str]) -> tuple[str, list[str], list[str]]:
    """The register that is written, the predicates that take carries, and the rest."""
    rest, carries = list(args), []
    target = rest.pop(0)
    while rest and _PREDICATE.match(rest[0]):
        carries.append(rest.pop(0))
    return target, carries, rest


@computes("HFMA2")
def half_constant(w, i, lanes):
    high, low = (int(np.float16(float(x)).view(np.uint16)) for x in i.args[3:5])
    w.set32(i.args[0], np.full(32, high << 16 | low, U32), lanes)


@computes("HMMA", "IMMA")
def tensor_product(w, i, lanes):
    first = int(i.args[0][1:])
    addend = None if i.args[3] == "RZ" else int(i.args[3][1:])
    for k in range(4):
        w.set32(f"R{first + k}", np.zeros(32, U32) if addend is None else w.R[addend + k].copy(), lanes)
    return 33


@computes("UIMAD")
def uniform_multiply_add(w, i, lanes):
    first, wide = int(i.args[0][2:]), "WIDE" in i.mods
    x, y = int(w.int32(i.args[1])[0]), int(w.int32(i.args[2])[0])
    z = int((w.int64 if wide else w.int32)(i.args[3])[0])
    value = (x * y + z) & 0xFFFFFFFFFFFFFFFF
    w.UR[first] = value & 0xFFFFFFFF
    if wide:
        w.UR[first + 1] = value >> 32


@computes("IMAD")
def multiply_add(w, i, lanes):
    target, kind = i.args[0], i.mods[:1]
    if kind == ("MOV",):
        w.set32(target, w.int32(i.args[3]), lanes)
        return
    x, y = w.int32(i.args[1]), w.int32(i.args[2])
    if kind in (("WIDE",), ("HI",)):
        product = x.astype(U64) * y.astype(U64) if "U32" in i.mods else (signed(x) * signed(y)).view(U64)
        total = product + w.int64(i.args[3])  # also HI adds a pair of registers, of which it keeps the upper half
        if kind == ("WIDE",):
            w.set64(target, total, lanes)
        else:
            w.set32(target, (total >> U64(32)).astype(U32), lanes)
        return
    value = x * y + w.int32(i.args[3])
    if "X" in i.mods:
        value = value + w.predicate(i.args[4]).astype(U32)
    w.set32(target, value, lanes)


@computes("IADD3", "UIADD3")
def add3(w, i, lanes):
    target, carries, rest = _carries(i.args)
    total = sum((w.int32(x).astype(U64) for x in rest[:3]), np.zeros(32, U64))
    if "X" in i.mods:  # inverted operands of a subtraction come as ~R
        for carry in rest[3:]:
            total = total + w.predicate(carry).astype(U64)
    else:  # a negated operand is its complement plus one, which carries where it is 0
        for x in rest[:3]:
            if x[0] == "-":
                total = total + ((w.int32(x[1:]) == 0).astype(U64) << U64(32))
    w.set32(target, (total & LOW).astype(U32), lanes)
    for n, carry in enumerate(carries):
        w.set_predicate(carry, (total >> U64(32)) > n, lanes)


@computes("VIADD")
def add(w, i, lanes):
    w.set32(i.args[0], w.int32(i.args[1]) + w.int32(i.args[2]), lanes)


@computes("MOV", "UMOV", "R2UR")
def move(w, i, lanes):
    w.set32(i.args[0], w.int32(i.args[1]), lanes)


@computes("LOP3", "ULOP3")
def logic3(w, i, lanes):
    args = list(i.args)
    predicate = args.pop(0) if re.match(r"^U?P\d$", args[0]) else None
    result = _lookup(*(w.int32(x) for x in args[1:4]), int(args[4], 16), np.zeros(32, U32))
    w.set32(args[0], result, lanes)
    if predicate:
        w.set_predicate(predicate, result != 0, lanes)


@computes("PLOP3")
def predicate_logic3(w, i, lanes):
    result = _lookup(*(w.predicate(x) for x in i.args[2:5]), int(i.args[5], 16), np.zeros(32, bool))
    w.set_predicate(i.args[0], result, lanes)
    w.set_predicate(i.args[1], ~result, lanes)


@computes("ISETP", "UISETP")
def compare_integers(w, i, lanes):
    x, y = w.int32(i.args[2]), w.int32(i.args[3])
    x, y = (x.astype(np.int64), y.astype(np.int64)) if "U32" in i.mods else (signed(x), signed(y))
    name = i.mods[0]
    result = _compare(name, x, y)
    if "EX" in i.mods:  # of 64 bits: the lower halves were compared before
        lower, equal = w.predicate(i.args[5]), x == y
        strict = {"GE": "GT", "LE": "LT"}.get(name, name)
        result = {"EQ": equal & lower, "NE": ~equal | lower}.get(name, _compare(strict, x, y) | (equal & lower))
    _set_both(w, i, lanes, result, i.args[4])


@computes("FSETP")
def compare_floats(w, i, lanes):
    x, y, name = w.float32(i.args[2]), w.float32(i.args[3]), i.mods[0]
    unordered = np.isnan(x) | np.isnan(y)
    if name in ("NAN", "NUM"):
        result = unordered if name == "NAN" else ~unordered
    else:
        result = _compare(name[:2], x, y)
    if name.endswith("U") and len(name) == 3:
        result = result | unordered
    elif name == "NE":
        result = result & ~unordered
    _set_both(w, i, lanes, result, i.args[4])


@computes("DSETP")
def compare_doubles(w, i, lanes):
    x, y, name = w.float64(i.args[2]), w.float64(i.args[3]), i.mods[0]
    result = {"NAN": np.isnan(x) | np.isnan(y), "GT": x > y, "GE": x >= y}.get(name, x < y)
    w.set_predicate(i.args[0], result, lanes)
    w.set_predicate(i.args[1], ~result, lanes)


@computes("SEL", "FSEL", "USEL")
def select(w, i, lanes):
    read = (lambda x: w.float32(x).view(U32)) if i.op == "FSEL" else w.int32
    w.set32(i.args[0], np.where(w.predicate(i.args[3]), read(i.args[1]), read(i.args[2])), lanes)


@computes("SHF", "USHF")
def funnel_shift(w, i, lanes):
    low, high, right = w.int32(i.args[1]), w.int32(i.args[3]), "R" in i.mods
    shift = w.int32(i.args[2]).astype(U64) & U64(63)
    full = (high.astype(U64) << U64(32)) | low.astype(U64)
    shift32 = shift & U64(31) if "W" in i.mods else np.minimum(shift, U64(32))
    if "HI" not in i.mods:
        result = full >> shift32 if right else low.astype(U64) << np.minimum(shift, U64(40))
    elif not right:
        result = (full << shift32) >> U64(32)
    elif "U64" in i.mods:
        result = full >> shift >> U64(32)
    elif "S64" in i.mods:
        result = ((full.view(np.int64) >> shift.astype(np.int64)) >> 32).view(U64)
    elif "S32" in i.mods:
        result = (signed(high) >> np.minimum(shift32.astype(np.int64), 31)).view(U64)
    else:
        result = high.astype(U64) >> shift32
    w.set32(i.args[0], (result & LOW).astype(U32), lanes)


@computes("LEA", "ULEA")
def shift_add(w, i, lanes):
    target, carries, rest = _carries(i.args)
    x, y = w.int32(rest[0]), w.int32(rest[1])
    if "HI" in i.mods:  # the upper half of a 64-bit number that is shifted
        if "SX32" in i.mods:
            upper, shift, predicates = (signed(x) >> 31).view(U64) & LOW, rest[2], rest[3:]
        else:
            upper, shift, predicates = w.int32(rest[2]).astype(U64), rest[3], rest[4:]
        shifted = (((upper << U64(32)) | x.astype(U64)) << U64(int(shift, 16))) >> U64(32)
    else:
        shifted, predicates = x.astype(U64) << U64(int(rest[2], 16)), []
    total = (shifted & LOW) + y.astype(U64)
    for carry in predicates if "X" in i.mods else []:
        total = total + w.predicate(carry).astype(U64)
    w.set32(target, (total & LOW).astype(U32), lanes)
    for n, carry in enumerate(carries):
        w.set_predicate(carry, (total >> U64(32)) > n, lanes)


@computes("PRMT")
def permute_bytes(w, i, lanes):
    x, y = w.int32(i.args[1]), w.int32(i.args[3])
    selector = w.int32(i.args[2]).astype(np.int64)
    parts = np.stack([(word >> U32(8 * k)) & U32(255) for word in (x, y) for k in range(4)])
    result = np.zeros(32, U32)
    for k in range(4):
        which = (selector >> (4 * k)) & 15
        byte = parts[which & 7, LANES]
        byte = np.where(which & 8, np.where(byte & U32(128), U32(255), U32(0)), byte)
        result |= byte.astype(U32) << U32(8 * k)
    w.set32(i.args[0], result, lanes)


@computes("FMNMX")
def min_max_float(w, i, lanes):
    x, y = w.float32(i.args[1]), w.float32(i.args[2])
    least, most = (np.minimum, np.maximum) if "NAN" in i.mods else (np.fmin, np.fmax)
    value = np.where(w.predicate(i.args[3]), least(x, y), most(x, y))
    w.set32(i.args[0], value.astype(F32).view(U32), lanes)


@computes("VIMNMX", "VIADDMNMX")
def min_max(w, i, lanes):
    if i.op == "VIMNMX":
        x, y, least = w.int32(i.args[1]), w.int32(i.args[2]), w.predicate(i.args[3])
    else:
        x, y = w.int32(i.args[1]) + w.int32(i.args[2]), w.int32(i.args[3])
        least = w.predicate(i.args[4])
    a, b = (x.astype(np.int64), y.astype(np.int64)) if "U32" in i.mods else (signed(x), signed(y))
    w.set32(i.args[0], np.where(np.where(least, a < b, a > b), x, y), lanes)


@computes("VIMNMX3")
def min_max3(w, i, lanes):
    x, y, z = (signed(w.int32(a)) for a in i.args[1:4])
    least, greatest = np.minimum(np.minimum(x, y), z), np.maximum(np.maximum(x, y), z)
    w.set32(i.args[0], low32(np.where(w.predicate(i.args[4]), least, greatest)), lanes)
