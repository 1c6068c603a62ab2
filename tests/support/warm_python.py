"""A Python that has loaded torch already, for tests that start many processes: torch takes seconds each time.

`warm_python()` is the path of a program that takes an interpreter's place in a command line. Behind it a keeper, one
for each process of pytest, loads what takes long once, and forks for each command. None of our own modules are loaded
before the fork, so each process begins as one of a new interpreter does: with its own arguments, environment, folder,
standard streams and end. The program lives as long as the forked process. It hands signals on and ends as that one
ends; where it is killed, the keeper kills the forked process. Only its three standard streams are handed on, and its
umask and limits are the keeper's.

Tests of what an interpreter loads, of its flags or of a terminal take `sys.executable`.
"""

import atexit
import functools
import gc
import importlib
import io
import json
import os
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType

LOADED = ("torch", "torch._dynamo", "torch.distributed.launcher", "torch.utils.tensorboard", "pytest", "soundfile")
"""Most of the commands load these. A package that is missing is left out, as it is where it is needed."""
NUMBER = struct.Struct("!i")
HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
CLIENT = """#!{python} -IS
import runpy, sys
sys.argv.insert(1, {address!r})
runpy.run_path({file!r}, run_name="__main__")
"""
FOLDER = "warm-python-"


@functools.cache
def warm_python(*modules: str, **environment: str) -> str:
    """The program. modules: are loaded too; environment: what they must find while they are loaded."""
    if Path(sys.executable).parent.name.startswith(FOLDER):  # this process is itself one of a keeper's
        return sys.executable
    if sys.platform != "linux":  # elsewhere a process that has loaded so much must not fork
        return sys.executable
    folder = Path(tempfile.mkdtemp(prefix=FOLDER))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    client, address = folder / "python", folder / "socket"
    client.write_text(CLIENT.format(python=sys.executable, file=__file__, address=str(address)))
    client.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen(64)  # commands that come before the keeper is ready wait here
        command = [sys.executable, __file__, str(listening.fileno()), str(client), *LOADED, *modules]
        usual = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
        # The keeper ends when its standard input does, which this process holds and nobody writes to.
        keeper = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[listening.fileno()],
            env=usual | environment,
        )
    atexit.register(keeper.wait)
    assert keeper.stdin is not None
    atexit.register(keeper.stdin.close)
    return str(client)


def ask(address: str, words: list[str]) -> None:
    """Is the client: it has a command run by the keeper, and ends as that ends."""
    pid, early = 0, list[int]()

    def hand_on(number: int, frame: object) -> None:
        if not pid:
            early.append(number)
            return
        with suppress(ProcessLookupError):  # it has ended, and its status is on the way
            os.kill(pid, number)

    # The command may already run, and somebody may know it, before its number is here.
    for number in HANDED_ON:
        signal.signal(number, hand_on)
    with socket.socket(socket.AF_UNIX) as keeper:
        keeper.connect(address)
        text = json.dumps([words, dict(os.environ), os.getcwd()]).encode(errors="surrogateescape")
        socket.send_fds(keeper, [NUMBER.pack(len(text))], [0, 1, 2])
        keeper.sendall(text)
        (pid,) = NUMBER.unpack(received(keeper, NUMBER.size))
        for number in early:
            hand_on(number, None)
        (status,) = NUMBER.unpack(received(keeper, NUMBER.size))
        for number in HANDED_ON:
            signal.signal(number, signal.SIG_IGN)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with suppress(OSError):  # SIGKILL has no other way to be met
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def received(other: socket.socket, size: int) -> bytes:
    """Waits for so many bytes, and returns them. Raises SystemExit where the other side is gone."""
    parts = b""
    while len(parts) < size:
        part = other.recv(size - len(parts))
        if not part:
            raise SystemExit("the keeper of warm Pythons is gone, or its client")
        parts += part
    return parts


