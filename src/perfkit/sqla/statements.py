"""What a statement writes: tables, pinned rows, or nothing that can be known.

Looked at once per compiled statement; SQLAlchemy keeps those, so an execution costs one look-up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Delete, ForeignKeyConstraint, Insert, Table, TextClause, Update
from sqlalchemy.exc import NoReferenceError
from sqlalchemy.sql import operators
from sqlalchemy.sql.compiler import Compiled, SQLCompiler
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, BooleanClauseList, ColumnElement
from sqlalchemy.sql.visitors import iterate

from perfkit.sqla.handwritten import Mention, changed_by_hand, without_disguise
from perfkit.sqla.rows import sends_as_it_is, value_name

Key = tuple[object, ...]
Outline = tuple[tuple[str, ...], tuple[str, ...]]
"""Of a table: by what its rows are named, and which of its columns have tags of their own."""

_OF_MANY_TABLES = frozenset({"mysql", "mariadb"})  # dialects in which one UPDATE may change several


@dataclass(frozen=True, slots=True)
class TableWrite:
    """One table that a statement writes.

    `key_binds` are the names of the binds that pin its primary key, in the key's order; None when the
    rows cannot be told from the statement. `inserts` says that the rows are new, so that the database may
    still say which they became. `condition_binds` say which values all declared condition columns have in those rows,
    and keep; `moves` that one of them may get another value.
    """

    table: Table
    key_binds: tuple[str, ...] | None = None
    inserts: bool = False
    condition_binds: tuple[tuple[Column[Any], str], ...] = ()
    moves: bool = False
    deletes: bool = False
    key_names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key_names", tuple(column.name for column in self.table.primary_key.columns))

    @property
    def outline(self) -> Outline:
        """The table's outline as it is now."""
        return self.key_names, tuple(self.table.info.get("cache_tags", ()))

    def conditions_in(self, parameters: Sequence[Mapping[str, Any]], dialect: str) -> set[str] | None:
        """`column=value` for the declared columns of all rows; None if these parameters leave one open."""
        if self.moves or not self.condition_binds:
            return None
        found: set[str] = set()
        for given in parameters:
            for column, bind in self.condition_binds:
                values = [given[bind]] if bind in given else listed(given, bind)
                if not values:
                    return None
                for value in values:
                    name = value_name(column, value, dialect)
                    if name is None and value is not None:
                        return None
                    if name is not None:  # nothing equals NULL
                        found.add(f"{column.name}={name}")
        return found

    def keys_in(self, parameters: Sequence[Mapping[str, Any]]) -> list[Key] | None:
        """The primary keys that these parameters pin, one of each set; None if one set does not pin its row."""
        if self.key_binds is None:
            return None
        keys: list[Key] = []
        for given in parameters:
            key = tuple([given.get(bind) for bind in self.key_binds])
            if all(part is not None for part in key):
                keys.append(key)
            elif not self.inserts and (several := listed(given, self.key_binds[0])):
                keys.extend((part,) for part in several)
            else:
                return None
        return keys


def listed(parameters: Mapping[str, Any], bind: str) -> list[object]:
    """The values of `WHERE id IN (…)`, which come as id_1_1, id_1_2 and so on; empty when there are none."""
    found: list[object] = []
    while (name := f"{bind}_{len(found) + 1}") in parameters:
        found.append(parameters[name])
    return [] if None in found else found


@dataclass(frozen=True, slots=True)
class Writes:
    """What one statement writes, or does to its transaction.

    `everything` when what it writes cannot be known; `commits` when it is a COMMIT itself; `begins` when it begins a
    transaction, which in MariaDB commits the one before; `isolates` when it sets an isolation level by itself.
    `mentions` are relations of which SQL text changes some.
    """

    tables: tuple[TableWrite, ...] = ()
    everything: bool = False
    commits: bool = False
    begins: bool = False
    isolates: bool = False
    mentions: frozenset[Mention] = frozenset()

    def __bool__(self) -> bool:
        by_name = bool(self.tables or self.mentions)
        return by_name or self.everything or self.commits or self.begins or self.isolates


