"""Parts of a statement as code: its joins, and those of its conditions whose values are known.

Code is written for what has one plain way to be written: relationships and mapped classes that are joined, and columns
compared with a value or with each other. Of anything else, aliases and functions among it, only that it is there.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Column, Select, Table
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BindParameter,
    BooleanClauseList,
    ColumnElement,
    False_,
    Grouping,
    Null,
    True_,
)
from sqlalchemy.sql.visitors import iterate

from perfkit.sqla.private import joins_of, mapper_annotated, selects_from

Name = Callable[[Any], str]


class Phrases(NamedTuple):
    """`.join(Line.order)` and so on, conditions as arguments, and whether there was more than could be said."""

    joins: str
    conditions: tuple[str, ...]
    is_all: bool


_SIGNS = {
    operators.eq: "==",
    operators.ne: "!=",
    operators.lt: "<",
    operators.le: "<=",
    operators.gt: ">",
    operators.ge: ">=",
}
_METHODS = {
    operators.is_: "is_",
    operators.is_not: "is_not",
    operators.like_op: "like",
    operators.ilike_op: "ilike",
    operators.in_op: "in_",
    operators.not_in_op: "not_in",
}
_PLAIN = (str, int, float, dt.date, dt.time, dt.timedelta, decimal.Decimal, uuid.UUID, bytes)


def phrases_of(compiled: Any, values: Mapping[str, Any], without: Collection[str], name_of: Name) -> Phrases:
    """Of the innermost SELECT that has the binds named `without`; the conditions those are in are left out."""
    names: Mapping[Any, str] = getattr(compiled, "bind_names", {})
    select = _that_has(compiled.statement, names, without)
    if select is None:
        return Phrases("", (), is_all=True)
    said = _Said(names, values, name_of)
    joins = [said.join(each) for each in joins_of(select)]
    others = [each for each in _conditions(select) if not _has_bind(each, names, without)]
    conditions = [said.condition(each) for each in others]
    is_all = None not in (*joins, *conditions) and all(isinstance(each, Table) for each in selects_from(select))
    return Phrases("".join(filter(None, joins)), tuple(filter(None, conditions)), is_all)


def _that_has(statement: Any, names: Mapping[Any, str], wanted: Collection[str]) -> Any:
    selects = [each for each in iterate(statement) if isinstance(each, Select)]
    having = (each for each in reversed(selects) if any(_has_bind(c, names, wanted) for c in _conditions(each)))
    return next(having, None)


def _conditions(select: Select[Any]) -> Iterator[Any]:
    clause: Any = select.whereclause
    if isinstance(clause, BooleanClauseList) and clause.operator is operators.and_:
        yield from clause.clauses
    elif clause is not None:
        yield clause


def _has_bind(clause: Any, names: Mapping[Any, str], wanted: Collection[str]) -> bool:
    return any(names.get(each) in wanted for each in iterate(clause) if isinstance(each, BindParameter))


class _Said(NamedTuple):
    """How elements of one statement are written; each method gives None for what it has no words for."""

    names: Mapping[Any, str]
    values: Mapping[str, Any]
    name_of: Name

    def join(self, join: tuple[Any, ...]) -> str | None:
        target, on, left, flags = join
        where = [self._joined(target), *([] if on is None else [self._joined(on) or self.condition(on)])]
        if left is not None or flags.get("full") or None in where:
            return None
        outer = ", isouter=True" if flags.get("isouter") else ""
        return f".join({', '.join(filter(None, where))}{outer})"

    def _joined(self, target: Any) -> str | None:
        """A relationship, or a mapped class."""
        relationship, owner = getattr(target, "property", None), getattr(target, "parent", None)
        if relationship is not None and isinstance(owner, Mapper) and getattr(target, "_of_type", None) is None:
            return f"{owner.class_.__name__}.{relationship.key}"
        mapper = mapper_annotated(target)
        return str(mapper.class_.__name__) if isinstance(target, Table) and mapper is not None else None

    def condition(self, clause: Any) -> str | None:
        if isinstance(clause, Grouping):
            return self.condition(clause.element)
        if isinstance(clause, BooleanClauseList):
            parts = [self.condition(each) for each in clause.clauses]
            name = {operators.and_: "and_", operators.or_: "or_"}.get(clause.operator)
            return None if name is None or None in parts else f"{name}({', '.join(filter(None, parts))})"
        if isinstance(clause, BinaryExpression):
            return self._comparison(clause)
        return self.operand(clause) if isinstance(clause, Column) else None

    def _comparison(self, clause: BinaryExpression[Any]) -> str | None:
        left, right = self.operand(clause.left), self.operand(clause.right)
        sign, method = _SIGNS.get(clause.operator), _METHODS.get(clause.operator)
        if left is None or right is None or clause.modifiers.get("escape") is not None:
            return None
        if sign is not None:
            return f"{left} {sign} {right}"
        return f"{left}.{method}({right})" if method is not None and isinstance(clause.left, Column) else None

    def operand(self, element: ColumnElement[Any]) -> str | None:
        if isinstance(element, Column):
            return self.name_of(element) if isinstance(element.table, Table) else None
        if isinstance(element, BindParameter) and element in self.names:
            return _literal(self.values.get(self.names[element]))
        constants = {Null: "None", True_: "True", False_: "False"}
        return constants.get(type(element))


def _literal(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        members = [_literal(each) for each in value]
        return None if None in members else f"[{', '.join(filter(None, members))}]"
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, _PLAIN) and getattr(value, "tzinfo", None) is None:
        return repr(value)
    return None
