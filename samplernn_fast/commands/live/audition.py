"""The `audition` command: a page to choose checkpoints, temperatures and seeds by ear. `serving.audition` does the
work."""

import importlib.util
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from samplernn_fast import files, terminal
from samplernn_fast.backends import names
from samplernn_fast.backends.devices import resolve_device
from samplernn_fast.commands import COMMANDS
from samplernn_fast.commands.flags import (
    Backend,
    Device,
    Dtype,
    NumShards,
    NumThreads,
    OptionalOut,
    Part,
    ShardIndex,
    deferred,
    introduction,
    parse,
    with_example,
)
from samplernn_fast.commands.standard_streams import signal_of
from samplernn_fast.errors import ConfigError, DataError, Interrupted
from samplernn_fast.jobs.shards import Shard
from samplernn_fast.models.places import model_file
from samplernn_fast.ranges import Range

if TYPE_CHECKING:
    from samplernn_fast.serving.audition.checkpoints import Checkpoints
    from samplernn_fast.serving.audition.grid import Grid

_LOOPBACK = "127.0.0.1"


def audition(args: Sequence[str], prog: str) -> None:
    """Choose by ear on a page: checkpoints by temperatures by seeds; favourites become a playlist or commands."""
    name = "export" if args and args[0] == "export" else "listen"
    part = PARTS[name]
    if name == "export":
        text = with_example(introduction(part.function), "audition", part.example)
        parse(deferred(part.function), f"{prog} export", args[1:], description=text)()
    else:
        text = f"{introduction(part.function)}\n\nThe favourites as a file: {PARTS['export'].example}"
        parse(deferred(part.function), prog, args, description=with_example(text, "audition", part.example))()


def listen(
    models: tyro.conf.Positional[tuple[str, ...]],
    /,
    *,
    temperatures: tuple[float, ...] = (0.8, 0.9, 1.0),
    seeds: int = 4,
    seconds: float = 4.0,
    out: OptionalOut = None,
    host: str = _LOOPBACK,
    port: Annotated[int, Range(0, 65535)] = 8000,
    token: str | None = None,
    device: Device = "auto",
    backend: Backend = "auto",
    dtype: Dtype = "auto",
    num_threads: NumThreads = None,
    shard_index: ShardIndex = None,
    num_shards: NumShards = None,
) -> None:
    """Choose by ear on a page: checkpoints by temperatures by seeds; favourites become a playlist or commands.

    Clips are made while the page is open, what is on the screen first, and kept for the next time, until ctrl-C.

    Args:
        models: Run folders, of which every model that is kept is a row; .safetensors files; demo or demo-piano.
        temperatures: One or several.
        seeds: How many seeds, from 0 on.
        seconds: How long a clip is.
        out: The folder of clips and favourites; without it auditions, beside the first run.
        host: The address to listen on. Without it only this machine can listen; 0.0.0.0 lets the whole network, which
            then needs the token that is printed.
        port: The port to listen on; 0 takes a free one.
        token: The word that the page's address must hold. Beyond this machine there is always one.
        shard_index: Which share of the clips to make beforehand, from 0, without a page; the page finds them later.
            Without it, what SLURM, Kubernetes, AWS Batch, Open MPI or torchrun says.
        num_shards: How many shares there are; 1 makes all clips here.
    """
    names.check(backend, dtype, device, num_threads)
    resolve_device(device)  # else every clip would say that it is not there
    if not models:
        raise ConfigError("name one or several run folders or .safetensors files")
    shard = Shard.of(shard_index, num_shards)
    if shard is None:
        _check_packages()
    from samplernn_fast.serving.audition.checkpoints import Checkpoints
    from samplernn_fast.serving.audition.grid import Grid, Making, default_folder

    making = Making(temperatures, seeds, seconds, device, backend, dtype, num_threads)
    with terminal.waiting("reading the checkpoints"):
        checkpoints = Checkpoints(models)
        grid = Grid(checkpoints.rows, making)
    for row in grid.checkpoints:
        if row.problem:
            terminal.say(f"left out: {row.problem}")
    folder = default_folder(models[0]) if out is None else out
    if shard is None:
        _show_page(checkpoints, grid, folder, host, port, token)
    else:
        _make_share(grid, folder, shard)


def _check_packages() -> None:
    """Raises ConfigError where a package for pages is missing."""
    missing = next((name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None), None)
    if missing is not None:
        raise ConfigError(f"an audition needs {missing}; pip install starlette uvicorn (extra `serve`)")


