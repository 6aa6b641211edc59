"""Entries: a payload and the versions it was loaded under, as bytes.

    [1, payload, [version, version, …], [tag, tag, …]]      msgpack; the payload is the codec's own bytes

Whoever can write to the store can write anything here, so nothing is believed but what compares equal.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import msgpack

from perfkit.cache.cells import Version
from perfkit.errors import Unreadable

FORMAT = 1


def seal(payload: bytes, tags: tuple[bytes, ...], versions: tuple[Version, ...]) -> bytes:
    """The bytes of an entry."""
    return cast(bytes, msgpack.packb((FORMAT, payload, versions, tags)))


class Entry(NamedTuple):
    """What was stored: bytes of a value, and the versions that the tags it depends on had."""

    payload: bytes
    versions: tuple[Version, ...]
    tags: tuple[bytes, ...]


def unseal(raw: bytes) -> Entry:
    """The entry in `raw`.

    Raises:
        Unreadable: `raw` is not an entry at all.
    """
    try:
        form, payload, versions, tags = msgpack.unpackb(raw, use_list=False)
        if form == FORMAT and type(payload) is bytes and type(versions) is type(tags) is tuple:
            return Entry(payload, versions, tags)
    except Exception as strange:
        # anything may stand in a store, and msgpack names no common base for what it raises
        raise Unreadable(f"an entry of {len(raw)} bytes is not one of ours: {strange}") from strange
    raise Unreadable(f"an entry of {len(raw)} bytes has another format")
