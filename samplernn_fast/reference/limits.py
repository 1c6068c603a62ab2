"""What an engine may be given: seed, temperature, top-k, top-p, threads. No torch, so that a command can refuse before
it loads.
"""

import numbers

from samplernn_fast.errors import ConfigError
from samplernn_fast.ranges import Range

SEED = Range(0, 2**64 - 1)
"""Seeds have 64 bits."""
LEVELS = 1 << 16
"""No model has more levels."""
STREAMS = Range(1, 2**32)
"""How many streams there may be, as their numbers have 32 bits."""
STREAM_NUMBERS = Range(0, 2**32 - 1)
THREADS = Range(1, 256)
"""Threads of the `cpu` backend; its twin is `kMostThreads` in `csrc/cpu/team.h`."""
TOP_P = Range(0, 1, above=True)
"""Draw from the likeliest levels that together have this probability; 1 is off."""


def check_seed(seed: int) -> int:
    """Returns the seed; ConfigError unless it is a whole number of 64 bits."""
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or not 0 <= seed < 2**64:
        hint = "; None draws one in generate and stream" if isinstance(seed, str) else ""
        raise ConfigError(f"seed must be a whole number from 0 to 2^64 - 1, got {seed!r:.60}{hint}")
    return int(seed)


def random_seed() -> int:
    """A seed that nobody has chosen, short enough to be typed again: 32 bits from the system."""
    import secrets  # here, because it loads hashes that a help text does without

    return secrets.randbits(32)


def check_temperature(temperature: float) -> float:
    """Returns the temperature; ConfigError unless it is 0 (always the likeliest level) or positive and finite."""
    if not isinstance(temperature, numbers.Real) or not (temperature == 0 or 1e-3 <= temperature <= 1e3):
        raise ConfigError(f"temperature must be 0 or between 0.001 and 1000, got {temperature!r}")
    return float(temperature)


def check_truncation(top_k: int | None, top_p: float | None, q_levels: int = LEVELS) -> tuple[int, float]:
    """(top_k, top_p) with 0 and 1.0 for "off"; ConfigError when one is out of range, for a model of `q_levels`."""
    if top_k is not None:
        Range(1, q_levels, unit="levels").check("top_k", top_k, whole=True)
    if top_p is not None:
        TOP_P.check("top_p", top_p)
    return int(top_k or 0), float(1.0 if top_p is None else top_p)
