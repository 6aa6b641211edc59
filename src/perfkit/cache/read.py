"""The protocol, reading side: a valid entry, or a load that may be kept.

    look     entry and tag cells in one round trip. The versions of the cells at this moment are the
             *capture*. If they equal the versions under which the entry was stored, it is a hit.
    ensure   only where a cell is missing or abandoned: give it a version, and capture that
    load     the caller's function; not before the capture
    put      value and capture together; only if every cell had a version

Why a hit is current: whoever changes what a tag covers marks its cell before COMMIT, and a mark is no
version. If all versions equal those captured before the load, no mark stood in between, so no change
became visible in between, and the value was current at the moment of the look, which lies inside the
call. The cells need not be read atomically: each proves its own tag from capture to look.

Why a load may be shared among callers with equal capture: the same argument, with the moment of the
second caller's look. With a dirty cell there is no capture, and nothing is shared or kept: the commit may
become visible between two callers who both saw the mark.

This file knows no client, loop, thread or session. Proof: tests/protocol/test_interleavings.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast

from perfkit.cache.arrears import Arrears
from perfkit.cache.cells import Version, version_of
from perfkit.cache.entries import payload_of, seal
from perfkit.cache.flights import Flights, NoLanding
from perfkit.cache.policy import Reason
from perfkit.cache.store import InstantStore, Seen, Store
from perfkit.errors import StoreDown, Unreadable
from perfkit.waiting import Waiting


class Question(NamedTuple):
    """One call of a cached function, as the store knows it. `cells` and `tags` go in the same order."""

    key: bytes
    tags: tuple[bytes, ...]
    cells: tuple[bytes, ...]
    ttl_ms: int
    max_bytes: int


Versions = tuple[Version, ...]


class Packing(Protocol):
    """How values become bytes and values again."""

    def pack(self, value: object) -> bytes: ...
    def unpack(self, raw: bytes) -> object: ...


class Ports(NamedTuple):
    """What a protocol run waits on, and the state that callers share. `instant` is the store, if it never waits."""

    store: Store
    waiting: Waiting
    flights: Flights
    arrears: Arrears
    instant: InstantStore | None = None


class Hit(NamedTuple):
    """The entry was valid."""

    value: Any


class Filled(NamedTuple):
    """The function ran, for this caller or (`shared`) for another one with the same capture.

    `unkept` says why its result was not kept, None that it was; `odd` what was wrong with the entry that was found.
    """

    value: Any
    unkept: Reason | None
    shared: bool = False
    odd: Reason | None = None


Load = Callable[[], Any]
MayKeep = Callable[[], Reason | None]


async def read(question: Question, load: Load, may_keep: MayKeep, packing: Packing, ports: Ports) -> Hit | Filled:
    """What the caller gets. `may_keep` is asked after the load whether its result is one for others.

    Raises:
        Unpackable: the value is of a type that cannot be kept: the function's declaration is wrong.
        whatever `load` raises; nothing else.
    """
    try:
        await _settle(ports)
        found = await _look(question, ports.store, packing)
        if isinstance(found, Hit):
            return found
        versions, odd = found
        if versions is None:
            versions = await _ensure(question, ports.store)
    except StoreDown as down:
        return Filled(await ports.waiting.call(load), _reason(down))
    if versions is None:
        return Filled(await ports.waiting.call(load), Reason.MARKED, odd=odd)
    filled = await _fly(question, versions, load, may_keep, packing, ports)
    return filled._replace(odd=odd)


async def refill(question: Question, load: Load, may_keep: MayKeep, packing: Packing, ports: Ports) -> Filled:
    """`read`, without looking for an entry: loads in any case, and keeps what it loaded."""
    try:
        await _settle(ports)
        versions = await _ensure(question, ports.store)
    except StoreDown as down:
        return Filled(await ports.waiting.call(load), _reason(down))
    if versions is None:
        return Filled(await ports.waiting.call(load), Reason.MARKED)
    value, (_, unkept) = await _load_and_keep(question, versions, load, may_keep, packing, ports)
    return Filled(value, unkept)


async def _look(question: Question, store: Store, packing: Packing) -> Hit | tuple[Versions | None, Reason | None]:
    """A hit; or the capture (None if a cell has no version) and what was wrong with the entry, if anything."""
    return judge(question, await store.read((question.key, *question.cells)), packing)


def judge(question: Question, seen: Seen, packing: Packing) -> Hit | tuple[Versions | None, Reason | None]:
    """What the entry and the cells, as they were seen, amount to; in the terms of `_look`."""
    raw, *cells = seen.values
    versions = tuple([version_of(cell, seen.epoch) for cell in cells])
    odd = None
    if raw is not None:
        try:
            payload = payload_of(raw, question.tags, versions)
            if payload is not None:
                return Hit(packing.unpack(payload))
        except Unreadable:
            odd = Reason.UNREADABLE
    return (None if None in versions else cast(Versions, versions)), odd


async def _ensure(question: Question, store: Store) -> Versions | None:
    seen = await store.ensure(question.cells)
    versions = tuple(version_of(cell, seen.epoch) for cell in seen.values)
    return None if None in versions else cast(Versions, versions)


async def _fly(
    question: Question,
    versions: Versions,
    load: Load,
    may_keep: MayKeep,
    packing: Packing,
    ports: Ports,
) -> Filled:
    unkept: Reason | None = None

    async def lead() -> tuple[Any, bytes | NoLanding]:
        nonlocal unkept
        value, (landing, unkept) = await _load_and_keep(question, versions, load, may_keep, packing, ports)
        return value, landing

    value, landing = await ports.flights.join((question.key, *versions), lead, ports.waiting)
    if landing is None:
        return Filled(value, unkept)
    if not isinstance(landing, NoLanding):
        return Filled(packing.unpack(landing), None, shared=True)
    return Filled(await ports.waiting.call(load), Reason.NOT_JOINED)


async def _load_and_keep(
    question: Question, versions: Versions, load: Load, may_keep: MayKeep, packing: Packing, ports: Ports
) -> tuple[Any, tuple[bytes | NoLanding, Reason | None]]:
    value = await ports.waiting.call(load)
    payload = packing.pack(value)
    reason = may_keep()
    if reason is not None:
        return value, (NoLanding.FAILED, reason)
    if len(payload) > question.max_bytes:
        return value, (payload, Reason.TOO_LARGE)
    try:
        await ports.store.put(question.key, seal(payload, question.tags, versions), question.ttl_ms)
    except StoreDown:
        return value, (payload, Reason.STORE_DOWN)
    return value, (payload, None)


class _Unsettled(StoreDown):
    """Some of our own commits are not known to the store."""


async def _settle(ports: Ports) -> None:
    if not ports.arrears:
        return
    try:
        await ports.arrears.settle(ports.store)
    except StoreDown as down:
        raise _Unsettled(str(down)) from down


def _reason(down: StoreDown) -> Reason:
    return Reason.UNSETTLED if isinstance(down, _Unsettled) else Reason.STORE_DOWN
