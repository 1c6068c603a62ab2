"""The `abtest` command: blind listening tests. `evaluation.listening` does the work, `serving.listening` the page.

Its first word says which part of a test is meant; each part has flags of its own.
"""

import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from samplernn_fast.commands.flags import OptionalOut, Output, Part, run_part
from samplernn_fast.commands.standard_streams import signal_of
from samplernn_fast.errors import ConfigError, Interrupted
from samplernn_fast.evaluation.listening.folder import COUNT, LUFS, MOST_LISTENERS, SECONDS, SEED, TRIALS
from samplernn_fast.ranges import Range
from samplernn_fast.terminal import counted

if TYPE_CHECKING:
    from samplernn_fast.evaluation.listening.answers import AnswerBook

_LOOPBACK = "127.0.0.1"
_Test = tyro.conf.Positional[Path]


def abtest(args: Sequence[str], prog: str) -> None:
    """Blind listening tests of pairs, as in the paper: make one, serve its page, count the answers."""
    run_part("abtest", PARTS, args, prog)


def make(
    systems: tyro.conf.Positional[tuple[str, ...]],
    /,
    *,
    output: Output,
    count: Annotated[int, COUNT] = 20,
    seconds: Annotated[float, SECONDS] = 5.0,
    trials: Annotated[int, TRIALS] = 20,
    seed: Annotated[int, SEED] = 0,
    loudness: Annotated[float, LUFS] = -23.0,
    drop_noise: bool = False,
    title: str = "Listening test",
    question: str = "Which one do you prefer?",
    json: bool = False,
) -> None:
    """Make the folder of a test: clips of every system, of one loudness, under names that say nothing.

    Args:
        systems: NAME=SOURCE for each system: a folder of audio files, or a run folder, .safetensors file or the
            bundled demo, which generates its clips at temperature 1.
        output: The folder to make.
        count: Clips of each system, or all where a folder has fewer.
        seconds: The longest that a clip may be; longer recordings are cut into pieces.
        trials: Pairs that each listener hears; the paper has 20.
        seed: Decides which clips are taken or generated, and which pairs a listener hears.
        loudness: Of all clips, in LUFS (ITU-R BS.1770). Where a clip would pass -1 dB of full scale, all are lowered.
        drop_noise: Leave out clips that are noise, as the paper did for music, and say how many.
        title: The heading of the page.
        question: What a listener is asked at every pair.
        json: Print one JSON object instead of text.
    """
    from samplernn_fast.evaluation.listening.making import Settings
    from samplernn_fast.evaluation.listening.making import make as run
    from samplernn_fast.evaluation.listening.sources import named_systems

    settings = Settings(count, seconds, trials, seed, loudness, drop_noise, title, question)
    test = run(named_systems(systems), output, settings)
    counts = {system.name: len(test.clips_of(system.name)) for system in test.systems}
    noise = {system.name: system.noise for system in test.systems}
    silent = {system.name: system.no_loudness for system in test.systems}
    if json:
        told = {"test": str(output), "clips": counts, "noise": noise, "no_loudness": silent}
        print(json_module.dumps(told | {"lufs": test.lufs, "trials": test.trials}))
        return
    print(f"{output}: {', '.join(f'{number} clips of {name}' for name, number in counts.items())}")
    if drop_noise:
        print(f"left out as noise: {', '.join(f'{number} of {name}' for name, number in noise.items())}")
    if any(silent.values()):
        counted = ", ".join(f"{number} of {name}" for name, number in silent.items() if number)
        print(f"left out as silent or shorter than 400 ms: {counted}")
    lowered = f", not {loudness:g}, so that no clip passes -1 dB of full scale" if test.lufs < loudness else ""
    print(f"loudness {test.lufs:.1f} LUFS (ITU-R BS.1770){lowered}; {test.trials} pairs a listener")
    print(f"next: samplernn-fast abtest serve {output}")


def serve(
    test: _Test,
    /,
    *,
    host: str = _LOOPBACK,
    port: Annotated[int, Range(0, 65535)] = 8000,
    max_listeners: Annotated[int, Range(1, MOST_LISTENERS)] = 1000,
) -> None:
    """Serve the page of a test, and keep the answers in its folder, until ctrl-C.

    The page is seen on this machine only, unless --host says otherwise. It has no passwords and no encryption.

    Args:
        test: The folder that `abtest make` made.
        host: The address to listen on; 0.0.0.0 lets everybody in the network take part.
        port: The port to listen on; 0 takes a free one.
        max_listeners: How many listeners may take part in all.
    """
    from samplernn_fast.evaluation.listening.answers import open_book
    from samplernn_fast.evaluation.listening.folder import ListeningTest

    opened = ListeningTest.open(test)
    try:
        from samplernn_fast.serving import listening, sockets
    except ImportError:
        raise ConfigError(
            "the page needs starlette and uvicorn; pip install starlette uvicorn (extra `serve`)"
        ) from None
    with open_book(opened) as book, sockets.bind(host, port) as socket:
        shown, bound = sockets.shown(host), socket.getsockname()[1]
        print(f"listening test at http://{shown}:{bound}/ ({_kept(book)} so far); ctrl-C ends it", flush=True)
        if not sockets.is_loopback(host):
            print(
                "everybody who reaches this address can take part: there are no passwords and no encryption", flush=True
            )
        try:
            listening.run(book, socket, max_listeners)
        except KeyboardInterrupt as stop:
            raise Interrupted(f"{_kept(book)} are in {test}; the same command goes on", signal_of(stop)) from None


