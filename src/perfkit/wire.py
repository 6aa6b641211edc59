"""Commands to Redis or Valkey, over three kinds of waiting.

Every answer carries the *epoch* of the server that gave it: its replication id, which changes
with each restart and each promotion. It is asked once per connection, when the connection is
made. A restart cuts every connection, so no answer from after it can bear the id from before.
The epoch belongs to the connection and not to the client: two connections of one client may
speak to two servers while a failover is under way.

Connections are kept in a plain stack here, because redis-py's pools ask the socket whether it
is readable at each checkout; we send, and on a connection that had been idle and turns out to be
dead we try once more on a new one. Every command we send may run twice without harm.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any, NamedTuple, Protocol, cast
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
from redis.asyncio.connection import AbstractConnection as AsyncConnection
from redis.connection import AbstractConnection as BlockingConnection
from redis.exceptions import NoScriptError

from perfkit.clock import SYSTEM, Clock
from perfkit.errors import CacheDeclarationError, StoreDown
from perfkit.sqla.private import await_in_greenlet

Word = bytes | str | int

TIMEOUT_S = 0.5
MAX_CONNECTIONS = 64  # per event loop; a thread never needs more than one
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0

# RedisError for an answer that is not in the protocol, ValueError for one that only looks as if it were
_TROUBLE = (redis.RedisError, OSError, TimeoutError, ValueError)


class Answer(NamedTuple):
    """What a server said, and which life of it said so."""

    value: Any
    epoch: bytes


class NoScript(StoreDown):
    """The server does not know the script of an EVALSHA: it restarted, or was told to forget."""


class Wire(Protocol):
    """One command there, one answer back."""

    async def run(self, *words: Word) -> Answer:
        """The server's answer.

        Raises:
            StoreDown: no answer in time, or the server refused the command.
        """
        ...


class Breaker:
    """Spares callers the wait for a server that has just failed them.

    After a failure nobody asks for a pause that doubles up to 5 s; then one
    caller tries, and its success opens the way for all. Owns that state.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pause_s = 0.0
        self._closed_until = 0.0

    def check(self) -> None:
        """Returns when the server may be asked.

        Raises:
            StoreDown: not yet.
        """
        if not self._pause_s:
            return
        with self._lock:
            now = self._clock.monotonic()
            if now < self._closed_until:
                raise StoreDown(f"the store failed a moment ago; asking again in {self._closed_until - now:.1f} s")
            # this caller is the one who tries; the others wait a pause more
            self._closed_until = now + self._pause_s

    def failed(self) -> None:
        with self._lock:
            self._pause_s = min(max(FIRST_PAUSE_S, self._pause_s * 2), LONGEST_PAUSE_S)
            self._closed_until = self._clock.monotonic() + self._pause_s

    def succeeded(self) -> None:
        if self._pause_s:
            with self._lock:
                self._pause_s = 0.0


class BlockingWire:
    """The wire of sync callers. Owns its connections; safe in any number of threads and after a fork."""

    def __init__(self, url: str, breaker: Breaker, *, timeout_s: float = TIMEOUT_S) -> None:
        self._factory = redis.ConnectionPool.from_url(url, redis_connect_func=self._greet, **_options(timeout_s))
        self._breaker = breaker
        self._idle: list[BlockingConnection] = []
        self._epochs: WeakKeyDictionary[BlockingConnection, bytes] = WeakKeyDictionary()
        self._pid = os.getpid()

    async def run(self, *words: Word) -> Answer:
        self._breaker.check()
        if self._pid != os.getpid():  # the parent goes on using its sockets
            self._idle, self._pid = [], os.getpid()
        try:
            answer = self._ask(words)
        except redis.ResponseError as refusal:
            self._breaker.succeeded()  # it lives, and says no
            raise _refused(words, refusal) from refusal
        except _TROUBLE as trouble:
            self._breaker.failed()
            raise _down(words, trouble) from trouble
        self._breaker.succeeded()
        return answer

    def _ask(self, words: tuple[Word, ...]) -> Answer:
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._ask_on(self._new(), words)
        try:
            return self._ask_on(connection, words)
        except redis.ConnectionError:
            # it died while idle, and most likely so did the others
            while self._idle:
                self._idle.pop().disconnect()
            return self._ask_on(self._new(), words)

    def _ask_on(self, connection: BlockingConnection, words: tuple[Word, ...]) -> Answer:
        try:
            connection.send_command(*words, check_health=False)
            value = connection.read_response(disconnect_on_error=False)
        except redis.ResponseError:
            self._idle.append(connection)
            raise
        except BaseException:
            # half an answer may still be on its way: nobody may read it
            connection.disconnect()
            raise
        epoch = self._epochs[connection]
        self._idle.append(connection)
        return Answer(value, epoch)

    def _new(self) -> BlockingConnection:
        connection = self._factory.connection_class(**self._factory.connection_kwargs)
        try:
            connection.connect()
        except BaseException:
            connection.disconnect()
            raise
        return cast(BlockingConnection, connection)

    def _greet(self, connection: BlockingConnection) -> None:
        connection.on_connect()
        connection.send_command("INFO", "replication", check_health=False)
        self._epochs[connection] = epoch_in(connection.read_response())

    def close(self) -> None:
        """Close the idle connections; the next command opens a new one."""
        while self._idle:
            self._idle.pop().disconnect()


