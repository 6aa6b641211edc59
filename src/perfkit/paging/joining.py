"""A statement as a subquery of primary keys, columns and keys, and the entities joined back to it.

Their loader options work as ever, since they stand in a SELECT of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Dialect, Table, inspect, select, true
from sqlalchemy.orm import Bundle, Mapper
from sqlalchemy.orm.util import AliasedClass

from perfkit.errors import PagingDeclarationError
from perfkit.paging.keys import Key, key_of
from perfkit.sqla.ordering import Term
from perfkit.sqla.private import criteria_of, options_of, strategies_of

NAME = "perfkit_key_{}"


@dataclass(frozen=True, slots=True)
class Inside:
    """What a subquery has of a statement, by the names of its columns.

    `names` are those of what the statement selects; `entities` has, by their places in it, primary keys, and `own` the
    columns of the other places.
    """

    names: Sequence[str]
    own: Sequence[str]
    entities: Mapping[int, tuple[Any, Sequence[str]]]
    keys: Sequence[str]
    whole: Any = None
    """The one entity whose columns are all there, so that it needs no join."""


def narrowed(statement: Any, terms: Sequence[Term]) -> tuple[Any, Inside]:
    """The statement with nothing but columns, primary keys of entities, and keys.

    Raises:
        PagingDeclarationError: it selects a bundle.
    """
    names: list[str] = []
    own: list[str] = []
    columns: list[Any] = []
    entities: dict[int, tuple[Any, list[str]]] = {}
    for place, each in enumerate(statement.column_descriptions):
        entity = inspect(each["expr"], raiseerr=False)
        names.append(str(each["name"]))
        if isinstance(entity, Bundle):
            raise PagingDeclarationError(
                f"Bundle {each['name']!r} beside a window function, DISTINCT ON or equal rows: select its columns."
            )
        if is_entity(entity):
            labels = []
            for number, column in enumerate(_identity(each["expr"], entity)):
                labels.append(f"perfkit_identity_{place}_{number}")
                columns.append(column.label(labels[-1]))
            entities[place] = (each["expr"], labels)
        else:
            expression = each["expr"]
            bare = expression.element if hasattr(expression, "element") and _is_label(expression) else expression
            own.append(f"perfkit_column_{place}")
            columns.append(bare.label(own[-1]))
    narrow, keys = _selecting(statement, columns, terms)
    return narrow, Inside(names, own, entities, keys)


def entity_of_a_table(statement: Any) -> Any:
    """The class that a statement selects, if it selects one alone, that is a table of its own, and may be an alias.

    `subqueryload` puts the statement into another one, where the class is the table again, beside the alias.
    """
    if len(statement.column_descriptions) != 1:
        return None
    entity = statement.column_descriptions[0]["expr"]
    mapper = inspect(entity, raiseerr=False)
    if not isinstance(mapper, Mapper) or not isinstance(mapper.local_table, Table):
        return None
    alone = mapper.polymorphic_on is None and mapper.inherits is None and mapper.with_polymorphic is None
    return entity if alone and not _loads_by_subquery(statement, mapper) else None


def _loads_by_subquery(statement: Any, mapper: Mapper[Any]) -> bool:
    if any(each.get("lazy") == "subquery" for each in strategies_of(statement).values()):
        return True
    return any(each.lazy == "subquery" for other in mapper.registry.mappers for each in other.relationships)


def of_whole_rows(statement: Any, entity: Any, terms: Sequence[Term]) -> tuple[Any, Inside]:
    """The statement with the columns of its one entity, and keys."""
    mapper = inspect(entity)
    own = set(mapper.local_table.c)
    columns = [getattr(entity, each.key) for each in mapper.column_attrs if own.issuperset(each.columns)]
    selecting, keys = _selecting(statement, columns, terms)
    return selecting, Inside([entity.__name__], [], {}, keys, entity)


def _selecting(statement: Any, columns: Sequence[Any], terms: Sequence[Term]) -> tuple[Any, list[str]]:
    """The statement with these columns and its keys alone, and the names of the keys."""
    names = [NAME.format(number) for number in range(len(terms))]
    keys = [term.expression.label(name) for term, name in zip(terms, names, strict=True)]
    return statement.with_only_columns(*columns, *keys, maintain_column_froms=True), names


def is_entity(inspected: Any) -> bool:
    """Whether what `inspect` has found is a mapped class, or an alias of one."""
    return getattr(inspected, "is_mapper", False) or getattr(inspected, "is_aliased_class", False)


def _is_label(expression: Any) -> bool:
    return bool(expression.__visit_name__ == "label")


def _identity(entity: Any, inspected: Any) -> list[Any]:
    """The primary key of an entity or an alias of one, as its attributes."""
    mapper = inspected.mapper
    return [getattr(entity, mapper.get_property_by_column(column).key) for column in mapper.primary_key]


def joined_back(statement: Any, source: Any, inside: Inside) -> Any:
    """A select of what the statement selects, from its subquery; an entity that an outer join lacked is None."""
    if inside.whole is not None:
        # an alias whose loader options are those of the class itself
        entity: Any = AliasedClass(inside.whole, alias=source, use_mapper_path=True)
        return select(entity).options(*options_of(statement)).execution_options(**statement.get_execution_options())
    columns = iter(inside.own)
    selected = [
        inside.entities[place][0] if place in inside.entities else source.c[next(columns)].label(name)
        for place, name in enumerate(inside.names)
    ]
    outer = select(*selected).select_from(source)
    for entity, identity in inside.entities.values():
        ours = _identity(entity, inspect(entity))
        condition = true()
        for mine, theirs in zip(ours, identity, strict=True):
            condition = condition & (mine == source.c[theirs])
        outer = outer.outerjoin(entity, condition)
    options = options_of(statement) if inside.entities else criteria_of(statement)
    return outer.options(*options).execution_options(**statement.get_execution_options())


def keys_inside(keys: Sequence[Key], source: Any, inside: Inside, dialect: Dialect) -> list[Key]:
    """The keys as columns of a subquery."""
    made = []
    for key, name in zip(keys, inside.keys, strict=True):
        term = replace(key.term, expression=source.c[name], shown=source.c[name])
        made.append(key_of(term, key.name, dialect, nullable=key.nullable, aggregate=False))
    return made


def ordering_of(keys: Sequence[Key]) -> list[Any]:
    """What stands in ORDER BY."""
    return [part for key in keys for part in key.ordered()]
