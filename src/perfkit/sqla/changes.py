"""What a connection's open transaction has changed so far, noted at the statements themselves.

Every way of writing that SQLAlchemy has ends in a statement on a connection: flush, bulk, Core,
`text()`, SQL for the driver. So this listens there, below the Session, and sees them alike. A
statement whose rows can be told notes rows; one whose rows cannot notes its table in bulk; one
that cannot be read notes everything. More is noted than changed, never less: a savepoint that is
rolled back keeps its notes.

What is not seen: writes by triggers, by functions that a SELECT calls, and by other programs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from typing import Any
from weakref import ref

from sqlalchemy import ColumnElement, Connection, Engine, Insert, MetaData, Table, and_, event, or_, select

from perfkit.sqla.handwritten import Mention
from perfkit.sqla.private import is_autocommit, is_told_to_autocommit
from perfkit.sqla.rows import row_name, value_name
from perfkit.sqla.statements import Key, Outline, TableWrite, Writes, condition_columns, table_of, writes_of

MAX_ROWS = 256  # of one table and transaction; beyond, the table is noted in bulk: a mark names each row

_INFO, _ISOLATED = "perfkit.changes", "perfkit.isolated"
_COMMIT_BY_THEMSELVES = frozenset({"mysql", "mariadb"})
_DEFINING = re.compile(r"\s*(?:CREATE|ALTER|DROP|COMMENT)\b", re.IGNORECASE)
_SAVING = re.compile(r"\s*SAVEPOINT\b", re.IGNORECASE)
_observers: ContextVar[tuple[list[Changes], ...]] = ContextVar("perfkit_observers", default=())


Schemas = Mapping[str | None, str | None]
_Where = tuple[Table, frozenset[tuple[str | None, str | None]]]
"""A table, in the schemas into which the statement that wrote it was translated."""


class Changes:
    """The notes of one transaction. Grows only."""

    __slots__ = (
        "anywhere",
        "bulk",
        "by_hand",
        "commits",
        "conditions",
        "early",
        "everything",
        "may_commit",
        "mentions",
        "noted",
        "rows",
        "through",
        "undecided",
        "unplaced",
        "unread",
    )

    def __init__(self) -> None:
        self.rows: dict[str, set[str]] = {}
        self.bulk: set[str] = set()
        self.everything = False
        self.unread = ""  # the first SQL of which nobody can tell what it writes; not DDL, of which everybody can
        self.mentions: set[Mention] = set()  # of which SQL text has changed some
        self.by_hand: set[str] = set()
        self.commits = False  # a COMMIT was executed as a statement
        self.may_commit = False  # the statement at hand ends the transaction before it, or may do so
        self.early = False  # noted before their transaction began
        self.noted: ref[Any] | None = None  # the execution that was noted last
        self.through: dict[str, dict[MetaData, Outline]] = {}  # of each table: whose it was by which it was written
        # tables of an INSERT whose rows the database has yet to name
        self.undecided: set[str] = set()
        # of tables with declared columns: `column=value` of changed rows; tables where some are not known; rows to ask
        self.conditions: dict[str, set[str]] = {}
        self.anywhere: set[str] = set()
        self.unplaced: dict[_Where, set[Key]] = {}

    def __bool__(self) -> bool:
        return bool(self.rows or self.bulk or self.everything or self.mentions or self.by_hand or self.undecided)

    def tables(self) -> set[str]:
        return {*self.rows, *self.bulk, *self.undecided}

    def note_once(self, writes: Writes, context: Any, dialect: str) -> None:
        """Note what an execution is about to do.

        An INSERT of many rows is sent in batches, each of which tells the parameters of all.
        """
        if self.noted is None or self.noted() is not context:
            self.noted = ref(context)
            given = getattr(context, "compiled_parameters", None) or ()
            if writes.everything and not self.unread and not _DEFINING.match(context.statement):
                self.unread = context.statement
            self.note(writes, given, dialect, context.execution_options.get("schema_translate_map"))

    def note(
        self, writes: Writes, parameters: Sequence[Mapping[str, Any]], dialect: str, schemas: Schemas | None = None
    ) -> None:
        """Note what a statement is about to do. `schemas`: its `schema_translate_map`."""
        self.everything = self.everything or writes.everything
        self.mentions |= writes.mentions
        self.commits = self.commits or writes.commits
        # DDL, and whatever we cannot read, may commit by itself in MariaDB
        self.may_commit = dialect in _COMMIT_BY_THEMSELVES and (writes.begins or writes.everything)
        for write in writes.tables:
            keys = write.keys_in(parameters)
            self.through.setdefault(write.table.name, {})[write.table.metadata] = outline = write.outline
            if outline[1]:
                self._note_conditions(write, parameters, keys, dialect, schemas or {})
            if keys is None and write.inserts:
                self.undecided.add(write.table.name)
            else:
                self.note_rows(write.table, keys, dialect)

    def _note_conditions(
        self,
        write: TableWrite,
        parameters: Sequence[Mapping[str, Any]],
        keys: Sequence[Key] | None,
        dialect: str,
        schemas: Schemas,
    ) -> None:
        name = write.table.name
        found = write.conditions_in(parameters, dialect)
        if found is not None:
            known = self.conditions.setdefault(name, set())
            known |= found
            if len(known) > MAX_ROWS:
                self.anywhere.add(name)
        elif keys is None or write.moves or write.inserts or write.deletes:
            self.anywhere.add(name)
        else:
            asked = self.unplaced.setdefault((write.table, frozenset(schemas.items())), set())
            asked.update(keys)
            if len(asked) > MAX_ROWS:
                self.anywhere.add(name)

    def note_rows(self, table: Table, keys: Sequence[Key] | None, dialect: str) -> None:
        """Note rows of a table by their keys; all of it for None."""
        name = table.name
        rows = None if keys is None else [row_name(table, key, dialect=dialect) for key in keys]
        known = self.rows.setdefault(name, set())
        if rows is None or None in rows or len(known) + len(rows) > MAX_ROWS:
            self.bulk.add(name)
        else:
            known.update(row for row in rows if row is not None)

    def settle(self) -> None:
        """No more will be heard of the undecided ones."""
        self.bulk |= self.undecided
        self.undecided.clear()
        self.anywhere.update(table.name for table, _ in self.unplaced)
        self.unplaced.clear()


def changes_in(info: dict[Any, Any]) -> Changes:
    """The notes of the transaction open on the connection whose `info` this is; made if there are none."""
    found: Changes | None = info.get(_INFO)
    if found is None:
        found = info[_INFO] = Changes()
    return found


def peek(info: dict[Any, Any]) -> Changes | None:
    """The notes, if there are any."""
    return info.get(_INFO)


def take(info: dict[Any, Any]) -> Changes | None:
    """The notes, which then belong to the caller."""
    found: Changes | None = info.pop(_INFO, None)
    if found is not None:
        found.settle()
    return found


def is_isolated_by_hand(info: dict[Any, Any]) -> bool:
    """Whether SQL has set an isolation level on the connection, of which SQLAlchemy does not know."""
    return _ISOLATED in info


def put_back(info: dict[Any, Any], changes: Changes) -> None:
    """They are still to come, although SQLAlchemy will begin anew."""
    changes.early = True
    info[_INFO] = changes


class SeeingChanges:
    """Gives the notes of every transaction in which this context runs a statement, if it has written by then.

    Also of sessions that nobody passed as an argument: a global one, or one that a function opens.
    """

    __slots__ = ("_before",)

    def __enter__(self) -> list[Changes]:
        seen: list[Changes] = []
        self._before = _observers.set((*_observers.get(), seen))
        return seen

    def __exit__(self, *_: object) -> None:
        _observers.reset(self._before)


def observe_nothing() -> None:
    """In this context nobody wants to see notes any more."""
    _observers.set(())


class Notes:
    """The listeners that keep the notes of one engine."""

    def __init__(self, engine: Engine, ahead: Callable[[Connection, Changes], None]) -> None:
        """`ahead` is called before each statement of a transaction that has changed something, or is about to."""
        self._engine, self._ahead = engine, ahead
        self._listeners: list[tuple[str, Callable[..., Any]]] = [
            ("begin", _forget),
            ("begin_twophase", _forget),
            ("rollback", _forget_all),
            ("savepoint", _begin_in_sqlite),
            ("commit", place),
            ("prepare_twophase", place),
            ("before_cursor_execute", self._before_cursor_execute),
            ("after_execute", _after_execute),
        ]

    def install(self) -> None:
        for name, listener in self._listeners:
            event.listen(self._engine, name, listener)

    def remove(self) -> None:
        for name, listener in self._listeners:
            event.remove(self._engine, name, listener)

    def _before_cursor_execute(
        self, connection: Connection, cursor: Any, sql: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        if connection.dialect.name == "sqlite" and _SAVING.match(sql):
            _begin_in_sqlite(connection)
        info = connection.info
        writes = writes_of(context.compiled, sql, connection.dialect.name)
        if writes:
            if writes.isolates:
                info[_ISOLATED] = True
            changes_in(info).note_once(writes, context, connection.dialect.name)
        changes = peek(info)
        if not changes:
            return
        for observer in _observers.get():
            observer.append(changes)
        self._ahead(connection, changes)


def place(connection: Connection, *_: Any) -> None:
    """Ask the database which values the declared columns have in the rows that the open transaction has changed.

    What the session remembers of them may be older; nobody else can change them now. Rows that are gone by now were
    noted by what took them away.
    """
    changes = peek(connection.info)
    if changes is None or not changes.unplaced or is_autocommit(connection):
        return
    asked, changes.unplaced = changes.unplaced, {}
    for (table, schemas), keys in asked.items():
        if table.name not in changes.anywhere:
            _note_places(connection, changes, table, keys, dict(schemas))


def _note_places(
    connection: Connection, changes: Changes, table: Table, keys: Collection[Key], schemas: Schemas
) -> None:
    declared = condition_columns(table)
    known = changes.conditions.setdefault(table.name, set())
    ask = select(*declared).where(_is_one_of(table, keys))
    found = connection.execute(ask, execution_options={"schema_translate_map": schemas}).all()
    if len(found) < len(keys):
        changes.anywhere.add(table.name)
    for row in found:
        for column, value in zip(declared, row, strict=True):
            name = value_name(column, value, connection.dialect.name)
            if name is not None:
                known.add(f"{column.name}={name}")
            elif value is not None:
                changes.anywhere.add(table.name)


def _is_one_of(table: Table, keys: Collection[Key]) -> ColumnElement[bool]:
    columns = list(table.primary_key.columns)
    if len(columns) == 1:
        return columns[0].in_([key[0] for key in keys])
    return or_(*(and_(*(column == part for column, part in zip(columns, key, strict=True))) for key in keys))


def _forget(connection: Connection, *_: Any) -> None:
    info = connection.info
    found = peek(info)
    if found is not None and found.early:
        found.early = False
    else:
        info.pop(_INFO, None)


def _forget_all(connection: Connection) -> None:
    # one that broke has lost its info, and to ask for it raises in the middle of the rollback that would mend it
    if not connection.invalidated:
        connection.info.pop(_INFO, None)


def _begin_in_sqlite(connection: Connection, *_: Any) -> None:
    # sqlite3 begins at the first INSERT, UPDATE or DELETE. A SAVEPOINT before it is a transaction of its own, and its
    # RELEASE a commit that nobody hears of (tests/facts/test_sqlalchemy.py).
    if connection.dialect.name != "sqlite" or is_told_to_autocommit(connection):
        return
    if not getattr(connection.connection.driver_connection, "in_transaction", True):
        connection.exec_driver_sql("BEGIN")


def _after_execute(
    connection: Connection, statement: Any, multiparams: Any, params: Any, options: Any, result: Any
) -> None:
    if not isinstance(statement, Insert):
        return
    changes = peek(connection.info)
    if changes is None or not changes.undecided:
        return
    compiled = getattr(result.context, "compiled", None)
    table = statement.table if compiled is None else table_of(compiled)
    if isinstance(table, Table) and table.name in changes.undecided:
        changes.undecided.discard(table.name)
        changes.note_rows(table, _inserted(result), connection.dialect.name)


def _inserted(result: Any) -> list[Key] | None:
    """The primary keys that the database gave to the rows of an INSERT; None where the driver does not say."""
    context = result.context
    if context is None or not getattr(context, "isinsert", False):
        return None
    if context.executemany and not context.compiled.effective_returning:
        return None
    try:
        keys = [tuple(row) for row in result.inserted_primary_key_rows]
    except Exception:  # noqa: BLE001
        # which error says "not known" differs by version and dialect; not knowing costs hits only
        return None
    return keys if keys and all(part is not None for key in keys for part in key) else None
