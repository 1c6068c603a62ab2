"""The compile-time constants of the CUDA kernels, and the names of what they number.

`csrc/cuda/params.h` is the contract. The compiled text works out the sizes of buffers and exports them.
"""

from samplernn_fast.backends.cuda.grouping import Grouping, grid_blocks
from samplernn_fast.models.config import PackedConfig
from samplernn_fast.models.layout import packed_hidden
from samplernn_fast.reference.modes import MODES

EXCHANGES: tuple[str, ...] = ("tagged", "alone", "cluster", "launches")
"""The ways in which blocks tell each other their results; the place of a name is its number, SRNN_EXCHANGE.

"alone" is for groups of one block, "cluster" for groups that are thread block clusters, "launches" for one kernel a
stage (`stages`).
"""
CHOICES: tuple[str, ...] = ("auto", *(name for name in EXCHANGES if name != "alone"))
"""What a caller may ask for: an exchange by its name, or "auto", which chooses, also "alone" where that is better."""
COMPILE_OPTIONS: tuple[str, ...] = ("--std=c++17", "--fmad=false")
"""The options of every compilation. `--fmad=false` keeps the numbers that must be equal on every machine equal."""
NVRTC_OPTIONS: tuple[str, ...] = (*COMPILE_OPTIONS, "-default-device")
"""The options of every compilation by NVRTC. Versions up to 13.1 take a lambda with an `auto` parameter for a function
of the host unless `-default-device` is given. nvcc does not know that option, and does not need it."""


def defines(
    config: PackedConfig,
    dtype: str,
    group: Grouping,
    threads: int,
    shared_bytes: int,
    profile: bool = False,
) -> dict[str, str]:
    """The compile-time constants of params.h.

    threads: the threads of a team, a multiple of 32. shared_bytes: the most shared memory that the device gives a
    block. profile: whether the first block adds up the time of its phases.
    """
    assert group.blocks == grid_blocks(config.dim, group.blocks) and threads % 32 == 0, (group, threads)
    assert group.blocks == 1 or group.exchange != "alone", group
    numbers = {
        "DIM": config.dim,
        "Q": config.q_levels,
        "N_RNN": config.n_rnn,
        "TAPS": config.frame_sizes[0],
        "TIERS": len(config.ratios),
        "HIDDEN": packed_hidden(config),
        "LSTM": int(config.rnn == "lstm"),
        "RESET_AFTER": int(config.reset_after),
        "SKIPS": int(config.skip != "none"),
        "READERS_ALL": int(config.skip == "full"),
        "MODE": MODES.index(dtype),
        "BATCH": group.batch,
        "GROUPS": group.groups,
        "THREADS": threads,
        "TEAMS": group.teams,
        "BLOCKS": group.blocks,
        "SHARED_BYTES": shared_bytes,
        "EXCHANGE": EXCHANGES.index(group.exchange),
        "PROFILE": int(profile),
    }
    texts = {name: str(number) for name, number in numbers.items()}
    texts["FRAME_SIZES"] = ",".join(map(str, config.frame_sizes[1:]))
    return {f"SRNN_{name}": text for name, text in texts.items()}


def exchange_names(config: PackedConfig) -> list[str]:
    """The names of all exchanges; the place of a name is the number that an error word gives."""
    tiers, layers = range(len(config.ratios)), range(config.n_rnn)
    names = [f"hidden state of tier {tier}, layer {layer}" for tier in tiers for layer in layers]
    names += [f"reset state of tier {tier}, layer {layer}" for tier in tiers for layer in layers]
    names += [f"output of tier {tier}" for tier in tiers]
    names += ["upsampling of tier 0 ahead"]
    names += [f"input of MLP layer {layer}" for layer in range(packed_hidden(config) + 1)]
    return [*names, "logits", "levels"]


def phase_names(config: PackedConfig) -> list[str]:
    """The phases of a launch by their row in `Params::profile`; one more row, behind them, is the whole launch."""
    tiers = range(len(config.ratios))
    names = [f"cells of tier {tier}" for tier in tiers] + [f"upsampling of tier {tier}" for tier in tiers]
    names += [
        "products made ahead",
        "input of the MLP",
        *(f"hidden layer {layer}" for layer in range(packed_hidden(config))),
    ]
    return names + ["output layer", "draw", "loading and saving"]
