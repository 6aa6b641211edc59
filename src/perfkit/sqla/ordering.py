"""ORDER BY as terms: which expression, in which direction, where its NULLs stand, whether it can be NULL.

A term is read from whatever people write there: attributes, expressions, labels and the names of labels, `desc()`,
`nulls_last()`, and `text("price DESC")` as far as it names a column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Label, TextClause, literal_column
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import ClauseList, Grouping, Over, UnaryExpression
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import SelectBase

from perfkit.sqla.private import parts_of, reference_in


@dataclass(frozen=True, slots=True)
class Term:
    """One key of an ordering. `shown` is what stands in ORDER BY, `expression` what it stands for.

    `nulls_first` is None where the statement does not say, and the database decides.
    """

    expression: ColumnElement[Any]
    shown: ColumnElement[Any]
    descending: bool = False
    nulls_first: bool | None = None

    def reversed(self) -> Term:
        """The same key, read from the end. What the database decides about NULLs, it decides the other way round."""
        nulls_first = None if self.nulls_first is None else not self.nulls_first
        return replace(self, descending=not self.descending, nulls_first=nulls_first)


class UnknownTerm(Exception):
    """A clause that no term can be made of; the argument is the clause, as text."""


_TEXT = re.compile(
    r"\s*(?P<name>.+?)(?:\s+(?P<way>ASC|DESC))?(?:\s+NULLS\s+(?P<nulls>FIRST|LAST))?\s*", re.IGNORECASE | re.DOTALL
)
_SIMPLE = re.compile(r"""(?:[\w$]+|"[^"]+"|`[^`]+`)(?:\.(?:[\w$]+|"[^"]+"|`[^`]+`))*""")
_MODIFIERS = {operators.desc_op, operators.asc_op, operators.nulls_first_op, operators.nulls_last_op}


def terms_of(statement: Any, columns: Sequence[ColumnElement[Any]] | None = None) -> list[Term]:
    """The terms of its ORDER BY. `columns` is what names stand for, if not what it selects.

    Raises:
        UnknownTerm: text that is more than a name, or a name that is nowhere.
    """
    found = _Columns(statement, columns)
    return [term for clause in parts_of(statement).order_by for term in _terms(clause, found)]


def expressions_of(statement: Any, clauses: Sequence[Any]) -> list[ColumnElement[Any]]:
    """What the clauses of a GROUP BY or DISTINCT ON stand for. Raises: UnknownTerm."""
    found = _Columns(statement, None)
    return [term.expression for clause in clauses for term in _terms(clause, found)]


class _Columns:
    """The columns that a name in ORDER BY may mean, looked up when there is one."""

    def __init__(self, statement: Any, columns: Sequence[ColumnElement[Any]] | None) -> None:
        self._statement, self._columns = statement, columns

    def all(self) -> Sequence[ColumnElement[Any]]:
        return list(self._statement.selected_columns) if self._columns is None else self._columns

    def named(self, name: str) -> ColumnElement[Any]:
        columns = self.all()
        labels: list[ColumnElement[Any]] = [each for each in columns if isinstance(each, Label) and each.name == name]
        found = labels or [
            each for each in columns if name in (getattr(each, "key", None), getattr(each, "name", None))
        ]
        if not found:
            raise UnknownTerm(name)
        return found[0]


def _terms(clause: Any, columns: _Columns) -> Iterator[Term]:
    """A term; several of a text or a list."""
    if isinstance(clause, ClauseList):
        for each in clause.clauses:
            yield from _terms(each, columns)
        return
    descending, nulls_first, shown = False, None, clause
    while True:
        shown = reference_in(shown)
        if isinstance(shown, UnaryExpression) and shown.modifier in _MODIFIERS:
            if shown.modifier is operators.desc_op:
                descending = True
            elif shown.modifier is not operators.asc_op:
                nulls_first = shown.modifier is operators.nulls_first_op
            shown = shown.element
        elif isinstance(shown, Grouping) and isinstance(shown.element, UnaryExpression):
            shown = shown.element
        else:
            break
    if isinstance(shown, TextClause):
        for term in _of_text(shown.text, columns):
            yield term.reversed() if descending else term
        return
    if isinstance(shown, str):
        shown = columns.named(shown)
    expression = shown.element if isinstance(shown, Label) else shown
    if not isinstance(expression, ColumnElement):
        raise UnknownTerm(str(clause))
    yield Term(expression, shown, descending, nulls_first)


def _of_text(text: str, columns: _Columns) -> Iterator[Term]:
    for part in text.split(","):
        found = _TEXT.fullmatch(part)
        if found is None or not _SIMPLE.fullmatch(found["name"]):
            raise UnknownTerm(text)
        name, nulls = found["name"], found["nulls"]
        shown: ColumnElement[Any]
        if name.isdecimal():
            selected = columns.all()
            if not 1 <= int(name) <= len(selected):
                raise UnknownTerm(text)
            shown = selected[int(name) - 1]
        else:
            try:
                shown = columns.named(name.strip('"`'))
            except UnknownTerm:
                shown = literal_column(name)
        expression = shown.element if isinstance(shown, Label) else shown
        descending = (found["way"] or "").upper() == "DESC"
        yield Term(expression, shown, descending, None if nulls is None else nulls.upper() == "FIRST")


