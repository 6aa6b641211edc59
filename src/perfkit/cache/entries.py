"""Entries: a payload and the versions it was loaded under, as bytes.

    [1, payload, [version, version, …], [tag, tag, …]]      msgpack; the payload is the codec's own bytes

Whoever can write to the store can write anything here, so nothing is believed but what compares equal.
"""

from __future__ import annotations

from typing import cast

import msgpack

from perfkit.cache.cells import Version
from perfkit.errors import Unreadable

FORMAT = 1


def seal(payload: bytes, tags: tuple[bytes, ...], versions: tuple[Version, ...]) -> bytes:
    """The bytes of an entry."""
    return cast(bytes, msgpack.packb((FORMAT, payload, versions, tags)))


def payload_of(raw: bytes, tags: tuple[bytes, ...], versions: tuple[Version | None, ...]) -> bytes | None:
    """The payload, if `raw` was stored under these versions of these tags; else None.

    Raises:
        Unreadable: `raw` is not an entry at all.
    """
    try:
        form, payload, its_versions, its_tags = msgpack.unpackb(raw, use_list=False)
        if form != FORMAT or its_versions != versions or its_tags != tags or type(payload) is not bytes:
            return None
    except Exception as strange:
        # anything may stand in a store, and msgpack names no common base for what it raises
        raise Unreadable(f"an entry of {len(raw)} bytes is not one of ours: {strange}") from strange
    return payload
