"""Values with entities in them: the value with numbers in the place of entities, and the entities by what is loaded.

    [ [[stamp, columns, relations, numbers, values, links], …], root ]

One batch for each extent (sqla/entities.py), its values column by column, so that C does most of the work. An entity
has one number wherever it stands; links are numbers, so relations may lead in circles. `root` is what the codec makes
of any value, entities being ext types that hold a number, or several.

Bytes become a `Graph`, in which all is checked but nothing made: that needs a session, and the one who asks has it.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from hashlib import blake2b
from types import NoneType
from typing import Any, cast
from uuid import UUID

import msgpack
from msgpack import ExtType
from sqlalchemy.orm import Session, class_mapper

from perfkit.codec.blame import Stuck
from perfkit.codec.forms import STAMP_BYTES
from perfkit.codec.layout import ENTITY_REF, ENTITY_REFS
from perfkit.codec.reading import read
from perfkit.codec.scalars import NATIVE, ext
from perfkit.errors import Unreadable
from perfkit.sqla.entities import (
    MAX_EXTENTS,
    Extent,
    NoExtent,
    begin_as_a_load_would,
    extent_of,
    is_mapped,
    layout_of,
)
from perfkit.sqla.private import mapped_classes

MAX_ENTITIES = 2**24
_NUMBER = struct.Struct(">I")

PLAIN_COLUMN, PACKED_COLUMN, DATETIMES, DATES, DECIMALS, UUIDS = range(6)


def _is_simple(value: datetime | None) -> bool:
    return value is None or (not value.fold and (value.tzinfo is None or value.tzinfo is UTC))


_FAST: Mapping[type, tuple[int, Callable[[Any], Any]]] = {
    datetime: (DATETIMES, datetime.isoformat),
    date: (DATES, date.isoformat),
    Decimal: (DECIMALS, str),
    UUID: (UUIDS, lambda value: value.bytes),
}
_READ: Mapping[int, Callable[[Any], Any]] = {
    DATETIMES: datetime.fromisoformat,
    DATES: date.fromisoformat,
    DECIMALS: Decimal,
    UUIDS: lambda raw: UUID(bytes=raw),
}


class Stamps(dict[bytes, type]):
    """What mapped classes are called in bytes. One that is not known yet may have been mapped meanwhile."""

    def __missing__(self, stamp: bytes) -> type:
        for cls in mapped_classes():
            self.setdefault(stamp_of(cls), cls)
        if stamp not in self:
            raise ValueError("entities of no class that is mapped here, with these columns")
        return self[stamp]


_stamps = Stamps()
_names: dict[type, bytes] = {}
_extents: dict[tuple[bytes, tuple[str, ...], tuple[str, ...]], Extent] = {}


def stamp_of(cls: type) -> bytes:
    """What a mapped class is called in bytes: a digest of its name and its columns."""
    stamp = _names.get(cls)
    if stamp is None:
        stamp = _names[cls] = blake2b(layout_of(cls).encode(), digest_size=STAMP_BYTES).digest()
    return stamp


class _Members:
    """The entities of one extent that were met, and their numbers."""

    __slots__ = ("entities", "extent", "linked", "numbers")

    def __init__(self, extent: Extent) -> None:
        self.extent = extent
        self.entities: list[Any] = []
        self.numbers: list[int] = []
        self.linked: list[list[Any]] = [[] for _ in extent.relations]


class Census:
    """Numbers the entities of one value as they are met, and then those to which their relations lead."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._ahead: list[Any] = []
        self._batches: dict[int, _Members] = {}
        self._classes: dict[type, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._ahead)

    def knows(self, cls: type) -> bool:
        """Whether values of this class are entities."""
        known = self._classes.get(cls)
        if known is None:
            known = self._classes[cls] = is_mapped(cls)
        return known

    def node(self, entity: Any) -> ExtType:
        """What stands for it in the root."""
        return ext((ENTITY_REF, _NUMBER.pack(self._number(entity))))

    def nodes(self, entities: list[Any]) -> ExtType:
        """What stands for a list of them."""
        return ext((ENTITY_REFS, struct.pack(f">{len(entities)}I", *map(self._number, entities))))

    def _number(self, entity: Any) -> int:
        number = self._numbers.get(id(entity))
        if number is None:
            number = self._numbers[id(entity)] = len(self._ahead)
            self._ahead.append(entity)
        return number

    def batches(self, pack: Callable[[object], bytes]) -> list[object]:
        """All of them, as lists for msgpack. `pack` is for values that msgpack does not know."""
        number = 0
        while number < len(self._ahead):
            self._describe(self._ahead[number], number)
            number += 1
        if number > MAX_ENTITIES:
            raise Stuck(self._ahead[0], f"it leads to {number} entities, {MAX_ENTITIES} are possible")
        return [_batch(members, pack) for members in self._batches.values()]

    def _describe(self, entity: Any, number: int) -> None:
        try:
            extent = extent_of(entity)
        except NoExtent as trouble:
            raise Stuck(entity, str(trouble)) from None
        members = self._batches.get(id(extent))
        if members is None:
            members = self._batches[id(extent)] = _Members(extent)
        members.entities.append(entity)
        members.numbers.append(number)
        for place, linked in enumerate(members.linked):
            led_to = extent.led_to(entity, place)
            if type(led_to) is list:
                linked.append(list(map(self._number, led_to)))
            else:
                linked.append(None if led_to is None else self._number(led_to))


