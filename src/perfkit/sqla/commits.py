"""The commit door: plain callables just before a COMMIT is sent, and just after it has come back.

SQLAlchemy has an event before a commit and none after it, and further listeners of the user may still
write in that event. So the dialect's own `do_commit` is wrapped: nothing can be added to the transaction
any more when `before` is called, and whatever it raises refuses the commit.

    COMMIT                    do_commit
    COMMIT PREPARED           do_commit_twophase: prepared data are invisible until then
    AUTOCOMMIT, text("COMMIT") around the statement itself; if it commits with its last row, its outcome is never known
    DDL and BEGIN in MariaDB  around the statement, which commits what was written before it, and at the COMMIT, too
    a SAVEPOINT's release     nothing: it commits nothing (Session.after_commit fires there, so it is not used)

Proof: tests/facts/test_sqlalchemy.py.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from enum import Enum
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Dialect, Engine, event

from perfkit.sqla.changes import Changes, Notes, changes_in, put_back, take
from perfkit.sqla.private import is_autocommit


class Outcome(Enum):
    """What became of a COMMIT, as far as the client knows."""

    COMMITTED = "the database said yes"
    ABORTED = "the database said no: nothing of it will ever be visible"
    UNKNOWN = "no answer, or none that can be trusted: it may become visible later"


Before = Callable[[Changes], Any]
After = Callable[[Any, Outcome], None]


class Hook(NamedTuple):
    """One user of the door. `before` may raise to refuse; `after` gets what `before` returned, unless that was None."""

    before: Before
    after: After


_TOKENS = "perfkit.commits"


class Door:
    """The listeners and wrapped methods of one engine's dialect. Owns the list of hooks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._dialect = engine.dialect
        self._hooks: list[Hook] = []
        self._notes = Notes(engine, self._before_statement)
        self._real = (self._dialect.do_commit, self._dialect.do_commit_twophase)

    def add(self, hook: Hook) -> None:
        if not self._hooks:
            self._notes.install()
            self._dialect.do_commit = self._do_commit  # type: ignore[method-assign]
            self._dialect.do_commit_twophase = self._do_commit_twophase  # type: ignore[method-assign]
            event.listen(self._engine, "after_cursor_execute", self._after_statement)
            event.listen(self._engine, "handle_error", self._after_error)
        self._hooks.append(hook)

    def drop(self, hook: Hook) -> None:
        self._hooks.remove(hook)
        if not self._hooks:
            self._notes.remove()
            self._dialect.do_commit, self._dialect.do_commit_twophase = self._real  # type: ignore[method-assign]
            event.remove(self._engine, "after_cursor_execute", self._after_statement)
            event.remove(self._engine, "handle_error", self._after_error)

    @property
    def is_unused(self) -> bool:
        return not self._hooks

    def _do_commit(self, dbapi_connection: Any) -> None:
        self._around(
            dbapi_connection.info,
            commit=lambda: self._real[0](dbapi_connection),
            rollback=lambda: self._dialect.do_rollback(dbapi_connection),
            # only SQLite leaves a transaction open when its COMMIT fails, and only its drivers have the attribute
            is_open=lambda: getattr(dbapi_connection.driver_connection, "in_transaction", False) is True,
        )

    def _do_commit_twophase(
        self, connection: Connection, xid: Any, is_prepared: bool = True, recover: bool = False
    ) -> None:
        if recover:  # another connection wrote it, of a process that may be dead
            changes_in(connection.info).everything = True
        self._around(
            connection.info,
            commit=lambda: self._real[1](connection, xid, is_prepared, recover),
            rollback=lambda: self._dialect.do_rollback_twophase(connection, xid, is_prepared, recover),
        )

    def _around(
        self,
        info: dict[Any, Any],
        *,
        commit: Callable[[], None],
        rollback: Callable[[], None],
        is_open: Callable[[], bool] = lambda: False,
    ) -> None:
        changes = take(info)
        try:
            tokens = self._before(changes)
        except BaseException:
            # SQLAlchemy takes the transaction for ended, whatever came of its COMMIT, and would give the connection
            # back to its pool with the changes still open (tests/cache/test_cached.py, veto).
            rollback()
            raise
        try:
            commit()
        except BaseException as error:
            if changes is not None and is_open():
                put_back(info, changes)  # the next COMMIT may make them visible
            self._after(tokens, outcome_of(error))
            raise
        self._after(tokens, Outcome.COMMITTED)

    def _before(self, changes: Changes | None) -> list[tuple[After, Any]]:
        if not changes:
            return []
        tokens: list[tuple[After, Any]] = []
        try:
            for hook in self._hooks:
                token = hook.before(changes)
                if token is not None:
                    tokens.append((hook.after, token))
        except BaseException:
            # refused: no COMMIT was sent, so those who were ready may stand down
            self._after(tokens, Outcome.ABORTED)
            raise
        return tokens

    def _after(self, tokens: list[tuple[After, Any]], outcome: Outcome) -> None:
        if len(tokens) == 1:
            after, token = tokens[0]
            after(token, outcome)
            return
        with ExitStack() as stack:  # each hears of it, also when one of them is interrupted
            for after, token in reversed(tokens):
                stack.callback(after, token, outcome)

    def _before_statement(self, connection: Connection, changes: Changes) -> None:
        if changes.commits or is_autocommit(connection):
            connection.info[_TOKENS] = self._before(take(connection.info))
        elif changes.may_commit:  # if it does not, they are announced again at the COMMIT
            changes.may_commit = False
            changes.settle()
            connection.info[_TOKENS] = self._before(changes)

    def _after_statement(
        self, connection: Connection, cursor: Any, sql: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        tokens = connection.info.pop(_TOKENS, None)
        if tokens:
            self._after(tokens, Outcome.UNKNOWN if _commits_later(connection, cursor, context) else Outcome.COMMITTED)

    def _after_error(self, context: Any) -> None:
        connection = context.connection
        if connection is None or connection.closed or connection.invalidated:
            return
        tokens = connection.info.pop(_TOKENS, None)
        if tokens:
            self._after(tokens, outcome_of(context.original_exception))


def _commits_later(connection: Connection, cursor: Any, context: Any) -> bool:
    """Whether a statement that commits by itself has rows to come: it commits when the last of them is read."""
    if cursor.description is None:
        return False
    by_rows = connection.dialect.name == "sqlite" and not connection.dialect.is_async
    return by_rows or bool(context.execution_options.get("stream_results"))


_doors: WeakKeyDictionary[Dialect, Door] = WeakKeyDictionary()


def around_commits(engine: Engine, before: Before, after: After) -> Callable[[], None]:
    """Call `before` with what a transaction changed, then let it commit, then `after` with the outcome.

    Transactions that changed nothing pass unseen. Returns the function that takes the two away again.
    """
    door = _doors.get(engine.dialect)
    if door is None:
        door = _doors[engine.dialect] = Door(engine)
    hook = Hook(before, after)
    door.add(hook)

    def take_away() -> None:
        door.drop(hook)
        if door.is_unused:
            _doors.pop(engine.dialect, None)  # it holds the dialect, and so would never go by itself

    return take_away


# what servers say when a COMMIT has certainly come to nothing, beside an SQLSTATE
_ABORTED_IN_SQLITE = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CONSTRAINT")
_ABORTED_IN_MARIADB = frozenset({1213, 1402, 1613, 1614})  # deadlock, and XA rolled back: at all, by time, by deadlock
_DRIVERS_OF_MARIADB = frozenset({"pymysql", "aiomysql", "asyncmy", "MySQLdb", "mariadb", "mysql"})


def outcome_of(error: BaseException) -> Outcome:
    """ABORTED only if the server itself said so for certain; never for a broken or shut-down connection."""
    for each in (error, error.__cause__, getattr(error, "orig", None)):
        state = getattr(each, "sqlstate", None)
        if isinstance(state, str) and len(state) == 5:
            return Outcome.UNKNOWN if state[:2] in ("08", "57") or state == "40003" else Outcome.ABORTED
        if str(getattr(each, "sqlite_errorname", "")).startswith(_ABORTED_IN_SQLITE) or _is_mariadbs_no(each):
            return Outcome.ABORTED
    return Outcome.UNKNOWN


def _is_mariadbs_no(error: object) -> bool:
    if not isinstance(error, Exception) or type(error).__module__.partition(".")[0] not in _DRIVERS_OF_MARIADB:
        return False
    return bool(error.args) and error.args[0] in _ABORTED_IN_MARIADB
