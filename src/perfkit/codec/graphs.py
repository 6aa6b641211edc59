"""Values with entities in them: the value with numbers in the place of entities, and the entities by what is loaded.

    [ [[stamp, columns, relations, values, links], …], order, root ]

One batch for each extent (sqla/entities.py), its values column by column, so that C does most of the work. Entities are
numbered batch by batch, from 1; links are numbers, so relations may lead in circles, and 0 is none. A link is four
bytes, and those of collections are one after another, with how many there are in each. `root` is what the codec makes
of any value, entities being ext types that hold a number, or several; what it numbers itself, because its entities are
of several extents, is said by `order`.

Bytes become a `Graph`, in which all is checked but nothing made: that needs a session, and the one who asks has it.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from hashlib import blake2b
from itertools import accumulate, chain
from types import NoneType
from typing import Any, NamedTuple, cast
from uuid import UUID

import msgpack
from msgpack import ExtType
from sqlalchemy.orm import Session, class_mapper

from perfkit.codec.blame import Stuck
from perfkit.codec.forms import STAMP_BYTES
from perfkit.codec.layout import ENTITY_REF, ENTITY_REFS, GRAPH, OBJECTS, PLAIN
from perfkit.codec.reading import read
from perfkit.codec.scalars import NATIVE, ext, read_uuid
from perfkit.errors import Unreadable
from perfkit.sqla.entities import (
    MAX_EXTENTS,
    Extent,
    Given,
    NoExtent,
    begin_as_a_load_would,
    extent_of,
    is_mapped,
    layout_of,
    put_back,
)
from perfkit.sqla.private import mapped_classes

MAX_ENTITIES = 2**24
_NUMBER = struct.Struct(">I")


def _packed_numbers(numbers: Sequence[int]) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)


def _numbers_in(packed: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(packed) // 4}I", packed)


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
    UUIDS: read_uuid,
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
        self._ahead: list[Any] = []  # the first of them has the number 1
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
        return ext((ENTITY_REFS, _packed_numbers([self._number(entity) for entity in entities])))

    def _number(self, entity: Any) -> int:
        number = self._numbers.get(id(entity))
        if number is None:
            self._ahead.append(entity)
            number = self._numbers[id(entity)] = len(self._ahead)
        return number

    def batches(self, pack: Callable[[object], bytes]) -> tuple[list[object], bytes]:
        """All of them, as lists for msgpack, and the order of the root's. `pack` is for what msgpack does not know."""
        in_root = len(self._ahead)
        for number, entity in enumerate(self._ahead, 1):  # which grows meanwhile
            self._describe(entity, number)
        if len(self._ahead) > MAX_ENTITIES:
            raise Stuck(self._ahead[0], f"it leads to {len(self._ahead)} entities, {MAX_ENTITIES} are possible")
        members = self._batches.values()
        met = chain.from_iterable(each.numbers for each in members)
        places: dict[int | None, int] = {None: 0}
        places.update((number, place) for place, number in enumerate(met, 1))
        order = [places[number] for number in range(1, in_root + 1)]
        is_same = order == list(range(1, in_root + 1))
        return [_batch(each, places, pack) for each in members], b"" if is_same else _packed_numbers(order)

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


def _batch(members: _Members, places: Mapping[int | None, int], pack: Callable[[object], bytes]) -> list[object]:
    extent, entities = members.extent, members.entities
    rows = list(map(extent.take, entities))
    values = [_column(name, entities, list(column), pack) for name, column in _columns(extent.columns, rows)]
    links: list[object] = []
    for place, linked in enumerate(members.linked):
        if extent.is_many(place):
            flat = [places[number] for number in chain.from_iterable(linked)]
            links.append([_packed_numbers(list(map(len, linked))), _packed_numbers(flat)])
        else:
            links.append(_packed_numbers([places[number] for number in linked]))
    return [stamp_of(extent.cls), extent.columns, extent.relations, values, links]


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


