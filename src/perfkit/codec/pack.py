"""msgpack that brings back exactly what it was given: one codec, its table of types, both directions."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgpack import ExtType

from perfkit.codec.blame import ENTITY, Stuck, TooDeep, explain
from perfkit.codec.forms import STAMP_BYTES, Form, stamp_of
from perfkit.codec.graphs import Census, entities_at, entity_at, graph_of, packed
from perfkit.codec.layout import ENTITY_REF, ENTITY_REFS, FLAG, FROZENSET, GRAPH, MEMBER, OBJECTS, PLAIN, SET, TUPLE
from perfkit.codec.own import OWN
from perfkit.codec.reading import Readers, Reading, read
from perfkit.codec.records import dataclass_form, namedtuple_form
from perfkit.codec.scalars import NATIVE, READERS, WRITERS, Unfit, ext, write_int
from perfkit.codec.shapes import is_namedtuple, is_pydantic, name_of
from perfkit.codec.writing import Writers, Writing
from perfkit.errors import Unpackable, Unreadable
from perfkit.sqla.entities import is_mapped

_BUILTINS: Mapping[type, Form] = {
    tuple: Form(name=TUPLE, take=list, make=tuple),
    set: Form(name=SET, take=list, make=set),
    frozenset: Form(name=FROZENSET, take=list, make=frozenset),
}


class Codec:
    """A closed table of types, and the bytes of their values.

        >>> from dataclasses import dataclass
        >>> from decimal import Decimal
        >>> @dataclass
        ... class Weighed:
        ...     bin_id: int
        ...     kg: Decimal
        >>> codec = Codec([Weighed])
        >>> codec.unpack(codec.pack([Weighed(7, Decimal("12.50"))]))
        [Weighed(bin_id=7, kg=Decimal('12.50'))]

    Making one plans every class; after that it never changes, and any thread may use it.

    Args:
        types: dataclasses, pydantic models, NamedTuples and Enums beside the built-in types.
        entities: take ORM entities too, with all of them that their loaded relations lead to. What comes back of a
            value that holds one is a `Graph`, which any session can turn into the value.

    Raises:
        Unpackable: one of `types` is none of these, or two of them look the same in bytes.
    """

    def __init__(self, types: Iterable[type] = (), *, entities: bool = False) -> None:
        self._entities = entities
        self._writers = Writers(WRITERS)
        self._readers = Readers(READERS)
        self._forms: dict[type, Form] = dict(_BUILTINS)
        self._makers: dict[object, Callable[[Any], object]] = {form.name: form.make for form in _BUILTINS.values()}
        self._members: dict[bytes, enum.Enum] = {}
        self._flags: dict[bytes, type[enum.Flag]] = {}
        readers = self._readers
        self._read_part = lambda code, data: readers[code](data)
        self._readers[MEMBER] = self._members.__getitem__
        self._readers[FLAG] = self._read_flag
        for cls in sorted(set(types), key=name_of):
            self._add(cls)

    def pack(self, value: object) -> bytes:
        """`value` as bytes.

        Raises:
            Unpackable: something in it is of a type that is not in the table, holds itself, or is more than 100 levels
                deep. The message has its path, its type and what to return in its place.
            MissingExtra: it is a geometry, and of GeoAlchemy2 and shapely only one is installed.
        """
        try:
            if not self._entities:
                return self._packed(value)
            census = Census()
            root = self._packed(value, census)
            return GRAPH + packed(*census.batches(self._packed), root) if census else root
        except (Stuck, TooDeep) as trouble:
            raise explain(value, trouble, self._forms) from None

    def _packed(self, value: object, census: Census | None = None) -> bytes:
        try:
            return Writing(self._writers, self._forms, NATIVE, census).pack(value)
        except OverflowError:  # an int beyond 64 bits; rare, so only now is every int looked at
            writers = Writers({**self._writers, int: write_int})
            return Writing(writers, self._forms, NATIVE - {int}, census).pack(value)

    def unpack(self, raw: bytes) -> object:
        """The value that `pack` was given.

        Types and classes come from this codec's table, never from the bytes. What stands in a field is not compared
        with its annotation: who can write to your store can put a text where a number was, but can make nothing run.

        Raises:
            Unreadable: `raw` is not what a codec with this table has packed. There is no other exception, whatever the
                bytes. Lists in lists that lie about their lengths make msgpack set aside up to 8 kB for each byte for a
                moment; it touches less than 120 MB of that, whatever the length (msgpack 1.2, Linux).
        """
        try:
            if raw[:1] == PLAIN:
                return read(memoryview(raw)[1:], ext_hook=self._read_part)
            if raw[:1] == OBJECTS:
                return Reading(self._readers, self._makers).unpack(memoryview(raw)[1:])
            if raw[:1] == GRAPH and self._entities:
                return graph_of(memoryview(raw)[1:], self.unpack, self._rooted)
        except Exception as strange:
            # the bytes choose which constructor fails and how: ValueError, KeyError, ArithmeticError, GEOS's own …
            raise Unreadable(
                f"{len(raw)} bytes are not of this codec: {type(strange).__name__}: {strange}"
            ) from strange
        raise Unreadable(f"{len(raw)} bytes are not of this codec: they start with {raw[:1]!r}.")

    def _rooted(self, root: bytes, entities: Sequence[Any]) -> object:
        """The value of a graph. Raises: Unreadable."""
        try:
            readers = Readers(self._readers)
            readers[ENTITY_REF] = lambda data: entity_at(data, entities)
            readers[ENTITY_REFS] = lambda data: entities_at(data, entities)
            if root[:1] == PLAIN:
                return read(memoryview(root)[1:], ext_hook=lambda code, data: readers[code](data))
            return Reading(readers, self._makers).unpack(memoryview(root)[1:])
        except Exception as strange:
            raise Unreadable(f"{len(root)} bytes are not of this codec: {strange}") from strange

    def _add(self, cls: type) -> None:
        if is_mapped(cls) and self._entities:
            return
        if is_mapped(cls):
            raise Unpackable(f"{name_of(cls)} is an ORM entity. {ENTITY}")
        if issubclass(cls, enum.Enum):
            self._add_enum(cls)
            return
        form = _form_of(cls)
        if form is None:
            raise Unpackable(f"{name_of(cls)} is no dataclass, pydantic model, NamedTuple or Enum.")
        self._forms[cls] = form
        for way in (form, form.loose):
            if way is not None and self._makers.setdefault(way.name, way.make) is not way.make:
                raise Unpackable(f"two classes are named {name_of(cls)} and have the same fields.")

    def _add_enum(self, cls: type[enum.Enum]) -> None:
        stamp = stamp_of(cls, tuple(cls.__members__), "enum")
        if issubclass(cls, enum.Flag):
            if self._flags.setdefault(stamp, cls) is not cls:
                raise Unpackable(f"two classes are named {name_of(cls)} and have the same members.")
            self._writers[cls] = lambda flag: ext((FLAG, stamp + str(flag._value_).encode()))
            return
        packed = {member._name_: ext((MEMBER, stamp + member._name_.encode())) for member in cls}
        for member in cls:
            if self._members.setdefault(stamp + member._name_.encode(), member) is not member:
                raise Unpackable(f"two classes are named {name_of(cls)} and have the same members.")

        def write(member: enum.Enum) -> ExtType:
            found = packed.get(member._name_)
            if found is None:
                raise Unfit("it is not one of the members its class was declared with")
            return found

        self._writers[cls] = write

    def _read_flag(self, data: bytes) -> enum.Flag:
        return self._flags[data[:STAMP_BYTES]](int(data[STAMP_BYTES:]))


def _form_of(cls: type) -> Form | None:
    """The usual form of a dataclass, pydantic model or NamedTuple; None for any other class."""
    own = OWN.get(cls)
    if own is not None:
        return Form(name=stamp_of(cls, own.fields, "own"), take=own.take, make=own.make, fields=own.fields)
    if is_pydantic(cls):
        # pydantic is optional, and whoever has a model has imported it
        from perfkit.codec.models import model_form

        return model_form(cls)
    if dataclasses.is_dataclass(cls):
        return dataclass_form(cls)
    if is_namedtuple(cls):
        return namedtuple_form(cls)
    return None