NOTHING = Writes()
EVERYTHING = Writes(everything=True)
COMMIT = Writes(commits=True)
COMMIT_OF_ANOTHER = Writes(everything=True, commits=True)

_seen: WeakKeyDictionary[Compiled, Writes] = WeakKeyDictionary()


def writes_of(compiled: Compiled | None, sql: str, dialect: str) -> Writes:
    """What the statement writes; `compiled` is None for SQL handed to the driver."""
    if compiled is None:
        return _writes_of_text(sql, dialect)
    known = _seen.get(compiled)
    if known is None:
        known = _seen[compiled] = _look(compiled)
    return known


def look_anew() -> None:
    """Forget what was seen: tables may have declared columns by now that they had not then."""
    _seen.clear()


def _look(compiled: Compiled) -> Writes:
    if not isinstance(compiled, SQLCompiler):
        return EVERYTHING  # DDL
    statement = compiled.statement
    if statement is None or isinstance(statement, TextClause):
        return _writes_of_text(compiled.string, compiled.dialect.name)
    writes: list[TableWrite] = []
    is_by_hand = False
    for element in iterate(statement):
        if isinstance(element, TextClause):
            is_by_hand = True
            if any(_MODIFYING.search(view) for view in _views(without_disguise(element.text))):
                return EVERYTHING
        elif isinstance(element, Insert | Update | Delete):
            outermost = element is statement
            table = table_of(compiled) if outermost else element.table
            beside = _set_beside(table, compiled) if isinstance(element, Update) else ()
            if not isinstance(table, Table) or beside is None:
                return EVERYTHING
            writes.append(_write(element, table, compiled) if outermost else TableWrite(table))
            writes.extend(TableWrite(other, moves=True) for other in beside)
            for each in (table, *beside):
                writes.extend(TableWrite(other) for other in _moved_along(element, each, compiled))
    if not writes and (compiled.isinsert or compiled.isupdate or compiled.isdelete):
        return EVERYTHING
    if is_by_hand and not writes:  # text may be all of it: `text("INSERT …").columns(…)`
        return _writes_of_text(compiled.string, compiled.dialect.name)
    return Writes(tuple(writes))


def table_of(compiled: Any) -> Any:
    """The table that an INSERT, UPDATE or DELETE is about.

    Of an ORM statement for a class with several tables, each is compiled with one of them, while the statement itself
    bears the last (tests/facts/test_sqlalchemy.py).
    """
    return getattr(compiled.compile_state, "dml_table", compiled.statement.table)


def _write(statement: Insert | Update | Delete, table: Table, compiled: SQLCompiler) -> TableWrite:
    key = list(table.primary_key.columns)
    declared = condition_columns(table)
    if _replaces(table, compiled) and not isinstance(statement, Delete):
        return TableWrite(table, moves=True)
    if isinstance(statement, Insert):
        if not _is_plain(statement, compiled):
            return TableWrite(table, moves=True)
        own = {element.key for element in iterate(statement) if isinstance(element, BindParameter)}
        if any(column.key in own for column in (*key, *declared)):
            return TableWrite(table, moves=True)  # a bind of somebody's own, called like the column, is another value
        # what has no bind of its own is for the database to say
        given = tuple((column, column.key) for column in declared if column.key in compiled.binds)
        keys = tuple(column.key for column in key) or None
        known = given if len(given) == len(declared) else ()
        return TableWrite(table, keys, inserts=keys is not None, condition_binds=known)
    sets = isinstance(statement, Update) and _sets(compiled, key)
    moves = isinstance(statement, Update) and _sets(compiled, declared)
    conditions = tuple(
        (column, name)
        for each in declared
        for column, bind in _pinned(statement.whereclause, [each], compiled.dialect.name).items()
        if (name := compiled.bind_names.get(bind)) is not None
    )
    if len(conditions) < len(declared):
        conditions = ()
    named: tuple[str, ...] = ()
    if key and not sets:
        pinned = _pinned(statement.whereclause, key, compiled.dialect.name)
        binds = [compiled.bind_names.get(pinned[column]) for column in key if column in pinned]
        named = tuple(bind for bind in binds if bind is not None)
    keys = named if key and len(named) == len(key) else None
    return TableWrite(table, keys, condition_binds=conditions, moves=moves, deletes=isinstance(statement, Delete))


