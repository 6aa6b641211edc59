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

Why what a load reads may be captured while it runs: each statement's cells are captured before that statement, so
that the argument holds for what it reads. Only, a caller who waits has not seen those cells: it looks again.

Why rows may be captured after the load: who changes a row marks its table, too. An unchanged guard says that nobody
marked any of its rows from before the load until after their cells were captured.

Why a load may be shared among callers with equal capture: the same argument, with the moment of the
second caller's look. With a dirty cell there is no capture, and nothing is shared or kept: the commit may
become visible between two callers who both saw the mark.

This file knows no client, loop, thread or session. Proof: tests/protocol/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from os import urandom
from random import random
from typing import Any, Literal, NamedTuple, Protocol, cast

from perfkit.cache.arrears import Arrears
from perfkit.cache.cells import Version, is_dirty, version_of
from perfkit.cache.entries import Entry, seal, unseal
from perfkit.cache.flights import Flights, NoLanding
from perfkit.cache.guard import Guard
from perfkit.cache.keeping import Keeping
from perfkit.cache.reasons import Reason
from perfkit.cache.store import ClaimingStore, InstantStore, Sealed, Seen, Store
from perfkit.clock import SYSTEM, Clock
from perfkit.errors import StoreDown, Unreadable
from perfkit.waiting import Waiting

CLAIM = b"~"  # behind the key of an entry: who loads it for all processes
CLAIM_HOLD_MS = 5_000
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.005, 0.1


class Named(NamedTuple):
    """Tags and where their cells live, in the same order."""

    tags: tuple[bytes, ...]
    cells: tuple[bytes, ...]


NOTHING = Named((), ())


class Finding(Protocol):
    """Names rows that only a result can tell that it depends on; the cells of their tables are the guards."""

    def found_in(self, value: Any) -> Named:
        """What the result depends on."""
        ...


class Extra(Protocol):
    """What one call's result depends on beside what is known before it is loaded: learned from one load to the next."""

    def at(self, tags: tuple[bytes, ...]) -> Named:
        """The tags that an entry bears beside the known ones, and where their cells live.

        Raises:
            Unreadable: they are none of ours.
        """
        ...

    def remember(self, tags: tuple[bytes, ...]) -> None:
        """Expect these the next time."""
        ...


class Observing(Protocol):
    """Watches one load, and captures what it reads beyond what was captured before, just before it is read."""

    def begin(self, captured: Mapping[bytes, Version]) -> None:
        """A load begins, before which these versions of tags were captured."""
        ...

    def bearing(self, known: Sequence[bytes]) -> Bearing:
        """The tags that its entry bears, those `known` first, and their versions."""
        ...

    @property
    def was_foreseen(self) -> bool:
        """Whether all that it read was captured before it began, so that callers with that capture may share it."""
        ...


class Bearing(NamedTuple):
    """The tags that an entry bears, and the versions under which it was loaded."""

    tags: tuple[bytes, ...]
    versions: tuple[Version, ...]


class Question(NamedTuple):
    """One call of a cached function, as the store knows it.

    `known` is what its result depends on for sure, `expected` what it will most likely depend on beside that, `extra`
    learns it and `observing` finds it out. `finding` says which rows a result depends on besides, and `guards` are the
    cells of the tables in which those are.
    """

    key: bytes
    known: Named
    keeping: Keeping
    guards: tuple[bytes, ...] = ()
    finding: Finding | None = None
    expected: Named = NOTHING
    extra: Extra | None = None
    observing: Observing | None = None
    guard: Guard | None = None

    @property
    def before_load(self) -> tuple[bytes, ...]:
        """The cells whose versions are captured before the load."""
        return self.known.cells + self.expected.cells + self.guards

    @property
    def tags(self) -> tuple[bytes, ...]:
        """The tags of the first of these."""
        return self.known.tags + self.expected.tags


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
    clock: Clock = SYSTEM
    chance: Callable[[], float] = random


class Kept(NamedTuple):
    """A result as it is kept: its bytes, what it depends on, when its load began and how long that took, its life."""

    payload: bytes
    bearing: Bearing
    at_ms: int
    took_us: int = 0
    life_ms: int = 0


class Hit(NamedTuple):
    """The entry was valid."""

    value: Any
    kept: Kept


Why = Literal["stale", "rescued"]


class Older(NamedTuple):
    """A result that was current `age_s` ago, and may not be now."""

    value: Any
    kept: Kept
    why: Why
    age_s: float


class Shadowed(NamedTuple):
    """The function ran, as it does for every call in shadow."""

    value: Any


class Filled(NamedTuple):
    """The function ran, for this caller or (`shared`) for another one with the same capture.

    `unkept` says why its result was not kept, None that it was; `kept` is what was, or what was shared; `odd` what was
    wrong with the entry that was found. `is_apart`: it ran for this caller, in a context of its own.
    """

    value: Any
    unkept: Reason | None
    shared: bool = False
    kept: Kept | None = None
    odd: Reason | None = None
    is_apart: bool = False


