"""Parts of a statement as code: what it selects, its joins, and those of its conditions whose values are known.

Code is written for what has one plain way to be written: relationships and mapped classes that are joined; columns,
and functions and sums of them, compared with a value or with each other. Of anything else, only that it is there.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Column, Select, Table
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BindParameter,
    BooleanClauseList,
    False_,
    Grouping,
    Label,
    Null,
    True_,
    UnaryExpression,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import iterate

from perfkit.sqla.binds import value_of
from perfkit.sqla.private import joins_of, mapper_annotated, selects_from

Name = Callable[[Any], str]


class Phrases(NamedTuple):
    """What a statement has besides the values that vary.

    `selected` are its columns, empty if one has no words; `keys` what the values are compared with, empty likewise.
    `joins` are `.join(Line.order)` and so on, `conditions` arguments; `is_all` says whether nothing else is there.
    """

    selected: tuple[str, ...]
    keys: tuple[str, ...]
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
_ARITHMETIC = {
    operators.add: "+",
    operators.sub: "-",
    operators.mul: "*",
    operators.truediv: "/",
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


def phrases_of(compiled: Any, values: Mapping[str, Any], varying: Collection[str], name_of: Name) -> Phrases:
    """Of the SELECTs that have the binds named `varying` in their conditions, a subquery's among them."""
    names: Mapping[Any, str] = getattr(compiled, "bind_names", {})
    said = _Said(names, values, name_of)
    selects = [
        each
        for each in iterate(compiled.statement)
        if isinstance(each, Select) and any(_has_bind(condition, names, varying) for condition in _conditions(each))
    ]
    of_all = [condition for select in selects for condition in _conditions(select)]
    joins = [said.join(join) for select in selects for join in joins_of(select)]
    others = [said.condition(each) for each in of_all if not _has_bind(each, names, varying)]
    sources = [source for select in selects for source in selects_from(select)]
    return Phrases(
        selected=_all_or_none(said.operand(each) for each in _selected(compiled.statement)),
        keys=_all_or_none(said.key(each, varying) for each in of_all if _has_bind(each, names, varying)),
        joins="".join(filter(None, joins)),
        conditions=tuple(filter(None, others)),
        is_all=None not in (*joins, *others) and all(isinstance(each, Table) for each in sources),
    )


def _all_or_none(texts: Iterable[str | None]) -> tuple[str, ...]:
    found = tuple(texts)
    return () if None in found else tuple(dict.fromkeys(filter(None, found)))


def _selected(statement: Any) -> list[Any]:
    return [each["expr"] for each in getattr(statement, "column_descriptions", ())]


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
        return None if method is None or isinstance(clause.left, BindParameter) else f"{left}.{method}({right})"

    def key(self, clause: Any, varying: Collection[str]) -> str | None:
        """What a value that varies is compared with: a column, or a function of one."""
        if not isinstance(clause, BinaryExpression) or clause.operator not in (operators.eq, operators.in_op):
            return None
        for side, other in ((clause.left, clause.right), (clause.right, clause.left)):
            if isinstance(side, BindParameter) and self.names.get(side) in varying:
                return self.operand(other)
        return None

    def operand(self, element: Any) -> str | None:
        if isinstance(element, Label):
            return self.operand(element.element)
        if isinstance(element, Grouping):
            inner = self.operand(element.element)
            return None if inner is None else f"({inner})"
        if isinstance(element, Column):
            return self.name_of(element) if isinstance(element.table, Table) else None
        if isinstance(element, BindParameter) and element in self.names:
            return _literal(value_of(self.values, self.names[element]))
        if isinstance(element, FunctionElement):
            return self._function(element)
        if isinstance(element, BinaryExpression) and element.operator in _ARITHMETIC:
            left, right = self.operand(element.left), self.operand(element.right)
            return None if left is None or right is None else f"{left} {_ARITHMETIC[element.operator]} {right}"
        if isinstance(element, UnaryExpression) and element.operator is operators.distinct_op:
            inner = self.operand(element.element)
            return None if inner is None else f"{inner}.distinct()"
        constants = {Null: "None", True_: "True", False_: "False"}
        return constants.get(type(element))

    def _function(self, function: FunctionElement[Any]) -> str | None:
        name = getattr(function, "name", "")
        arguments = [self.operand(each) for each in function.clauses if getattr(each, "name", "") != "*"]
        if not name.isidentifier() or getattr(function, "packagenames", None) or None in arguments:
            return None
        return f"func.{name}({', '.join(filter(None, arguments))})"


def _literal(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        members = [_literal(each) for each in value]
        return None if None in members else f"[{', '.join(filter(None, members))}]"
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, _PLAIN) and getattr(value, "tzinfo", None) is None:
        return repr(value)
    return None