def _moved_along(statement: Insert | Update | Delete, table: Table, compiled: SQLCompiler) -> set[Table]:
    """Other tables that the database itself changes after `table`."""
    found: set[Table] = set()
    if isinstance(statement, Delete) or _replaces(table, compiled):
        found |= cascaded_from(table, "ondelete")
    if not isinstance(statement, Delete) and _sets(compiled, _followed(table)):
        found |= cascaded_from(table, "onupdate")
    return found


_NAME = r"(?:`[^`]+`|[\w$]+)"
_SET_WITH_TABLE = re.compile(rf"(?:\bSET|,) ({_NAME}(?:\.{_NAME})*)\.{_NAME}=")


def _set_beside(table: Any, compiled: SQLCompiler) -> tuple[Table, ...] | None:
    """Other tables of which an UPDATE sets columns, as MariaDB can; None if one of them cannot be told."""
    if compiled.dialect.name not in _OF_MANY_TABLES or not isinstance(table, Table):
        return ()
    named = set(_SET_WITH_TABLE.findall(compiled.string)) - {compiled.preparer.format_table(table)}
    if not named:
        return ()
    found = [other for other in table.metadata.tables.values() if compiled.preparer.format_table(other) in named]
    return tuple(found) if len(found) == len(named) else None


def _replaces(table: Table, compiled: SQLCompiler) -> bool:
    """Whether a row that is written takes away others with which it is in conflict: INSERT OR REPLACE, and the like."""
    head, into, _ = compiled.string.partition(" INTO ")
    if (into and "REPLACE" in head) or compiled.string.startswith("UPDATE OR REPLACE "):
        return True
    if compiled.dialect.name != "sqlite":
        return False
    said = [constraint.dialect_options["sqlite"].get("on_conflict") for constraint in table.constraints]
    for column in table.columns:
        options = column.dialect_options["sqlite"]
        said += [options.get(f"on_conflict_{kind}") for kind in ("primary_key", "not_null", "unique")]
    return any(str(each).upper() == "REPLACE" for each in said)


def _is_plain(statement: Insert, compiled: SQLCompiler) -> bool:
    """Whether the rows of an INSERT are those of its parameters, one for each set, and no others change.

    A dialect's own Insert may resolve conflicts, INSERT OR REPLACE deletes, a SELECT brings rows of its own,
    and `values([…])` writes many rows with one set, whose binds end in _m0, _m1 and so on.
    """
    return (
        _is_of_no_dialect(statement)
        and statement.select is None
        and compiled.string.startswith("INSERT INTO ")
        and not any(name.endswith("_m1") for name in compiled.binds)
    )


def _is_of_no_dialect(statement: Insert) -> bool:
    # what the ORM has annotated is a subclass too, made by SQLAlchemy's own core
    kinds = type(statement).__mro__
    return all(kind.__module__.startswith("sqlalchemy.sql.") for kind in kinds[: kinds.index(Insert)])


def condition_columns(table: Table) -> list[Column[Any]]:
    """The columns whose values are tags of their own: `info={"cache_tags": (…)}`, or `__cache_tags__` of the model."""
    return [table.columns[name] for name in table.info.get("cache_tags", ())]


def outline_of(table: Table) -> Outline:
    """Its outline as it is now."""
    return tuple(column.name for column in table.primary_key.columns), tuple(table.info.get("cache_tags", ()))


