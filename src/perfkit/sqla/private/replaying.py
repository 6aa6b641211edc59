"""Rows that were read at once, and become entities when somebody asks for them.

Replay              ChunkedIteratorResult.chunks, .raw, CursorResult.fetchmany of one object,
SQLCompiler.compile_state, .orm_setup_cursor_result, .eager_joins    else: nothing is batched
CursorResult._raw_all_tuples      else: fetchall(), whose rows are dearer to read
CursorResult._tuple_getter        else: by labels only; nobody knows the columns of a row ahead
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult, Executable
from sqlalchemy.engine.result import ChunkedIteratorResult
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import ORMExecuteState
from sqlalchemy.orm.attributes import instance_state


class Replay:
    """The rows of one statement, read at once, that become entities when they are asked for.

    Owns the result of SQLAlchemy, whose rows were taken out; `rows` are they. `is_flat` when a row is one entity and
    nothing else is loaded with it by a join: then all of them go through one context, which was prepared once. Else,
    and for a refresh, each goes through one of its own, as it would for a statement of its own.
    """

    __slots__ = ("_chunks", "_cursor", "_given", "_run", "_statement", "is_busy", "is_flat", "rows", "run")

    def __init__(self, result: ChunkedIteratorResult[Any], statement: Executable) -> None:
        cursor: Any = result.raw
        self._statement = statement
        if not isinstance(cursor, CursorResult):
            raise LookupError("raw")
        self._cursor: Any = cursor
        context: Any = result.context
        self._run = context.runid
        self.run = float(self._run) + 0.5
        """The run of entities that come of it; see `run_of`."""
        self._chunks: Any = result.chunks(1)
        read_all: Any = getattr(cursor, "_raw_all_tuples", cursor.fetchall)
        self.rows: list[Any] = list(read_all())
        given: list[list[Any]] = [[]]  # a list, so that the cursor need not know who reads it
        cursor.fetchmany = lambda size=None: given[0]  # type: ignore[method-assign]
        self._given = given
        self.is_flat = not _compiled_state(cursor).eager_joins
        self.is_busy = False

    @property
    def connection(self) -> Connection:
        """That which sent it."""
        connection: Connection = self._cursor.connection
        return connection

    def taking(self, columns: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]] | None:
        """What takes the values of these columns, or labels, out of a row; None if it has not got all of them."""
        make: Any = getattr(self._cursor, "_tuple_getter", self._by_label)
        try:
            found: Callable[[Any], tuple[Any, ...]] = make(columns)
        except (KeyError, InvalidRequestError):
            return None
        return found

    def _by_label(self, labels: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
        keys = {key: place for place, key in enumerate(self._cursor.keys())}
        places = [keys[each] for each in labels]
        return lambda row: tuple(row[place] for place in places)

    def entities(self, rows: list[Any], execution: ORMExecuteState | None) -> list[Any]:
        """What `rows` are in the session now, as `execution` would have made them of it; each once."""
        if not rows:
            return []
        last: Any = self._run
        self.is_busy = True
        try:
            self._given[0] = rows
            if execution is None and self.is_flat:
                chunk = next(self._chunks)
            else:
                assert execution is not None
                result = self._prepare(execution)
                last = result.context.runid
                chunks: Any = result.chunks(1)
                chunk = next(chunks)
                chunks.close()
        finally:
            self.is_busy = False
            self._given[0] = []
        made = [row[0] for row in chunk] if isinstance(chunk[0], tuple) else list(chunk)
        chunk.clear()  # the generator holds it, and with it the entities
        if len(made) > 1:
            made = list(dict(zip(map(id, made), made, strict=True)).values())
        run: Any = self.run
        for entity in made:
            # with the number of its context, the next row of the same entity would be one more of the same load
            if entity is not None and (state := instance_state(entity)).runid == last:
                state.runid = run
        return made

    def _prepare(self, execution: ORMExecuteState) -> Any:
        return type(_compiled_state(self._cursor)).orm_setup_cursor_result(
            execution.session,
            self._statement,
            execution.parameters or {},
            execution.execution_options,
            dict(execution.bind_arguments),
            self._cursor,
        )


def _compiled_state(cursor: Any) -> Any:
    return cursor.context.compiled.compile_state
