"""The `reproduce` command: the paper's tables and figures from one line each. `experiments` does the work."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from samplernn_fast import terminal
from samplernn_fast.backends import names
from samplernn_fast.commands.flags import NumShards, Out, Part, ShardIndex, run_part
from samplernn_fast.errors import ConfigError
from samplernn_fast.jobs.shards import Shard
from samplernn_fast.ranges import Range

Minutes = Annotated[float | None, Range(0, 10**7, above=True, unit="minutes")]
Steps = Annotated[int | None, Range(1, 10**9)]
Seeds = Annotated[tuple[int, ...], Range(0, 2**63 - 1)]
TableName = Literal["table1", "table2", "table3", "table4", "systems"]


def reproduce(args: Sequence[str], prog: str) -> None:
    """The paper's tables and figures from one line each: EXPERIMENT, then its flags. The same command goes on."""
    run_part("reproduce", EXPERIMENTS, args, prog)


def tables(
    name: tyro.conf.Positional[TableName],
    /,
    *,
    data: tuple[Path, ...],
    out: Out,
    minutes: Minutes = None,
    steps: Steps = None,
    scale: Literal["small", "paper"] = "small",
    seeds: Seeds = (0,),
    device: str = "auto",
    shard_index: ShardIndex = None,
    num_shards: NumShards = None,
) -> None:
    """Trains what is missing, each system for the same budget, and writes the table beside the paper's numbers.

    Every entry is a run folder in --out that resumes exactly; finished ones are used again, by other tables too. The
    table lies beside them as Markdown, CSV and a figure.

    Args:
        name: The table of the paper, or all its systems in one.
        data: One or more data folders that `prepare` made; each is a column.
        out: The folder of all experiments.
        minutes: The budget of each entry in minutes of updates, as many as this machine makes in that time alone.
        steps: The budget of each entry in updates, in place of minutes.
        scale: small is the paper's systems at a width that learns in minutes on two cores; paper is their own size.
        seeds: Each entry is trained once with each of them.
        device: auto, cpu, cuda or cuda:N.
        shard_index: Which part of the entries this process does, from 0; all parts share --out. Without it, what a
            scheduler's variables say; those of torchrun are not read, because it starts processes that train together.
        num_shards: How many parts there are; 1 does all here.
    """
    from samplernn_fast.experiments.places import check_out
    from samplernn_fast.experiments.plan import Budget

    names.check_device(device)
    check_out(out)
    budget = Budget(minutes, steps)
    shard = Shard.of(shard_index, num_shards, torchrun=False) or Shard(0, 1)
    if shard.told_by:
        terminal.say(f"{shard}; --num-shards 1 does all entries here")
    with terminal.waiting("loading torch"):
        from samplernn_fast.experiments import report
        from samplernn_fast.experiments.tables import TABLES, reproduce

    table = TABLES[name]
    own = (shard.index, shard.count)
    rows = reproduce(table, data, out, budget, scale=scale, seeds=seeds, device=device, shard=own)
    words = ["samplernn-fast", "reproduce", name, "--data", *map(str, data), "--out", str(out)]
    words += [*_spent(minutes, steps), "--scale", scale, "--seeds", *map(str, seeds), "--device", device]
    shown = report.Shown(name, table, rows, data, budget, scale, shlex.join(words), len(seeds))
    written = report.write(shown, out)
    print(report.results(shown))
    print("\n".join(map(str, written)))
    if shown.missing():
        print(f"samplernn-fast: {shown.missing()}", file=sys.stderr)
    if len(written) < 3:
        print("samplernn-fast: no figure was drawn, which needs matplotlib (the extra [plot])", file=sys.stderr)


def _spent(minutes: float | None, steps: int | None) -> list[str]:
    """The flags of a budget."""
    return ["--steps", str(steps)] if minutes is None else ["--minutes", f"{minutes:g}"]


def figure2(
    *,
    data: tuple[Path, ...],
    out: Out,
    systems: tuple[str, ...] = ("paper-2tier", "paper-3tier"),
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0,
    temperature: Annotated[float, Range(0, 100)] = 1.0,
) -> None:
    """Draws two seconds, and 100 milliseconds, of data and of what each model makes. A table trained them before.

    A row shows what the seed gives, a second after the model began; nothing is chosen by hand.

    Args:
        data: Data folders, a column each; the first row is of their test splits.
        out: The folder of all experiments, where `reproduce table1` put the models.
        systems: Presets that a table trained there, a row each.
        seed: Chooses the piece of the recordings, and draws the models' samples.
        temperature: Of the models' samples.
    """
    from samplernn_fast.experiments.places import check_names, run_folder
    from samplernn_fast.models.places import model_file

    check_names(data)
    runs = {folder: [run_folder(out, folder, system, 0) for system in systems] for folder in data}
    for folder, found in runs.items():
        for run in found:
            if not run.is_dir():
                raise ConfigError(
                    f"systems: {run} is not there; train it first by a table that has it, for example"
                    f" samplernn-fast reproduce systems --data {folder} --out {out} --minutes 10"
                )
            model_file(run)
    with terminal.waiting("loading torch and matplotlib"):
        from samplernn_fast.experiments.systems import LABELS
        from samplernn_fast.experiments.waveforms import column

        draw = _drawing().draw_waveforms
    titles = [LABELS.get(system, system) for system in systems]
    columns = [column(one, list(zip(titles, runs[one], strict=True)), seed, temperature) for one in data]
    draw(columns, out / "figure2.png")
    print(out / "figure2.png")


