"""The parts of the `bench` command, which bench/sampling_speed.py runs too: `contestants` says what is timed, `checks`
what must be right first, `timing` how it is timed, and `plain_torch` is what it is compared with."""
