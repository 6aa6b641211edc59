"""ClusterWire: many servers, each with some of the 16,384 slots in which keys lie.

What changes while we look, and what is done about it:

    a slot has moved            MOVED says where to: believed at once, and the whole map asked for anew
    a slot is moving            ASK sends one command to where its key will be; a command whose keys are on both
                                sides is refused with TRYAGAIN, and the store asks for one key at a time (`Parted`)
    a server does not answer    another one is asked who has the slot now: most likely nobody yet, then a replica

An entry and the cells that it depends on may lie on several servers. They need not be read at one instant
(cache/read.py), and a cell that has moved bears the epoch of its new server, so that it equals nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Self

from redis.crc import key_slot
from redis.exceptions import AskError, MovedError

from perfkit.errors import StoreDown
from perfkit.wire.addresses import Address
from perfkit.wire.answers import TROUBLE, Answer, Command, Reply, refused, shown
from perfkit.wire.nodes import Node, Pending

SLOTS = 16_384
ROUNDS = 5  # of redirections
MAP_TRUSTED_S = 0.25  # between two questions for the whole map
ASKING = Command(b"", ("ASKING",))
WHO_HAS_WHAT = Command(b"", ("CLUSTER", "SLOTS"))

_log = logging.getLogger("perfkit.wire")


class Errand(NamedTuple):
    """A command that has no answer yet: its place among them, and where it is sent. `asking`: by an ASK."""

    place: int
    command: Command
    to: Address
    asking: bool = False


class ClusterWire:
    """A cluster, by whoever of it answers. Owns the map of slots."""

    posts = False  # a slot that moves is noticed by the answer

    def __init__(self, seeds: Sequence[Address], node_at: Callable[[Address], Node]) -> None:
        self._seeds = tuple(seeds)
        self._node_at = node_at
        self._owners: list[Address | None] = [None] * SLOTS
        self._asked_at = float("-inf")
        self._refusal = ""  # what a server said in place of the map, since somebody gave it last

    def groups(self, keys: Sequence[bytes]) -> Sequence[Sequence[bytes]]:
        by_slot: dict[int, list[bytes]] = {}
        for key in keys:
            by_slot.setdefault(key_slot(key), []).append(key)
        return list(by_slot.values())

    async def run(self, *commands: Command) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(commands)
        ahead = [Errand(i, command, await self._owner(command)) for i, command in enumerate(commands)]
        for _ in range(ROUNDS):
            ahead = await self._round(ahead, answers)
            if not ahead:
                return [answer for answer in answers if answer is not None]
        raise StoreDown(f"{ahead[0].command.words[0]!s} was sent on {ROUNDS} times, last to {ahead[0].to}")

    async def begin(self, command: Command) -> Callable[[], Awaitable[Answer]]:
        return lambda: self._heard(command)

    async def _heard(self, command: Command) -> Answer:
        (answer,) = await self.run(command)
        return answer

    async def post(self, command: Command) -> None:
        await self.run(command)

    async def masters(self) -> list[Address]:
        """Every server that has a slot.

        Raises:
            StoreDown: nobody who was asked knows.
        """
        await self._look_again(at_any_rate=True)
        found = sorted({owner for owner in self._owners if owner is not None})
        if not found:
            raise StoreDown(f"none of {', '.join(map(str, self._seeds))} says who has which slot{self._refusal}")
        return found

    @property
    def uncovered(self) -> int:
        """How many slots nobody has, by the map that was fetched last."""
        return sum(owner is None for owner in self._owners)

    async def _round(self, errands: Sequence[Errand], answers: list[Answer | None]) -> list[Errand]:
        """Send `errands`, note their answers, and return those that must go elsewhere.

        One that fails does not keep the others from being sent and read: their connections are good.
        """
        by_address: dict[Address, list[Errand]] = {}
        for errand in errands:
            by_address.setdefault(errand.to, []).append(errand)
        ahead: list[Errand] = []
        failures: list[StoreDown] = []
        async with _UnderWay() as under_way:
            # in one order for all callers: each holds a place on one server while it waits for one on the next
            for address in sorted(by_address):
                node, sent = self._node_at(address), by_address[address]
                try:
                    under_way.add(node, sent, await node.send(_words(sent)))
                except StoreDown as down:
                    ahead += await self._elsewhere(sent, down, failures)
            while under_way:
                errands_there, receiving = under_way.next()
                try:
                    replies = await receiving
                except StoreDown as down:
                    ahead += await self._elsewhere(errands_there, down, failures)
                    continue
                for errand, reply in zip(errands_there, _without_asking(errands_there, replies), strict=True):
                    if isinstance(reply, Answer):
                        answers[errand.place] = reply
                    elif isinstance(reply, AskError):
                        ahead.append(await self._redirected(errand, reply))
                    else:
                        failures.append(refused(errand.command, reply))
        if failures:
            raise failures[0]
        return ahead

    async def _redirected(self, errand: Errand, redirection: AskError) -> Errand:
        # an empty host is that of the server that was asked
        to = Address(redirection.host or errand.to.host, redirection.port)
        if not isinstance(redirection, MovedError):
            return errand._replace(to=to, asking=True)
        await self._look_again()
        self._owners[key_slot(errand.command.key)] = to
        return errand._replace(to=to, asking=False)

    async def _elsewhere(self, errands: Sequence[Errand], down: StoreDown, failures: list[StoreDown]) -> list[Errand]:
        """Where to go with what a server did not answer, if its slots have a new owner by now; else a failure."""
        await self._look_again()
        moved = [errand._replace(to=await self._owner(errand.command), asking=False) for errand in errands]
        if any(now.to == before.to for now, before in zip(moved, errands, strict=True)):
            failures.append(down)
            return []
        return moved

    async def _owner(self, command: Command) -> Address:
        slot = key_slot(command.key)
        owner = self._owners[slot]
        if owner is None:
            await self._look_again(at_any_rate=True)
            owner = self._owners[slot]
        if owner is None:
            why = self._refusal or ", or none of those that were asked answers"
            raise StoreDown(f"no server of the cluster has slot {slot}{why}")
        return owner

    async def _look_again(self, *, at_any_rate: bool = False) -> None:
        """Ask for the map of slots, unless somebody has just done so; the old one stays if nobody answers."""
        now = time.monotonic()
        if now < self._asked_at + MAP_TRUSTED_S and not at_any_rate:
            return
        self._asked_at = now
        for address in dict.fromkeys([*(owner for owner in self._owners[::512] if owner), *self._seeds]):
            try:
                node = self._node_at(address)
                (reply,) = await node.receive(await node.send([WHO_HAS_WHAT]))
                if isinstance(reply, Answer):
                    self._owners, self._refusal = owners_in(reply.value, address), ""
                    return
                self._refused(address, reply)
            except StoreDown:
                continue

    def _refused(self, address: Address, reply: Exception) -> None:
        if not self._refusal:
            told = "%s does not say who has which slot (%s): reads go to the database until one does"
            _log.warning(told, address, reply)
        self._refusal = f": {address} said {reply}"


class _UnderWay:
    """What was sent and not yet read. Left early, it is given up: nobody else may read those answers."""

    def __init__(self) -> None:
        self._sent: list[tuple[Node, Sequence[Errand], Pending]] = []

    def __bool__(self) -> bool:
        return bool(self._sent)

    def add(self, node: Node, errands: Sequence[Errand], pending: Pending) -> None:
        self._sent.append((node, errands, pending))

    def next(self) -> tuple[Sequence[Errand], Any]:
        """The next one's errands, and the awaitable of its replies."""
        node, errands, pending = self._sent.pop(0)
        return errands, node.receive(pending)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for node, _errands, pending in self._sent:
            await node.abandon(pending)


def _words(errands: Sequence[Errand]) -> list[Command]:
    return [one for errand in errands for one in ((ASKING, errand.command) if errand.asking else (errand.command,))]


def _without_asking(errands: Sequence[Errand], replies: Sequence[Reply]) -> list[Reply]:
    ahead = iter(replies)
    found: list[Reply] = []
    for errand in errands:
        if errand.asking:
            next(ahead)
        found.append(next(ahead))
    return found


def owners_in(answer: Any, asked: Address) -> list[Address | None]:
    """Who has which slot, in what CLUSTER SLOTS answered.

    Raises:
        StoreDown: it is no such answer.
    """
    owners: list[Address | None] = [None] * SLOTS
    try:
        for first, last, master, *_ in answer:
            if not 0 <= first <= last < SLOTS:
                raise StoreDown(f"CLUSTER SLOTS of {asked} names slots that do not exist: {first} to {last}")
            host = master[0].decode() if master[0] else asked.host
            owners[first : last + 1] = [Address(host, int(master[1]))] * (last + 1 - first)
    except TROUBLE as strange:
        raise StoreDown(f"CLUSTER SLOTS of {asked} answered {shown(answer)}") from strange
    return owners
