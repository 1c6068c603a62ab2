"""The cycles that things take on one multiprocessor of sm_90.

Latencies of instructions come from published microbenchmarks of Volta to Hopper: shared memory 29, shuffles 24, special
functions and conversions 20 to 22, L2 about 280. A barrier (20 after the last warp) is a guess.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """These numbers depend on the hardware around the instructions, in cycles.

    Those of exchanges in a cluster and the rates of L2 are what an H100 was measured to take (docs/predictions.md,
    "Latencies and bandwidth"). `stored` and those of instruction caches were chosen so that the model comes near to
    what an H200 took for one stream in int8, and to how long its warps waited for instructions. Those of branches,
    votes and reductions follow from where warps stood still there (Nsight Compute).
    """

    load: int = 280
    """L2, from the load to its result."""
    stored: int = 950
    """From the store of a packet until the others' packets are in L2, where warps wait with their first look."""
    push: int = 650
    """The same into the shared memory of a cluster's blocks."""
    push_rate: float = 11.0
    """Bytes a cycle that arrive in one block."""
    l2_rate: float = 28.0
    """Bytes a cycle that one block reads, where the near half of L2 holds all that is read."""
    far_l2_rate: float = 13.0
    """One block reads so many where it does not."""
    fetch: int = 55
    """From the request of a line of instructions until a scheduler has it. 0: instructions are always there."""
    fetch_each: int = 12
    """Between two such requests."""
    branch: int = 20
    """A warp that takes a branch goes on so much later."""
    vote: int = 40
    """B2R, which reads the result of a barrier that votes."""
    reduction: int = 34
    """REDUX over the lanes of a warp."""
    barrier: int = 20
    l1_lines: int = 180
    """Lines of 128 bytes that shared memory leaves to L1."""


PUBLISHED = Timing(stored=350, push=230, l2_rate=30.8, far_l2_rate=30.8, fetch=0, branch=8, vote=20, reduction=30)
"""These were expected before anything was measured on a GPU."""

LATENCY = {
    **{"LDS": 29, "SHFL": 24, "MUFU": 22, "F2I": 20, "I2F": 20, "F2F": 22, "FCHK": 22},
    **{"FLO": 18, "BREV": 18, "POPC": 18, "S2R": 25, "S2UR": 25, "LDC": 35, "ULDC": 15},
    **{"DSETP": 12, "VOTE": 12, "P2R": 10, "R2UR": 15, "CS2R": 10, "IMAD": 6},
}
"""From an instruction's issue to its result, where it sets a scoreboard."""
USUAL_LATENCY = 6
L1_LATENCY = 38
"""A load takes so long that finds what it wants in the first-level cache."""
NEAR_L2_BYTES = 25_000_000
"""The half of an H100's L2 that is near to a multiprocessor holds so many."""
OPERANDS_READ = 12
"""Until an instruction's operands may be overwritten."""

_INTEGER = {"IADD3", "LOP3", "ISETP", "SHF", "VIADD", "LEA", "SEL", "FSEL", "PRMT", "VIMNMX", "VIMNMX3", "VIADDMNMX"}
_INTEGER |= {"IMAD", "IDP", "FSETP", "FMNMX", "I2FP", "PLOP3", "MOV", "BMSK", "SGXT"}
_SPECIAL = {"MUFU", "F2I", "I2F", "F2F", "FCHK", "FLO", "BREV", "POPC"}
_DOUBLE = {"DFMA", "DMUL", "DADD"}


def pipe_of(op: str, mods: tuple[str, ...]) -> tuple[str, int] | None:
    """The pipe that an instruction takes for longer than its issue, and for how many cycles."""
    if op in _INTEGER and not (op == "IMAD" and mods[:1] == ("MOV",)):
        return "integer", 2
    if op in _SPECIAL:
        return "special", 8
    return ("double", 2) if op in _DOUBLE else None
