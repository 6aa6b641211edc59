"""What a statement reads: tables, and what pins the rows of each; or why that cannot be known.

Two looks are taken. The text that is sent says which relations and functions there are, wherever they come from, so
nothing is missed. The structure says which columns an outermost AND holds equal to a bind, for each use of a table;
it counts only where it accounts for every use that the text shows. A statement is looked at once: SQLAlchemy keeps
what it has compiled.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Date, DateTime, Select, Table, TextClause, Time
from sqlalchemy.sql import operators
from sqlalchemy.sql.compiler import Compiled, SQLCompiler
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, ColumnClause, ColumnElement
from sqlalchemy.sql.selectable import Alias, FromClause, FromGrouping, Join
from sqlalchemy.sql.visitors import iterate

from perfkit.sqla.functions import NEEDS_TIME, VOLATILE, VOLATILE_WORDS, is_known
from perfkit.sqla.handwritten import named_by_hand
from perfkit.sqla.naming import Named, named_in
from perfkit.sqla.rows import likeness, sends_as_it_is
from perfkit.sqla.statements import conjunction, listed

# PostgreSQL, also beside a time of day; SQLite has the first
_OF_DAY = r"(?:[\s\d:.+-]|allballs|am|pm|utc|z)*"
_WORD = rf"{_OF_DAY}\b(?:now|today|tomorrow|yesterday)\b{_OF_DAY}"
_TIME = re.compile(_WORD, re.IGNORECASE)
_LITERAL_TIME = re.compile(f"'({_WORD})'", re.IGNORECASE)
_OF_TIME = re.compile(r"(?:\bAS |::|^|[ (,])(?:DATE|TIME|TIMESTAMP|TIMESTAMPTZ|TIMETZ)\b", re.IGNORECASE)
_TIME_TYPES = (Date, DateTime, Time)

MAX_VALUES = 16  # of one IN; more are the table


@dataclass(frozen=True, slots=True)
class Use:
    """A table that a statement reads. `pins`: for each column that a bind pins, the bind's name."""

    table: str
    pins: tuple[tuple[str, str], ...] = ()

    def values_of(self, column: str, parameters: Mapping[str, Any]) -> list[Any] | None:
        """The values to which the statement restricts `column`; None if it does not, or to too many."""
        for name, bind in self.pins:
            if name == column:
                values = given(parameters, bind)
                if 0 < len(values) <= MAX_VALUES:
                    return values
        return None


@dataclass(frozen=True, slots=True)
class Reads:
    """What one statement reads.

    `calls` are functions of which nobody knows what they read, `known` those that read nothing unless somebody has made
    another one of that name, `volatile` those whose value changes by itself.
    `shadowed` are names that WITH defines and that are read: `WITH bins AS (SELECT … FROM bins)` reads the table, too.
    `unreadable` says why the text cannot be understood at all. `locks`: FOR UPDATE and the like. `needs_time`: a text
    'now' among the parameters would be the time of the call.
    """

    uses: tuple[Use, ...] = ()
    calls: tuple[str, ...] = ()
    volatile: tuple[str, ...] = ()
    locks: bool = False
    needs_time: bool = False
    unreadable: str = ""
    known: tuple[str, ...] = ()
    shadowed: tuple[str, ...] = ()

    def is_of_now(self, parameters: Sequence[Mapping[str, Any]]) -> bool:
        """Whether these parameters ask for the time of the call."""
        return self.needs_time and any(
            isinstance(value, str) and _TIME.fullmatch(value) is not None
            for given in parameters
            for value in given.values()
        )


def given(parameters: Mapping[str, Any], bind: str) -> list[Any]:
    """The values of a bind, of which `IN (…)` has many; none if they include NULL."""
    value = parameters.get(bind)
    return listed(parameters, bind) if value is None or isinstance(value, list | tuple) else [value]


_seen: WeakKeyDictionary[Compiled, Reads] = WeakKeyDictionary()


def reads_of(compiled: Compiled | None, sql: str, dialect: str) -> Reads:
    """What the statement reads; `compiled` is None for SQL handed to the driver."""
    if compiled is None:
        return _read(named_by_hand(sql, dialect), sql, {}, needs_time=dialect == "postgresql")
    known = _seen.get(compiled)
    if known is None:
        known = _seen[compiled] = _look(compiled, dialect)
    return known


def _look(compiled: Compiled, dialect: str) -> Reads:
    if not isinstance(compiled, SQLCompiler) or compiled.statement is None:
        return Reads(unreadable="it is no query")
    # of an ORM statement, what it was turned into: with its joins, eager loads and criteria
    statement = getattr(compiled.compile_state, "statement", None)
    if statement is None:
        statement = compiled.statement
    sql = compiled.string
    if any(map(_is_by_hand, iterate(statement))):
        return _read(named_by_hand(sql, dialect), sql, {}, needs_time=dialect == "postgresql")
    times = dialect == "postgresql" and (
        _OF_TIME.search(sql) is not None or any(isinstance(bind.type, _TIME_TYPES) for bind in compiled.binds.values())
    )
    return _read(named_in(sql), sql, _pinned_uses(statement, compiled), needs_time=times)


