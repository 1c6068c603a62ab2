"""A model check of the exchange protocols of csrc/cuda/device/exchange.cuh: every order of the steps of three blocks
and of the arrival of their stores, for short programs of the kernel's kinds."""

import pytest

BLOCKS = 3
# Exchanges in the order in which all blocks take part: (place, sequence number). Names as in constants.exchange_names.
PROGRAMS = {
    "samples": [("mlp", 1), ("logits", 1), ("mlp", 2), ("logits", 2), ("mlp", 3), ("logits", 3)],
    "forced samples": [("state", 1), ("state", 2), ("state", 3), ("state", 4)],
    "frames": [("state", 1), ("mlp", 1), ("mlp", 2), ("state", 2), ("mlp", 3), ("state", 3)],
}


class Broken(Exception):
    """A result was lost, stale or waited for in vain."""


def tagged_program(program, buffers=2, wait=True):
    """Steps of one block: a store of its own packet, then a look at each packet of the others. An old result is read
    again once the next exchange is under way, as products in the background do."""
    steps, before = [], {}
    for place, sequence in program:
        steps.append(("store", (place, sequence % buffers), sequence))
        again = [before[other] for other in before if other != place]
        for slot, wanted in [*again, ((place, sequence % buffers), sequence)]:
            steps += [("look" if wait else "read", (*slot, other), wanted) for other in range(BLOCKS)]
        before[place] = ((place, sequence % buffers), sequence)
    return steps


def turns_program(program, buffers=2):
    """Does the same with packets that tell only their turn, and of which nobody reads an old one again."""
    steps = []
    for place, sequence in program:
        slot = (place, sequence % buffers)
        steps.append(("store", slot, sequence))
        steps += [("look at turn", (*slot, other), sequence) for other in range(BLOCKS)]
    return steps


def turn_of(sequence):
    """The sign of a packet of 4 bytes (csrc/cuda/device/packets.cuh); 0 stands for a buffer that was never used."""
    return (sequence + 1) >> 1 & 1


def cluster_program(program, buffers=2, clear=True, begin=True, end=True):
    """As tagged, with a copy of every packet in the memory of each reader, which is cleared first. The blocks meet
    then, and before they leave. The last result of a launch may be one that nobody reads in it."""
    steps = [("clear", None, 0)] * clear + [("arrive", None, 1), ("meet", None, 1)] * begin
    for kind, slot, sequence in tagged_program(program, buffers)[:-BLOCKS]:
        steps.append(("push" if kind == "store" else "look at own", slot, sequence))
    return [*steps, *[("arrive", None, 2), ("meet", None, 2)] * end, ("leave", None, 0)]


def left_behind(program):
    """What memory may hold at the start of a launch: packets of the launch before, the newest of every buffer."""
    slots = {((place, sequence % 2), sequence) for place, sequence in program}
    return {
        (*slot, writer, reader): f"old {sequence}"
        for slot, sequence in sorted(slots, key=lambda one: -one[1])
        for writer in range(BLOCKS)
        for reader in range(BLOCKS)
    }


def explore(program, memory=()):
    """Visits every state of blocks that run one program, from what memory holds at the start. Broken when one reads the
    wrong result, or when nobody can go on before the end."""
    programs = [program] * BLOCKS
    first = ((0,) * len(programs), frozenset(memory), ())
    seen, waiting = {first}, [first]
    while waiting:
        state = waiting.pop()
        following = list(successors(state, programs))
        at_work = [its[at][0] for its, at in zip(programs, state[0], strict=True) if at < len(its)]
        if not following and at_work:
            raise Broken(f"nobody can go on: {at_work}")
        for one in following:
            if one not in seen:
                seen.add(one)
                waiting.append(one)
    return len(seen)