def parts_inside(expression: Any) -> Iterator[Any]:
    """An expression and what it is made of, without what is inside its subqueries."""
    waiting = [expression]
    while waiting:
        each = waiting.pop()
        yield each
        if not isinstance(each, SelectBase):
            waiting.extend(each.get_children())


def has_window(expression: Any) -> bool:
    """Whether its value depends on which other rows there are: it has an OVER."""
    return any(isinstance(each, Over) for each in parts_inside(expression))


_VOLATILE = frozenset({"random", "rand", "newid", "gen_random_uuid", "uuid_generate_v4", "uuid", "clock_timestamp"})
_SETS = frozenset(
    {
        *("unnest", "generate_series", "generate_subscripts", "regexp_matches", "regexp_split_to_table"),
        *("string_to_table", "json_array_elements", "jsonb_array_elements", "json_array_elements_text"),
        *("jsonb_array_elements_text", "json_each", "jsonb_each", "json_object_keys", "jsonb_object_keys"),
        *("jsonb_path_query", "st_dump", "st_dumppoints"),
    }
)
_GROUPINGS = frozenset({"rollup", "cube", "grouping_sets"})


def is_volatile(expression: Any) -> bool:
    """Whether it has another value each time."""
    return _calls(expression, _VOLATILE)


def gives_rows(expression: Any) -> bool:
    """Whether it makes several rows of one, in what is selected."""
    return _calls(expression, _SETS)


def groups_twice(expression: Any) -> bool:
    """Whether, in GROUP BY, it makes more groups than values: ROLLUP and the like."""
    return _calls(expression, _GROUPINGS)


def _calls(expression: Any, names: frozenset[str]) -> bool:
    found = (each for each in parts_inside(expression) if isinstance(each, FunctionElement))
    return any(getattr(each, "name", "").lower() in names for each in found)


_AGGREGATES = frozenset(
    [
        "count",
        "sum",
        "min",
        "max",
        "avg",
        "array_agg",
        "string_agg",
        "group_concat",
        "json_agg",
        "jsonb_agg",
        "json_object_agg",
        "jsonb_object_agg",
        "json_group_array",
        "json_group_object",
        "json_arrayagg",
        "json_objectagg",
        "aggregate_strings",
        "bool_and",
        "bool_or",
        "every",
        "bit_and",
        "bit_or",
        "bit_xor",
        "stddev",
        "stddev_pop",
        "stddev_samp",
        "variance",
        "var_pop",
        "var_samp",
        "mode",
        "percentile_cont",
        "percentile_disc",
        "total",
        "any_value",
        "corr",
        "covar_pop",
        "covar_samp",
        "xmlagg",
        "range_agg",
        "st_collect",
        "st_union",
        "st_extent",
    ]
)


def has_aggregate(expression: Any) -> bool:
    """Whether it makes one value of the rows of a group."""
    waiting = [expression]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Over):
            waiting.extend(child for child in each.get_children() if child is not each.element)
            # sum(count(x)) OVER (…) is a window over groups
            waiting.extend(each.element.get_children())
            continue
        if isinstance(each, FunctionElement) and getattr(each, "name", "").lower() in _AGGREGATES:
            return True
        if not isinstance(each, SelectBase):
            waiting.extend(each.get_children())
    return False