Load = Callable[[], Any]
MayKeep = Callable[[Any], Reason | None]


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
        await settle(ports)
        found = await look(question, ports.store, packing)
        if isinstance(found, Hit):
            return found
        question, versions = found.question, found.versions
        if versions is None and not found.is_marked:
            versions = await _ensure(question.before_load, ports.store)
    except StoreDown as down:
        return Filled(await ports.waiting.call(load), reason_of(down))
    if versions is None:
        return Filled(await ports.waiting.call(load), Reason.MARKED, odd=found.odd)
    filled = await _fly(question, versions, load, may_keep, packing, ports, since=since)
    return filled if filled is None or found.odd is None else filled._replace(odd=found.odd)


async def refill(question: Question, load: Load, may_keep: MayKeep, packing: Packing, ports: Ports) -> Filled:
    """`read`, without looking for an entry: loads in any case, and keeps what it loaded."""
    try:
        await settle(ports)
        versions = await _ensure(question.before_load, ports.store)
    except StoreDown as down:
        return Filled(await ports.waiting.call(load), reason_of(down))
    if versions is None:
        return Filled(await ports.waiting.call(load), Reason.MARKED)
    value, (_, unkept, kept) = await _load_and_keep(question, versions, load, may_keep, packing, ports)
    return Filled(value, unkept, kept=kept)


class Capture(NamedTuple):
    """No hit. The versions of what is captured before a load, None if one of them has none.

    `odd` is what was wrong with the entry. `is_marked`: a writer is at work, so there can be no version now.
    `looks_elsewhere`: the entry depends on other tags than those that were looked at; `question` expects them now.
    """

    question: Question
    versions: Versions | None
    is_marked: bool = False
    odd: Reason | None = None
    looks_elsewhere: bool = False


async def look(question: Question, store: Store, packing: Packing) -> Hit | Capture:
    """What the store has of it: one round trip, two if the entry depends on what nobody expected.

    Raises:
        StoreDown
    """
    found = judge(question, await store.read(asked_first(question)), packing)
    if isinstance(found, Hit) or not found.looks_elsewhere:
        return found
    question = found.question
    return judge(question, await store.read(asked_first(question)), packing)


def asked_first(question: Question) -> tuple[bytes, ...]:
    """The keys to look at: the entry, and all cells that decide whether it is valid or what is captured."""
    return (question.key, *question.before_load)


def judge(question: Question, seen: Seen, packing: Packing) -> Hit | Capture:
    """What the entry and the cells, as they were seen, amount to."""
    raw, *cells = seen.values
    versions = tuple(map(version_of, cells, seen.epochs[1:]))
    odd, looks_elsewhere = None, False
    if raw is not None:
        try:
            entry = unseal(raw, max_bytes=question.keeping.max_bytes, name=question.key, guard=question.guard)
            if _is_valid(entry, question, versions):
                bearing = Bearing(entry.tags, entry.versions)
                kept = Kept(entry.payload, bearing, entry.at_ms, entry.took_us, entry.life_ms)
                return Hit(packing.unpack(entry.payload), kept)
            known = len(question.known.tags)
            if question.extra is not None and entry.tags[:known] == question.known.tags:
                extra = entry.tags[known:]
                if not set(extra) <= set(question.expected.tags):
                    expected = question.extra.at(extra)
                    question.extra.remember(extra)
                    question, looks_elsewhere = question._replace(expected=expected), True
        except Unreadable:
            odd = Reason.UNREADABLE
    if None not in versions:
        return Capture(question, cast(Versions, versions), odd=odd, looks_elsewhere=looks_elsewhere)
    return Capture(question, None, any(map(is_dirty, cells)), odd, looks_elsewhere)


def _is_valid(entry: Entry, question: Question, versions: tuple[Version | None, ...]) -> bool:
    asked = question.tags
    if entry.tags == asked:
        return entry.versions == versions[: len(asked)]
    known = len(question.known.tags)
    if question.extra is None or entry.tags[:known] != question.known.tags:
        return False
    if len(entry.tags) != len(entry.versions) or any(type(tag) is not bytes for tag in entry.tags):
        raise Unreadable("an entry's tags are none of ours")
    now = dict(zip(asked, versions, strict=False))
    return all(now.get(tag) == version for tag, version in zip(entry.tags, entry.versions, strict=True))


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
    kept: Kept | None = None
    is_others = False

    async def lead() -> tuple[Any, Kept | NoLanding]:
        nonlocal unkept, kept, is_others
        claims = ports.store if question.keeping.is_shared and isinstance(ports.store, ClaimingStore) else None
        claim = None if claims is None else await _claim(question, versions, packing, ports, claims)
        if isinstance(claim, Hit):
            kept, is_others = claim.kept, True
            return claim.value, claim.kept
        try:
            value, (landing, unkept, kept) = await _load_and_keep(question, versions, load, may_keep, packing, ports)
        finally:
            if claims is not None and claim is not None:
                with suppress(StoreDown):
                    await claims.release(question.key + CLAIM, claim)
        return value, landing

    value, landing = await ports.flights.join((question.key, *versions), lead, ports.waiting, since=since)
    if landing is NoLanding.JUST_LANDED and since is not None:
        return None
    if landing is None:
        return Filled(value, unkept, shared=is_others, kept=kept)
    if not isinstance(landing, NoLanding):
        return Filled(packing.unpack(landing.payload), None, shared=True, kept=landing)
    return Filled(await ports.waiting.call(load), Reason.NOT_JOINED)