class AsyncioWire:
    """The wire of async callers. Owns its connections, a stack for each event loop."""

    def __init__(self, url: str, breaker: Breaker, *, timeout_s: float = TIMEOUT_S) -> None:
        self._factory = redis.asyncio.ConnectionPool.from_url(url, redis_connect_func=self._greet, **_options(None))
        self._breaker = breaker
        self._timeout_s = timeout_s
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = WeakKeyDictionary()
        self._epochs: WeakKeyDictionary[AsyncConnection, bytes] = WeakKeyDictionary()

    async def run(self, *words: Word) -> Answer:
        self._breaker.check()
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._ask(words)
        except redis.ResponseError as refusal:
            self._breaker.succeeded()  # it lives, and says no
            raise _refused(words, refusal) from refusal
        except _TROUBLE as trouble:
            self._breaker.failed()
            raise _down(words, trouble) from trouble
        self._breaker.succeeded()
        return answer

    async def _ask(self, words: tuple[Word, ...]) -> Answer:
        here = self._here()
        async with here.room:
            try:
                connection = here.idle.pop()
            except IndexError:
                return await self._ask_on(await self._new(), words, here)
            try:
                return await self._ask_on(connection, words, here)
            except redis.ConnectionError:
                while here.idle:
                    await here.idle.pop().disconnect(nowait=True)
                return await self._ask_on(await self._new(), words, here)

    async def _ask_on(self, connection: AsyncConnection, words: tuple[Word, ...], here: _Loop) -> Answer:
        try:
            await connection.send_command(*words, check_health=False)
            value = await connection.read_response(disconnect_on_error=False)
        except redis.ResponseError:
            here.idle.append(connection)
            raise
        except BaseException:
            # cancelled, too: half an answer may still be on its way
            await connection.disconnect(nowait=True)
            raise
        epoch = self._epochs[connection]
        here.idle.append(connection)
        return Answer(value, epoch)

    async def _new(self) -> AsyncConnection:
        connection = self._factory.connection_class(**self._factory.connection_kwargs)
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _greet(self, connection: AsyncConnection) -> None:
        await connection.on_connect()
        await connection.send_command("INFO", "replication", check_health=False)
        self._epochs[connection] = epoch_in(cast(bytes, await connection.read_response()))

    def _here(self) -> _Loop:
        loop = asyncio.get_running_loop()
        here = self._loops.get(loop)
        if here is None:
            here = self._loops[loop] = _Loop()
        return here

    async def aclose(self) -> None:
        """Close the idle connections of the running loop; the next command opens a new one."""
        here = self._here()
        while here.idle:
            await here.idle.pop().disconnect()


class GreenletWire:
    """An `AsyncioWire` for sync code that an async engine runs."""

    def __init__(self, wire: AsyncioWire) -> None:
        self._wire = wire

    async def run(self, *words: Word) -> Answer:
        return await_in_greenlet(self._wire.run(*words))


class _Loop:
    """The connections of one event loop."""

    def __init__(self) -> None:
        self.idle: list[AsyncConnection] = []
        self.room = asyncio.Semaphore(MAX_CONNECTIONS)


def check_url(url: str) -> None:
    """Returns when `url` is one that redis-py can connect to.

    Raises:
        CacheDeclarationError: it is not.
    """
    try:
        pool = redis.ConnectionPool.from_url(url)
        pool.connection_class(**pool.connection_kwargs)  # opens nothing yet
    except (ValueError, TypeError) as wrong:
        place = "give memory://, redis://…, rediss://… or unix://…"
        raise CacheDeclarationError(f"cannot connect to {url!r}: {wrong} ({place})") from None


def epoch_in(info: object) -> bytes:
    """The replication id in what INFO replication says, shortened to 8 bytes.

    Raises:
        redis.ConnectionError: there is none, so restarts could not be noticed.
    """
    text = info.encode() if isinstance(info, str) else info
    _, found, rest = text.partition(b"master_replid:") if isinstance(text, bytes) else (b"", b"", b"")
    if not found:
        raise redis.ConnectionError("INFO replication names no master_replid; perfkit needs it to notice a restart")
    return rest[:8]


def _options(timeout_s: float | None) -> dict[str, Any]:
    # no retries of redis-py's own: a failure is answered from the database at once
    return {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "protocol": 2}


def _down(words: tuple[Word, ...], trouble: BaseException) -> StoreDown:
    return StoreDown(f"{words[0]!s} got no answer: {str(trouble) or type(trouble).__name__}")


def _refused(words: tuple[Word, ...], refusal: redis.ResponseError) -> StoreDown:
    kind = NoScript if isinstance(refusal, NoScriptError) else StoreDown
    return kind(f"{words[0]!s} was refused: {refusal}")
