"""Nodes: the connections to one server, for sync callers and for event loops.

Commands are sent first and their answers read afterwards, so that one caller may have several servers at work.
Connections are kept in a plain stack, because redis-py's pools ask the socket whether it is readable at each checkout;
we send, and on a connection that had been idle and turns out to be dead we try once more on a new one. Every command
that we send may run twice without harm.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import redis
from redis.asyncio.connection import AbstractConnection as AsyncConnection
from redis.exceptions import ReadOnlyError

from perfkit.clock import SYSTEM, Clock
from perfkit.wire.answers import TROUBLE, WHO_ARE_YOU, Answer, Command, Reply, Word, down, epoch_in, refused
from perfkit.wire.breaker import Breaker
from perfkit.wire.deadlines import TimedConnection

_pack: Callable[[tuple[Word, ...]], bytes] | None
try:  # what redis-py calls itself, after it has looked at the type of each word
    from hiredis import pack_command as _pack  # type: ignore[assignment]
except ImportError:  # pragma: no cover - a choice of whoever installs it
    _pack = None

MAX_CONNECTIONS = 64  # per event loop; a thread never needs more than one
MAX_OPENING = 2  # at the same time; to open one takes ten times as long as to wait until another has its answer
EPOCH_TRUSTED_S = 1.0  # then a connection asks again: a server may be made a replica without cutting it

AnyConnection = TypeVar("AnyConnection", TimedConnection, AsyncConnection)


class Held(Generic[AnyConnection]):
    """A connection, and what its server said of itself lately."""

    __slots__ = ("asked_s", "connection", "epoch", "owed", "trusted_until")

    def __init__(self, connection: AnyConnection) -> None:
        self.connection: AnyConnection = connection
        self.epoch = b""
        self.owed: list[Command] = []  # posted: their answers come before those of whatever is sent next
        self.asked_s = self.trusted_until = 0.0


class Pending(NamedTuple):
    """Commands that were sent and not answered yet."""

    commands: Sequence[Command]
    held: Held[Any]
    asked_who: bool
    reused: bool
    until_s: float = 0.0


class Node(Protocol):
    """One server, over one kind of waiting."""

    async def send(self, commands: Sequence[Command]) -> Pending:
        """Send `commands`; their answers are for `receive` or `abandon`.

        Raises:
            StoreDown: the server cannot be reached.
        """
        ...

    async def receive(self, pending: Pending) -> list[Reply]:
        """The answers, in the order of the commands; a refusal stands where the answer would.

        Raises:
            StoreDown: they did not come in time, or are no answers.
        """
        ...

    async def abandon(self, pending: Pending) -> None:
        """Nobody will read the answers."""
        ...

    async def begin(self, command: Command) -> Pending:
        """Send `command`, whose answer may be asked for much later, by `hear`.

        Raises:
            StoreDown: the server cannot be reached.
        """
        ...

    async def hear(self, pending: Pending) -> Reply:
        """The answer to what was begun.

        Raises:
            StoreDown: it did not come in time from now on, or is none.
        """
        ...

    async def post(self, command: Command) -> None:
        """Send `command`, and leave its answer to whoever uses the connection next, who throws it away.

        Raises:
            StoreDown: the server cannot be reached.
        """
        ...


class BlockingNode:
    """A server, as sync callers reach it. Owns its connections; safe in any number of threads and after a fork."""

    def __init__(
        self,
        make: Callable[[], TimedConnection],
        breaker: Breaker,
        clock: Clock = SYSTEM,
        *,
        confirm: Callable[[TimedConnection], None] | None = None,
    ) -> None:
        """`confirm` raises ConnectionError if a connection leads to the wrong server by now."""
        self._make, self._breaker, self._clock, self._confirm = make, breaker, clock, confirm
        self._idle: list[Held[TimedConnection]] = []
        self._pid = os.getpid()

    async def send(self, commands: Sequence[Command]) -> Pending:
        try:
            return self._send(commands)
        except TROUBLE as trouble:
            self._failed(trouble)
            raise down(commands, trouble) from trouble

    async def receive(self, pending: Pending) -> list[Reply]:
        try:
            replies = self._receive(pending)
        except TROUBLE as trouble:
            self._failed(trouble)
            raise down(pending.commands, trouble) from trouble
        self._breaker.succeeded()
        return replies

    async def abandon(self, pending: Pending) -> None:
        pending.held.connection.disconnect()

    async def begin(self, command: Command) -> Pending:
        return await self.send([command])

    async def hear(self, pending: Pending) -> Reply:
        (reply,) = await self.receive(pending)
        return reply

    async def post(self, command: Command) -> None:
        pending = await self.send([command])
        if pending.asked_who:
            noted([command], await self.receive(pending))
        else:
            pending.held.owed.append(command)
            self._idle.append(pending.held)

    def _failed(self, trouble: BaseException) -> None:
        # whatever it was, the others may lead nowhere either: each would cost a time-out of its own
        self.close()
        self._breaker.failed(trouble)

    def _send(self, commands: Sequence[Command]) -> Pending:
        self._breaker.check()
        if self._pid != os.getpid():  # the parent goes on using its sockets
            self._idle, self._pid = [], os.getpid()
        try:
            held = self._idle.pop()
        except IndexError:
            return self._send_on(Held(self._make()), commands, reused=False)
        try:
            return self._send_on(held, commands, reused=True)
        except redis.ConnectionError:
            return self._send_anew(commands)

    def _send_anew(self, commands: Sequence[Command]) -> Pending:
        # one died while idle, and most likely so did the others
        self.close()
        return self._send_on(Held(self._make()), commands, reused=False)

    def _send_on(self, held: Held[TimedConnection], commands: Sequence[Command], *, reused: bool) -> Pending:
        now_s = self._clock.monotonic()
        asks_who = now_s >= held.trusted_until
        if asks_who:
            held.asked_s = now_s  # not when the answer came: it may have been true only then
        held.connection.deadline.begin()
        try:
            if asks_who and reused and self._confirm is not None:
                self._confirm(held.connection)
            held.connection.send_packed_command(packed(held.connection, commands, asks_who), check_health=False)
        except BaseException:
            held.connection.disconnect()
            raise
        return Pending(commands, held, asks_who, reused)

    def _receive(self, pending: Pending) -> list[Reply]:
        try:
            return self._read(pending)
        except redis.ConnectionError:
            if not pending.reused:
                raise
            return self._read(self._send_anew(pending.commands))

    def _read(self, pending: Pending) -> list[Reply]:
        held, connection = pending.held, pending.held.connection
        connection.deadline.begin()
        try:
            while held.owed:
                try:
                    connection.read_response(disconnect_on_error=False)
                except redis.ResponseError as refusal:
                    noted(held.owed[:1], [refusal])
                del held.owed[0]
            if pending.asked_who:
                held.epoch = epoch_in(connection.read_response(disconnect_on_error=False))
                held.trusted_until = held.asked_s + EPOCH_TRUSTED_S
            replies: list[Reply] = []
            is_unfit = False
            for _ in pending.commands:
                try:
                    replies.append(Answer(connection.read_response(disconnect_on_error=False), held.epoch))
                except redis.ResponseError as refusal:
                    replies.append(refusal)
                    is_unfit = is_unfit or isinstance(refusal, ReadOnlyError)
        except BaseException:
            # half an answer may still be on its way: nobody may read it
            connection.disconnect()
            raise
        if is_unfit:  # no master any more: the next connection may find the new one
            connection.disconnect()
        else:
            self._idle.append(held)
        return replies

    def close(self) -> None:
        """Close the idle connections; the next command opens a new one."""
        while self._idle:
            self._idle.pop().connection.disconnect()


class AsyncioNode:
    """A server, as async callers reach it. Owns its connections, a stack for each event loop."""

    def __init__(
        self,
        make: Callable[[], Awaitable[AsyncConnection]],
        breaker: Breaker,
        *,
        timeout_s: float,
        clock: Clock = SYSTEM,
        confirm: Callable[[AsyncConnection], Awaitable[None]] | None = None,
    ) -> None:
        """`confirm` as for `BlockingNode`."""
        self._make, self._breaker, self._clock, self._confirm = make, breaker, clock, confirm
        self._timeout_s = timeout_s
        self._loops: dict[asyncio.AbstractEventLoop, _Loop] = {}

    async def send(self, commands: Sequence[Command]) -> Pending:
        self._breaker.check()
        until_s = self._until_s()
        try:
            async with asyncio.timeout_at(until_s):
                return (await self._send(commands))._replace(until_s=until_s)
        except TROUBLE as trouble:
            await self._failed(trouble)
            raise down(commands, trouble) from trouble

    async def receive(self, pending: Pending) -> list[Reply]:
        # One time-out around sending, too, would be less to do, and took a tenth longer on loopback: what is done
        # between sending and waiting is done while the answer is on its way, and who waits sooner has to be woken.
        try:
            return await self._receive_until(pending.until_s, pending)
        finally:
            self._here().room.release()

    async def _receive_until(self, until_s: float, pending: Pending) -> list[Reply]:
        try:
            async with asyncio.timeout_at(until_s):
                replies = await self._receive(pending)
        except TROUBLE as trouble:
            await self._failed(trouble)
            raise down(pending.commands, trouble) from trouble
        self._breaker.succeeded()
        return replies

    async def abandon(self, pending: Pending) -> None:
        self._here().room.release()
        await pending.held.connection.disconnect(nowait=True)

    async def begin(self, command: Command) -> Pending:
        pending = await self.send([command])
        self._here().room.release()  # the database may take its time; who asks meanwhile need not wait for that
        return pending

    async def hear(self, pending: Pending) -> Reply:
        (reply,) = await self._receive_until(self._until_s(), pending)
        return reply

    async def post(self, command: Command) -> None:
        pending = await self.send([command])
        if pending.asked_who:
            noted([command], await self.receive(pending))
        else:
            pending.held.owed.append(command)
            here = self._here()
            here.idle.append(pending.held)
            here.room.release()

    async def _send(self, commands: Sequence[Command]) -> Pending:
        here = self._here()
        await here.room.acquire()
        try:
            if not here.idle:
                async with here.opening:
                    if not here.idle:
                        return await self._send_on(Held(await self._make()), commands, reused=False)
            try:
                return await self._send_on(here.idle.pop(), commands, reused=True)
            except redis.ConnectionError:
                return await self._send_anew(commands)
        except BaseException:
            here.room.release()
            raise

    async def _failed(self, trouble: BaseException) -> None:
        await self._forget_idle()  # as BlockingNode
        self._breaker.failed(trouble)

    async def _forget_idle(self) -> None:
        here = self._here()
        while here.idle:
            await here.idle.pop().connection.disconnect(nowait=True)

    async def _send_anew(self, commands: Sequence[Command]) -> Pending:
        await self._forget_idle()
        return await self._send_on(Held(await self._make()), commands, reused=False)

    async def _send_on(self, held: Held[AsyncConnection], commands: Sequence[Command], *, reused: bool) -> Pending:
        now_s = self._clock.monotonic()
        asks_who = now_s >= held.trusted_until
        if asks_who:
            held.asked_s = now_s  # not when the answer came: it may have been true only then
        try:
            if asks_who and reused and self._confirm is not None:
                await self._confirm(held.connection)
            await held.connection.send_packed_command(packed(held.connection, commands, asks_who), check_health=False)
        except BaseException:
            await held.connection.disconnect(nowait=True)
            raise
        return Pending(commands, held, asks_who, reused)

    async def _receive(self, pending: Pending) -> list[Reply]:
        try:
            return await self._read(pending)
        except redis.ConnectionError:
            if not pending.reused:
                raise
            return await self._read(await self._send_anew(pending.commands))

    async def _read(self, pending: Pending) -> list[Reply]:
        held, connection = pending.held, pending.held.connection
        try:
            while held.owed:
                try:
                    await connection.read_response(disconnect_on_error=False)
                except redis.ResponseError as refusal:
                    noted(held.owed[:1], [refusal])
                del held.owed[0]
            if pending.asked_who:
                held.epoch = epoch_in(await connection.read_response(disconnect_on_error=False))
                held.trusted_until = held.asked_s + EPOCH_TRUSTED_S
            replies: list[Reply] = []
            is_unfit = False
            for _ in pending.commands:
                try:
                    replies.append(Answer(await connection.read_response(disconnect_on_error=False), held.epoch))
                except redis.ResponseError as refusal:
                    replies.append(refusal)
                    is_unfit = is_unfit or isinstance(refusal, ReadOnlyError)
        except BaseException:
            # cancelled, too: half an answer may still be on its way
            await connection.disconnect(nowait=True)
            raise
        if is_unfit:
            await connection.disconnect(nowait=True)
        else:
            self._here().idle.append(held)
        return replies

    def _until_s(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout_s

    def _here(self) -> _Loop:
        loop = asyncio.get_running_loop()
        here = self._loops.get(loop)
        if here is None:
            # connections hold their loop, so that no weak reference would see that it has gone
            for other in [each for each in list(self._loops) if each.is_closed()]:
                self._loops.pop(other, None)
            here = self._loops[loop] = _Loop()
        return here

    async def aclose(self) -> None:
        """Close the idle connections of the running loop; the next command opens a new one."""
        here = self._here()
        while here.idle:
            await here.idle.pop().connection.disconnect()


class _Loop:
    """The connections of one event loop."""

    def __init__(self) -> None:
        self.idle: list[Held[AsyncConnection]] = []
        self.room = asyncio.Semaphore(MAX_CONNECTIONS)
        self.opening = asyncio.Semaphore(MAX_OPENING)


def packed(connection: Any, commands: Sequence[Command], asks_who: bool) -> list[bytes]:
    """The bytes to send, with the question for the server's life in front."""
    if _pack is not None and len(commands) == 1 and not asks_who:  # nearly always
        return [_pack(commands[0].words)]
    words = [WHO_ARE_YOU] if asks_who else []
    words += [command.words for command in commands]
    if _pack is None:
        packs: list[bytes] = connection.pack_commands(words)
        return packs
    return [b"".join([_pack(each) for each in words])]


def noted(commands: Sequence[Command], replies: Sequence[Reply]) -> None:
    """Log what was refused of what nobody waited for."""
    for command, reply in zip(commands, replies, strict=True):
        if not isinstance(reply, Answer):
            refused(command, reply)
