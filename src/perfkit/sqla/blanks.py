"""Blanks: the values of a WHERE, left open in a statement and filled in as parameters when it is executed.

What is worked out for a statement with blanks holds for all that differ in these values alone: a tenant, a filter.

    select(Bin).where(Bin.org_id == 7)   →   … WHERE bins.org_id = :perfkit_blank_0   and   {"perfkit_blank_0": 7}

A blank has a name of its own, so that a compiled statement that SQLAlchemy kept takes its value, whichever statement
it was compiled for. Values in a subquery, in text, or anywhere but in WHERE stay what they are: they may decide what
the statement means, and a copy of a subquery is another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Cast, Column, Select
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BindParameter,
    ClauseList,
    ExpressionClauseList,
    False_,
    Grouping,
    Null,
    True_,
    UnaryExpression,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import replacement_traverse

from perfkit.sqla.ordering import parts_inside
from perfkit.sqla.private import binds_of, blank_of, where_terms, with_where

NAME = "perfkit_blank_{}"
_PLAIN = (
    *(BinaryExpression, BindParameter, UnaryExpression, ExpressionClauseList, ClauseList, Grouping, Cast, Column),
    *(FunctionElement, Null, True_, False_),
)


def blank_places(statement: Any) -> tuple[int, ...]:
    """Which of the values that `structure_of` gives can be blanks."""
    if not isinstance(statement, Select):
        return ()
    elsewhere = set(map(id, binds_of(with_where(statement, ()))))
    inside = {id(bind) for bind in _binds(statement)} - elsewhere
    return tuple(place for place, bind in enumerate(binds_of(statement)) if id(bind) in inside)


def with_blanks(statement: Any, places: Sequence[int]) -> Any:
    """`statement` with blanks in these places; the value of a place goes by `NAME.format(place)`."""
    if not places:
        return statement
    binds = binds_of(statement)
    blanks = {id(binds[place]): blank_of(binds[place], NAME.format(place)) for place in places}

    def blank(element: Any, **_: Any) -> Any:
        return blanks.get(id(element))

    terms = where_terms(statement)
    plain = {id(term) for term in _plain_terms(statement)}
    return with_where(
        statement, [replacement_traverse(term, {}, blank) if id(term) in plain else term for term in terms]
    )


def _plain_terms(statement: Select[Any]) -> Iterator[Any]:
    return (term for term in where_terms(statement) if all(isinstance(each, _PLAIN) for each in parts_inside(term)))


def _binds(statement: Select[Any]) -> Iterator[Any]:
    for term in _plain_terms(statement):
        yield from (each for each in parts_inside(term) if isinstance(each, BindParameter))
