"""Four-bit weights of one matrix, such that the products with its inputs change least.

GPTQ (Frantar et al. 2023) rounds column after column and lets the columns behind it make good the error; then every
code is rounded once more, given all others. The inputs x count by their Gram matrix, the sum of x xT, which says how
one column can stand in for another. Letters: K inputs.
"""

import numpy as np

from samplernn_fast.reference.modes import CODE_RANGE, FACTOR_LIMIT, GROUP, FourBits

_DAMPING = 0.01  # share of the Gram matrix's mean diagonal that is added to it, so that it can be inverted
_SWEEPS = 3  # how often every code is rounded once more; further sweeps change next to nothing
_LEAST = 1e-30  # a row whose largest weight is below this is a row of zeros


def choose(weight: np.ndarray, gram: np.ndarray) -> FourBits:
    """The four-bit form of a matrix (rows, K) for inputs of which gram (K, K) is the sum of x xT."""
    scales = np.abs(weight).max(axis=1, initial=0).astype(np.float32) / np.float32(-CODE_RANGE[0] * FACTOR_LIMIT)
    per_unit = np.where(scales > _LEAST, 1 / np.where(scales > _LEAST, scales, 1), 0).astype(np.float32)
    wanted = weight.astype(np.float32) * per_unit[:, None]  # in units of the row's scale, as all that follows
    damped = _damped(gram)
    codes, factors = _round_in_order(wanted, damped)
    _round_again(wanted, damped.astype(np.float32), codes, factors)
    return FourBits(codes.astype(np.int8), factors.astype(np.int8), scales)


def _damped(gram: np.ndarray) -> np.ndarray:
    """The Gram matrix in float64, with a mean diagonal of 1 and more, so that it can be inverted."""
    exact = gram.astype(np.float64)
    mean = float(np.diagonal(exact).mean())
    exact = exact / mean if mean > 0 else np.zeros_like(exact)
    exact[np.diag_indices(len(exact))] += _DAMPING if mean > 0 else 1.0
    return exact


def _groups(inputs: int) -> list[slice]:
    return [slice(first, min(first + GROUP, inputs)) for first in range(0, inputs, GROUP)]


def _round_in_order(wanted: np.ndarray, gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """GPTQ: codes (rows, K) and factors (rows, groups), as float32."""
    inverse = np.linalg.cholesky(np.linalg.inv(gram)).T.astype(np.float32)  # upper U with UT U = the inverse
    left, codes = wanted.copy(), np.zeros_like(wanted)
    groups = _groups(wanted.shape[1])
    factors = np.ones((len(wanted), len(groups)), np.float32)
    importance = 1 / np.square(np.diagonal(inverse))
    for index, group in enumerate(groups):
        block = left[:, group]
        step = factors[:, index] = _factors(block, importance[group])
        errors = np.empty_like(block)
        for place, column in enumerate(range(group.start, group.stop)):
            codes[:, column] = np.clip(np.rint(block[:, place] / step), *CODE_RANGE)
            errors[:, place] = (block[:, place] - codes[:, column] * step) / inverse[column, column]
            block[:, place + 1 :] -= errors[:, place, None] * inverse[column, column + 1 : group.stop]
        left[:, group.stop :] -= errors @ inverse[group, group.stop :]
    return codes, factors


def _factors(block: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """The factor of each row of a group (rows, K): the one with the least error, by the importance (K,) of columns. A
    negative one lets the code with the largest magnitude stand for a positive weight."""
    best, chosen = np.full(len(block), np.inf, np.float32), np.ones(len(block), np.float32)
    for size in range(1, FACTOR_LIMIT + 1):
        for factor in (np.float32(size), np.float32(-size)):
            rounded = np.clip(np.rint(block / factor), *CODE_RANGE) * factor
            error = np.square(block - rounded) @ importance
            better = error < best
            best[better], chosen[better] = error[better], factor
    return chosen


def _round_again(wanted: np.ndarray, gram: np.ndarray, codes: np.ndarray, factors: np.ndarray) -> None:
    """Rounds every code to what is best while all others stay, in place."""
    groups = _groups(wanted.shape[1])
    steps = np.repeat(factors, GROUP, axis=1)[:, : wanted.shape[1]]
    slope = (codes * steps - wanted) @ gram  # half the derivative of the squared error of the products
    for _ in range(_SWEEPS):
        for index, group in enumerate(groups):
            step, of_group, own = factors[:, index], slope[:, group].copy(), gram[group, group]
            before = codes[:, group].copy()
            for place, column in enumerate(range(group.start, group.stop)):
                better = codes[:, column] - of_group[:, place] / (own[place, place] * step)
                new = np.clip(np.rint(better), *CODE_RANGE)
                of_group += ((new - codes[:, column]) * step)[:, None] * own[place]
                codes[:, column] = new
            slope += ((codes[:, group] - before) * step[:, None]) @ gram[group]