def _kept(book: "AnswerBook") -> str:
    """How much a test has."""
    return f"{counted(len(book.answers), 'answer')} of {counted(len(book.listeners), 'listener')}"


def tally(
    test: _Test,
    /,
    *,
    out: OptionalOut = None,
    drop_noise: bool = False,
    json: bool = False,
) -> None:
    """Count the answers: shares with intervals, a test for each pair of systems, and a ranking.

    Args:
        test: The folder that `abtest make` made.
        out: A folder for tally.md, tally.json and the bar charts, tally.png; they are replaced.
        drop_noise: Leave out answers in which a clip is noise, and say how many.
        json: Print one JSON object instead of Markdown.
    """
    from samplernn_fast.evaluation.listening import chart
    from samplernn_fast.evaluation.listening.answers import read_book
    from samplernn_fast.evaluation.listening.folder import ListeningTest
    from samplernn_fast.evaluation.listening.making import noise_clips
    from samplernn_fast.evaluation.listening.tally import count, write

    opened = ListeningTest.open(test)
    if out is not None:
        chart.load_matplotlib()
    found = count(read_book(opened), noise_clips(opened) if drop_noise else None)
    if out is not None:
        write(found, out)
        chart.draw(found, out / "tally.png")
    print(json_module.dumps(found.to_dict()) if json else found.markdown(), end="\n" if json else "")


def export(
    test: _Test,
    /,
    *,
    output: Output,
    program: Literal["waet", "webmushra"],
    listeners: Annotated[int, Range(1, 1000)] = 10,
) -> None:
    """Write a test for another program: the Web Audio Evaluation Tool or webMUSHRA, with a config for each listener.

    Args:
        test: The folder that `abtest make` made.
        output: The folder to make.
        program: waet is the Web Audio Evaluation Tool.
        listeners: How many listeners to add to the test; each has a config.
    """
    from samplernn_fast.evaluation.listening import exchange
    from samplernn_fast.evaluation.listening.answers import open_book
    from samplernn_fast.evaluation.listening.folder import ListeningTest
    from samplernn_fast.evaluation.listening.formats import FORMATS

    with open_book(ListeningTest.open(test)) as book:
        written = exchange.export(book, program, listeners, output)
        print(f"{output}: configs of listeners {len(book.listeners) - listeners + 1} to {len(book.listeners)}")
    print(f"the first is {written[0].relative_to(output)}; {FORMATS[program].next}")
    print(f"later: samplernn-fast abtest import {test} RESULTS --program {program}")


def import_(
    test: _Test,
    results: tyro.conf.Positional[tuple[Path, ...]],
    /,
    *,
    program: Literal["waet", "webmushra"],
) -> None:
    """Add the results of another program, whose configs `abtest export` wrote, to a test.

    Args:
        test: The folder that `abtest make` made.
        results: Files of results, or folders that hold them: .xml of the Web Audio Evaluation Tool,
            paired_comparison.csv of webMUSHRA. To import a file again adds what is new in it.
        program: waet is the Web Audio Evaluation Tool.
    """
    from samplernn_fast.evaluation.listening import exchange
    from samplernn_fast.evaluation.listening.answers import open_book
    from samplernn_fast.evaluation.listening.folder import ListeningTest

    if not results:
        raise ConfigError("no results are named; give files or folders behind the test's folder")
    with open_book(ListeningTest.open(test)) as book:
        done = exchange.bring_in(book, program, results)
    print(f"{test}: {done.taken} new answers; {done.repeated} were to trials that had an answer, which stays")


PARTS = {
    "make": Part(make, "samplernn-fast abtest make quick=runs/quick paper=runs/paper -o test"),
    "serve": Part(serve, "samplernn-fast abtest serve test"),
    "tally": Part(tally, "samplernn-fast abtest tally test -o tally"),
    "export": Part(export, "samplernn-fast abtest export test --program webmushra -o exported"),
    "import": Part(import_, "samplernn-fast abtest import test results --program webmushra"),
}
"""What a test needs, in the order of its life."""
