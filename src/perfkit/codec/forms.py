"""Forms: the ways to write the instances of a class as rows.

In the usual form of a class the state of an instance is a row by position. An instance whose state is not its fields
and nothing else (attributes added later, fields never set) is written in the `loose` form of its class, where the state
has names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from perfkit.codec.shapes import name_of

Row = list[Any]

STAMP_BYTES = 8  # 2**32 classes before two are likely to share one; a codec checks its own table for that anyway


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One way to write the instances of a class."""

    name: bytes | int | tuple[str, ...]
    """What it is called in bytes."""
    take: Callable[[Any], Any]
    """The row of an instance; None if only the loose form can carry it."""
    make: Callable[[Any], object]
    """The instance of a row, which may come from anybody."""
    fields: tuple[str, ...] = ()
    """What the places of a row are called, for messages."""
    loose: Form | None = None


def stamp_of(cls: type, names: Sequence[str], kind: str) -> bytes:
    """What a class is called in bytes: a digest of its name and its fields.

    An entry written by code with other fields is not found, rather than read wrongly. Eight bytes once for up to 65,536
    instances: an index into the table would save seven and would read another class once the table changes.
    """
    return blake2b(f"{kind} {name_of(cls)}({','.join(names)})".encode(), digest_size=STAMP_BYTES).digest()


def named(state: object) -> dict[str, object]:
    """`state` if it can be the attributes of something.

    Raises:
        ValueError: it is no dict, or has other keys than strings.
    """
    if type(state) is not dict or not all(type(name) is str for name in state):
        raise ValueError("attributes without names")
    return state