def _drawing() -> Any:
    """The module that draws. Raises ConfigError where matplotlib is missing."""
    try:
        from samplernn_fast.experiments import figure
    except ImportError:
        raise ConfigError("matplotlib draws figures and is not installed: pip install matplotlib") from None
    return figure


def memory(
    *,
    voices: tuple[str, ...],
    out: Out,
    data: Path | None = None,
    models: tuple[Path, ...] = (),
    minutes: Minutes = None,
    steps: Steps = None,
    scale: Literal["small", "paper"] = "small",
    clips: Annotated[int, Range(1, 10**6)] = 100,
    free_seconds: Annotated[float, Range(0.3, 600, unit="seconds")] = 2.0,
    silence: Annotated[tuple[float, ...], Range(0, 600, unit="seconds")] = (1.0,),
    temperature: Annotated[float, Range(0, 100)] = 1.0,
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0,
    keep_clips: Annotated[int, Range(0, 50)] = 0,  # The bound is `memory.MOST_KEPT`, which needs torch to be read.
    device: str = "auto",
) -> None:
    """Whether models of two voices go on in the voice that they had before a silence (section 3.3).

    Each clip is free, then silence is fed to it, then it is free again; the mean pitch of both ends tells the voices. A
    SampleRNN is measured beside a WaveNet, whose window a longer silence fills, and beside chance.

    Args:
        voices: Recordings of the two speakers, a folder or a pattern of files ('digits/*_george_*.wav') each.
        out: The folder of all experiments.
        data: A data folder of both speakers, on which paper-3tier and wavenet are trained, or were by a table.
        models: Runs to measure, in place of those two.
        minutes: The budget of each of the two; none is needed where a table has trained both.
        steps: The same in updates.
        scale: small or paper, as for the tables.
        clips: How many clips each model makes.
        free_seconds: How long the free ends are; the paper has 2.
        silence: Lengths of the silence in seconds; the paper has 1.
        temperature: Of the models' samples.
        seed: Draws the clips.
        keep_clips: How many clips of each model and each length of silence are written to memory-clips in --out.
        device: auto, cpu, cuda or cuda:N, to train on.
    """
    from samplernn_fast.experiments.places import check_out, run_name
    from samplernn_fast.experiments.plan import Budget
    from samplernn_fast.models.places import model_file

    names.check_device(device)
    if (data is None) == (not models):
        raise ConfigError("data must be given, to train two models on, or else models, which are trained; not both")
    check_out(out)
    for model in models:
        model_file(model)
    with terminal.waiting("loading torch and Praat"):
        from samplernn_fast.data.folder import AudioData
        from samplernn_fast.experiments import memory as test
        from samplernn_fast.experiments.voices import praat, read_voices
        from samplernn_fast.models.checkpoint import load_model

        praat()
    budget = None if data is None or (minutes is None and steps is None) else Budget(minutes, steps)
    rate = AudioData.open(data).sample_rate if data is not None else load_model(models[0]).config.sample_rate
    heard = read_voices(voices, rate)  # before anything is trained
    if data is None:
        known = [(run_name(model), model) for model in models]
        words = ["--models", *map(str, models)]
    else:
        known = test.trained(data, out, budget, scale, device)
        words = ["--data", str(data), *(_spent(minutes, steps) if budget else []), "--scale", scale]
    out.mkdir(parents=True, exist_ok=True)
    settings = test.Settings(clips, free_seconds, silence, temperature, seed, keep_clips)
    found = [one for title, model in known for one in test.remember(model, title, heard, settings)]
    words = ["samplernn-fast", "reproduce", "memory", "--voices", *voices, "--out", str(out), *words]
    words += ["--clips", str(clips), "--free-seconds", f"{free_seconds:g}", "--silence", *map(str, silence)]
    words += ["--temperature", f"{temperature:g}", "--seed", str(seed)]
    words += ["--keep-clips", str(keep_clips)] if keep_clips else []
    written = test.write(found, heard, settings, shlex.join(words), out)
    print(test.results(found))
    print("\n".join(map(str, written)))


_TABLES = {
    "table1": "Table 1: RNN, WaveNet and SampleRNN by test bits per sample.",
    "table2": "Table 2: RNN and SampleRNN with mixtures of Gaussians, in nats.",
    "table3": "Table 3: what longer subsequences bring, at equally much audio.",
    "table4": "Table 4: SampleRNN without embedding, and with Multi-Softmax.",
    "systems": "All systems of the paper in one table, by test bits per sample.",
}
_TABLE_FLAGS = "--data data --out experiments --minutes 10"

EXPERIMENTS = {
    **{
        name: Part(tables, f"samplernn-fast reproduce {name} {_TABLE_FLAGS}", summary, takes_word=True)
        for name, summary in _TABLES.items()
    },
    "figure2": Part(
        figure2,
        "samplernn-fast reproduce figure2 --data data --out experiments",
        "Figure 2: waveforms of recordings and of models that a table trained.",
    ),
    "memory": Part(
        memory,
        "samplernn-fast reproduce memory --data data --voices speaker1 speaker2 --out experiments --minutes 10",
        "Section 3.3: whether a voice is remembered through silence.",
    ),
}
"""The experiments in the order of the paper."""
