"""Deadlines: how long a sync caller waits for one answer, however it comes.

A socket's time-out is between two bytes. A server that sends one of them every now and then would keep its caller for
as long as it likes, so what is read after the first piece of an answer has no more time than is left. The first piece,
which is all of nearly every answer, has the socket's own time-out: no call of the operating system is added to it.
On an event loop one time-out stands around it all, and nothing of this is needed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol, cast

from perfkit.clock import SYSTEM


class TimedConnection(Protocol):
    """One of redis-py's connections, with the deadline of its answers."""

    deadline: Deadline

    def send_packed_command(self, command: Any, check_health: bool = ...) -> None: ...
    def read_response(self, *, disconnect_on_error: bool = ...) -> Any: ...
    def disconnect(self) -> None: ...


class Deadline:
    """How long may be read from one connection. Owns that moment."""

    __slots__ = ("_is_first", "_shortened", "_timeout_s", "_until_s")

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._shortened: socket.socket | None = None
        self.begin()

    def begin(self) -> None:
        """From now on there is the whole time again."""
        self._until_s = SYSTEM.monotonic() + self._timeout_s
        self._is_first = True
        if self._shortened is not None:
            self._shortened.settimeout(self._timeout_s)
            self._shortened = None

    def allow(self, real: socket.socket) -> None:
        """Let `real` wait once more, for as long as is left.

        Raises:
            TimeoutError: nothing is left.
        """
        if self._is_first:
            self._is_first = False
            return
        left_s = self._until_s - SYSTEM.monotonic()
        if left_s <= 0:
            raise TimeoutError("the answer did not come to its end in time")
        self._shortened = real
        real.settimeout(left_s)


class _Timed:
    """A socket whose reading ends by a deadline; in all else the socket itself."""

    __slots__ = ("_deadline", "_real")

    def __init__(self, real: socket.socket, deadline: Deadline) -> None:
        self._real, self._deadline = real, deadline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def recv(self, *arguments: Any) -> bytes:
        self._deadline.allow(self._real)
        return self._real.recv(*arguments)

    def recv_into(self, *arguments: Any) -> int:
        self._deadline.allow(self._real)
        return self._real.recv_into(*arguments)


def timed(kind: Any, timeout_s: float) -> Callable[..., TimedConnection]:
    """Makes connections of a `kind` of redis-py's, which give `timeout_s` to each answer."""

    def connect(self: Any) -> Any:
        # what redis-py's own kinds of connections override, too: there is no public place between the two
        return _Timed(kind._connect(self), self.deadline)  # noqa: SLF001

    def init(self: Any, **options: Any) -> None:
        self.deadline = Deadline(timeout_s)
        kind.__init__(self, **options)

    return cast("Callable[..., TimedConnection]", type(kind.__name__, (kind,), {"__init__": init, "_connect": connect}))
