"""`Beside`: files are written while a GPU makes the next audio."""

from collections.abc import Callable
from concurrent import futures
from typing import Self


class Beside:
    """Does one thing at a time in a thread of its own while its caller goes on; or at once, where it may not."""

    def __init__(self, may: bool) -> None:
        """may: whether the caller leaves this processor something to do meanwhile."""
        self._pool = futures.ThreadPoolExecutor(1) if may else None
        self._begun: futures.Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Waits for what was begun, and forgets what it raised."""
        if self._pool is not None:
            self._pool.shutdown()

    def do(self, work: Callable[[], None]) -> None:
        """Begins `work` when what was begun before has ended. Raises what that raised."""
        if self._pool is None:
            work()
            return
        self.wait()
        self._begun = self._pool.submit(work)

    def wait(self) -> None:
        """Waits for what was begun. Raises what it raised."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.result()
