"""A model check of the two exchange protocols of csrc/cuda/exchange.cuh: every order of the steps of three blocks and
of the arrival of their stores, for short programs of the kernel's kinds."""

import pytest

BLOCKS = 3
# Exchanges in the order in which all blocks take part: (place, count). Names as in cuda_plan.exchange_names.
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
    for place, count in program:
        steps.append(("store", (place, count % buffers), count))
        again = [before[other] for other in before if other != place]
        for slot, tag in [*again, ((place, count % buffers), count)]:
            steps += [("look" if wait else "read", (*slot, other), tag) for other in range(BLOCKS)]
        before[place] = ((place, count % buffers), count)
    return steps


def counter_program(program, buffers=2, release=True):
    """Steps of one block: a store, a count after it, a wait for all counts, then reads that wait for nothing."""
    steps = []
    for number, (place, count) in enumerate(program, 1):
        steps += [("store", (place, count % buffers), count), ("count" if release else "count early", None, 0)]
        steps.append(("wait", None, number))
        steps += [("read", (place, count % buffers, other), count) for other in range(BLOCKS)]
    return steps


def explore(program, start=0, modulus=1 << 32):
    """Visits every state. Broken when one reads the wrong result, or when nobody can go on before the end."""
    first = ((0,) * BLOCKS, frozenset(), (), start)
    seen, waiting = {first}, [first]
    while waiting:
        state = waiting.pop()
        following = list(successors(state, program, start, modulus))
        if not following and any(at < len(program) for at in state[0]):
            raise Broken(f"nobody can go on: {[program[at][0] for at in state[0] if at < len(program)]}")
        for one in following:
            if one not in seen:
                seen.add(one)
                waiting.append(one)
    return len(seen)


def successors(state, program, start, modulus):
    """States one step later: a store arrives (those to one place in their order), or a block goes on."""
    ats, memory, flying, counter = state
    contents = dict(memory)
    for index, (slot, tag) in enumerate(flying):
        if all(slot != earlier for earlier, _ in flying[:index]):
            arrived = frozenset((contents | {slot: tag}).items())
            yield ats, arrived, flying[:index] + flying[index + 1 :], counter
    for block, at in enumerate(ats):
        if at == len(program):
            continue
        kind, slot, value = program[at]
        on = (*ats[:block], at + 1, *ats[block + 1 :])
        if kind == "store":
            yield on, memory, (*flying, ((*slot, block), value)), counter
        elif kind == "look" and contents.get(slot) == value:
            yield on, memory, flying, counter
        elif kind == "count early" or (kind == "count" and all(slot[2] != block for slot, _ in flying)):
            yield on, memory, flying, (counter + 1) % modulus
        elif kind == "wait":
            ahead = (counter - start - value * BLOCKS) % modulus
            if ahead < modulus // 2:
                yield on, memory, flying, counter
        elif kind == "read":
            if contents.get(slot) != value:
                raise Broken(f"block {block} reads {contents.get(slot)} of {slot}, not {value}")
            yield on, memory, flying, counter


every_program = pytest.mark.parametrize("name", PROGRAMS)


@every_program
def test_tagged_packets_lose_nothing(name):
    assert explore(tagged_program(PROGRAMS[name])) > 1000


@every_program
def test_counters_lose_nothing(name):
    assert explore(counter_program(PROGRAMS[name])) > 1000


@every_program
@pytest.mark.parametrize("before", [1, 4, 7])
def test_a_counter_may_pass_its_largest_number(name, before):
    """As it does after 2^32 counts: here after 16, of which `before` are left."""
    assert explore(counter_program(PROGRAMS[name]), start=16 - before, modulus=16) > 1000


def test_the_check_sees_a_single_buffer():
    with pytest.raises(Broken, match="nobody can go on"):
        explore(tagged_program(PROGRAMS["forced samples"], buffers=1))
    with pytest.raises(Broken, match="reads"):
        explore(counter_program(PROGRAMS["forced samples"], buffers=1))


def test_the_check_sees_a_missing_wait_and_a_missing_release():
    with pytest.raises(Broken, match="reads"):
        explore(tagged_program(PROGRAMS["samples"], wait=False))
    with pytest.raises(Broken, match="reads"):
        explore(counter_program(PROGRAMS["samples"], release=False))
