"""Entries: a payload and the versions it was loaded under, as bytes.

    [1, payload, [tag, version, tag, version, …]]      msgpack; the payload is the codec's own bytes

Whoever can write to the store can write anything here, so nothing is believed but what compares equal.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgpack

from perfkit.cache.cells import Version
from perfkit.errors import Unreadable

FORMAT = 1


def seal(payload: bytes, tags: Sequence[bytes], versions: Sequence[Version]) -> bytes:
    """The bytes of an entry."""
    flat = [part for pair in zip(tags, versions, strict=True) for part in pair]
    packed: bytes = msgpack.packb([FORMAT, payload, flat])
    return packed


def payload_of(raw: bytes, tags: Sequence[bytes], versions: Sequence[Version | None]) -> bytes | None:
    """The payload, if `raw` was stored under these versions of these tags; else None.

    Raises:
        Unreadable: `raw` is not an entry at all.
    """
    try:
        form, payload, flat = msgpack.unpackb(raw)
        if form != FORMAT or not isinstance(payload, bytes) or len(flat) != 2 * len(tags):
            return None
        if flat[1::2] != list(versions) or flat[0::2] != list(tags):
            return None
    except Exception as strange:
        # anything may stand in a store, and msgpack names no common base for what it raises
        raise Unreadable(f"an entry of {len(raw)} bytes is not one of ours: {strange}") from strange
    return payload
