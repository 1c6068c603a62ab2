"""A program in a pseudo terminal, whose keys a test presses."""

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path


class Terminal:
    """A program whose standard input and error are a terminal, and what it sends to standard output."""

    def __init__(self, *args, code=None, program=None):
        self.ours, self.theirs = pty.openpty()
        self.before = self.settings()
        self.shown = b""
        program = program or [sys.executable, *(["-c", code] if code else ["-m", "samplernn_fast", "play"])]
        termios.tcsetwinsize(self.theirs, (30, 200))
        self.process = subprocess.Popen(
            [*program, *map(str, args)],
            stdin=self.theirs, stdout=subprocess.PIPE, stderr=self.theirs, start_new_session=True,
            preexec_fn=self._take_terminal,
        )  # fmt: skip

    def _take_terminal(self):
        import fcntl

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        # A signal that was ignored where the tests were started, as by nohup, would be ignored here too.
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)

    def settings(self):
        return termios.tcgetattr(self.theirs)

    def press(self, keys):
        os.write(self.ours, keys.encode())

    def until(self, text, seconds=30):
        """Waits until the terminal shows something new that has this text. Returns all that is new."""
        new, deadline = b"", time.monotonic() + seconds
        while text.encode() not in new:
            assert time.monotonic() < deadline, (text, new[-500:])
            if select.select([self.ours], [], [], 0.1)[0]:
                new += os.read(self.ours, 65536)
            elif self.process.poll() is not None and not select.select([self.ours], [], [], 0)[0]:
                raise AssertionError(f"it ended without {text!r}: {new[-500:]!r}")
        self.shown += new
        return new.decode()

    def taken(self):
        """Whether the terminal gives each key at once, unseen."""
        return not self.settings()[3] & (termios.ICANON | termios.ECHO)

    def end(self):
        """The exit status and standard output."""
        output = self.process.stdout.read()
        return self.process.wait(30), output

    def close(self):
        """Ends what still runs: the program, and what a shell started, in the background too."""
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.getsid(int(entry.name)) == self.process.pid:
                    os.kill(int(entry.name), signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        os.close(self.ours)
        os.close(self.theirs)
