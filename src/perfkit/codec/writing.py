"""A value on its way to bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, cast

import msgpack
from sqlalchemy import Row

from perfkit.codec.blame import Stuck, TooDeep
from perfkit.codec.forms import Form
from perfkit.codec.graphs import Census
from perfkit.codec.layout import MAX_BATCHES, MAX_DEPTH, MAX_ROWS, OBJECTS, PLACES, PLAIN, REF, SPAN
from perfkit.codec.rows import row_form
from perfkit.codec.scalars import Unfit, Writer, ext, write_uuid
from perfkit.sqla.rows import is_uuid


class Writers(dict[type, Writer]):
    """Scalar types; those of optional packages join when the first value of them is seen."""

    def __missing__(self, kind: type) -> Writer | None:
        if is_uuid(kind):
            return write_uuid
        if kind.__module__.partition(".")[0] in ("geoalchemy2", "shapely"):
            from perfkit.codec import geometry  # heavy, optional, and there already if there is a value of it

            return geometry.WRITERS.get(kind)
        return None


@dataclass(slots=True)
class Batch:
    """Objects of one kind and height; `number` is what references say."""

    number: int
    height: int
    kind: bytes | int | tuple[str, ...]
    rows: list[Sequence[Any]] = field(default_factory=list)


class Writing:
    """One value on its way to bytes: `node` gives what stands for a part of it, and remembers objects by batch."""

    __slots__ = (
        "_batches",
        "_census",
        "_depth",
        "_forms",
        "_height",
        "_is_native",
        "_latest",
        "_native",
        "_row_forms",
        "_writers",
    )

    def __init__(
        self, writers: Writers, forms: Mapping[type, Form], native: frozenset[type], census: Census | None = None
    ) -> None:
        """`census` numbers entities; without one there can be none."""
        self._census = census
        self._writers = writers
        self._forms = forms
        self._native = native
        self._is_native = native.issuperset
        self._batches: list[Batch] = []
        self._latest: dict[tuple[int, object], Batch] = {}
        self._row_forms: dict[tuple[str, ...], Form] = {}
        self._height = 0  # of the highest object made since somebody set this to 0
        self._depth = 0

    def pack(self, value: object) -> bytes:
        root = self._node(value)
        if not self._batches:
            return PLAIN + _dump(root)
        if len(self._batches) > MAX_BATCHES:
            raise Stuck(value, f"it needs {len(self._batches)} batches of objects, {MAX_BATCHES} are possible")
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
        if self._census is not None and self._census.knows(kind):
            return self._census.node(value)
        writer = self._writers[kind]
        if writer is None:
            raise Stuck(value)
        return self._scalar(writer, value)

    def _scalar(self, writer: Writer, value: object) -> object:
        try:
            return writer(value)
        except Unfit as unfit:
            raise Stuck(value, str(unfit)) from None

    def _list(self, values: list[Any]) -> object:
        kinds = set(map(type, values))
        if kinds <= self._native:
            return values
        self._enter(values)
        form = self._common_form(kinds, values)
        nodes: object
        if form is not None:
            nodes = self._alike(form, values)
        elif self._census is not None and all(map(self._census.knows, kinds)):
            nodes = self._census.nodes(values)
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
            return ext((SPAN, PLACES.pack(number, first, len(places))))
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
            raise Stuck(values, "two of its keys cannot be told apart in bytes")
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
            raise Stuck(value, f"a field has no value: {unset}") from None
        if not self._is_native(map(type, row)):
            native, node = self._native, self._node
            row = [part if type(part) in native else node(part) for part in row]
        height = self._height
        self._height = max(outer, height + 1)
        self._depth -= 1
        batch = self._batch(height, form)
        batch.rows.append(row)
        return batch.number * MAX_ROWS + len(batch.rows) - 1

    def _batch(self, height: int, form: Form) -> Batch:
        """The batch where the next object of this kind and height goes."""
        batch = self._latest.get((height, form.name))
        if batch is None or len(batch.rows) == MAX_ROWS:
            batch = self._latest[height, form.name] = Batch(len(self._batches), height, form.name)
            self._batches.append(batch)
        return batch

    def _row_form(self, row: Row[Any]) -> Form:
        names = row._fields
        form = self._row_forms.get(names)
        if form is None:
            try:
                form = self._row_forms[names] = row_form(names)
            except Unfit as unfit:
                raise Stuck(row, str(unfit)) from None
        return form

    def _enter(self, container: object) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise TooDeep(container)


def _dump(value: object) -> bytes:
    try:
        packed = msgpack.packb(value)
    except UnicodeEncodeError:  # a lone surrogate; asking msgpack to let them pass costs every text
        packed = msgpack.packb(value, unicode_errors="surrogatepass")
    return cast(bytes, packed)
