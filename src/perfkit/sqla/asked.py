"""What a block of code asks the database, as SQL with its values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event


@contextmanager
def asked_of(connection: Connection) -> Iterator[list[tuple[str, Any]]]:
    """The statements that `connection` executes in a block, as it gives them to the driver."""
    asked: list[tuple[str, Any]] = []

    def note(_: Connection, __: Any, sql: str, values: Any, *___: Any) -> None:
        asked.append((sql, values))

    event.listen(connection, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(connection, "before_cursor_execute", note)
