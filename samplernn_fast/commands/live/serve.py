"""The `serve` command: a page on which models play live. `serving.live` does the work."""

import sys
from typing import Annotated

import tyro

from samplernn_fast.backends import names
from samplernn_fast.commands.flags import Backend, Device, Dtype, NumThreads
from samplernn_fast.commands.standard_streams import signal_of
from samplernn_fast.errors import ConfigError, Interrupted
from samplernn_fast.models.places import short_name
from samplernn_fast.ranges import Range

_LOOPBACK = "127.0.0.1"


def serve(
    models: tyro.conf.Positional[tuple[str, ...]] = ("demo",),
    /,
    *,
    host: str = _LOOPBACK,
    port: Annotated[int, Range(0, 65535)] = 8000,
    token: str | None = None,
    max_listeners: Annotated[int, Range(1, 150)] = 16,
    device: Device = "auto",
    backend: Backend = "auto",
    dtype: Dtype = "auto",
    num_threads: NumThreads = None,
    realtime_priority: bool = False,
) -> None:
    """Play models live on a page, where their settings can be moved while they sound, until ctrl-C.

    Args:
        models: Run folders, .safetensors files, or bundled models: demo (spoken digits) and demo-piano.
        host: The address to listen on. Without it only this machine can listen; 0.0.0.0 lets the whole network, which
            then needs the token that is printed.
        port: The port to listen on; 0 takes a free one.
        token: The word that the page's address must hold. Beyond this machine there is always one.
        max_listeners: How many streams are played at once.
        realtime_priority: Go before ordinary programs (on Linux, where the user may), so that busy ones do not make the
            sound late.
    """
    names.check(backend, dtype, device, num_threads)
    try:
        from samplernn_fast.serving import access, priority, sockets
        from samplernn_fast.serving.live import application
    except ImportError as error:
        raise ConfigError(
            f"live sound needs {error.name}; pip install starlette uvicorn websockets prometheus-client (extra `serve`)"
        ) from None
    from samplernn_fast.engine.engine import Engine
    from samplernn_fast.engine.together import warm_up
    from samplernn_fast.serving.live.studio import Studio

    if realtime_priority:
        priority.check()
    with sockets.bind(host, port) as socket:
        engines = {name: Engine(model, backend, dtype, device, num_threads) for name, model in named(models).items()}
        for name, engine in engines.items():
            if engine.backend.compiled_here:
                several = " for several listeners" if engine.backend.mixes else ""
                print(f"{name}: preparing kernels{several}; the first start compiles them", file=sys.stderr)
            trouble = warm_up(engine, max_listeners)
            if trouble:
                most = engine.most_mixed
                shared = "listeners take turns" if most == 1 else f"more than {most} listeners take several calls"
                print(f"{name}: {shared}: {trouble}", file=sys.stderr)
        token = access.token_for(host, token)
        studio = Studio(engines, max_listeners, realtime_priority)
        address = access.address(host, socket.getsockname()[1], token)
        print(f"{', '.join(engines)} at {address}; ctrl-C ends it", flush=True)
        if not sockets.is_loopback(host):
            print("everybody with this address can listen; what is sent is not encrypted", flush=True)
        try:
            with priority.RealTime(priority.SENDING, realtime_priority):
                application.run(studio, socket, token, host)
        except KeyboardInterrupt as stop:
            raise Interrupted("the server has ended", signal_of(stop)) from None
        finally:
            studio.close()


def named(models: tuple[str, ...]) -> dict[str, str]:
    """Models by the names that listeners choose from. Raises ConfigError where two would have the same name."""
    named: dict[str, str] = {}
    for model in models:
        name = short_name(model)
        if name in named:
            raise ConfigError(f"{named[name]} and {model} would both be called {name}; rename one of them")
        named[name] = model
    return named
