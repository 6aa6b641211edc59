"""Entries: a payload and the versions it was loaded under, as bytes.

    [3, payload, [version, …], [tag, …], at_ms, took_us, life_ms, packed]      msgpack

The payload is the codec's own bytes, or those compressed by zlib if `packed` is 1. `at_ms` is when its load began, by
the clock of the process that loaded, `took_us` how long that took, and `life_ms` for how long it was to be kept.

Whoever can write to the store can write anything here, so nothing is believed but what compares equal; with a guard,
nothing is even looked at that it did not close.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple, cast

import msgpack

from perfkit.cache.cells import Version
from perfkit.cache.guard import Guard
from perfkit.errors import Unreadable

FORMAT = 3
MAX_FRAME_BYTES = 1024 * 1024  # all of an entry that is not its payload: at most a thousand tags and their versions
_KINDS = [bytes, tuple, tuple, int, int, int, int]
_AS_IT_IS, _ZLIB = 0, 1
_LEVEL = 1  # of zlib: a third of the time of its default, for a tenth more bytes


class Entry(NamedTuple):
    """What is stored: bytes of a value, the tags it depends on and the versions they had, and when it was loaded."""

    payload: bytes
    tags: tuple[bytes, ...]
    versions: tuple[Version, ...]
    at_ms: int = 0
    took_us: int = 0
    life_ms: int = 0


def seal(entry: Entry, *, name: bytes = b"", compress_above: int | None = None, guard: Guard | None = None) -> bytes:
    """The bytes of an entry; a payload of more bytes than `compress_above` is compressed if that makes it smaller.

    With a `guard`, they are good under the key `name` alone.
    """
    payload, packed = entry.payload, _AS_IT_IS
    if compress_above is not None and len(payload) > compress_above:
        smaller = zlib.compress(payload, _LEVEL)
        if len(smaller) < len(payload):
            payload, packed = smaller, _ZLIB
    whole = (FORMAT, payload, entry.versions, entry.tags, entry.at_ms, entry.took_us, entry.life_ms, packed)
    body = cast(bytes, msgpack.packb(whole))
    return body if guard is None else guard.close(name, body)


def unseal(raw: bytes, *, max_bytes: int, name: bytes = b"", guard: Guard | None = None) -> Entry:
    """The entry in `raw`, which stood under the key `name`.

    Raises:
        Unreadable: `raw` is not an entry at all, or one that would be larger than `max_bytes`.
    """
    if len(raw) > max_bytes + MAX_FRAME_BYTES:
        raise Unreadable(f"an entry of {len(raw)} bytes is larger than any of {max_bytes} bytes would be")
    if guard is not None:
        raw = guard.open(name, raw)
    try:
        form, payload, versions, tags, at_ms, took_us, life_ms, packed = msgpack.unpackb(raw, use_list=False)
        kinds = [type(part) for part in (payload, versions, tags, at_ms, took_us, life_ms, packed)]
        if form == FORMAT and kinds == _KINDS:
            if packed != _AS_IT_IS:
                payload = _expanded(payload, max_bytes)
            return Entry(payload, tags, versions, at_ms, took_us, life_ms)
    except Exception as strange:
        # anything may stand in a store, and msgpack names no common base for what it raises
        raise Unreadable(f"an entry of {len(raw)} bytes is not one of ours: {strange}") from strange
    raise Unreadable(f"an entry of {len(raw)} bytes has another format")


def _expanded(payload: bytes, max_bytes: int) -> bytes:
    # a few bytes may stand for gigabytes: no more of them are made than a result may have
    expander = zlib.decompressobj()
    expanded = expander.decompress(payload, max_bytes)
    if not expander.eof or expander.unconsumed_tail:
        raise Unreadable(f"what it holds is larger than {max_bytes} bytes, or cut off")
    return expanded
