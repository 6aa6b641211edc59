"""What a cache has in Redis or Valkey, for people who look at it from outside.

Nothing here is in the way of a read: keys are found by SCAN, a few hundred at a time, on every master of a cluster.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import urandom
from typing import Any

from perfkit.cache.cells import compared
from perfkit.cache.entries import Entry, unseal
from perfkit.cache.guard import SIGNED_BYTES
from perfkit.cache.redis import RedisStore
from perfkit.cache.reports import LETTER, added_up, unpacked
from perfkit.cache.tags import TagSource, cell_key, tags_by_hand
from perfkit.cache.worth import FunctionStats
from perfkit.codec import Codec
from perfkit.codec.layout import GRAPH
from perfkit.errors import CacheDeclarationError, StoreDown, Unreadable
from perfkit.waiting import run_now
from perfkit.wire.addresses import check_url
from perfkit.wire.answers import Command
from perfkit.wire.wires import Wire, Wires, open_wires

TIMEOUT_S = 10.0
KINDS = {"v": "plain", "s": "signed", "e": "encrypted"}
MAX_SHOWN_BYTES = 64 * 1024 * 1024
RIGHTS = ("scan", "strlen", "pttl")  # beside those of a cache
_BATCH = 500
_CELL_TTL_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry as it lies there. `ends_in_s` is None for one that never ends, which is none of ours."""

    key: str
    function: str
    kind: str
    bytes: int
    ends_in_s: float | None


@dataclass(frozen=True, slots=True)
class StoredFunction:
    """All entries of one function; and its totals in the processes that have reported, None if none has."""

    function: str
    entries: int
    bytes: int
    stats: FunctionStats | None = None


@dataclass(frozen=True, slots=True)
class StoredTag:
    """A tag of an entry: `current`, `changed` since it was loaded, `marked` by a writer, or `missing`.

    `version` is the one that the entry was loaded under, `now` the one in the store; named as `Cache.explain` does.
    """

    tag: str
    state: str
    version: str
    now: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownEntry:
    """All that can be said of one entry without the code of its function.

    `value` is its result as text, or why it cannot be shown.
    """

    key: str
    kind: str
    bytes: int
    age_s: float | None
    load_ms: float | None
    tags: tuple[StoredTag, ...]
    value: str

    @property
    def is_current(self) -> bool:
        return all(tag.state == "current" for tag in self.tags)


def entries_in(url: str, namespace: str) -> Iterator[StoredEntry]:
    """Every entry of `namespace`, as they are found.

    Raises:
        CacheDeclarationError: `url` is none.
        StoreDown: a server did not answer.
    """
    with _wires(url) as wires:
        for wire in run_now(wires.masters()).values():
            for keys in _scanned(wire, f"{_escaped(namespace)}:[vse]:*@*"):
                yield from _measured(wire, namespace, keys)


def functions_in(url: str, namespace: str) -> list[StoredFunction]:
    """The functions of `namespace` that have entries or were reported, those with the most bytes first.

    Raises:
        CacheDeclarationError, StoreDown: see `entries_in`.
    """
    totals: dict[str, tuple[int, int]] = {}
    for entry in entries_in(url, namespace):
        count, size = totals.get(entry.function, (0, 0))
        totals[entry.function] = count + 1, size + entry.bytes
    told = added_up(_reported(url, namespace))
    found = [
        StoredFunction(function, *totals.get(function, (0, 0)), told.get(function)) for function in {**totals, **told}
    ]
    return sorted(found, key=lambda each: (-each.bytes, each.function))


def show(url: str, key: str) -> ShownEntry | None:
    """The entry under `key`; None if there is none.

    Raises:
        CacheDeclarationError, StoreDown: see `entries_in`.
        Unreadable: what stands there is no entry.
    """
    name = key.encode(errors="surrogateescape")
    namespace, kind, _ = _parts(key)
    with _wires(url) as wires:
        store = RedisStore(wires.blocking, cell_ttl_ms=_CELL_TTL_MS)
        (raw,) = run_now(store.read([name])).values
        if raw is None:
            return None
        if kind == "e":
            nothing = "encrypted: only a process with the secret can read it"
            return ShownEntry(
                key=key, kind=KINDS[kind], bytes=len(raw), age_s=None, load_ms=None, tags=(), value=nothing
            )
        body = raw[SIGNED_BYTES:] if kind == "s" else raw
        entry = unseal(body, max_bytes=MAX_SHOWN_BYTES)
        age_s = max(0.0, time.time() - entry.at_ms / 1000)
        tags = tuple(_states(store, namespace, entry))
        return ShownEntry(
            key=key,
            kind=KINDS[kind],
            bytes=len(raw),
            age_s=age_s,
            load_ms=entry.took_us / 1000,
            tags=tags,
            value=_text_of(entry.payload),
        )