def _make_share(grid: "Grid", folder: Path, shard: Shard) -> None:
    """Makes a share of the clips, and nothing else."""
    from samplernn_fast.serving.audition.grid import open_folder
    from samplernn_fast.serving.audition.sharing import ledger_of, make_share

    if shard.told_by:
        terminal.say(f"{shard}; --num-shards 1 makes all clips here")
    open_folder(folder)
    ledger = ledger_of(grid, folder)
    mine = len(shard.share(ledger.plan.units))
    with (
        terminal.interrupts(signal.SIGTERM) as caught,
        terminal.Bar(mine, "clip", title="audition") as bar,
    ):
        made = make_share(grid, ledger, shard, terminal.say, bar.advance, lambda: bool(caught))
    if caught:
        raise Interrupted(f"interrupted: {terminal.counted(made, 'clip')} were made, and are kept", caught[0])
    print(f"{made} made, {mine - made} were there; samplernn-fast jobs status {ledger.folder}")


def _show_page(checkpoints: "Checkpoints", grid: "Grid", folder: Path, host: str, port: int, token: str | None) -> None:
    """Serves the page until ctrl-C."""
    from samplernn_fast.serving import access, sockets
    from samplernn_fast.serving.audition import application
    from samplernn_fast.serving.audition.clips import Maker
    from samplernn_fast.serving.audition.favourites import Favourites
    from samplernn_fast.serving.audition.grid import open_folder
    from samplernn_fast.serving.audition.watching import Watch

    open_folder(folder)
    # Two auditions would lose each other's favourites.
    refusal = DataError(f"{folder}: another audition works in this folder; name another by --out")
    with files.held(folder, refusal=refusal), sockets.bind(host, port) as socket:
        files.remove_leftovers(folder)
        favourites = Favourites(folder)
        token = access.token_for(host, token)
        address = access.address(host, socket.getsockname()[1], token)
        count = sum(not grid.checkpoints[cell.row].problem for cell in grid.cells)
        print(f"{terminal.counted(count, 'clip')} in {folder} at {address}; ctrl-C ends it", flush=True)
        if not sockets.is_loopback(host):
            print("everybody with this address can listen and choose; what is sent is not encrypted", flush=True)
        maker = Maker(grid, folder)
        maker.start()
        try:
            application.run(maker, favourites, Watch(checkpoints, maker, favourites), socket, token, host)
        except KeyboardInterrupt as stop:
            kept = terminal.counted(len(favourites), "favourite")
            raise Interrupted(f"the page is closed; {kept} and the clips are in {folder}", signal_of(stop)) from None
        finally:
            maker.close()


def export(
    place: tyro.conf.Positional[str],
    /,
    *,
    as_: Annotated[Literal["playlist", "commands"], tyro.conf.arg(name="as")],
    out: OptionalOut = None,
    overwrite: bool = False,
) -> None:
    """Write the favourites of an audition: a playlist of the clips, or commands that make a minute of each.

    Args:
        place: The folder of clips, or the run that was named first.
        as_: playlist is an M3U file of the clips; commands are calls of `samplernn-fast generate`, one a line.
        out: The file to write; without it, standard output.
        overwrite: Replace a file that exists.
    """
    from samplernn_fast.serving.audition.favourites import FAVOURITES_FILE, exported, gone, read
    from samplernn_fast.serving.audition.grid import default_folder

    if out is not None:
        files.check_free(out, DataError, overwrite=overwrite)
    folder = Path(place)
    if not (folder / FAVOURITES_FILE).exists():
        if not folder.is_dir():
            model_file(place)  # refuses where there is nothing of that name
        folder = default_folder(place)
    chosen = read(folder)
    if not chosen:
        raise DataError(f"{place}: no favourites are in {folder}; choose some by samplernn-fast audition {place}")
    text = exported(chosen, folder, as_)
    if out is None:
        sys.stdout.write(text)
    else:
        try:
            files.write_text(out, text)
        except OSError as error:
            raise DataError(f"{out}: cannot be written: {error.strerror or error}") from None
        print(f"{out}: {terminal.counted(len(chosen), 'favourite')}")
    missing = gone(chosen) if as_ == "commands" else []
    if missing:
        terminal.say(f"{terminal.counted(len(missing), 'model')} of these are not there any more, such as {missing[0]}")


PARTS = {
    "listen": Part(listen, COMMANDS["audition"].example),
    "export": Part(export, "samplernn-fast audition export run --as commands"),
}
"""What the command does; without the word `export` it is the page."""
