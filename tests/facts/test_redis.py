"""What `wire/deadlines.py` takes for granted of redis-py: where its connections get their sockets."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import redis
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection

from perfkit.wire.deadlines import _Timed, timed


@pytest.mark.parametrize("kind", [Connection, SSLConnection, UnixDomainSocketConnection])
def test_each_kind_of_connection_has_a_place_that_gives_its_socket(kind):
    """Else answers that come by the byte are waited for: see `timed`."""
    assert callable(getattr(kind, "_connect", None))


def test_what_that_place_gives_is_what_answers_are_read_from(redis_url):
    """All of it, from the greeting on."""
    made: Any = timed(Connection, 1.0)(**redis.ConnectionPool.from_url(redis_url).connection_kwargs)
    made.send_command("PING")

    assert type(made._sock) is _Timed
    assert made.read_response() == b"PONG"
    made.disconnect()


class Without(Connection):
    """A connection of a redis-py that has another name for the place."""

    _connect = None

    def connect_check_health(self, **_: Any) -> None:
        self._sock = Connection._connect(self)
        self.on_connect()


class GivesAnother(Connection):
    """One whose place gives no socket, but something of its own."""

    def _connect(self) -> Any:
        return Wrapped(super()._connect())


class Wrapped:
    def __init__(self, real: socket.socket) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.mark.parametrize("kind", [Without, GivesAnother])
def test_without_that_place_a_connection_is_as_redis_py_makes_it(redis_url, kind):
    """With the socket's time-out for each piece of an answer."""
    made: Any = timed(kind, 1.0)(**redis.ConnectionPool.from_url(redis_url).connection_kwargs)
    made.deadline.begin()
    made.send_command("PING")
    made.deadline.begin()

    assert type(made._sock) is not _Timed
    assert made.read_response() == b"PONG"
    made.disconnect()