def _sets(compiled: SQLCompiler, columns: Iterable[Column[Any]]) -> bool:
    """Whether an UPDATE or an upsert assigns to one of the columns, by value or by expression, or the database does."""
    quote = compiled.preparer.quote
    assigning = _ASSIGNING.search(compiled.string)
    assigned = compiled.string[assigning.end() :] if assigning is not None else ""
    return any(
        column.computed is not None
        or column.server_onupdate is not None
        # MariaDB has the table in front, and an UPDATE inside a WITH another SET
        or re.search(rf"(?:^|\bSET |, )(?:[^\s,()]+\.)?{re.escape(quote(column.name))} ?=", assigned)
        for column in (columns if assigned else ())
    )


def _pinned(
    where: ColumnElement[Any] | None, key: Sequence[Column[Any]], dialect: str
) -> dict[Column[Any], BindParameter[Any]]:
    """For each column of `key` that the outermost AND holds equal to a bind, that bind."""
    found: dict[Column[Any], BindParameter[Any]] = {}
    for term in conjunction(where):
        if not isinstance(term, BinaryExpression) or not isinstance(term.right, BindParameter):
            continue
        if term.operator not in (operators.eq, operators.in_op) or (term.operator is operators.in_op and len(key) > 1):
            continue
        if not sends_as_it_is(term.right.type, dialect):
            continue
        for column in key:
            # a column of an alias shares the lineage, and pins another row
            if (
                isinstance(term.left, Column)
                and isinstance(term.left.table, Table)
                and column.shares_lineage(term.left)
            ):
                found[column] = term.right
    return found


def conjunction(where: ColumnElement[Any] | None) -> list[Any]:
    """The terms of which every row that `where` lets through fulfils each."""
    if isinstance(where, BooleanClauseList) and where.operator is operators.and_:
        return [leaf for term in where.clauses for leaf in conjunction(term)]
    return [] if where is None else [where]


Rule = Literal["ondelete", "onupdate"]


def cascaded_from(table: Table, rule: Rule) -> set[Table]:
    """The tables whose rows the database itself changes when rows, or keys, of `table` go."""
    found: set[Table] = set()
    ahead: list[tuple[Table, tuple[Rule, ...]]] = [(table, (rule,))]
    while ahead:
        parent, rules = ahead.pop()
        for other in table.metadata.tables.values():
            if other not in found and any(
                _follows(constraint, parent, rules) for constraint in other.foreign_key_constraints
            ):
                found.add(other)
                ahead.append((other, ("ondelete", "onupdate")))  # SET NULL is an update of what others may refer to
    return found


def _followed(table: Table) -> list[Column[Any]]:
    """The columns of `table` that others follow when they change: keys, and whatever else is referred to."""
    names = {
        element.target_fullname.rpartition(".")[2]
        for other in table.metadata.tables.values()
        for constraint in other.foreign_key_constraints
        if _follows(constraint, table, ("onupdate",))
        for element in constraint.elements
    }
    return [column for column in table.columns if names & {column.name, column.key}]


def _follows(constraint: ForeignKeyConstraint, parent: Table, rules: Iterable[Rule]) -> bool:
    actions = [(getattr(constraint, rule) or "NO ACTION").upper() for rule in rules]
    if all(action in ("NO ACTION", "RESTRICT") for action in actions):
        return False
    try:
        # which knows of a schema that the metadata adds; what the ORM has annotated is another object
        return constraint.referred_table.fullname == parent.fullname
    except NoReferenceError:
        return any(element.target_fullname.rpartition(".")[0] == parent.fullname for element in constraint.elements)


