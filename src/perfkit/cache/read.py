"""The protocol, reading side: a valid entry, or a load that may be kept.

    look     entry and tag cells in one round trip. The versions of the cells at this moment are the
             *capture*. If they equal the versions under which the entry was stored, it is a hit.
    ensure   only where a cell is missing or abandoned: give it a version, and capture that
    load     the caller's function; not before the capture
    find     only where the result itself tells on which rows it depends: capture their cells, then look
             whether the *guard*, the cell of their table, still has the version of the capture
    put      value and capture together; only if every cell had a version

Why a hit is current: whoever changes what a tag covers marks its cell before COMMIT, and a mark is no
version. If all versions equal those captured before the load, no mark stood in between, so no change
became visible in between, and the value was current at the moment of the look, which lies inside the
call. The cells need not be read atomically: each proves its own tag from capture to look.

Why rows may be captured after the load: who changes a row marks its table, too. An unchanged guard says that nobody
marked any of its rows from before the load until after their cells were captured.

Why a load may be shared among callers with equal capture: the same argument, with the moment of the
second caller's look. With a dirty cell there is no capture, and nothing is shared or kept: the commit may
become visible between two callers who both saw the mark.

This file knows no client, loop, thread or session. Proof: tests/protocol/.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast

from perfkit.cache.arrears import Arrears
from perfkit.cache.cells import Version, is_dirty, version_of
from perfkit.cache.entries import seal, unseal
from perfkit.cache.flights import Flights, NoLanding
from perfkit.cache.policy import Reason
from perfkit.cache.store import InstantStore, Seen, Store
from perfkit.errors import StoreDown, Unreadable
from perfkit.waiting import Waiting


class Named(NamedTuple):
    """Tags and where their cells live, in the same order."""

    tags: tuple[bytes, ...]
    cells: tuple[bytes, ...]


NOTHING = Named((), ())


class Finding(Protocol):
    """Names what only a result can tell that it depends on: rows of tables whose own cells are the guards."""

    def found_in(self, value: Any) -> Named:
        """What the result depends on."""
        ...

    def at(self, tags: tuple[bytes, ...]) -> Named:
        """The tags that an entry bears, and where their cells live.

        Raises:
            Unreadable: they are none of ours.
        """
        ...

    def expected(self, key: bytes) -> Named:
        """What this call's result depended on the last time; a guess that saves a round trip."""
        ...

    def remember(self, key: bytes, found: Named) -> None:
        """Expect this the next time."""
        ...


class Question(NamedTuple):
    """One call of a cached function, as the store knows it.

    `known` is what its result depends on for sure. `finding` says what a result depends on besides, and `guards` are
    the cells of the tables in which that is.
    """

    key: bytes
    known: Named
    ttl_ms: int
    max_bytes: int
    guards: tuple[bytes, ...] = ()
    finding: Finding | None = None

    @property
    def before_load(self) -> tuple[bytes, ...]:
        """The cells whose versions are captured before the load."""
        return self.known.cells + self.guards


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
    answer = await _read(question, load, may_keep, packing, ports, since=ports.flights.landings)
    if answer is None:
        answer = await _read(question, load, may_keep, packing, ports, since=None)
    assert answer is not None
    return answer


async def _read(
    question: Question, load: Load, may_keep: MayKeep, packing: Packing, ports: Ports, *, since: int | None
) -> Hit | Filled | None:
    """None: a load of the same has ended since there were `since` landings, so that another look may be a hit."""
    try:
        await _settle(ports)
        found = await _look(question, ports.store, packing)
        if isinstance(found, Hit):
            return found
        versions = found.versions
        if versions is None and not found.is_marked:
            versions = await _ensure(question.before_load, ports.store)
    except StoreDown as down:
        return Filled(await ports.waiting.call(load), _reason(down))
    if versions is None:
        return Filled(await ports.waiting.call(load), Reason.MARKED, odd=found.odd)
    filled = await _fly(question, versions, load, may_keep, packing, ports, since=since)
    return None if filled is None else filled._replace(odd=found.odd)


async def refill(question: Question, load: Load, may_keep: MayKeep, packing: Packing, ports: Ports) -> Filled:
    """`read`, without looking for an entry: loads in any case, and keeps what it loaded."""
    try:
        await _settle(ports)
        versions = await _ensure(question.before_load, ports.store)
    except StoreDown as down:
        return Filled(await ports.waiting.call(load), _reason(down))
    if versions is None:
        return Filled(await ports.waiting.call(load), Reason.MARKED)
    value, (_, unkept) = await _load_and_keep(question, versions, load, may_keep, packing, ports)
    return Filled(value, unkept)


