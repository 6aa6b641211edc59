"""Levels as loader options: one statement more for each relationship, however many objects there are.

A relationship is loaded by `selectinload`, or joined where that cannot multiply rows. What a level leaves out raises
where a statement would be sent, is lazy, or stays as it is mapped. What the statement's own options say, stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import inspect
from sqlalchemy.orm import (
    Load,
    Mapper,
    RelationshipProperty,
    class_mapper,
    defaultload,
    defer,
    joinedload,
    lazyload,
    load_only,
    raiseload,
    selectin_polymorphic,
    selectinload,
)
from sqlalchemy.orm.exc import UnmappedColumnError
from sqlalchemy.orm.interfaces import LoaderOption

from perfkit.loading.checking import property_of
from perfkit.loading.levels import How, Level, Path
from perfkit.sqla.private import strategies_of, wildcards_of

LeftOut = Literal["raise", "lazy", "mapped"]
Keys = tuple[str, ...]
Chosen = Mapping[Keys, str]
"""What a statement's own options say of paths from one of its entities: the strategy, or `"column"`."""

EAGER = frozenset({"selectin", "joined", "subquery", "immediate", False})
RELATIONSHIPS, COLUMNS = "*", "columns"  # the last key of what is said of all others


def options_of(level: Level, entity: Any, *, left_out: LeftOut, chosen: Chosen) -> tuple[LoaderOption, ...]:
    """Options for a statement that selects `entity`, a mapped class or an alias of one."""
    return tuple(Making(left_out, chosen).of_root(level, entity))


def chosen_of(statement: Any, entity: Any) -> Chosen:
    """What the loader options of a statement say, of what is loaded of `entity` and from there on."""
    every = wildcards_of(statement)
    found: dict[Keys, str] = {}
    if "relationship" in every:
        found[RELATIONSHIPS,] = every["relationship"].get("lazy", "select")
    if "column" in every:
        found[COLUMNS,] = "column"
    mine = inspect(entity)
    for parts, strategy in strategies_of(statement).items():
        root, names = parts[0], parts[1::2]
        if root is mine or (mine.is_mapper and getattr(root, "is_mapper", False) and mine.isa(root)):
            keys = [name.rpartition(":")[2] if isinstance(name, str) else name.key for name in names]
            if "lazy" in strategy:
                found[tuple(keys)] = strategy["lazy"]
            else:
                found[(*keys[:-1], COLUMNS)] = "column"
    return found


@dataclass(frozen=True, slots=True)
class Making:
    """Options in the making: for whom, and beside which others. `keys` are the relationships from the root on."""

    left_out: LeftOut
    chosen: Chosen

    @property
    def strict(self) -> bool:
        return self.left_out == "raise"

    def of_root(self, level: Level, entity: Any) -> Iterator[Any]:
        yield from self._of(level, entity, ())
        if self.strict and (RELATIONSHIPS,) not in self.chosen:
            yield Load(entity).raiseload("*", sql_only=True)
            if inspect(entity).is_mapper:
                asked = {each.entity: each for each in level.subclasses}
                for inner in inspect(entity).self_and_descendants:
                    if inner.class_ is not entity:
                        own = asked.get(inner.class_, Level(entity=inner.class_))
                        yield from self._left_out(own, _further(inner), ())

    def _below(self, head: Any, level: Level, entity: Any, keys: Keys) -> Any:
        """`head`, which leads to `entity`, with what is loaded there."""
        inner = list(self._of(level, entity, keys))
        made = head.options(*inner) if inner else head
        if self.strict and (*keys, RELATIONSHIPS) not in self.chosen:
            made = made.raiseload("*", sql_only=True)
        return made

    def _of(self, level: Level, entity: Any, keys: Keys) -> Iterator[Any]:
        mapper: Mapper[Any] = inspect(entity).mapper
        if level.subclasses:
            # first: options of what only a subclass has are refused before
            yield selectin_polymorphic(entity, [each.entity for each in level.subclasses if each.entity is not None])
            for each in level.subclasses:
                inner: Mapper[Any] = class_mapper(each.entity or object)
                yield from self._columns(each, each.entity, inner, keys)
                yield from self._paths(each, each.entity, inner, keys)
                if self.left_out == "lazy" or (self.strict and keys):
                    yield from self._left_out(each, _further(inner), keys)
        yield from self._columns(level, entity, mapper, keys)
        yield from self._paths(level, entity, mapper, keys)
        if self.left_out == "lazy":
            yield from self._left_out(level, mapper.relationships, keys, entity)

    def _columns(self, level: Level, entity: Any, mapper: Mapper[Any], keys: Keys) -> Iterator[Any]:
        if (*keys, COLUMNS) in self.chosen:
            return
        apart = [(name, path.how) for name, path in level.paths.items() if name not in mapper.relationships]
        if level.fields is not None:
            names = dict.fromkeys((*level.fields, *_implied(level, mapper)))
            yield load_only(*(getattr(entity, name) for name in names), raiseload=self.strict)
            apart = [(name, how) for name, how in apart if how is How.LAZY]
        for name, how in apart:
            yield defer(getattr(entity, name), raiseload=self.strict and how is How.NEVER)

    def _paths(self, level: Level, entity: Any, mapper: Mapper[Any], keys: Keys) -> Iterator[Any]:
        for name, path in level.paths.items():
            prop = property_of(mapper, name, mapper.class_.__name__)
            if isinstance(prop, RelationshipProperty):
                yield from self._path(prop, path, getattr(entity, prop.key), (*keys, prop.key))

    def _path(self, prop: RelationshipProperty[Any], path: Path, attribute: Any, keys: Keys) -> Iterator[Any]:
        own = self.chosen.get(keys)
        if own is None and path.how is How.LAZY and self.strict:
            yield lazyload(attribute)
        elif path.how.is_eager and (own is None or own in EAGER):
            load = defaultload if own else joinedload if path.how is How.JOINED else selectinload
            yield self._below(load(attribute), path.level, prop.mapper.class_, keys)

    def _left_out(
        self, level: Level, props: Iterable[RelationshipProperty[Any]], keys: Keys, entity: Any = None
    ) -> Iterator[Any]:
        """What was not asked for: raises, or is lazy although its mapping says otherwise."""
        for prop in props:
            path = level.paths.get(prop.key)
            if (*keys, prop.key) in self.chosen or (path is not None and path.how.is_eager):
                continue
            attribute = getattr(entity or level.entity, prop.key)
            if self.strict and path is None:
                yield raiseload(attribute, sql_only=True)
            elif not self.strict and prop.lazy in EAGER:
                yield lazyload(attribute)


def _further(mapper: Mapper[Any]) -> list[RelationshipProperty[Any]]:
    """Relationships that its base does not have; a wildcard for the base does not reach them."""
    base = mapper.inherits
    return [prop for prop in mapper.relationships if base is None or prop.key not in base.relationships]


def _implied(level: Level, mapper: Mapper[Any]) -> Iterator[str]:
    """Columns without which a write, or the relationships of the level, would need a statement for each object."""
    columns = [] if mapper.version_id_col is None else [mapper.version_id_col]
    for name, path in level.paths.items():
        if path.how is not How.NEVER and name in mapper.relationships:
            columns += mapper.relationships[name].local_columns
    for column in sorted(columns, key=lambda each: str(each.key)):
        try:
            yield mapper.get_property_by_column(column).key
        except UnmappedColumnError:
            continue