async def _claim(
    question: Question, versions: Versions, packing: Packing, ports: Ports, claims: ClaimingStore
) -> bytes | Hit | None:
    """The right to load for all processes; or what another has loaded meanwhile. None: load without asking anybody."""
    name, holder = question.key + CLAIM, urandom(12)
    since_s = ports.clock.monotonic()
    try:
        while True:
            is_mine = await claims.claim(name, holder, CLAIM_HOLD_MS)
            # who had it may have kept its result since we looked
            found = await look(question, ports.store, packing)
            if isinstance(found, Hit):
                if is_mine:
                    await claims.release(name, holder)
                return found
            if is_mine:
                return holder
            waited_s = ports.clock.monotonic() - since_s
            if found.versions != versions or not ports.waiting.may_pause() or waited_s >= CLAIM_HOLD_MS / 1000:
                return None
            # so that nobody waits much more than a tenth longer than the load takes
            await ports.waiting.sleep(min(max(FIRST_PAUSE_S, waited_s / 10), LONGEST_PAUSE_S))
    except StoreDown:
        return None


def sealed(question: Question, kept: Kept) -> Sealed:
    """A result as the store is given it."""
    entry = Entry(kept.payload, *kept.bearing, kept.at_ms, kept.took_us, kept.life_ms)
    compress_above, guard = question.keeping.compress_above, question.guard
    return Sealed(
        question.key, seal(entry, name=question.key, compress_above=compress_above, guard=guard), kept.life_ms
    )


class _Loaded(NamedTuple):
    """What followers may have; why the result was not kept; what was kept of it."""

    landing: Kept | NoLanding
    unkept: Reason | None
    kept: Kept | None = None


async def _load_and_keep(
    question: Question, versions: Versions, load: Load, may_keep: MayKeep, packing: Packing, ports: Ports
) -> tuple[Any, _Loaded]:
    observing = question.observing
    if observing is not None:
        observing.begin(dict(zip(question.tags, versions, strict=False)))
    at_ms, began_s = ports.clock.wall_ms(), ports.clock.monotonic()
    value = await ports.waiting.call(load)
    took_us = int((ports.clock.monotonic() - began_s) * 1_000_000)
    reason = may_keep(value)
    if reason is not None:
        return value, _Loaded(NoLanding.FAILED, reason)
    payload = packing.pack(value)
    known = question.known.tags
    bearing = Bearing(known, versions[: len(known)]) if observing is None else observing.bearing(known)
    # who waits has captured what this load captured before it began, and nothing that it captured on the way
    foreseen = observing is None or observing.was_foreseen
    life_ms = question.keeping.life_ms(value, ports.chance)
    landing = Kept(payload, bearing, at_ms, took_us, life_ms) if foreseen else NoLanding.FAILED
    if len(payload) > question.keeping.max_bytes:
        return value, _Loaded(landing, Reason.TOO_LARGE)
    try:
        if question.finding is not None:
            more = await _find(question, versions, bearing, question.finding.found_in(value), ports.store)
            if isinstance(more, Reason):
                return value, _Loaded(landing, more)
            bearing = more
        kept = Kept(payload, bearing, at_ms, took_us, life_ms)
        await ports.store.put(*sealed(question, kept))
    except StoreDown:
        return value, _Loaded(landing, Reason.STORE_DOWN)
    if question.extra is not None:
        question.extra.remember(bearing.tags[len(known) :])
    return value, _Loaded(kept if foreseen else NoLanding.JUST_LANDED, None, kept)


async def _find(
    question: Question, versions: Versions, bearing: Bearing, found: Named, store: Store
) -> Bearing | Reason:
    """`bearing` and the rows that were found in the result; or why they cannot be captured."""
    missing = {tag: cell for tag, cell in zip(*found, strict=True) if tag not in bearing.tags}
    captured: Versions | None = ()
    if missing:
        captured = await _ensure(tuple(missing.values()), store)
    if captured is None:
        return Reason.MARKED
    # after the rows, and not together with them: see the module's docstring
    now = await store.read(question.guards)
    if tuple(map(version_of, now.values, now.epochs)) != versions[len(versions) - len(question.guards) :]:
        return Reason.OVERTAKEN
    return Bearing(bearing.tags + tuple(missing), bearing.versions + captured)


class _Unsettled(StoreDown):
    """Some of our own commits are not known to the store."""


async def settle(ports: Ports) -> None:
    """Tell the store of commits that it does not know of yet.

    Raises:
        StoreDown
    """
    if not ports.arrears:
        return
    try:
        await ports.arrears.settle(ports.store)
    except StoreDown as down:
        raise _Unsettled(str(down)) from down


def reason_of(down: StoreDown) -> Reason:
    """Why the store could not be asked."""
    return Reason.UNSETTLED if isinstance(down, _Unsettled) else Reason.STORE_DOWN