class _Links(NamedTuple):
    """Whom a relation leads the entities of a batch to."""

    numbers: tuple[int, ...]
    counts: tuple[int, ...] | None
    """How many of the numbers are of each entity; None if it is one, which may be 0."""

    def among(self, things: Sequence[Any]) -> Iterable[Any]:
        """For each entity the thing that it is led to, or a list of them; all things are given by number."""
        found = map(things.__getitem__, self.numbers)
        if self.counts is None:
            return found
        flat = list(found)
        return [flat[end - count : end] for count, end in zip(self.counts, accumulate(self.counts), strict=True)]


class _Batch:
    """What was read of the entities of one extent."""

    __slots__ = ("columns", "count", "extent", "links")

    def __init__(self, extent: Extent, columns: list[list[Any]], links: list[_Links]) -> None:
        self.extent, self.columns, self.links = extent, columns, links
        self.count = len(columns[0])

    def rows(self) -> Iterable[tuple[Any, ...]]:
        return zip(*self.columns, strict=True)


class Graph:
    """A value with entities in it, on its way into a session."""

    __slots__ = ("_batches", "_order", "_root")

    def __init__(self, batches: list[_Batch], order: Sequence[int], root: Callable[[Sequence[Any]], object]) -> None:
        self._batches, self._order, self._root = batches, order, root

    def into(self, session: Session) -> object:
        """The value, its entities those of the session; runs no SQL.

        Raises:
            Unreadable: it cannot be put together, or who listens to loads raised. The session is as it was then.
        """
        placed: list[tuple[list[Any], list[Any]]] = []
        given: Given = []
        begin_as_a_load_would(session)
        try:
            value = self._root(self._ordered(self._entities(session, placed, given)))
            for batch, (_, fresh) in zip(self._batches, placed, strict=True):
                batch.extent.tell_loaded(session, fresh)
        except BaseException as strange:
            put_back(session, chain.from_iterable(fresh for _, fresh in placed), given)
            if not isinstance(strange, Exception):
                raise
            raise Unreadable(f"entities that cannot be put together: {strange}") from strange
        return value

    def _entities(self, session: Session, placed: list[tuple[list[Any], list[Any]]], given: Given) -> list[Any]:
        """All of them by number, linked; in `placed` those of each batch, and which are new."""
        entities: list[Any] = [None]
        for batch in self._batches:
            found = batch.extent.placed(batch.rows(), session, given)
            placed.append(found)
            entities += found[0]
        links = [
            (batch.extent, place, linked, holders, len(fresh) == len(holders))
            for batch, (holders, fresh) in zip(self._batches, placed, strict=True)
            for place, linked in enumerate(batch.links)
        ]
        # collections last: what their members lead to may be what they are keyed by
        for extent, place, linked, holders, are_new in sorted(links, key=lambda link: link[0].is_many(link[1])):
            extent.link(place, holders, linked.among(entities), given, are_new=are_new)
        return entities

    def _ordered(self, things: list[Any]) -> list[Any]:
        """Things by the numbers that the root has for them."""
        return [None, *map(things.__getitem__, self._order)] if self._order else things

    def plainly(self) -> tuple[object, dict[object, object]]:
        """The value with names in the place of entities, and what is known of each: to be compared.

        Raises:
            Unreadable: the names of some are none.
        """
        names: list[Any] = [None]
        for batch in self._batches:
            names += [(batch.extent.cls.__qualname__, *batch.extent.identity(row)) for row in batch.rows()]
        known: dict[object, object] = {}
        of_each = iter(names[1:])
        for batch in self._batches:
            attributes = (*batch.extent.columns, *batch.extent.relations)
            led_to = [map(_sorted, linked.among(names)) for linked in batch.links]
            try:
                for row, *links in zip(batch.rows(), *led_to, strict=True):
                    known[next(of_each)] = dict(zip(attributes, (*row, *links), strict=True))
            except TypeError as strange:
                raise Unreadable(f"entities without names: {strange}") from strange
        return self._root(self._ordered(names)), known


def _sorted(linked: Any) -> object:
    return sorted(linked, key=repr) if isinstance(linked, list) else linked