# in one pass: a comment may stand in a literal, and a quote in a comment or a name
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|--[^\n]*|/\*.*?\*/""", re.DOTALL)
# \' ends a literal or does not, by dialect; $$ and comments inside comments quote in some
_AMBIGUOUS = re.compile(r"""\\['"]|\$\w*\$|/\*(?:(?!\*/).)*/\*""", re.DOTALL)
_READING = re.compile(
    r"[\s(]*(?:SELECT|WITH|VALUES|TABLE|SHOW|EXPLAIN|DESCRIBE|DESC|SET(?!\s+STATEMENT\b)|RESET|PRAGMA|SAVEPOINT|RELEASE"
    r"|ROLLBACK|BEGIN|START|DECLARE|FETCH|MOVE|CLOSE|LISTEN|UNLISTEN|NOTIFY|LOCK|ANALYZE|VACUUM|CHECKPOINT|DISCARD|USE|KILL|REINDEX)\b",
    re.IGNORECASE,
)
_MODIFYING = re.compile(
    r"\A[\s(]*+EXPLAIN\b(?>.*?\bANALY[SZ]E\b).*?\b(?:EXECUTE|REFRESH|CREATE)\b"
    r"|\b(?:INSERT\s+INTO|REPLACE\s+INTO|(?<!\.)DELETE\s+(?:[\w.,*\s]*\s)?FROM|MERGE\s+INTO|UPDATE\s+[^;()]+?\s+SET|TRUNCATE)\b",
    re.IGNORECASE | re.DOTALL,
)
_ASSIGNING = re.compile(r" SET | ON DUPLICATE KEY UPDATE ")
_INTO = re.compile(r"\bINTO\b", re.IGNORECASE)
_PREPARED = re.compile(r"\bPREPARED\b", re.IGNORECASE)
_BEGINNING = re.compile(
    r"\s*(?:BEGIN|START\s+TRANSACTION|LOCK\s+TABLES?|UNLOCK\s+TABLES|SET\s+(?:@@)?(?:SESSION[\s.]+)?AUTOCOMMIT)\b",
    re.IGNORECASE,
)
_ISOLATING = re.compile(
    r"\s*(?:SET|BEGIN|START)\b.*(?:\bISOLATION\s+LEVEL\b|\bTRANSACTION\s+SNAPSHOT\b|\bCONSISTENT\s+SNAPSHOT\b"
    r"|\b(?:default_)?t(?:ransaction|x)_isolation\b)",
    re.IGNORECASE | re.DOTALL,
)
_CONFIGURING = re.compile(r"\bset_config\s*\(\s*'(?:default_)?transaction_isolation'", re.IGNORECASE)
_ENDING = re.compile(r"\b(?:COMMIT|END|ROLLBACK|ABORT)\b", re.IGNORECASE)
_COMMITTING = re.compile(r"\s*(?:COMMIT|END)\b", re.IGNORECASE)


@lru_cache(maxsize=2048)
def _writes_of_text(sql: str, dialect: str) -> Writes:
    """Nothing for one statement that begins like a read and modifies nothing on the way; what a parser finds; or all.

    A SELECT of a function that writes cannot be told from one of a function that does not: `Cache.touch`.
    """
    sql = without_disguise(sql)
    views = [view.strip().rstrip(";") for view in _views(sql)]
    if not views[0]:
        return NOTHING
    if any(";" in view and _ENDING.search(view) for view in views):
        return COMMIT_OF_ANOTHER  # what stands before it, or after it, is committed with it, or by itself
    if _COMMITTING.match(views[0]):
        return COMMIT_OF_ANOTHER if _PREPARED.search(views[0]) else COMMIT
    begins = any(_BEGINNING.match(view) for view in views)
    isolates = any(_ISOLATING.match(view) for view in views) or _CONFIGURING.search(sql) is not None
    if begins or isolates:
        return Writes(everything=not all(map(_only_reads, views)), begins=begins, isolates=isolates)
    if all(_only_reads(view) for view in views):
        return NOTHING
    mentions = changed_by_hand(sql, dialect) if len(views) == 1 else None
    return Writes(mentions=mentions) if mentions else EVERYTHING


def _only_reads(sql: str) -> bool:
    return bool(_READING.match(sql)) and ";" not in sql and not _MODIFYING.search(sql) and not _INTO.search(sql)


def _views(sql: str) -> list[str]:
    """`sql` without comments and without what stands in quotes; as it is, too, where it is doubtful what does."""
    bare = _QUOTED.sub(lambda found: " " if found[0][:2] in ("--", "/*") else "''", sql)
    return [bare, sql] if _AMBIGUOUS.search(sql) else [bare]
