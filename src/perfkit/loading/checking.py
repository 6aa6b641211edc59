"""Levels against mappers: a name that is none, or one used as what it is not, is found before a statement runs."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from sqlalchemy.orm import (
    ColumnProperty,
    CompositeProperty,
    Mapper,
    MapperProperty,
    RelationshipDirection,
    RelationshipProperty,
    SynonymProperty,
    class_mapper,
)

from perfkit.errors import ProfileError, UnknownAttribute
from perfkit.loading.levels import How, Level, Path

NEVER_WHOLE = ("dynamic", "write_only")


def check(level: Level, mapper: Mapper[Any], where: str) -> None:
    """Nothing, if everything in `level` can be loaded of what `mapper` maps; `where` is what messages call it.

    Raises:
        UnknownAttribute: the class has no attribute of a name.
        ProfileError: an attribute is used as what it is not.
    """
    for name in level.fields or ():
        _check_field(property_of(mapper, name, where), mapper, where)
    for name, path in level.paths.items():
        here = f"{where}.{name}"
        prop = property_of(mapper, name, where)
        if isinstance(prop, RelationshipProperty):
            _check_relationship(prop, path, here)
            if path.how.is_eager:
                _check_level(path.level, prop.mapper, here)
        elif path.how.is_eager:
            raise ProfileError(f"{here}: {_is_a(prop)} of {_name(mapper)}, not a relationship: name it in fields.")
        elif name in (level.fields or ()):
            raise ProfileError(f"{here}: is {path.how.value}, and in fields, which is what is loaded.")
    for each in level.subclasses:
        _check_subclass(each, mapper, where)


def property_of(mapper: Mapper[Any], name: str, where: str) -> MapperProperty[Any]:
    """What `name` is to the mapper; of a synonym, what it stands for."""
    if name not in mapper.attrs:
        raise UnknownAttribute(where, mapper.class_, name, near=_near(mapper, name), because=_because(mapper, name))
    prop: MapperProperty[Any] = mapper.attrs[name]
    return mapper.attrs[prop.name] if isinstance(prop, SynonymProperty) else prop


def _check_field(prop: MapperProperty[Any], mapper: Mapper[Any], where: str) -> None:
    if not isinstance(prop, ColumnProperty | CompositeProperty):
        verb = How.MANY if isinstance(prop, RelationshipProperty) and prop.uselist else How.ONE
        raise ProfileError(
            f"{where}: fields names {prop.key!r}, which is {_is_a(prop)} of {_name(mapper)}, not a column: "
            f"write {prop.key} = {verb.value}."
        )


def _check_relationship(prop: RelationshipProperty[Any], path: Path, here: str) -> None:
    if not path.how.is_eager:
        return
    if prop.lazy in NEVER_WHOLE:
        raise ProfileError(f"{here}: the relationship is lazy={prop.lazy!r}, and is never loaded as a whole.")
    if prop.uselist and path.how is not How.MANY:
        raise ProfileError(f"{here}: is a collection of {_name(prop.mapper)}: write many().")
    if not prop.uselist and path.how is How.MANY:
        raise ProfileError(f"{here}: is one {_name(prop.mapper)}, not a collection: write one().")
    if path.how is How.JOINED and prop.direction is not RelationshipDirection.MANYTOONE:
        raise ProfileError(f"{here}: is no many-to-one, so that a JOIN could multiply rows: write one().")


def _check_level(level: Level, mapper: Mapper[Any], here: str) -> None:
    if level.entity is not None and not mapper.isa(class_mapper(level.entity, configure=False)):
        raise ProfileError(f"{here}: leads to {_name(mapper)}; the profile given is for {level.entity.__name__}.")
    check(level, mapper, here)


def _check_subclass(level: Level, mapper: Mapper[Any], where: str) -> None:
    inner: Any = None if level.entity is None else class_mapper(level.entity, configure=False)
    if inner is None or inner is mapper or not inner.isa(mapper):
        whom = "no entity" if level.entity is None else level.entity.__name__
        raise ProfileError(f"{where}: subclasses has a profile for {whom}, which is no subclass of {_name(mapper)}.")
    check(level, inner, f"{where}[{inner.class_.__name__}]")


def _near(mapper: Mapper[Any], name: str) -> str | None:
    return next(iter(get_close_matches(name, mapper.attrs.keys(), 1)), None)


def _because(mapper: Mapper[Any], name: str) -> str:
    """Where else the name is one."""
    for inner in mapper.self_and_descendants:
        if name in inner.attrs:
            return f"{inner.class_.__name__} has: put a profile for it into subclasses."
    if name in mapper.all_orm_descriptors.keys():  # noqa: SIM118 - a mapping by attribute, too
        return "It is computed from others: name those."
    return ""


def _is_a(prop: MapperProperty[Any]) -> str:
    return next(text for kind, text in _kinds() if isinstance(prop, kind))


def _kinds() -> Iterator[tuple[type, str]]:
    yield RelationshipProperty, "a relationship"
    yield CompositeProperty, "a composite"
    yield ColumnProperty, "a column"
    yield MapperProperty, "no column"


def _name(mapper: Mapper[Any]) -> str:
    return mapper.class_.__name__
