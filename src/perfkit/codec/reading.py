"""Bytes on their way to a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgpack

from perfkit.codec.layout import MAX_BATCHES, PLACE, PLACES, REF, SPAN
from perfkit.codec.rows import make_rows
from perfkit.codec.scalars import GEOMETRIES, Reader

# timestamp=1: msgpack's own timestamps, which nobody here writes, must not become a type of msgpack's
read = partial(msgpack.unpackb, strict_map_key=False, unicode_errors="surrogatepass", timestamp=1)


class Readers(dict[int, Reader]):
    """Ext codes; the module for geometries is imported with the first one."""

    def __missing__(self, code: int) -> Reader:
        if code in GEOMETRIES:
            from perfkit.codec import geometry

            return geometry.READERS[code]
        raise ValueError(f"no ext type has the code {code}")


class Reading:
    """Bytes on their way to a value: objects batch by batch, each handed out once."""

    __slots__ = ("_batches", "_makers", "_readers")

    def __init__(self, readers: Readers, makers: Mapping[object, Callable[[Any], object]]) -> None:
        self._readers = readers
        self._makers = makers
        self._batches: dict[int, tuple[list[object], bytearray]] = {}  # objects, and which were handed out

    def unpack(self, raw: memoryview) -> object:
        """The value behind the first byte.

        Raises:
            Exception: of any sort; the bytes choose.
        """
        *batches, root = read(raw)
        if len(batches) > MAX_BATCHES:
            raise ValueError(f"{len(batches)} batches")
        for number, kind, rows in batches:
            parts = read(rows, ext_hook=self._part)
            made = list(make_rows(tuple(kind), parts) if type(kind) is list else map(self._makers[kind], parts))
            self._batches[number] = made, bytearray(len(made))
        return read(root, ext_hook=self._part)

    def _part(self, code: int, data: bytes) -> object:
        if code == REF:
            number, place = PLACE.unpack(data)
            made, taken = self._batches[number]
            if taken[place]:
                raise ValueError("an object that two places refer to")
            taken[place] = 1
            return made[place]
        if code == SPAN:
            return self._span(*PLACES.unpack(data))
        return self._readers[code](data)

    def _span(self, number: int, first: int, count: int) -> list[object]:
        made, taken = self._batches[number]
        end = first + count
        if end > len(made) or any(taken[first:end]):
            raise ValueError("objects that are not there, or that two places refer to")
        taken[first:end] = b"\1" * count
        return made[first:end]