def _batch(members: _Members, pack: Callable[[object], bytes]) -> list[object]:
    extent, entities = members.extent, members.entities
    rows = list(map(extent.take, entities))
    values = [_column(name, entities, list(column), pack) for name, column in _columns(extent.columns, rows)]
    numbers = struct.pack(f">{len(members.numbers)}I", *members.numbers)
    return [stamp_of(extent.cls), extent.columns, extent.relations, numbers, values, members.linked]


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterable[tuple[str, Sequence[Any]]]:
    return zip(names, zip(*rows, strict=True), strict=True)


def _column(name: str, entities: list[Any], column: list[Any], pack: Callable[[object], bytes]) -> tuple[int, object]:
    kinds = set(map(type, column))
    if kinds <= NATIVE and int not in kinds:
        return PLAIN_COLUMN, column
    kinds.discard(NoneType)
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**64 for value in column):
        return PLAIN_COLUMN, column
    if len(kinds) == 1:
        found = _FAST.get(kinds.pop())
        if found is not None and (found[0] != DATETIMES or all(map(_is_simple, column))):
            code, write = found
            return code, [None if value is None else write(value) for value in column]
    try:
        return PACKED_COLUMN, pack(list(map(_unwrapped, column)))
    except Stuck as stuck:
        place = next((place for place, value in enumerate(column) if value is stuck.value), None)
        holder = entities[0] if place is None else entities[place]
        kind = type(stuck.value).__qualname__
        advice = stuck.advice or _advice(holder, name)
        raise Stuck(holder, f"its {name} is of type {kind}; {advice}") from None


def _advice(holder: Any, name: str) -> str:
    if name in class_mapper(type(holder)).attrs:
        return "no codec knows that: let python_type of the column's type be that class, defer() it, or return values"
    return "that is no column, and no codec knows it: call it something with _ in front, which is not kept"


def _unwrapped(value: Any) -> Any:
    """A column's value without what tells its entity that it was changed; loading puts that around it again."""
    mutable = sys.modules.get("sqlalchemy.ext.mutable")
    if mutable is None or not isinstance(value, mutable.Mutable):
        return value
    for base in (dict, list, set):
        if isinstance(value, base):
            return base(value)
    return value


class _Batch:
    """What was read of the entities of one extent."""

    __slots__ = ("extent", "linked", "numbers", "rows")

    def __init__(self, extent: Extent, numbers: Sequence[int], rows: list[tuple[Any, ...]], linked: list[Any]):
        self.extent, self.numbers, self.rows, self.linked = extent, numbers, rows, linked


class Graph:
    """A value with entities in it, on its way into a session."""

    __slots__ = ("_batches", "_count", "_root")

    def __init__(self, batches: list[_Batch], count: int, root: Callable[[Sequence[Any]], object]) -> None:
        self._batches, self._count, self._root = batches, count, root

    def into(self, session: Session) -> object:
        """The value, its entities those of the session; runs no SQL.

        Raises:
            Unreadable: it cannot be put together.
        """
        entities: list[Any] = [None] * self._count
        get = entities.__getitem__
        placed: list[tuple[list[Any], list[Any]]] = []
        begin_as_a_load_would(session)
        try:
            for batch in self._batches:
                made, fresh = batch.extent.placed(batch.rows, session)
                placed.append((made, fresh))
                for number, entity in zip(batch.numbers, made, strict=True):
                    entities[number] = entity
            links = [
                (batch.extent, place, batch.linked[place], holders, len(fresh) == len(holders))
                for batch, (holders, fresh) in zip(self._batches, placed, strict=True)
                for place in range(len(batch.linked))
            ]
            # collections last: what their members lead to may be what they are keyed by
            for extent, place, linked, holders, are_new in sorted(links, key=lambda link: link[0].is_many(link[1])):
                if extent.is_many(place):
                    led_to: Iterable[Any] = [list(map(get, several)) for several in linked]
                else:
                    led_to = [None if number is None else entities[number] for number in linked]
                extent.link(place, holders, led_to, are_new=are_new)
        except Exception as strange:
            raise Unreadable(f"entities that cannot be put together: {strange}") from strange
        value = self._root(entities)
        for batch, (_, fresh) in zip(self._batches, placed, strict=True):
            batch.extent.tell_loaded(session, fresh)
        return value

    def plainly(self) -> tuple[object, dict[object, object]]:
        """The value with names in the place of entities, and what is known of each: to be compared."""
        names: list[Any] = [None] * self._count
        for batch in self._batches:
            for number, row in zip(batch.numbers, batch.rows, strict=True):
                names[number] = (batch.extent.cls.__qualname__, *batch.extent.identity(row))
        known: dict[object, object] = {}
        for batch in self._batches:
            extent = batch.extent
            for place, (number, row) in enumerate(zip(batch.numbers, batch.rows, strict=True)):
                links = [_named(linked[place], names) for linked in batch.linked]
                known[names[number]] = dict(zip((*extent.columns, *extent.relations), (*row, *links), strict=True))
        return self._root(names), known


