"""RedisStore: the store's operations as commands to Redis or Valkey, one server or a cluster, over any wire."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from types import NoneType
from typing import NamedTuple

from perfkit.cache.cells import DIRTY, fresh, looks_overdue
from perfkit.cache.store import Heard, Sealed, Seen
from perfkit.clock import SYSTEM, Clock
from perfkit.errors import StoreDown
from perfkit.wire.addresses import check_url
from perfkit.wire.answers import Answer, Command, NoScript, Parted, Word, shown
from perfkit.wire.wires import Wire, Wires, open_wires

_SCRIPTS = {
    name: (files("perfkit.cache") / "scripts" / f"{name}.lua").read_bytes()
    for name in ("ensure", "mark", "bump", "claim", "release")
}
_SHAS = {name: hashlib.sha1(script, usedforsecurity=False).hexdigest() for name, script in _SCRIPTS.items()}
_TEXTS: dict[Word, bytes] = {sha: _SCRIPTS[name] for name, sha in _SHAS.items()}

_VALUES = frozenset({bytes, NoneType})

Keys = Sequence[bytes]


class RedisStore:
    """`Store` on whatever the wire leads to. Holds no state but the wire."""

    def __init__(self, wire: Wire, *, cell_ttl_ms: int, hold_ms: int = 10_000, clock: Clock = SYSTEM) -> None:
        self._wire = wire
        self._clock = clock
        self._cell_ttl_ms, self._hold_ms = cell_ttl_ms, hold_ms

    async def read(self, keys: Keys) -> Seen:
        seen = await self._values(keys, lambda group: ("MGET", *group))
        for value in seen.values:
            if value is not None and value.startswith(DIRTY):
                break
        else:
            return seen  # a hit's way
        # By our own clock, which may be wrong: it only decides whether `ensure`,
        # which goes by the server's, is worth the round trip.
        now_ms, hold_ms = self._clock.wall_ms(), self._hold_ms
        return Seen([None if v and looks_overdue(v, now_ms, hold_ms) else v for v in seen.values], seen.epochs)

    async def ensure(self, cells: Keys) -> Seen:
        return await self._values(
            cells, self._script("ensure", lambda group: [self._cell_ttl_ms, *[fresh() for _ in group]])
        )

    async def put(self, key: bytes, entry: bytes, ttl_ms: int) -> None:
        (answer,) = await self._wire.run(_set(key, entry, ttl_ms))
        _check(answer, b"OK")

    async def put_all(self, entries: Sequence[Sealed]) -> None:
        for answer in await self._wire.run(*[_set(*each) for each in entries]):
            _check(answer, b"OK")

    async def mark(self, cells: Keys, writer: bytes, hold_ms: int) -> None:
        await self._done(cells, self._script("mark", lambda group: [writer, hold_ms]))

    async def post_mark(self, cells: Keys, writer: bytes, hold_ms: int) -> Heard | None:
        if not self._wire.posts:
            return None
        answer = await self._wire.begin(_in_full("mark", cells, [writer, hold_ms]))  # it is too late then for NOSCRIPT

        async def heard() -> None:
            _check(await answer(), len(cells))

        return heard

    async def bump(self, cells: Keys, writer: bytes) -> None:
        await self._done(cells, self._script("bump", lambda group: self._bumping(writer, group)))

    async def post_bump(self, cells: Keys, writer: bytes) -> None:
        if not self._wire.posts:
            await self.bump(cells, writer)
            return
        await self._wire.post(_in_full("bump", cells, self._bumping(writer, cells)))  # nobody hears of NOSCRIPT

    async def claim(self, key: bytes, holder: bytes, hold_ms: int) -> bool:
        ((_, answer),) = await self._each([key], self._script("claim", lambda _: [holder, hold_ms]))
        return bool(answer.value == 1)

    async def release(self, key: bytes, holder: bytes) -> None:
        await self._each([key], self._script("release", lambda _: [holder]))

    async def drop(self, keys: Keys) -> int:
        return sum([_number_in(answer) for _, answer in await self._each(keys, lambda group: ("UNLINK", *group))])

    async def _done(self, cells: Keys, words: _Words) -> None:
        """Run a script that answers with how many cells it has changed."""
        for group, answer in await self._each(cells, words):
            _check(answer, len(group))

    async def _values(self, keys: Keys, words: _Words) -> Seen:
        """One value for each of `keys`, from commands that answer with a list."""
        groups = self._wire.groups(keys)
        if len(groups) == 1:  # one server, or one slot: this is a hit's way
            try:
                (answer,) = await self._wire.run(Command(keys[0], words(keys)))
                return Seen(_list_in(answer, len(keys)), [answer.epoch] * len(keys))
            except (Parted, NoScript):
                pass
        answers = await self._each(keys, words)
        found: dict[bytes, tuple[bytes | None, bytes]] = {}
        for group, answer in answers:
            for key, value in zip(group, _list_in(answer, len(group)), strict=True):
                found[key] = value, answer.epoch
        return Seen([found[key][0] for key in keys], [found[key][1] for key in keys])

    async def _each(self, keys: Keys, words: _Words) -> list[tuple[Keys, Answer]]:
        """The answers to one command for each group of `keys`; for each key alone, while its slot is moving."""
        groups, spelt = self._wire.groups(keys), words
        while True:
            try:
                answers = await self._wire.run(*[Command(group[0], spelt(group)) for group in groups])
                return list(zip(groups, answers, strict=True))
            except NoScript:
                if spelt is not words:
                    raise
                spelt = _with_text(words)  # which the server then remembers
            except Parted:
                if len(groups) == len(keys):
                    raise
                groups = [[key] for key in keys]

    def _bumping(self, writer: bytes, cells: Keys) -> list[Word]:
        return [writer, self._cell_ttl_ms, *[fresh() for _ in cells]]

    def _script(self, name: str, arguments: Callable[[Keys], list[Word]]) -> _Words:
        return lambda group: ("EVALSHA", _SHAS[name], len(group), *group, *arguments(group))


class RedisStores(NamedTuple):
    """One place, as a store for each way to wait; and the connections below them."""

    wires: Wires
    blocking: RedisStore
    suspending: RedisStore
    greenlet: RedisStore


def open_stores(url: str, *, timeout_s: float, cell_ttl_ms: int, hold_ms: int) -> RedisStores:
    """The stores where `url` points. Does no I/O.

    Raises:
        CacheDeclarationError: no such place.
    """
    check_url(url)
    wires = open_wires(url, timeout_s=timeout_s)
    blocking, suspending, greenlet = (
        RedisStore(wire, cell_ttl_ms=cell_ttl_ms, hold_ms=hold_ms)
        for wire in (wires.blocking, wires.suspending, wires.greenlet)
    )
    return RedisStores(wires, blocking, suspending, greenlet)


_Words = Callable[[Keys], tuple[Word, ...]]


def _set(key: bytes, entry: bytes, ttl_ms: int) -> Command:
    return Command(key, ("SET", key, entry, "PX", ttl_ms))


def _in_full(name: str, keys: Keys, arguments: list[Word]) -> Command:
    """The call of a script by its text."""
    return Command(keys[0], ("EVAL", _SCRIPTS[name], len(keys), *keys, *arguments))


def _with_text(words: _Words) -> _Words:
    """The call of a script by its text instead of its name."""

    def spelt(group: Keys) -> tuple[Word, ...]:
        command, sha, *rest = words(group)
        if command != "EVALSHA":  # a server that says so of a command without a script does not know what it says
            return command, sha, *rest
        return ("EVAL", _TEXTS[sha], *rest)

    return spelt


def _list_in(answer: Answer, count: int) -> list[bytes | None]:
    values = answer.value
    if type(values) is not list or len(values) != count or not _VALUES.issuperset(map(type, values)):
        raise StoreDown(f"the store answered {shown(values)} where {count} values were asked for")
    return values


def _number_in(answer: Answer) -> int:
    if type(answer.value) is not int:
        raise StoreDown(f"the store answered {shown(answer.value)} where a number was asked for")
    return answer.value


def _check(answer: Answer, expected: object) -> None:
    # most of all that of a mark: one that was not set must not pass for one that was
    if answer.value != expected:
        raise StoreDown(f"the store answered {shown(answer.value)} where {expected!r} says that it was done")
