"""Entities taken apart and put together again, in another session and without SQL.

An *extent* is what is loaded of the entities of one mapped class: the columns, and the relations. Of its entities a
row is kept, and for each relation whom it leads to. Putting one together is what a load of the session would do with
such a row: an entity that the session holds is left as it is, except for what it has not loaded yet; any other is made
without calling `__init__`, and joins the identity map. What is not in the extent is loaded when it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from operator import itemgetter
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import (
    AppenderQuery,
    ClassManager,
    InstanceState,
    Mapper,
    RelationshipProperty,
    Session,
    WriteOnlyCollection,
    class_mapper,
    collections,
)
from sqlalchemy.orm.attributes import instance_state, set_committed_value

from perfkit.sqla.private import list_putter, placer, take_out, tell_loaded, tell_refreshed

_INSTRUMENTED = (collections.InstrumentedList, collections.InstrumentedSet, collections.InstrumentedDict)
_PLAIN = (collections.InstrumentedList, collections.InstrumentedSet, list, set)
MAX_EXTENTS = 10_000
_OTHERWISE = "its class has an instrumentation manager of its own: return values"
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # of a function that a type was made with; another one in every process


class NoExtent(Exception):
    """An entity that cannot be put together elsewhere; the argument says why."""


Given = list[tuple[Any, Sequence[str]]]
"""Entities that a session held before, and attributes that they had not loaded and got."""


class Extent:
    """What is loaded of the entities of one class, and how one is put together from that."""

    def __init__(self, cls: type, columns: Sequence[str], relations: Sequence[str]) -> None:
        """Raises: NoExtent: its primary key is not loaded, a name is none of an attribute, or its class is managed."""
        mapper: Mapper[Any] = class_mapper(cls)
        if type(mapper.class_manager) is not ClassManager:
            raise NoExtent(_OTHERWISE)
        self.cls, self.mapper = cls, mapper
        self.columns, self.relations = tuple(columns), tuple(relations)
        strange = [name for name in self.columns if name not in mapper.column_attrs and not _is_extra(name, mapper)]
        strange += [name for name in self.relations if name not in mapper.relationships]
        if strange or len({*self.columns, *self.relations}) != len(self.columns) + len(self.relations):
            raise NoExtent(f"{strange or 'some'} of its attributes are none, or there twice")
        names = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise NoExtent(f"{', '.join(missing)} of its primary key is not loaded")
        places = [self.columns.index(name) for name in names]
        self._place = placer(mapper, self.columns, places, self._unloaded())
        self.identity: Callable[[Sequence[Any]], tuple[Any, ...]] = (
            itemgetter(*places) if len(places) > 1 else lambda row, place=places[0]: (row[place],)  # type: ignore[misc]
        )
        self.take = _taker(self.columns)
        self._names = frozenset(self.columns)
        self._is_plain = all(name in mapper.class_manager for name in self.columns)
        self._properties = [mapper.relationships[name] for name in self.relations]

    def _unloaded(self) -> tuple[str, ...]:
        """Columns that a load of all would have brought: they come when one of them is asked for."""
        by_themselves = [
            each.key
            for each in self.mapper.column_attrs
            if each.deferred or ("query_expression", True) in each.strategy_key
        ]
        return tuple(each.key for each in self.mapper.column_attrs if each.key not in {*self.columns, *by_themselves})

    @cached_property
    def _put_lists(self) -> dict[int, Callable[[Iterable[Any], Iterable[Iterable[Any]]], None]]:
        """By the place of its relation: what fills the lists of new entities."""
        return {
            place: list_putter(self.mapper, self.relations[place])
            for place, each in enumerate(self._properties)
            if each.uselist and each.collection_class in (None, list)
        }

    @cached_property
    def targets(self) -> tuple[type, ...]:
        """The classes to which the relations lead."""
        return tuple(each.mapper.class_ for each in self._properties)

    def is_many(self, place: int) -> bool:
        """Whether the relation at this place has a collection."""
        return bool(self._properties[place].uselist)

    def led_to(self, entity: Any, place: int) -> list[Any] | Any | None:
        """The entities of a loaded relation, or the one, or None."""
        value = entity.__dict__[self.relations[place]]
        if not self.is_many(place):
            return value
        if type(value) in _PLAIN:
            return list(value)
        return list(collections.collection_adapter(value))  # whose own way may give other things, or none

    def placed(self, rows: Iterable[Sequence[Any]], session: Session, given: Given) -> tuple[list[Any], list[Any]]:
        """The session's entities for these rows; and those of them that are new in it. `given` has what others got.

        Raises:
            NoExtent: the session holds an entity of another class under such a key. None that is new stays in it.
        """
        return self._place(rows, session, partial(self._complete, given))

    def _complete(self, given: Given, entity: Any, row: Sequence[Any]) -> None:
        """Give it what it has not loaded, or what has expired."""
        if not isinstance(entity, self.cls):
            raise NoExtent(f"the session holds a {type(entity).__qualname__} in its place")
        if self._is_plain and entity.__dict__.keys() >= self._names:
            return
        state: InstanceState[Any] = instance_state(entity)
        have, changed = state.dict, state.committed_state
        names: list[str] = []
        for name, value in zip(self.columns, row, strict=True):
            if name not in state.manager:
                if have.setdefault(name, value) != value:  # the function would put its own there, a load would not
                    raise NoExtent(f"the session holds a {type(entity).__qualname__} with another {name}")
            elif name not in have and name not in changed:
                set_committed_value(entity, name, value)
                names.append(name)
        if names:
            given.append((entity, names))
            tell_refreshed(entity, names)
            state.expired_attributes.difference_update(have)  # also what is made of columns by who was told

    def tell_loaded(self, session: Session, fresh: Iterable[Any]) -> None:
        """Call who listens to loads, once they are complete."""
        tell_loaded(session, self.mapper, fresh)

    def link(self, place: int, entities: Sequence[Any], led_to: Iterable[Any], given: Given, *, are_new: bool) -> None:
        """Let the relation at this place lead each entity to another one, or None, or to several.

        `are_new`: none of them was in the session before. Otherwise `given` has those that got it.
        """
        name = self.relations[place]
        if not are_new:
            for entity, value in zip(entities, led_to, strict=True):
                if name not in entity.__dict__:
                    given.append((entity, [name]))
                    set_committed_value(entity, name, value)  # one that had expired has not any more
        elif not self.is_many(place):
            for entity, one in zip(entities, led_to, strict=True):
                entity.__dict__[name] = one
        elif place in self._put_lists:
            self._put_lists[place](entities, led_to)
        else:
            for entity, several in zip(entities, led_to, strict=True):
                set_committed_value(entity, name, several)


def begin_as_a_load_would(session: Session) -> None:
    """Let a rollback expire what is put into the session from now on; takes no connection."""
    if session.autobegin and not session.in_transaction():
        session.begin()


def put_back(session: Session, fresh: Iterable[Any], given: Given) -> None:
    """Take new entities out of the session again, and from others what they were given."""
    take_out(fresh)
    for entity, names in given:
        if entity in session:
            session.expire(entity, names)


_extents: dict[tuple[type, tuple[str, ...]], Extent] = {}


def extent_of(entity: Any) -> Extent:
    """What is loaded of an entity.

    Raises:
        NoExtent: it is not in a session, or not stored yet, or not all of its primary key is loaded; or its class is
            instrumented otherwise.
    """
    try:
        state: InstanceState[Any] = instance_state(entity)
    except AttributeError:
        raise NoExtent(_OTHERWISE) from None
    if not state.persistent:
        raise NoExtent("it is not of a session and stored: return what a query of this session gave")
    if state.identity_token is not None:
        raise NoExtent("it is of one shard of several: return values")
    if state.expired:
        raise NoExtent("it has expired: its session was committed or rolled back after it was loaded")
    loaded = tuple(state.dict)
    extent = _extents.get((type(entity), loaded))
    if extent is None:
        if len(_extents) >= MAX_EXTENTS:
            _extents.clear()
        extent = _extents[type(entity), loaded] = _extent(state, loaded)
    return extent


def _extent(state: InstanceState[Any], loaded: Sequence[str]) -> Extent:
    mapper = state.mapper
    columns, relations = [], []
    for name in loaded:
        attribute = mapper.attrs.get(name)
        if isinstance(attribute, RelationshipProperty):
            relations.append(name)
        elif name in mapper.column_attrs or _is_extra(name, mapper):
            columns.append(name)
    return Extent(mapper.class_, columns, relations)


def _is_extra(name: object, mapper: Mapper[Any]) -> bool:
    """Whether it is one that somebody has put there, to which the class gives no meaning of its own."""
    if not isinstance(name, str) or name.startswith("_") or name in mapper.attrs:
        return False
    return not any(name in vars(base) for base in mapper.class_.__mro__)


def relation_of(value: object) -> str | None:
    """`Depot.trucks` for what the attribute of that name gives, a collection or a query; None for anything else."""
    if isinstance(value, AppenderQuery | WriteOnlyCollection):
        attribute: Any = value.attr
        return f"{attribute.class_.__name__}.{attribute.key}"
    adapter: Any = getattr(value, "_sa_adapter", None)
    if isinstance(value, _INSTRUMENTED) and adapter is not None:
        return f"{adapter.owner_state.class_.__name__}.{adapter.attr.key}"
    return None


def layout_of(cls: type) -> str:
    """The columns of a mapped class and their types, as text that changes when they do."""
    mapper: Mapper[Any] = class_mapper(cls)
    columns = [f"{each.key}:{_ADDRESS.sub('', repr(each.columns[0].type))}" for each in mapper.column_attrs]
    return f"{cls.__module__}:{cls.__qualname__}({','.join(columns)})"


def is_mapped(cls: type) -> bool:
    """True for an ORM entity, whatever else it is beside."""
    return isinstance(inspect(cls, raiseerr=False), Mapper)


def _taker(names: Sequence[str]) -> Callable[[Any], Sequence[Any]]:
    if len(names) == 1:
        name = names[0]
        return lambda entity: (entity.__dict__[name],)
    get = itemgetter(*names)
    return lambda entity: get(entity.__dict__)


def reached_from(classes: Iterable[type]) -> list[type]:
    """The mapped classes among `classes`, what relations lead to from there, and all that inherit from these."""
    found: dict[type, None] = {}
    ahead = [cls for cls in classes if is_mapped(cls)]
    while ahead:
        cls = ahead.pop()
        if cls not in found:
            found[cls] = None
            mapper: Mapper[Any] = class_mapper(cls)
            ahead += [each.mapper.class_ for each in mapper.relationships]
            ahead += [each.class_ for each in mapper.self_and_descendants]
    return list(found)


def types_in_columns(classes: Iterable[type]) -> list[type]:
    """The classes of values in their columns, as far as the columns' types say so; one of each name."""
    found: dict[str, type] = {}
    for cls in classes:
        mapper: Mapper[Any] = class_mapper(cls)
        for column in mapper.columns:
            with suppress(NotImplementedError):
                kind = column.type.python_type
                found[f"{kind.__module__}:{kind.__qualname__}"] = kind
    return list(found.values())