def bump(url: str, namespace: str, tags: Sequence[TagSource]) -> list[str]:
    """Make everything that depends on `tags` out of date. Returns all that was bumped.

    Raises:
        CacheDeclarationError, StoreDown: see `entries_in`.
        UnknownTag: one of them is no tag.
    """
    names = list(dict.fromkeys(tags_by_hand(tags, ())))
    with _wires(url) as wires:
        store = RedisStore(wires.blocking, cell_ttl_ms=_CELL_TTL_MS)
        run_now(store.bump([cell_key(namespace, name) for name in names], urandom(12)))
    return names


@contextmanager
def _wires(url: str) -> Iterator[Wires]:
    check_url(url)
    wires = open_wires(url, timeout_s=TIMEOUT_S)
    try:
        yield wires
    except StoreDown as down:
        if "permissions" in str(down) and any(f"'{word}'" in str(down) for word in RIGHTS):
            grants = " ".join(f"+{word}" for word in RIGHTS)
            raise StoreDown(f"{str(down).removesuffix('.')}: grant {grants}, beside what the cache needs") from None
        raise
    finally:
        wires.close()


def _scanned(wire: Wire, pattern: str) -> Iterator[list[bytes]]:
    cursor: Any = b"0"
    while True:
        (answer,) = run_now(wire.run(Command(b"", ("SCAN", cursor, "MATCH", pattern, "COUNT", _BATCH))))
        cursor, keys = answer.value
        if keys:
            yield keys
        if int(cursor) == 0:
            return


def _reported(url: str, namespace: str) -> Iterator[FunctionStats]:
    with _wires(url) as wires:
        store = RedisStore(wires.blocking, cell_ttl_ms=_CELL_TTL_MS)
        for wire in run_now(wires.masters()).values():
            for keys in _scanned(wire, f"{_escaped(namespace)}:{LETTER}:*"):
                for raw in run_now(store.read(keys)).values:
                    with suppress(Unreadable):  # somebody else's
                        yield from unpacked(raw or b"[]")


def _measured(wire: Wire, namespace: str, keys: Sequence[bytes]) -> Iterator[StoredEntry]:
    asked = [Command(key, (word, key)) for key in keys for word in ("STRLEN", "PTTL")]
    try:
        values = [answer.value for answer in run_now(wire.run(*asked))]
    except StoreDown as refusal:
        if "WRONGTYPE" not in str(refusal):
            raise
        for key in keys if len(keys) > 1 else ():  # somebody's list or hash is no entry
            yield from _measured(wire, namespace, [key])
        return
    for at, key in enumerate(keys):
        size, ends_ms = values[2 * at], values[2 * at + 1]
        if ends_ms == -2 or key.endswith(b"~"):
            continue  # gone meanwhile; or who loads it for all processes
        text = key.decode(errors="surrogateescape")
        _, kind, function = _parts(text, namespace)
        yield StoredEntry(text, function, KINDS[kind], size, None if ends_ms < 0 else ends_ms / 1000)


def _parts(key: str, namespace: str | None = None) -> tuple[str, str, str]:
    """Namespace, kind and function of a key."""
    if namespace is None:
        namespace = next((key[: key.index(mark)] for mark in (":v:", ":s:", ":e:") if mark in key), "")
    kind, _, rest = key[len(namespace) + 1 :].partition(":")
    if not namespace or kind not in KINDS or "@" not in rest:
        raise CacheDeclarationError(f"{key!r} is not the key of an entry; `perfkit cache ls` lists them.")
    return namespace, kind, rest.partition(":")[0]


def _states(store: RedisStore, namespace: str, entry: Entry) -> Iterable[StoredTag]:
    tags = [tag.decode(errors="surrogateescape") for tag in entry.tags]
    if [type(version) for version in entry.versions] != [bytes] * len(tags):
        raise Unreadable("it has not as many versions as tags")
    if not tags:
        return
    seen = run_now(store.read([cell_key(namespace, tag) for tag in tags]))
    for tag, then, cell, epoch in zip(tags, entry.versions, seen.values, seen.epochs, strict=True):
        yield StoredTag(tag, *compared(cell, epoch, then))


def _text_of(payload: bytes) -> str:
    if payload.startswith(GRAPH):
        return f"{len(payload)} bytes of ORM entities, which only a process that has their classes can read"
    try:
        return repr(Codec().unpack(payload))
    except Unreadable:
        return f"{len(payload)} bytes with objects of classes, which only a process that has their function can read"


def _escaped(text: str) -> str:
    return "".join(f"\\{letter}" if letter in r"*?[]\^" else letter for letter in text)
