"""msgpack that brings back exactly what it was given.

Two forms, told apart by the first byte:

    1  root                                          msgpack of the value; scalars it does not know are ext types
    2  [[number, kind, rows], …, root]               objects by kind, then the value with references to them

An object is what has to be made of parts: a tuple, a set, a row, an instance. All objects of one kind that stand at the
same height (1 + the height of what they hold) are one batch of plain rows, and batches are written lowest first. So
reading is one call into C for each batch and one function call for each object, no function calls itself, and an object
is complete before anything refers to it, as tuples and the members of sets must be.

Each object is referred to once. Bytes that refer to one twice are refused: ten levels of two references each would be
a thousand objects to whoever walks the value.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, cast
from uuid import UUID

import msgpack
from msgpack import ExtType
from sqlalchemy import Row

from perfkit.codec import blame
from perfkit.codec.records import STAMP_BYTES, Form, form_of, stamp_of
from perfkit.codec.rows import make_rows, row_form
from perfkit.codec.scalars import (
    FLAG,
    GEOMETRIES,
    MEMBER,
    NATIVE,
    READERS,
    REF,
    SPAN,
    WRITERS,
    Reader,
    Unfit,
    Writer,
    ext,
    write_int,
    write_uuid,
)
from perfkit.codec.shapes import is_mapped, name_of
from perfkit.errors import Unpackable, Unreadable

PLAIN, OBJECTS = b"\x01", b"\x02"
MAX_DEPTH = 100  # far below what the stack bears; msgpack's own packer stops at 511
MAX_ROWS = 2**16  # in one batch, as two bytes of a reference count them
MAX_BATCHES = 4096  # hash() of a chain of tuples calls itself once for each

_REF = struct.Struct(">HH")  # batch, place
_SPAN = struct.Struct(">HHI")  # batch, first place, how many


class _Taken(enum.Enum):
    TAKEN = enum.auto()


_TUPLE, _SET, _FROZENSET = range(3)
_BUILTINS: Mapping[type, Form] = {
    tuple: Form(name=_TUPLE, take=list, make=tuple),
    set: Form(name=_SET, take=list, make=set),
    frozenset: Form(name=_FROZENSET, take=list, make=frozenset),
}

# timestamp=1: msgpack's own timestamps, which nobody here writes, must not become a type of msgpack's
_read = partial(msgpack.unpackb, strict_map_key=False, unicode_errors="surrogatepass", timestamp=1)


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

    Raises:
        Unpackable: one of `types` is none of these, or two of them look the same in bytes.
    """

    def __init__(self, types: Iterable[type] = ()) -> None:
        self._writers = _Writers(WRITERS)
        self._readers = _Readers(READERS)
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
        """
        try:
            try:
                return _Writing(self._writers, self._forms, NATIVE).pack(value)
            except OverflowError:  # an int beyond 64 bits; rare, so only now is every int looked at
                writers = _Writers({**self._writers, int: write_int})
                return _Writing(writers, self._forms, NATIVE - {int}).pack(value)
        except (blame.Stuck, blame.TooDeep) as trouble:
            raise blame.explain(value, trouble, self._forms) from None

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
                return _read(memoryview(raw)[1:], ext_hook=self._read_part)
            if raw[:1] == OBJECTS:
                return _Reading(self._readers, self._makers).unpack(memoryview(raw)[1:])
        except Exception as strange:
            # the bytes choose which constructor fails and how: ValueError, KeyError, ArithmeticError, GEOS's own …
            raise Unreadable(
                f"{len(raw)} bytes are not of this codec: {type(strange).__name__}: {strange}"
            ) from strange
        raise Unreadable(f"{len(raw)} bytes are not of this codec: they start with {raw[:1]!r}.")

    def _add(self, cls: type) -> None:
        if is_mapped(cls):
            raise Unpackable(f"{name_of(cls)} is an ORM entity. {blame.ENTITY}")
        if issubclass(cls, enum.Enum):
            self._add_enum(cls)
            return
        form = form_of(cls)
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


class _Writers(dict[type, Writer]):
    """Scalar types; those of optional packages join when the first value of them is seen."""

    def __missing__(self, kind: type) -> Writer | None:
        if issubclass(kind, UUID) and kind.__module__.startswith("asyncpg."):
            return write_uuid
        if kind.__module__.partition(".")[0] in ("geoalchemy2", "shapely"):
            from perfkit.codec import geometry  # heavy, optional, and there already if there is a value of it

            return geometry.WRITERS.get(kind)
        return None


class _Readers(dict[int, Reader]):
    """Ext codes; the module for geometries is imported with the first one."""

    def __missing__(self, code: int) -> Reader:
        if code in GEOMETRIES:
            from perfkit.codec import geometry

            return geometry.READERS[code]
        raise ValueError(f"no ext type has the code {code}")


@dataclass(slots=True)
class _Batch:
    number: int
    height: int
    kind: bytes | int | tuple[str, ...]
    rows: list[Sequence[Any]] = field(default_factory=list)


class _Writing:
    """One value on its way to bytes: `node` gives what stands for a part of it, and remembers objects by batch."""

    __slots__ = (
        "_batches",
        "_depth",
        "_forms",
        "_height",
        "_is_native",
        "_latest",
        "_native",
        "_row_forms",
        "_writers",
    )

    def __init__(self, writers: _Writers, forms: Mapping[type, Form], native: frozenset[type]) -> None:
        self._writers = writers
        self._forms = forms
        self._native = native
        self._is_native = native.issuperset
        self._batches: list[_Batch] = []
        self._latest: dict[tuple[int, object], _Batch] = {}
        self._row_forms: dict[tuple[str, ...], Form] = {}
        self._height = 0  # of the highest object made since somebody set this to 0
        self._depth = 0

    def pack(self, value: object) -> bytes:
        root = self._node(value)
        if not self._batches:
            return PLAIN + _dump(root)
        if len(self._batches) > MAX_BATCHES:
            raise blame.Stuck(value, f"it needs {len(self._batches)} batches of objects, {MAX_BATCHES} are possible")
        lowest_first = sorted(self._batches, key=lambda batch: batch.height)
        return OBJECTS + _dump(
            [*([batch.number, batch.kind, _dump(batch.rows)] for batch in lowest_first), _dump(root)]
        )

    def _node(self, value: Any) -> object:
        kind = type(value)
        writer = self._writers.get(kind)
        if writer is not None:
            return self._scalar(writer, value)
        if kind in self._native:
            return value
        if kind is list:
            return self._list(value)
        if kind is dict:
            return self._dict(value)
        form = self._forms.get(kind)
        if form is None and kind is Row:
            form = self._row_form(value)
        if form is not None:
            return ext((REF, self._place(form, value).to_bytes(4, "big")))
        writer = self._writers[kind]
        if writer is None:
            raise blame.Stuck(value)
        return self._scalar(writer, value)

    def _scalar(self, writer: Writer, value: object) -> object:
        try:
            return writer(value)
        except Unfit as unfit:
            raise blame.Stuck(value, str(unfit)) from None

    def _list(self, values: list[Any]) -> object:
        kinds = set(map(type, values))
        if kinds <= self._native:
            return values
        self._enter(values)
        form = self._common_form(kinds, values)
        nodes: object
        if form is not None:
            nodes = self._alike(form, values)
        elif kinds == {dict} and self._all_native(map(dict.values, values)) and self._all_native(values):
            nodes = values
        else:
            native, node = self._native, self._node
            nodes = [value if type(value) in native else node(value) for value in values]
        self._depth -= 1
        return nodes

    def _common_form(self, kinds: set[type], values: list[Any]) -> Form | None:
        """How all of `values` are written, if in one way."""
        if len(kinds) != 1:
            return None
        if kinds != {Row}:
            return self._forms.get(type(values[0]))
        first, *others = {self._row_form(row).fields: row for row in values}.values()
        return None if others else self._row_form(first)

    def _alike(self, form: Form, values: list[Any]) -> object:
        """Objects of one kind: one reference to all of them if they come to stand side by side."""
        places = self._flat(form, values) or [self._place(form, value) for value in values]
        number, first = divmod(places[0], MAX_ROWS)
        if first + len(places) <= MAX_ROWS and list(places) == list(range(places[0], places[0] + len(places))):
            return ext((SPAN, _SPAN.pack(number, first, len(places))))
        return [ext((REF, place.to_bytes(4, "big"))) for place in places]

    def _flat(self, form: Form, values: list[Any]) -> Sequence[int]:
        """The places of objects that hold native values only, all put down at once; empty if one holds more."""
        try:
            rows = list(map(form.take, values))
        except AttributeError:
            return ()  # one by one it will turn out whose
        if None in rows or not self._all_native(rows):
            return ()
        batch = self._batch(0, form)
        if len(batch.rows) + len(rows) > MAX_ROWS:
            return ()
        first = batch.number * MAX_ROWS + len(batch.rows)
        batch.rows.extend(rows)
        self._height = max(self._height, 1)
        return range(first, first + len(rows))

    def _all_native(self, groups: Iterable[Iterable[object]]) -> bool:
        return self._is_native(map(type, chain.from_iterable(groups)))

    def _dict(self, values: dict[Any, Any]) -> object:
        plain_keys = self._is_native(map(type, values))
        if plain_keys and self._is_native(map(type, values.values())):
            return values
        self._enter(values)
        native, node = self._native, self._node
        nodes = {
            key if plain_keys else node(key): value if type(value) in native else node(value)
            for key, value in values.items()
        }
        if len(nodes) != len(values):
            raise blame.Stuck(values, "two of its keys cannot be told apart in bytes")
        self._depth -= 1
        return nodes

    def _place(self, form: Form, value: Any) -> int:
        """Put an object into its batch; batch and place in it as one number."""
        self._enter(value)
        outer, self._height = self._height, 0
        try:
            row = form.take(value)
            if row is None:
                form = form.loose or form
                row = form.take(value)
        except AttributeError as unset:
            raise blame.Stuck(value, f"a field has no value: {unset}") from None
        if not self._is_native(map(type, row)):
            native, node = self._native, self._node
            row = [part if type(part) in native else node(part) for part in row]
        height = self._height
        self._height = max(outer, height + 1)
        self._depth -= 1
        batch = self._batch(height, form)
        batch.rows.append(row)
        return batch.number * MAX_ROWS + len(batch.rows) - 1

    def _batch(self, height: int, form: Form) -> _Batch:
        """The batch where the next object of this kind and height goes."""
        batch = self._latest.get((height, form.name))
        if batch is None or len(batch.rows) == MAX_ROWS:
            batch = self._latest[height, form.name] = _Batch(len(self._batches), height, form.name)
            self._batches.append(batch)
        return batch

    def _row_form(self, row: Row[Any]) -> Form:
        names = row._fields
        form = self._row_forms.get(names)
        if form is None:
            try:
                form = self._row_forms[names] = row_form(names)
            except Unfit as unfit:
                raise blame.Stuck(row, str(unfit)) from None
        return form

    def _enter(self, container: object) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise blame.TooDeep(container)


class _Reading:
    """Bytes on their way to a value: objects batch by batch, each handed out once."""

    __slots__ = ("_built", "_makers", "_readers")

    def __init__(self, readers: _Readers, makers: Mapping[object, Callable[[Any], object]]) -> None:
        self._readers = readers
        self._makers = makers
        self._built: dict[int, list[object]] = {}

    def unpack(self, raw: memoryview) -> object:
        *batches, root = _read(raw)
        if len(batches) > MAX_BATCHES:
            raise ValueError(f"{len(batches)} batches")
        for number, kind, rows in batches:
            parts = _read(rows, ext_hook=self._part)
            made = make_rows(tuple(kind), parts) if type(kind) is list else map(self._makers[kind], parts)
            self._built[number] = list(made)
        return _read(root, ext_hook=self._part)

    def _part(self, code: int, data: bytes) -> object:
        if code == REF:
            number, place = _REF.unpack(data)
            batch = self._built[number]
            made, batch[place] = batch[place], _Taken.TAKEN
            if made is _Taken.TAKEN:
                raise ValueError("an object that two places refer to")
            return made
        if code == SPAN:
            return self._span(*_SPAN.unpack(data))
        return self._readers[code](data)

    def _span(self, number: int, first: int, count: int) -> list[object]:
        batch = self._built[number]
        made = batch[first : first + count]
        if len(made) != count or _Taken.TAKEN in made:
            raise ValueError("objects that are not there, or that two places refer to")
        batch[first : first + count] = [_Taken.TAKEN] * count
        return made


def _dump(value: object) -> bytes:
    try:
        packed = msgpack.packb(value)
    except UnicodeEncodeError:  # a lone surrogate; asking msgpack to let them pass costs every text
        packed = msgpack.packb(value, unicode_errors="surrogatepass")
    return cast(bytes, packed)