def successors(state, programs):
    """States one step later: a store arrives (those to one place in their order), or a block goes on."""
    ats, memory, flying = state
    contents = dict(memory)
    for index, (slot, sequence) in enumerate(flying):
        if all(slot != earlier for earlier, _ in flying[:index]):
            arrived = frozenset((contents | {slot: sequence}).items())
            yield ats, arrived, flying[:index] + flying[index + 1 :]
    for block, (at, program) in enumerate(zip(ats, programs, strict=True)):
        if at == len(program):
            continue
        kind, slot, value = program[at]
        on = (*ats[:block], at + 1, *ats[block + 1 :])
        if kind == "store":
            yield on, memory, (*flying, ((*slot, block), value))
        elif kind == "look" and contents.get(slot) == value:
            yield on, memory, flying
        elif kind == "look at turn":
            found = contents.get(slot, 0)
            if turn_of(found) == turn_of(value):
                if found != value:
                    raise Broken(f"block {block} reads {found} of {slot}, not {value}")
                yield on, memory, flying
        elif kind in CLUSTER_STEPS:
            yield from cluster_step(state, program, block, on)
        elif kind == "read":
            if contents.get(slot) != value:
                raise Broken(f"block {block} reads {contents.get(slot)} of {slot}, not {value}")
            yield on, memory, flying


CLUSTER_STEPS = ("clear", "push", "look at own", "arrive", "meet", "leave")


def cluster_step(state, program, block, on):
    """The state after a block's step, if it can go on. Slots end with the writer and the reader."""
    ats, memory, flying = state
    kind, slot, value = program[ats[block]]
    contents = dict(memory)
    if kind == "clear":
        yield on, frozenset(one for one in memory if one[0][-1] != block), flying
    elif kind == "push":
        others = [reader for reader in range(BLOCKS) if reader != block]
        if any(ats[reader] == len(program) for reader in others):
            raise Broken(f"block {block} pushes {slot} to one that has left")
        own = frozenset((contents | {(*slot, block, block): value}).items())
        yield on, own, flying + tuple(((*slot, block, reader), value) for reader in others)
    elif kind == "look at own":
        found = contents.get((*slot, block))
        if found == f"old {value}":
            raise Broken(f"block {block} takes {slot} of the launch before")
        if found == value:
            yield on, memory, flying
    elif kind == "leave":
        if any(target[-1] == block for target, _ in flying):
            raise Broken(f"block {block} leaves while a packet is on its way to it")
        yield on, memory, flying
    elif kind == "arrive":  # once what it has pushed is there
        if all(target[-2] != block for target, _ in flying):
            yield on, memory, flying
    elif all(at > program.index(("arrive", None, value)) for at in ats):  # meet
        yield on, memory, flying


every_program = pytest.mark.parametrize("name", PROGRAMS)


@every_program
def test_tagged_packets_lose_nothing(name):
    assert explore(tagged_program(PROGRAMS[name])) > 1000


# A turn comes again after four exchanges of a place.
TURNS = [("mlp", sequence) for sequence in range(1, 7)]


def test_turns_are_enough_where_no_number_is_left_out():
    assert explore(turns_program(TURNS)) > 1000


@pytest.mark.parametrize("program", [TURNS[:1] + TURNS[4:], TURNS[:2] + TURNS[3:]], ids=["four later", "one later"])
def test_the_check_sees_a_turn_after_a_gap(program):
    with pytest.raises(Broken):
        explore(turns_program(program))


def test_the_check_sees_a_single_buffer():
    with pytest.raises(Broken, match="nobody can go on"):
        explore(tagged_program(PROGRAMS["forced samples"], buffers=1))
    with pytest.raises(Broken, match="nobody can go on"):
        explore(cluster_program(PROGRAMS["forced samples"], buffers=1))


def test_the_check_sees_a_missing_wait():
    with pytest.raises(Broken, match="reads"):
        explore(tagged_program(PROGRAMS["samples"], wait=False))


# Every reader has a copy of its own, which makes many more states.
SHORT = PROGRAMS["forced samples"][:3]


def test_packets_pushed_into_a_cluster_lose_nothing():
    assert explore(cluster_program(SHORT), memory=left_behind(SHORT).items()) > 1000


@pytest.mark.parametrize(
    ("without", "problem"),
    [("clear", "of the launch before"), ("begin", "nobody can go on"), ("end", "on its way to it|that has left")],
)
def test_the_check_sees_what_a_cluster_leaves_out(without, problem):
    with pytest.raises(Broken, match=problem):
        explore(cluster_program(SHORT, **{without: False}), memory=left_behind(SHORT).items())
