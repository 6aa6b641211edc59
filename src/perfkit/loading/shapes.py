"""What two executions have in common: the structure of their statement, whatever values it was given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Mapper

from perfkit.loading.fixes import ALIAS
from perfkit.sqla import variables
from perfkit.sqla.binds import Given, given_to, mapper_of
from perfkit.sqla.executions import Did
from perfkit.sqla.private import locks_rows, mapper_annotated
from perfkit.sqla.wording import Role, first_table, is_plain_read, wording_of
from perfkit.trace.records import Query


def text_of(query: Query) -> str:
    """The statement before lists in it were expanded; as it is, if it came as text."""
    return query.sql if query.compiled is None else str(query.compiled.string)


def shape_of(query: Query) -> str:
    """The statement without its values."""
    return wording_of(text_of(query)).shape


def sample_of(query: Query) -> str:
    """The statement for people: as SQLAlchemy compiled it, or as it was written, without the values."""
    text = text_of(query)
    has_literals = any(value.literal is not None for value in wording_of(text).values)
    return " ".join((shape_of(query) if query.compiled is None or has_literals else text).split())


def given(query: Query) -> dict[str, Given]:
    """Its values, with their roles."""
    return given_to(query.compiled, query.parameters, query.sql)


def is_read(query: Query) -> bool:
    """Whether it reads tables of the application, and locks nothing."""
    text = text_of(query)
    return (
        is_plain_read(text) and first_table(text) != "" and not locks_rows(getattr(query.compiled, "statement", None))
    )


def table_of(query: Query) -> str:
    """The table that it reads first."""
    return first_table(text_of(query)) or " ".join(text_of(query).split())[:60]


def entity_of(query: Query) -> Mapper[Any] | None:
    """The mapped class that a query asks for, counts, or names in its conditions; None of one that names tables."""
    for each in getattr(query.statement, "column_descriptions", ()):
        mapper: Mapper[Any] | None = getattr(each.get("entity"), "__mapper__", None)
        if mapper is not None:
            return mapper
    if query.did is Did.TOP:
        return next((found for table in _tables(query) if (found := mapper_of(table)) is not None), None)
    return next((found for each in given(query).values() if (found := mapper_annotated(each.column))), None)


def alias_of(query: Query, owner: Mapper[Any]) -> str | None:
    """How the application calls the alias of `owner` that it selects; None if it selects the class itself."""
    described = getattr(query.statement, "column_descriptions", ())
    roots: list[Any] = [inspect(each.get("entity"), raiseerr=False) for each in described]
    concerned = [each for each in roots if each is not None and owner.isa(each.mapper)]
    aliased = [each for each in concerned if each.is_aliased_class]
    if not aliased or len(aliased) < len(concerned):
        return None
    known = None if query.stack is None else variables.alias_of(query.stack, aliased[0].mapper)
    return known or ALIAS


def _tables(query: Query) -> list[Any]:
    """The tables it may be about: that after its FROM, and those of its conditions."""
    name = first_table(text_of(query))
    asked = [each.column.table for each in given(query).values() if not isinstance(each.column, str)]
    known = [each.metadata.tables.get(name) for each in asked if hasattr(each, "metadata")]
    return [*(each for each in known if each is not None), *asked]


def is_select_by_key(query: Query) -> str | None:
    """`select(Bin).where(Bin.id.in_(ids))`, if it loads one entity by its primary key."""
    mapper = entity_of(query)
    if mapper is None or not is_by_key(query, mapper) or len(mapper.primary_key) != 1:
        return None
    name = mapper.class_.__name__
    return f"select({name}).where({name}.{mapper.get_property_by_column(mapper.primary_key[0]).key}.in_(ids))"


def is_by_key(query: Query, mapper: Mapper[Any]) -> bool:
    """Whether it pins all columns of the primary key; those of another class may have the same names."""
    pinned = [
        each.column for each in given(query).values() if each.role is Role.EQUAL and not isinstance(each.column, str)
    ]
    keys = [mapper.get_property_by_column(column).columns for column in mapper.primary_key]
    return all(any(each.shares_lineage(column) for each in pinned for column in columns) for columns in keys)


def wasted(queries: Sequence[Query]) -> float:
    """Milliseconds of all but one of them, which would still be needed."""
    total = sum(query.ms for query in queries)
    return total * (len(queries) - 1) / len(queries)
