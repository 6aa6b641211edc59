"""Which columns tell every two rows of a statement apart, as far as its tables and conditions show it.

What follows from what is kept as rules: these columns are known, then that one is. The primary key of a table gives
all of its columns; `a.x = b.y` gives either from the other; a LEFT JOIN on the primary key of its right side gives the
right row for the left one. An ordering is unique when its columns give a key of everything in FROM.

The same reading says which columns can be NULL: those declared so, and all of a table on the far side of an outer join.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    Alias,
    Case,
    Cast,
    Column,
    ColumnElement,
    Join,
    Label,
    Table,
    TypeCoerce,
    UniqueConstraint,
    literal_column,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BindParameter,
    BooleanClauseList,
    FunctionFilter,
    Grouping,
    Null,
    Over,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import CTE, AliasedReturnsRows, CompoundSelect, Select, Subquery

from perfkit.sqla.ordering import UnknownTerm, expressions_of, has_aggregate
from perfkit.sqla.private import parts_of

Columns = frozenset[Any]


@dataclass(slots=True, eq=False)
class Source:
    """A table, alias, subquery or CTE in FROM. `optional`: an outer join may have put NULLs in place of its row."""

    selectable: Any
    optional: bool

    @property
    def name(self) -> str:
        """What it is called in messages."""
        inner = self.selectable
        while isinstance(inner, Alias):
            inner = inner.element
        name = str(getattr(inner, "name", inner))
        return "the subquery" if name.startswith("%(") else name  # it is named when it is compiled


@dataclass(slots=True)
class Sources:
    """What a statement reads, and which columns follow from which."""

    all: list[Source] = field(default_factory=list)
    rules: list[tuple[Columns, Any]] = field(default_factory=list)

    def closure(self, known: Iterable[Any]) -> set[Any]:
        """All that follows from `known`: columns, and sources whose whole row does."""
        found, before = set(known), -1
        while len(found) != before:
            before = len(found)
            found.update(what for premise, what in self.rules if premise <= found)
            for source in self.all:
                if source not in found and any(each <= found for each in keys_of(source.selectable)):
                    found.add(source)
                    found.update(source.selectable.c)
        return found

    def of(self, column: Any) -> Source | None:
        """Where a column comes from."""
        table = getattr(column, "table", None)
        return next((each for each in self.all if each.selectable is table or column in set(each.selectable.c)), None)

    def lacking(self, found: set[Any]) -> list[Source]:
        """Those of which `found` does not give the row."""
        return [each for each in self.all if each not in found]


def sources_of(statement: Any) -> Sources:
    """What a SELECT reads."""
    sources = Sources()
    # without entities, so that the joins of their eager loads are not taken for the statement's own
    plain = statement.order_by(None).with_only_columns(literal_column("1"), maintain_column_froms=True)
    try:
        froms = plain.get_final_froms()
    except (SQLAlchemyError, NotImplementedError):
        froms = plain.columns_clause_froms  # what the default dialect cannot compile
    for each in froms:
        _add(sources, each, optional=False)
    for premise, what in _equalities(statement.whereclause):
        sources.rules.append((premise, what))
    return sources


def _add(sources: Sources, selectable: Any, *, optional: bool) -> list[Source]:
    """Add what is in FROM; gives the leaves."""
    if not isinstance(selectable, Join):
        while isinstance(selectable, Grouping):
            selectable = selectable.element
        inner = getattr(selectable, "element", None)
        if isinstance(inner, Join):  # a parenthesised join
            return _add(sources, inner, optional=optional)
        source = Source(selectable, optional)
        sources.all.append(source)
        return [source]
    left = _add(sources, selectable.left, optional=optional or selectable.full)
    right = _add(sources, selectable.right, optional=optional or selectable.isouter or selectable.full)
    if not selectable.full:
        outer = frozenset(left) if selectable.isouter else frozenset()
        of_right = {column for each in right for column in each.selectable.c}
        for premise, what in _equalities(selectable.onclause):
            if not outer:
                sources.rules.append((premise, what))
            elif what in of_right and not premise & of_right:
                sources.rules.append((premise | outer, what))
    return left + right


def _equalities(condition: Any) -> Iterator[tuple[Columns, Any]]:
    """What follows from a condition that holds."""
    while isinstance(condition, Grouping):
        condition = condition.element
    if isinstance(condition, BooleanClauseList) and condition.operator is operators.and_:
        for each in condition.clauses:
            yield from _equalities(each)
    elif isinstance(condition, BinaryExpression) and condition.operator in (operators.eq, operators.is_):
        left, right = condition.left, condition.right
        if isinstance(left, Column) and isinstance(right, Column):
            yield frozenset([left]), right
            yield frozenset([right]), left
        elif isinstance(left, Column) and isinstance(right, BindParameter | Null):
            yield frozenset(), left
        elif isinstance(right, Column) and isinstance(left, BindParameter):
            yield frozenset(), right


def keys_of(selectable: Any) -> list[Columns]:
    """The sets of columns that are unique in a table, alias, subquery or CTE, its primary key first."""
    if isinstance(selectable, Table):
        return [frozenset(each) for each in _keys_of_table(selectable)]
    if not isinstance(selectable, AliasedReturnsRows):
        return []
    inner = selectable.element
    if isinstance(inner, Table):
        return [frozenset(selectable.c[each.key] for each in key) for key in _keys_of_table(inner)]
    if isinstance(inner, AliasedReturnsRows) and not isinstance(inner, CTE | Subquery):
        inner_keys, columns = keys_of(inner), dict(zip(inner.c, selectable.c, strict=False))
        return [frozenset(columns[each] for each in key) for key in inner_keys if all(each in columns for each in key)]
    while isinstance(inner, CTE | Subquery):  # an alias of a CTE
        inner = inner.element
    if not isinstance(inner, Select | CompoundSelect):
        return []
    keys = row_keys(inner)
    selected = list(zip(inner.selected_columns, selectable.c, strict=False))
    found = []
    for key in keys:
        outside = [_outside(each, selected) for each in key]
        if all(each is not None for each in outside):
            found.append(frozenset(outside))
    return found


def _outside(expression: Any, selected: Sequence[tuple[Any, Any]]) -> Any:
    """The column of a subquery that an expression inside has become; None if it was not selected."""
    for inside, outside in selected:
        bare = inside.element if isinstance(inside, Label) else inside
        if bare is expression or hash(bare) == hash(expression):
            return outside
    return None


def _keys_of_table(table: Table) -> Iterator[list[Any]]:
    if table.primary_key.columns:
        yield list(table.primary_key.columns)
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint) and not any(each.nullable for each in constraint.columns):
            yield list(constraint.columns)
    for index in table.indexes:
        columns = list(index.expressions)
        plain = all(isinstance(each, Column) and not each.nullable for each in columns)
        partial = any(value is not None for name, value in index.dialect_kwargs.items() if name.endswith("_where"))
        if index.unique and plain and not partial:
            yield columns


def is_bag(selectable: Any) -> bool:
    """Whether it may hold a row twice by its nature: UNION ALL, VALUES, or what a function gives."""
    inner = selectable
    while isinstance(inner, AliasedReturnsRows):
        inner = inner.element
    if isinstance(inner, CompoundSelect):
        return parts_of(inner).compound.endswith("ALL")
    return not isinstance(inner, Table | Select)


def row_keys(statement: Any) -> list[list[Any]]:
    """Sets of expressions that tell the rows of a statement apart; none if nothing shows it."""
    parts = parts_of(statement)
    if isinstance(statement, CompoundSelect):
        is_set = parts.compound in ("UNION", "INTERSECT", "EXCEPT")
        return [list(statement.selected_columns)] if is_set else []
    if parts.group_by:
        try:
            return [expressions_of(statement, parts.group_by)]
        except UnknownTerm:
            return []
    if is_one_row(statement):
        return [[]]
    found = []
    if parts.is_distinct and not parts.distinct_on:
        found.append([each.element if isinstance(each, Label) else each for each in statement.selected_columns])
    sources = sources_of(statement)
    for source in sources.all:
        found += [list(key) for key in keys_of(source.selectable) if not sources.lacking(sources.closure(key))]
    if not found:
        keys = [keys_of(source.selectable) for source in sources.all]
        if keys and all(keys):
            found.append([column for key in keys for column in key[0]])
    return found


def is_one_row(statement: Any) -> bool:
    """Whether it aggregates everything it reads."""
    if parts_of(statement).group_by:
        return False
    return any(has_aggregate(each) for each in statement.selected_columns)


_NEVER_NULL = frozenset({"count", "row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "now"})
_STRICT = frozenset(
    {
        *(operators.add, operators.sub, operators.mul, operators.concat_op, operators.eq, operators.ne),
        *(operators.lt, operators.le, operators.gt, operators.ge, operators.and_, operators.or_),
    }
)


def may_be_null(expression: Any, sources: Sources) -> bool:
    """Whether nothing shows that an expression has a value in each row."""
    if isinstance(expression, Label | Grouping | Cast | TypeCoerce):
        inner = getattr(expression, "clause", None)
        return may_be_null(expression.element if inner is None else inner, sources)
    if isinstance(expression, BindParameter):
        return expression.value is None
    if isinstance(expression, Over | FunctionFilter):
        return may_be_null(expression.element if isinstance(expression, Over) else expression.func, sources)
    if isinstance(expression, FunctionElement):
        name = getattr(expression, "name", "").lower()
        if name == "coalesce":
            return all(may_be_null(each, sources) for each in expression.clauses)
        return name not in _NEVER_NULL
    if isinstance(expression, Case):
        results = [result for _, result in expression.whens]
        return expression.else_ is None or any(may_be_null(each, sources) for each in (*results, expression.else_))
    if isinstance(expression, BinaryExpression) and expression.operator in _STRICT:
        return may_be_null(expression.left, sources) or may_be_null(expression.right, sources)
    if isinstance(expression, ColumnElement) and getattr(expression, "table", None) is not None:
        return _column_may_be_null(expression, sources)
    return True


def _column_may_be_null(column: Any, sources: Sources) -> bool:
    source = sources.of(column)
    if source is None or source.optional:
        return True
    inner = source.selectable
    if isinstance(inner, Table):
        return bool(getattr(column, "nullable", True))
    while isinstance(inner, Alias) and not isinstance(inner.element, Table):
        inner = inner.element
    inner = _inside(inner)
    if isinstance(inner, Table):
        return bool(getattr(column, "nullable", True))
    while isinstance(inner, CTE | Subquery):
        inner = inner.element
    recursive = any(getattr(each, "recursive", False) for each in (source.selectable, _inside(source.selectable)))
    if recursive or not isinstance(inner, Select | CompoundSelect):
        return True
    columns = list(source.selectable.c)
    place = next((number for number, each in enumerate(columns) if hash(each) == hash(column)), None)
    return True if place is None else selected_may_be_null(inner, place)


def _inside(selectable: Any) -> Any:
    """What an alias or a subquery is of; None of VALUES and the like."""
    return getattr(selectable, "element", None)


def selected_may_be_null(statement: Any, place: int) -> bool:
    """Whether a column of a statement can be NULL, as far as that shows; that of a recursive CTE always can."""
    if isinstance(statement, CompoundSelect):
        selects = [getattr(each, "element", each) for each in parts_of(statement).selects]
        return any(not isinstance(each, Select) or selected_may_be_null(each, place) for each in selects)
    columns = list(statement.selected_columns)
    return place >= len(columns) or may_be_null(columns[place], sources_of(statement))
