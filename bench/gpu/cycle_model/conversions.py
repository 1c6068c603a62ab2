"""Floating-point arithmetic, conversions, and what passes between lanes or predicates: see instructions.py."""

import numpy as np

from bench.gpu.cycle_model.instructions import computes
from bench.gpu.cycle_model.registers import F32, LANES, U32, U64, low32, signed


@computes("FADD", "FMUL", "FFMA")
def float_arithmetic(w, i, lanes):
    x, y = w.float32(i.args[1]), w.float32(i.args[2])
    if i.op == "FFMA":
        value = (x.astype(np.float64) * y + w.float32(i.args[3])).astype(F32)
    elif i.op == "FADD":
        value = x + y
        if "RM" in i.mods or "RZ" in i.mods:  # rounded down, or towards zero
            larger, smaller = np.where(np.abs(x) >= np.abs(y), (x, y), (y, x)).astype(np.float64)
            error = value - larger - smaller  # exact, though the sum of both need not be
            beyond = error > 0 if "RM" in i.mods else error * value > 0
            towards = F32(-np.inf) if "RM" in i.mods else F32(0)
            value = np.where(beyond, np.nextafter(value, towards), value).astype(F32)
    else:
        value = (x * y).astype(F32)
    w.set32(i.args[0], value.view(U32), lanes)


@computes("DADD", "DMUL", "DFMA")
def double_arithmetic(w, i, lanes):
    x, y = w.float64(i.args[1]), w.float64(i.args[-1] if i.op == "DADD" else i.args[2])
    value = x + y if i.op == "DADD" else x * y
    if i.op == "DFMA":
        value = value + w.float64(i.args[3])
    w.set64(i.args[0], value.view(U64), lanes)
    return 8


@computes("MUFU")
def special_function(w, i, lanes):
    name = i.mods[0]
    if name == "RCP64H":
        value = (w.int32(i.args[1]).astype(U64) << U64(32)).view(np.float64)
        bits = ((1 / value).view(U64) >> U64(32)).astype(U32)
    else:
        x = w.float32(i.args[1])
        value = {"RCP": lambda: 1 / x, "RSQ": lambda: 1 / np.sqrt(x), "EX2": lambda: np.exp2(x)}[name]()
        bits = value.astype(F32).view(U32)
    w.set32(i.args[0], bits, lanes)


@computes("F2I")
def float_to_integer(w, i, lanes):
    value = np.trunc(w.float32(i.args[1]))
    if "U64" in i.mods:
        w.set64(i.args[0], value.astype(np.float64).astype(U64), lanes)
    else:
        bounded = np.clip(np.nan_to_num(value.astype(np.float64)), -(2**31), 2**31 - 1)
        w.set32(i.args[0], low32(bounded.astype(np.int64)), lanes)


@computes("I2FP", "I2F")
def integer_to_float(w, i, lanes):
    if "U64" in i.mods:
        value = w.int64(i.args[1]).astype(np.float64)
    else:
        x = w.int32(i.args[1])
        value = x.astype(np.float64) if "U32" in i.mods[1:] else signed(x).astype(np.float64)
    w.set32(i.args[0], value.astype(F32).view(U32), lanes)


@computes("F2F")
def float_to_float(w, i, lanes):
    if i.mods[:2] == ("F64", "F32"):
        w.set64(i.args[0], w.float32(i.args[1]).astype(np.float64).view(U64), lanes)
    else:
        w.set32(i.args[0], w.float64(i.args[1]).astype(F32).view(U32), lanes)


@computes("F2FP")
def pair_of_bfloat16(w, i, lanes):
    high, low = (w.float32(x).view(U32) for x in i.args[1:3])
    nearest = [x + U32(0x7FFF) + (x >> U32(16) & U32(1)) for x in (high, low)]  # ties to even; nothing is NaN here
    w.set32(i.args[0], nearest[0] & U32(0xFFFF0000) | nearest[1] >> U32(16), lanes)


@computes("FCHK")
def check_division(w, i, lanes):
    w.set_predicate(i.args[0], np.zeros(32, bool), lanes)  # the slow way is never needed


@computes("IDP")
def dot_product_of_bytes(w, i, lanes):
    x, y = (w.int32(a).copy().view(np.int8).reshape(32, 4).astype(np.int64) for a in i.args[1:3])
    w.set32(i.args[0], low32(signed(w.int32(i.args[3])) + (x * y).sum(axis=1)), lanes)


@computes("P2R")
def predicates_to_register(w, i, lanes):
    bits = sum((w.P[k].astype(U32) << U32(k) for k in range(7)), np.zeros(32, U32))
    w.set32(i.args[0], bits & U32(int(i.args[3], 16)), lanes)


@computes("R2P")
def register_to_predicates(w, i, lanes):
    bits, mask = w.int32(i.args[1]), int(i.args[2], 16)
    for k in range(7):
        if mask >> k & 1:
            w.set_predicate(f"P{k}", (bits >> U32(k) & U32(1)).astype(bool), lanes)


@computes("VOTE")
def vote(w, i, lanes):
    held = w.predicate(i.args[-1]) & lanes
    if "ALL" in i.mods:
        w.set_predicate(i.args[0], np.full(32, (held == lanes).all()), lanes)
    else:
        w.set32(i.args[0], np.full(32, sum(int(bit) << k for k, bit in enumerate(held)), U32), lanes)


@computes("FLO")
def highest_bit(w, i, lanes):
    lengths = [int(value).bit_length() - 1 for value in w.int32(i.args[1])]
    found = [-1 if n < 0 else 31 - n if "SH" in i.mods else n for n in lengths]
    w.set32(i.args[0], low32(np.array(found, np.int64)), lanes)


@computes("BREV")
def reverse_bits(w, i, lanes):
    w.set32(i.args[0], np.array([int(f"{int(x):032b}"[::-1], 2) for x in w.int32(i.args[1])], U32), lanes)


@computes("REDUX")
def reduce_over_warp(w, i, lanes):
    x = w.int32(i.args[1])[lanes]
    value = signed(x).max() if "MAX" in i.mods else x.astype(np.int64).sum()
    w.set32(i.args[0], np.full(32, int(value) & 0xFFFFFFFF, U32), lanes)


@computes("SHFL")
def shuffle(w, i, lanes):
    value, by = w.int32(i.args[2]), w.int32(i.args[3]).astype(np.int64)
    source = {
        "BFLY": LANES ^ by,
        "UP": np.where(LANES - by >= 0, LANES - by, LANES),
        "IDX": by & 31,
        "DOWN": np.where(LANES + by < 32, LANES + by, LANES),
    }[i.mods[0]]
    w.set32(i.args[1], value[source], lanes)
