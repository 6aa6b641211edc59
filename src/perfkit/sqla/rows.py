"""A row's name: its primary key as text, the same for whoever writes it down.

A reader makes it of the arguments of a call, a writer of the binds of a statement. They must
agree whenever the database would find the same row, so a name is only given where Python's
equality and the database's are known to be one: integers, UUIDs and plain strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote
from uuid import UUID

from sqlalchemy import Column, Integer, String, Table, TypeDecorator, Uuid

_PADDED = frozenset({"CHAR", "NCHAR", "CITEXT"})  # 'a' equals 'a ' there, or 'A'
EXACT_STRINGS = frozenset({"postgresql", "sqlite"})  # dialects that compare plain strings byte by byte


def row_name(table: Table, key: Sequence[object], *, dialect: str | None = None) -> str | None:
    """The primary key `key` of `table` as text; None where it could be spelt in another way.

    `dialect` is given by writers: where strings of a key may be equal without being
    the same (MariaDB's collations), None makes the writer name the whole table.
    """
    columns = list(table.primary_key.columns)
    if not columns or len(columns) != len(key):
        return None
    parts = [value_name(column, value, dialect) for column, value in zip(columns, key, strict=True)]
    return None if None in parts else ",".join(part for part in parts if part is not None)


def value_name(column: Column[Any], value: object, dialect: str | None) -> str | None:
    """`value` of `column` as text; None where it could be spelt in another way. `dialect` as for `row_name`."""
    kind = column.type
    if isinstance(kind, TypeDecorator):
        return None
    if isinstance(kind, Integer):
        return str(value) if type(value) is int else None
    if isinstance(kind, Uuid):
        return str(value) if type(value) is UUID and kind.as_uuid else None
    if not isinstance(kind, String) or kind.__visit_name__.upper() in _PADDED or kind.collation:
        return None
    exact = type(value) is str and (dialect is None or dialect in EXACT_STRINGS)
    return quote(str(value), safe="") if exact else None