def graph_of(raw: memoryview, unpack: Callable[[bytes], object], rooted: Callable[..., object]) -> Graph:
    """What was packed. `unpack` reads columns that were packed, `rooted` the root.

    Raises:
        Exception: of any sort; the bytes choose.
    """
    described, order, root = read(raw)
    if type(root) is not bytes or root[:1] not in (PLAIN, OBJECTS):
        raise ValueError("a graph without a value")
    batches = [_read_batch(each, unpack) for each in described]
    classes: list[Any] = [NoneType]
    for batch in batches:
        classes += [batch.extent.cls] * batch.count
    if len(classes) > 1 + MAX_ENTITIES:
        raise ValueError(f"{len(classes) - 1} entities")
    for batch in batches:
        for place, linked in enumerate(batch.links):
            _check_links(linked, batch.count, batch.extent.targets[place], classes)
    ordered = _numbers_in(order)
    if ordered and max(ordered) >= len(classes):
        raise ValueError("an order of entities that are not there")
    return Graph(batches, ordered, lambda entities: rooted(root, entities))


def _read_batch(described: tuple[bytes, Any, Any, list[Any], list[Any]], unpack: Callable[[bytes], object]) -> _Batch:
    stamp, columns, relations, values, links = described
    key = (stamp, tuple(columns), tuple(relations))
    extent = _extents.get(key)
    if extent is None:
        extent = Extent(_stamps[stamp], key[1], key[2])
        if len(_extents) >= MAX_EXTENTS:
            _extents.clear()
        _extents[key] = extent
    read_columns = [_read_column(each, unpack) for each in values]
    if len(read_columns) != len(extent.columns) or len(links) != len(extent.relations):
        raise ValueError("values that do not fit their attributes")
    batch = _Batch(extent, read_columns, [_read_links(extent.is_many(place), each) for place, each in enumerate(links)])
    if {*map(len, read_columns)} != {batch.count}:
        raise ValueError("entities without values")
    return batch


def _read_column(described: tuple[int, Any], unpack: Callable[[bytes], object]) -> list[Any]:
    code, column = described
    if code == PACKED_COLUMN:
        if column[:1] == GRAPH:  # each in another would hold all that is in it
            raise ValueError("entities in a column")
        column = unpack(column)
    if type(column) is not list:
        raise ValueError("a column that is none")
    if code in (PLAIN_COLUMN, PACKED_COLUMN):
        return column
    make = _READ[code]
    try:
        return list(map(make, column))
    except TypeError:  # of None: to look for one before would cost each column a tenth of its time
        return [None if each is None else make(each) for each in column]


def _read_links(is_many: bool, packed: Any) -> _Links:
    if not is_many:
        return _Links(_numbers_in(packed), None)
    counts, numbers = map(_numbers_in, packed)
    return _Links(numbers, counts)


def _check_links(links: _Links, count: int, target: type, classes: Sequence[type]) -> None:
    """Raises: Exception: one leads to an entity that is not there, or of another class than its relation's."""
    owners = links.numbers if links.counts is None else links.counts
    if len(owners) != count or (links.counts is not None and sum(links.counts) != len(links.numbers)):
        raise ValueError("links of other entities")
    led_to = set(map(classes.__getitem__, links.numbers))
    if links.counts is None:
        led_to.discard(NoneType)
    if not all(issubclass(cls, target) for cls in led_to):
        raise ValueError("links that lead to entities of another class")


def entity_at(data: bytes, entities: Sequence[Any]) -> Any:
    """What an ENTITY_REF of the root stands for."""
    return entities[_NUMBER.unpack(data)[0]]


def entities_at(data: bytes, entities: Sequence[Any]) -> list[Any]:
    """What an ENTITY_REFS of the root stands for."""
    return list(map(entities.__getitem__, _numbers_in(data)))


def packed(batches: list[object], order: bytes, root: bytes) -> bytes:
    """All of it as bytes."""
    graph = [batches, order, root]
    try:
        return cast(bytes, msgpack.packb(graph))
    except UnicodeEncodeError:
        return cast(bytes, msgpack.packb(graph, unicode_errors="surrogatepass"))
