"""Wires: commands to where a URL points, for each of three ways to wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import redis
import redis.asyncio
from redis.asyncio.connection import AbstractConnection as AsyncConnection

from perfkit.sqla.private import await_in_greenlet
from perfkit.wire.addresses import Address, Target, target_of
from perfkit.wire.answers import Answer, Command, Reply, refused
from perfkit.wire.breaker import TIMEOUT_S, Breaker
from perfkit.wire.cluster import ClusterWire
from perfkit.wire.deadlines import TimedConnection, timed
from perfkit.wire.nodes import AsyncioNode, BlockingNode, Node
from perfkit.wire.sentinel import AsyncioSentinels, BlockingSentinels

S = TypeVar("S", BlockingSentinels, AsyncioSentinels)


class Wire(Protocol):
    """Commands there, answers back."""

    @property
    def posts(self) -> bool:
        """Whether `post` works: where a command is never sent on to another server."""
        ...

    def groups(self, keys: Sequence[bytes]) -> Sequence[Sequence[bytes]]:
        """`keys`, in such groups that one command may name a whole group."""
        ...

    async def run(self, *commands: Command) -> list[Answer]:
        """The answers, in the order of the commands, which are under way at the same time.

        Raises:
            NoScript: a server does not know a script.
            Parted: a command's keys are on two servers for now.
            StoreDown: an answer did not come in time, or was a refusal.
        """
        ...

    async def begin(self, command: Command) -> Callable[[], Awaitable[Answer]]:
        """Send `command`. What it returns waits for the answer, as `run` does; it is called once.

        Raises:
            StoreDown: it could not be sent.
        """
        ...

    async def post(self, command: Command) -> None:
        """Send `command`, whose answer nobody waits for. A refusal is logged when it is met.

        Raises:
            StoreDown: it could not be sent.
        """
        ...


class SingleWire:
    """One server."""

    posts = True

    def __init__(self, node: Node) -> None:
        self._node = node

    def groups(self, keys: Sequence[bytes]) -> Sequence[Sequence[bytes]]:
        return (keys,)

    async def run(self, *commands: Command) -> list[Answer]:
        return _answers(commands, await self._node.receive(await self._node.send(commands)))

    async def begin(self, command: Command) -> Callable[[], Awaitable[Answer]]:
        pending = await self._node.begin(command)

        async def heard() -> Answer:
            (answer,) = _answers([command], [await self._node.hear(pending)])
            return answer

        return heard

    async def post(self, command: Command) -> None:
        await self._node.post(command)


def _answers(commands: Sequence[Command], replies: Sequence[Reply]) -> list[Answer]:
    for command, reply in zip(commands, replies, strict=True):
        if not isinstance(reply, Answer):
            raise refused(command, reply) from reply
    return cast("list[Answer]", replies)


class GreenletWire:
    """An asyncio wire for sync code that an async engine runs."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.groups, self.posts = wire.groups, wire.posts

    async def run(self, *commands: Command) -> list[Answer]:
        return await_in_greenlet(self._wire.run(*commands))

    async def begin(self, command: Command) -> Callable[[], Awaitable[Answer]]:
        heard = await_in_greenlet(self._wire.begin(command))

        async def heard_in_greenlet() -> Answer:
            return await_in_greenlet(heard())

        return heard_in_greenlet

    async def post(self, command: Command) -> None:
        await_in_greenlet(self._wire.post(command))


class Wires(NamedTuple):
    """The same place over three ways to wait. The greenlets' connections are those of the event loops."""

    blocking: Wire
    suspending: Wire
    greenlet: Wire
    nodes: Nodes

    async def masters(self) -> dict[str, Wire]:
        """A blocking wire to each server on its own, by its address.

        Raises:
            StoreDown: a cluster's map of slots was not to be had.
        """
        if not isinstance(self.blocking, ClusterWire):
            return {self.nodes.name: self.blocking}
        addresses = await self.blocking.masters()
        return {str(address): SingleWire(self.nodes.blocking_at(address)) for address in addresses}

    def close(self) -> None:
        """Close the connections of sync callers."""
        for node in self.nodes.blocking.values():
            node.close()

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        for node in self.nodes.suspending.values():
            await node.aclose()


