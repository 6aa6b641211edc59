"""The rows of a statement that has just run, and which columns and paths they are of.

count_rows          ExecutionContext.cursor_fetch_strategy, engine.cursor._DEFAULT_FETCH    else: not counted
joined_paths        ORMCompileState.attributes        else: none; joined eager loads are not judged
                    ORMCompileState.eager_joins       else: looked for in each statement, 0.5 µs
columns_of          SQLCompiler._result_columns       else: none; neither are rows of them
"""

from __future__ import annotations

from typing import Any, Protocol

from sqlalchemy import Column
from sqlalchemy.engine import cursor as _cursors
from sqlalchemy.engine.cursor import CursorFetchStrategy

DEFAULT_FETCH: Any = getattr(_cursors, "_DEFAULT_FETCH", None)


_fetchmany, _fetchall = CursorFetchStrategy.fetchmany, CursorFetchStrategy.fetchall


class Counted(Protocol):
    """What `count_rows` fills: the number of rows, the first of them, and as many as it still `keeps`."""

    rows: int | None
    first: Any
    keeps: int
    kept: list[Any] | None


class _Counting(CursorFetchStrategy):
    """Fetches as ever, and counts."""

    __slots__ = ("counted",)

    def __init__(self, counted: Counted) -> None:
        self.counted = counted

    def fetchone(self, result: Any, dbapi_cursor: Any, hard_close: bool = False) -> Any:
        row = super().fetchone(result, dbapi_cursor, hard_close)
        if row is not None:
            self._count((row,))
        return row

    def fetchmany(self, result: Any, dbapi_cursor: Any, size: int | None = None) -> Any:
        return self._count(_fetchmany(self, result, dbapi_cursor, size))

    def fetchall(self, result: Any, dbapi_cursor: Any) -> Any:
        return self._count(_fetchall(self, result, dbapi_cursor))

    def yield_per(self, result: Any, dbapi_cursor: Any, num: int) -> None:
        self.counted.rows = None
        super().yield_per(result, dbapi_cursor, num)

    def _count(self, rows: Any) -> Any:
        counted = self.counted
        if rows and (before := counted.rows) is not None:
            if not before:
                counted.first = rows[0]
            counted.rows = before + len(rows)
            if counted.keeps:
                counted.kept = [*(counted.kept or ()), *rows[: counted.keeps]]
                counted.keeps -= min(len(rows), counted.keeps)
        return rows


def count_rows(context: Any, counted: Counted) -> None:
    """Count the rows that are fetched of a statement that has just run; `rows` is None where that cannot be."""
    is_default = DEFAULT_FETCH is not None and getattr(context, "cursor_fetch_strategy", None) is DEFAULT_FETCH
    if not is_default or getattr(context, "_is_server_side", False):
        counted.rows = None
    else:
        context.cursor_fetch_strategy = _Counting(counted)


def joined_paths(compiled: Any) -> tuple[tuple[Any, ...], ...]:
    """The relationships, from the root on, that a compiled query fills by joined eager loading of its own choice."""
    state = getattr(compiled, "compile_state", None)
    if state is None or not getattr(state, "eager_joins", True):
        return ()
    attributes = getattr(state, "attributes", None) or ()
    found: tuple[tuple[Any, ...], ...] = ()
    for key in attributes:
        if type(key) is tuple and len(key) == 2 and key[0] == "eager_row_processor":
            found += (key[1],) if isinstance(key[1], tuple) and key[1] else ()
    return found


def columns_of(compiled: Any) -> list[tuple[str, Any] | None]:
    """For each column of a result, the name of the table or alias it is from, and the column."""
    found: list[tuple[str, Any] | None] = []
    for entry in getattr(compiled, "_result_columns", ()):
        columns = [each for each in entry[2] if isinstance(each, Column)]
        found.append((str(columns[0].table.name), columns[0]) if columns and columns[0].table is not None else None)
    return found