def keep(listening: socket.socket, program: str) -> tuple[list[str], dict[str, str], str]:
    """Is the keeper: it returns in each forked process only, with that one's words, environment and folder."""
    clients: dict[int, socket.socket] = {}
    woken, waker = socket.socketpair()
    for one in (woken, waker):
        one.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; clients hand it on to what they stand for
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    while True:
        ready = select.select([listening, 0, woken, *clients.values()], [], [])[0]
        if 0 in ready:  # pytest has ended
            for pid in clients:
                os.kill(pid, signal.SIGKILL)
            shutil.rmtree(os.path.dirname(program), ignore_errors=True)
            os._exit(0)
        for pid, client in clients.items():
            if client in ready:  # clients say nothing, so this one was killed
                os.kill(pid, signal.SIGKILL)
        if woken in ready:
            woken.recv(1000)
        for pid in list(clients):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                with clients.pop(pid) as client, suppress(OSError):
                    client.sendall(NUMBER.pack(status))
        if listening in ready:
            client, streams = listening.accept()[0], []
            try:
                head, streams, _, _ = socket.recv_fds(client, NUMBER.size, 3)
                words, environment, folder = json.loads(received(client, *NUMBER.unpack(head)))
            except (OSError, SystemExit, struct.error):  # it was killed meanwhile
                client.close()
                for stream in streams:
                    os.close(stream)
                continue
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                for one in (listening, woken, waker, client, *clients.values()):
                    one.close()
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                    os.close(stream)
                return words, environment, folder
            for stream in streams:
                os.close(stream)
            clients[pid] = client
            with suppress(OSError):
                client.sendall(NUMBER.pack(pid))


def become(words: list[str], environment: dict[str, str], folder: str) -> None:
    """In a forked process: runs `-m MODULE`, `-c TEXT` or a script as an interpreter does, also behind `-u` and
    `-W ignore`. Other flags are not known."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    unbuffered = bool(environment.get("PYTHONUNBUFFERED")) or words[0] == "-u"
    words = words[words[0] == "-u" :]
    if words[:2] == ["-W", "ignore"]:
        warnings.simplefilter("ignore")
        words = words[2:]
    for number, name, errors in ((0, "stdin", "strict"), (1, "stdout", "strict"), (2, "stderr", "backslashreplace")):
        # A copy of the number stays open when the object is collected.
        raw = open(number, "wb" if number else "rb", 0 if number and unbuffered else -1, closefd=False)
        stream = io.TextIOWrapper(raw, errors=errors)
        if number:
            stream.reconfigure(line_buffering=number == 2 or stream.isatty(), write_through=unbuffered)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    flag = words[0] if words[0] in ("-m", "-c") else ""
    first = {"-m": folder, "-c": ""}.get(flag, os.path.dirname(os.path.realpath(words[0])))
    named = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*([] if environment.get("PYTHONSAFEPATH") else [first]), *named, *sys.path[1:]]
    sys.path_importer_cache.clear()
    sys.argv = words[1:] if flag else words
    if flag == "-m":
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif flag == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.modules["__main__"] = own = ModuleType("__main__")
        exec(compile(words[1], "<string>", "exec"), own.__dict__)
    else:
        runpy.run_path(words[0], run_name="__main__")


def status_of(work: Callable[..., None], *args: object) -> int:
    """Does some work, and returns the exit status that an interpreter would end with, or minus the signal."""
    try:
        work(*args)
    except SystemExit as stop:
        if isinstance(stop.code, int | None):
            return (stop.code or 0) & 0xFF
        print(stop.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        return -signal.SIGINT
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main(address: str, *words: str) -> None:
    if not address.isdecimal():
        ask(address, list(words))
    program, *modules = words
    for name in modules:
        with suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that a forked process copies fewer pages of memory
    asked = keep(socket.socket(fileno=int(address)), program)
    sys.executable = program  # what the process starts is warm too
    code = status_of(become, *asked)
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 120  # as an interpreter says it
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)  # without the end of all modules, which would take seconds


if __name__ == "__main__":
    main(*sys.argv[1:])