def _read(
    named: Named | str, sql: str, pinned: Mapping[str, list[dict[str, str]]], *, needs_time: bool = False
) -> Reads:
    """`needs_time`: texts may be read as times, as PostgreSQL reads 'today'."""
    if isinstance(named, str):
        return Reads(unreadable=named)
    uses: list[Use] = []
    for table, times in named.relations.items():
        found = pinned.get(table, [])
        if len(found) == times:  # each is there, and what was met again was correlated
            uses += [Use(table, tuple(sorted(pins.items()))) for pins in found]
        else:
            uses.append(Use(table))
    volatile = {name for name in named.functions if name in VOLATILE} | (named.words & VOLATILE_WORDS)
    volatile |= {name for name, fewest in NEEDS_TIME.items() if named.functions.get(name, fewest) < fewest}
    needs_time = needs_time or any(name in named.functions for name in NEEDS_TIME)
    if needs_time:
        volatile |= {f"'{found.strip().upper()}'" for found in _LITERAL_TIME.findall(sql)}
    known = [name for name in named.functions if name not in VOLATILE and is_known(name)]
    calls = [name for name in named.functions if name not in VOLATILE and not is_known(name)]
    return Reads(
        tuple(dict.fromkeys(uses)),
        tuple(sorted(calls)),
        tuple(sorted(volatile)),
        named.locks,
        needs_time,
        known=tuple(sorted(known)),
        shadowed=tuple(sorted(named.shadowed)),
    )


def _pinned_uses(statement: Any, compiled: SQLCompiler) -> dict[str, list[dict[str, str]]]:
    """For each table's name, its uses.

    What an inner statement correlates looks like a use of its own, pinned or not. It belongs to the statement around
    that, which comes first; so a use that is met again is not counted. If it is read there after all, as by another
    part of a UNION, the text shows more uses than were counted. None at all where one statement does not say what it
    reads: what is correlated to that would be counted in its place.
    """
    found: dict[str, list[dict[str, str]]] = {}
    met: set[int] = set()
    for element in iterate(statement):
        if not isinstance(element, Select):
            continue
        froms = _froms(element)
        if froms is None:
            return {}
        leaves, inner = _flattened(froms)
        equal = _Equalities([*conjunction(element.whereclause), *inner], compiled)
        for leaf in leaves:
            table = leaf.element if isinstance(leaf, Alias) else leaf
            if isinstance(table, Table):
                pins = {column.name: bind for column in leaf.c if (bind := equal.bind_of(column)) is not None}
                if hash(leaf) not in met:
                    met.add(hash(leaf))
                    found.setdefault(table.name, []).append(pins)
    return found


def _froms(statement: Select[Any]) -> Sequence[FromClause] | None:
    try:
        return statement.get_final_froms()
    except Exception:  # noqa: BLE001
        return None  # an inner statement of the ORM that only compiling resolves: the text shows what it reads


def _is_by_hand(element: Any) -> bool:
    """Whether it is SQL that somebody wrote, and more of it than a compiler writes."""
    if isinstance(element, ColumnClause) and element.is_literal:
        return any(mark in element.name for mark in ("--", "/*", "$", "\\"))
    return isinstance(element, TextClause)


def _flattened(froms: Collection[FromClause]) -> tuple[list[FromClause], list[ColumnElement[Any]]]:
    """What is joined, and the conditions of those joins that every row fulfils: inner ones under no outer one."""
    leaves: list[FromClause] = []
    conditions: list[ColumnElement[Any]] = []

    def walk(clause: FromClause, *, inner: bool) -> None:
        if isinstance(clause, Join):
            inner = inner and not clause.isouter and not clause.full
            walk(clause.left, inner=inner)
            walk(clause.right, inner=inner)
            if inner and clause.onclause is not None:
                conditions.extend(conjunction(clause.onclause))
        elif isinstance(clause, FromGrouping):  # the parentheses of a join that stands on the right of another
            walk(clause.element, inner=inner)
        else:
            leaves.append(clause)

    for clause in froms:
        walk(clause, inner=True)
    return leaves, conditions


class _Equalities:
    """Columns that conditions hold equal to each other, and to binds."""

    def __init__(self, terms: Sequence[Any], compiled: SQLCompiler) -> None:
        self._equal: list[set[tuple[int, str]]] = []
        self._binds: dict[tuple[int, str], str] = {}
        self._dialect = compiled.dialect.name
        for term in terms:
            if not isinstance(term, BinaryExpression) or term.operator not in (operators.eq, operators.in_op):
                continue
            for one, other in ((term.left, term.right), (term.right, term.left)):
                if not _is_column(one):
                    continue
                if isinstance(other, BindParameter) and (term.operator is operators.eq or one is term.left):
                    name = compiled.bind_names.get(other)
                    if name is not None and sends_as_it_is(other.type, self._dialect):
                        self._binds.setdefault(_identity(one), name)
                elif _is_column(other) and term.operator is operators.eq and self._are_alike(one, other):
                    self._join(_identity(one), _identity(other))

    def bind_of(self, column: Any) -> str | None:
        """The bind to which the column is equal in every row."""
        me = _identity(column)
        if me in self._binds:
            return self._binds[me]
        for group in self._equal:
            if me in group:
                return next((self._binds[each] for each in group if each in self._binds), None)
        return None

    def _are_alike(self, one: ColumnElement[Any], other: ColumnElement[Any]) -> bool:
        """Whether equal values of theirs are the same: not where one of them compares without regard to case, say."""
        like = likeness(one.type, self._dialect)
        return like is not None and like == likeness(other.type, self._dialect)

    def _join(self, one: tuple[int, str], other: tuple[int, str]) -> None:
        touched = [group for group in self._equal if one in group or other in group]
        self._equal = [group for group in self._equal if group not in touched]
        self._equal.append({one, other}.union(*touched))


def _is_column(element: Any) -> bool:
    return isinstance(element, Column) or (
        isinstance(element, ColumnElement) and isinstance(getattr(element, "table", None), Alias)
    )


def _identity(column: Any) -> tuple[int, str]:
    """The use of the table that a column belongs to, and its name. What is annotated has the hash of the original."""
    return hash(column.table), column.name
