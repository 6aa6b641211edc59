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
    """How long may be read from one connection. Owns that moment, which is told from the first piece on."""

    __slots__ = ("_shortened", "_timeout_s", "_until_s")

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._shortened: socket.socket | None = None
        self._until_s: float | None = None

    def begin(self) -> None:
        """The next piece is a first one, and there is the whole time again."""
        self._until_s = None
        if self._shortened is not None:
            self._shortened.settimeout(self._timeout_s)
            self._shortened = None

    def allow(self, real: socket.socket) -> None:
        """Let `real` wait once more, for as long as is left.

        Raises:
            TimeoutError: nothing is left.
        """
        if self._until_s is None:
            self._until_s = SYSTEM.monotonic() + self._timeout_s
            return
        left_s = self._until_s - SYSTEM.monotonic()
        if left_s <= 0:
            raise TimeoutError("the answer did not come to its end in time")
        self._shortened = real
        real.settimeout(left_s)


class _Timed:
    """A socket whose reading ends by a deadline; in all else the socket itself."""

    __slots__ = ("_deadline", "_real", "sendall")

    def __init__(self, real: socket.socket, deadline: Deadline) -> None:
        self._real, self._deadline = real, deadline
        self.sendall = real.sendall  # each command's: not by way of __getattr__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def recv(self, *arguments: Any) -> bytes:
        self._deadline.allow(self._real)
        return self._real.recv(*arguments)

    def recv_into(self, *arguments: Any) -> int:
        self._deadline.allow(self._real)
        return self._real.recv_into(*arguments)


def timed(kind: Any, timeout_s: float) -> Callable[..., TimedConnection]:
    """Makes connections of a `kind` of redis-py's, which give `timeout_s` to each answer.

    `_connect`, which gives the socket, is redis-py's own; its kinds of connections override it, and there is no public
    place between it and the socket's use. If it is no more, or gives no socket, each piece of an answer has the
    socket's time-out, and a server that sends by the byte is waited for. Contract: tests/facts/test_redis.py.
    """

    def init(self: Any, **options: Any) -> None:
        self.deadline = Deadline(timeout_s)
        kind.__init__(self, **options)

    def connect(self: Any) -> Any:
        found = original(self)
        return _Timed(found, self.deadline) if isinstance(found, socket.socket) else found

    members: dict[str, Any] = {"__init__": init}
    original: Any = getattr(kind, "_connect", None)
    if original is not None:
        members["_connect"] = connect
    return cast("Callable[..., TimedConnection]", type(kind.__name__, (kind,), members))