def _named(linked: Any, names: Sequence[Any]) -> object:
    if isinstance(linked, list):
        return sorted((names[number] for number in linked), key=repr)
    return None if linked is None else names[linked]


def graph_of(raw: memoryview, unpack: Callable[[bytes], object], rooted: Callable[..., object]) -> Graph:
    """What was packed. `unpack` reads columns that were packed, `rooted` the root.

    Raises:
        Exception: of any sort; the bytes choose.
    """
    described, root = read(raw)
    batches = [_read_batch(each, unpack) for each in described]
    count = sum(len(batch.numbers) for batch in batches)
    numbers = [number for batch in batches for number in batch.numbers]
    if count > MAX_ENTITIES or sorted(numbers) != list(range(count)):
        raise ValueError("entities that are numbered otherwise than one by one")
    classes: list[Any] = [None] * count
    for batch in batches:
        for number in batch.numbers:
            classes[number] = batch.extent.cls
    for batch in batches:
        for place, linked in enumerate(batch.linked):
            _check_links(batch.extent, place, linked, classes)
    return Graph(batches, count, lambda entities: rooted(root, entities))


def _read_batch(
    described: tuple[bytes, Any, Any, bytes, list[Any], list[list[Any]]], unpack: Callable[[bytes], object]
) -> _Batch:
    stamp, columns, relations, packed_numbers, values, linked = described
    key = (stamp, tuple(columns), tuple(relations))
    extent = _extents.get(key)
    if extent is None:
        extent = Extent(_stamps[stamp], key[1], key[2])
        if len(_extents) >= MAX_EXTENTS:
            _extents.clear()
        _extents[key] = extent
    numbers = struct.unpack(f">{len(packed_numbers) // 4}I", packed_numbers)
    read_columns = [_read_column(each, unpack) for each in values]
    if len(read_columns) != len(extent.columns) or len(linked) != len(extent.relations):
        raise ValueError("values that do not fit their attributes")
    rows = list(zip(*read_columns, strict=True))
    if len(rows) != len(numbers) or any(len(each) != len(numbers) for each in linked):
        raise ValueError("entities without values")
    return _Batch(extent, numbers, rows, linked)


def _read_column(described: tuple[int, Any], unpack: Callable[[bytes], object]) -> Sequence[Any]:
    code, column = described
    if code == PLAIN_COLUMN:
        return cast("Sequence[Any]", column)
    if code == PACKED_COLUMN:
        return cast("Sequence[Any]", unpack(column))
    make = _READ[code]
    if None in column:
        return [None if each is None else make(each) for each in column]
    return list(map(make, column))


def _check_links(extent: Extent, place: int, linked: list[Any], classes: Sequence[type]) -> None:
    """Raises: ValueError: one leads to an entity that is not there, or of another class than its relation's."""
    target = extent.targets[place]
    if extent.is_many(place):
        if {type(each) for each in linked} - {list}:
            raise ValueError("a collection that is none")
        numbers = {number for each in linked for number in each}
    else:
        numbers = set(linked) - {None}
    if not numbers:
        return
    if {type(number) for number in numbers} != {int} or min(numbers) < 0 or max(numbers) >= len(classes):
        raise ValueError("links that lead nowhere")
    if not all(issubclass(cls, target) for cls in {classes[number] for number in numbers}):
        raise ValueError("links that lead to entities of another class")


def entity_at(data: bytes, entities: Sequence[Any]) -> Any:
    """What an ENTITY_REF of the root stands for."""
    return entities[_NUMBER.unpack(data)[0]]


def entities_at(data: bytes, entities: Sequence[Any]) -> list[Any]:
    """What an ENTITY_REFS of the root stands for."""
    return [entities[number] for number in struct.unpack(f">{len(data) // 4}I", data)]


def packed(batches: list[object], root: bytes) -> bytes:
    """Both as bytes."""
    try:
        return cast(bytes, msgpack.packb([batches, root]))
    except UnicodeEncodeError:
        return cast(bytes, msgpack.packb([batches, root], unicode_errors="surrogatepass"))
