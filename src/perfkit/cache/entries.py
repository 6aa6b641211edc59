"""Entries: a payload and the versions it was loaded under, as bytes.

    [2, payload, [version, …], [tag, …], at_ms, took_us]      msgpack; the payload is the codec's own bytes

`at_ms` is when its load began, by the clock of the process that loaded, and `took_us` how long that took.

Whoever can write to the store can write anything here, so nothing is believed but what compares equal.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import msgpack

from perfkit.cache.cells import Version
from perfkit.errors import Unreadable

FORMAT = 2
_KINDS = [bytes, tuple, tuple, int, int]


def seal(
    payload: bytes, tags: tuple[bytes, ...], versions: tuple[Version, ...], at_ms: int = 0, took_us: int = 0
) -> bytes:
    """The bytes of an entry."""
    return cast(bytes, msgpack.packb((FORMAT, payload, versions, tags, at_ms, took_us)))


class Entry(NamedTuple):
    """What was stored: bytes of a value, the versions that the tags it depends on had, and when it was loaded."""

    payload: bytes
    versions: tuple[Version, ...]
    tags: tuple[bytes, ...]
    at_ms: int
    took_us: int


def unseal(raw: bytes) -> Entry:
    """The entry in `raw`.

    Raises:
        Unreadable: `raw` is not an entry at all.
    """
    try:
        form, payload, versions, tags, at_ms, took_us = msgpack.unpackb(raw, use_list=False)
        kinds = [type(part) for part in (payload, versions, tags, at_ms, took_us)]
        if form == FORMAT and kinds == _KINDS:
            return Entry(payload, versions, tags, at_ms, took_us)
    except Exception as strange:
        # anything may stand in a store, and msgpack names no common base for what it raises
        raise Unreadable(f"an entry of {len(raw)} bytes is not one of ours: {strange}") from strange
    raise Unreadable(f"an entry of {len(raw)} bytes has another format")