class Capture(NamedTuple):
    """No hit. The versions of what is captured before a load, None if one of them has none.

    `odd` is what was wrong with the entry. `depends_on`: it depends on other rows than those that were looked at, so
    that another look may be a hit. `is_marked`: a writer is at work, so there can be no version now.
    """

    versions: Versions | None
    is_marked: bool = False
    odd: Reason | None = None
    depends_on: Named | None = None


async def _look(question: Question, store: Store, packing: Packing) -> Hit | Capture:
    expected = expected_by(question)
    found = judge(question, expected, await store.read(asked_first(question, expected)), packing)
    if isinstance(found, Hit) or found.depends_on is None:
        return found
    expected = found.depends_on
    return judge(question, expected, await store.read(asked_first(question, expected)), packing)


def expected_by(question: Question) -> Named:
    """On which rows its entry most likely depends."""
    return NOTHING if question.finding is None else question.finding.expected(question.key)


def asked_first(question: Question, expected: Named) -> tuple[bytes, ...]:
    """The keys to look at: the entry, and all cells that decide whether it is valid or what is captured."""
    return (question.key, *question.before_load, *expected.cells)


def judge(question: Question, expected: Named, seen: Seen, packing: Packing) -> Hit | Capture:
    """What the entry and the cells, as they were seen, amount to."""
    raw, *cells = seen.values
    versions = tuple(map(version_of, cells, seen.epochs[1:]))
    captured = versions[: len(versions) - len(expected.cells)]
    odd, depends_on = None, None
    if raw is not None:
        try:
            entry = unseal(raw)
            known = len(question.known.tags)
            if entry.tags == question.known.tags + expected.tags:
                if entry.versions == captured[:known] + versions[len(captured) :]:
                    return Hit(packing.unpack(entry.payload))
            elif question.finding is not None and entry.tags[:known] == question.known.tags:
                depends_on = question.finding.at(entry.tags[known:])
                question.finding.remember(question.key, depends_on)
        except Unreadable:
            odd = Reason.UNREADABLE
    if None not in captured:
        return Capture(cast(Versions, captured), odd=odd, depends_on=depends_on)
    return Capture(None, any(map(is_dirty, cells[: len(captured)])), odd, depends_on)


async def _ensure(cells: tuple[bytes, ...], store: Store) -> Versions | None:
    seen = await store.ensure(cells)
    versions = tuple(map(version_of, seen.values, seen.epochs))
    return None if None in versions else cast(Versions, versions)


async def _fly(
    question: Question,
    versions: Versions,
    load: Load,
    may_keep: MayKeep,
    packing: Packing,
    ports: Ports,
    *,
    since: int | None,
) -> Filled | None:
    unkept: Reason | None = None

    async def lead() -> tuple[Any, bytes | NoLanding]:
        nonlocal unkept
        value, (landing, unkept) = await _load_and_keep(question, versions, load, may_keep, packing, ports)
        return value, landing

    value, landing = await ports.flights.join((question.key, *versions), lead, ports.waiting, since=since)
    if landing is NoLanding.JUST_LANDED:
        return None
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
        bearing = await _find(question, versions, value, ports.store)
        if isinstance(bearing, Reason):
            return value, (payload, bearing)
        await ports.store.put(question.key, seal(payload, *bearing), question.ttl_ms)
    except StoreDown:
        return value, (payload, Reason.STORE_DOWN)
    return value, (payload, None)


async def _find(
    question: Question, versions: Versions, value: Any, store: Store
) -> tuple[tuple[bytes, ...], Versions] | Reason:
    """The tags and versions that an entry of `value` bears; or why there can be none."""
    if question.finding is None:
        return question.known.tags, versions
    found = question.finding.found_in(value)
    known, guards = versions[: len(question.known.tags)], versions[len(question.known.tags) :]
    captured: Versions | None = ()
    if found.cells:
        captured = await _ensure(found.cells, store)
    if captured is None:
        return Reason.MARKED
    # after the rows, and not together with them: see the module's docstring
    now = await store.read(question.guards)
    if tuple(map(version_of, now.values, now.epochs)) != guards:
        return Reason.OVERTAKEN
    question.finding.remember(question.key, found)
    return question.known.tags + found.tags, known + captured


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