def open_wires(url: str, *, timeout_s: float = TIMEOUT_S) -> Wires:
    """Wires to where `url` points; opens no connection yet. `timeout_s` is how long one command may take."""
    target = target_of(url)
    nodes = Nodes(target, timeout_s)
    if target.is_cluster:
        blocking: Wire = ClusterWire(target.seeds, nodes.blocking_at)
        suspending: Wire = ClusterWire(target.seeds, nodes.suspending_at)
    else:
        blocking, suspending = SingleWire(nodes.blocking_at(None)), SingleWire(nodes.suspending_at(None))
    return Wires(blocking, suspending, GreenletWire(suspending), nodes)


def _introduction() -> dict[str, Any]:
    """What connections say of themselves, made once: redis-py would look its own version up for each of them."""
    info = getattr(redis, "DriverInfo", None)  # from 7.2 on
    return {} if info is None else {"driver_info": info()}


class Nodes:
    """Every server that was met behind one URL. Owns them, and one breaker for each."""

    def __init__(self, target: Target, timeout_s: float) -> None:
        self.blocking: dict[Address | None, BlockingNode] = {}
        self.suspending: dict[Address | None, AsyncioNode] = {}
        self.name = target.name
        self._target, self._timeout_s = target, timeout_s
        self._breakers: dict[Address | None, Breaker] = {}
        options: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "protocol": 2}
        options |= _introduction()
        self._blocking_pool = redis.ConnectionPool.from_url(target.url, **options)
        # on a loop, one timeout stands around it all
        options |= {"socket_timeout": None, "socket_connect_timeout": None}
        self._timed = timed(self._blocking_pool.connection_class, timeout_s)
        self._suspending_pool = redis.asyncio.ConnectionPool.from_url(target.url, **options)
        self._blocking_sentinels = self._sentinels(BlockingSentinels, self._blocking_pool, self._timed)
        connection_class = self._suspending_pool.connection_class
        self._suspending_sentinels = self._sentinels(AsyncioSentinels, self._suspending_pool, connection_class)

    def blocking_at(self, address: Address | None) -> BlockingNode:
        """The server at `address`; the URL's own for None."""
        known = self.blocking.get(address)
        if known is not None:
            return known
        pool, sentinels = self._blocking_pool, self._blocking_sentinels

        def make() -> TimedConnection:
            place = address if sentinels is None else sentinels.master()
            return self._timed(**self._options(pool.connection_kwargs, place))

        confirm = None if sentinels is None else sentinels.confirm
        return self.blocking.setdefault(address, BlockingNode(make, self._breaker(address), confirm=confirm))

    def suspending_at(self, address: Address | None) -> AsyncioNode:
        """The same for event loops."""
        known = self.suspending.get(address)
        if known is not None:
            return known
        pool, sentinels = self._suspending_pool, self._suspending_sentinels

        async def make() -> AsyncConnection:
            place = address if sentinels is None else await sentinels.master()
            return pool.connection_class(**self._options(pool.connection_kwargs, place))

        breaker, confirm = self._breaker(address), None if sentinels is None else sentinels.confirm
        made = AsyncioNode(make, breaker, timeout_s=self._timeout_s, confirm=confirm)
        return self.suspending.setdefault(address, made)

    def _sentinels(self, kind: type[S], pool: Any, make: Any) -> S | None:
        target = self._target
        if not target.service:
            return None
        login = {"username": None, "password": None, "db": 0, **dict(target.sentinel_login)}
        return kind(target.service, target.seeds, make, {**pool.connection_kwargs, **login})

    def _options(self, options: dict[str, Any], address: Address | None) -> dict[str, Any]:
        return options if address is None else {**options, "host": address.host, "port": address.port}

    def _breaker(self, address: Address | None) -> Breaker:
        name = self._target.name if address is None else f"{self._target.name} ({address})"
        return self._breakers.setdefault(address, Breaker(name))
