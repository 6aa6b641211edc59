"""A row's name: its primary key as text, the same for whoever writes it down.

A reader makes it of the arguments of a call, a writer of the binds of a statement. They must
agree whenever the database would find the same row, so a name is only given where Python's
equality and the database's are known to be one: integers, UUIDs and plain strings.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any, Literal, cast
from urllib.parse import quote
from uuid import UUID

from sqlalchemy import Column, Integer, String, Table, TypeDecorator, Uuid
from sqlalchemy.types import NullType, TypeEngine

from perfkit.sqla.private import variants_of

MAX_NAME = 200  # characters of a value's name; a longer one is none, since a cell's key would become as long
_BEYOND = 10 ** (MAX_NAME - 1)  # compared before it is written out: Python refuses to, beyond 4,300 digits
EXACT_STRINGS = frozenset({"postgresql", "sqlite"})  # dialects that compare plain strings byte by byte

_PADDED = frozenset({"CHAR", "NCHAR", "CITEXT"})  # 'a' equals 'a ' there, or 'A'
# what a type of somebody's own may say, so that what is sent, found or compared is not the value itself
_CHANGING = frozenset(
    {
        "adapt",
        "bind_expression",
        "bind_processor",
        "column_expression",
        "comparator_factory",
        "dialect_impl",
        "load_dialect_impl",
        "result_processor",
    }
)

Likeness = Literal["integer", "uuid", "string"]


def row_name(table: Table, key: Sequence[object], *, dialect: str | None = None) -> str | None:
    """The primary key `key` of `table` as text; None where it could be spelt in another way.

    `dialect` is given by writers: where strings of a key may be equal without being
    the same (MariaDB's collations), None makes the writer name the whole table.
    """
    columns = list(table.primary_key.columns)  # once: asking it anything is a call of SQLAlchemy's
    if not columns or len(columns) != len(key):
        return None
    parts: list[str] = []
    for column, value in zip(columns, key, strict=True):
        part = value_name(column, value, dialect)
        if part is None:
            return None
        parts.append(part)
    name = ",".join(parts)
    return None if len(name) > MAX_NAME else name


def value_name(column: Column[Any], value: object, dialect: str | None) -> str | None:
    """`value` of `column` as text; None where it could be spelt in another way. `dialect` as for `row_name`."""
    like = likeness(column.type, dialect)
    if like == "integer":
        return str(value) if type(value) is int and -_BEYOND < value < _BEYOND else None
    if like == "uuid":
        return str(value) if is_uuid(type(value)) else None
    if like is None or type(value) is not str or not (dialect is None or dialect in EXACT_STRINGS):
        return None
    # PostgreSQL cuts off spaces beyond the length
    if len(value) > min((kind.length or MAX_NAME for kind in _kinds(column.type, dialect)), default=0):  # type: ignore[attr-defined]
        return None
    name = quote(value, safe="")
    return name if len(name) <= MAX_NAME else None


def is_uuid(kind: type) -> bool:
    """Whether the values of a class are UUIDs, and nothing more: asyncpg has a class of its own, and loads those."""
    return kind is UUID or (issubclass(kind, UUID) and kind.__module__.startswith("asyncpg."))


def likeness(kind: TypeEngine[Any], dialect: str | None) -> Likeness | None:
    """Of what kind the values of a type are; None where equal ones may look different, or be sent as others."""
    # one of somebody's own may be equal to others, or have no hash
    is_itself = type(kind).__hash__ is object.__hash__
    return _likeness_known(kind, dialect) if is_itself else _likeness_of(kind, dialect)


def _likeness_of(kind: TypeEngine[Any], dialect: str | None) -> Likeness | None:
    found: set[Likeness | None] = {_likeness(each) for each in _kinds(kind, dialect)}
    return found.pop() if len(found) == 1 else None


_likeness_known = lru_cache(maxsize=4096)(_likeness_of)  # each row that is written is asked


def sends_as_it_is(kind: TypeEngine[Any], dialect: str | None) -> bool:
    """Whether a bind of this type sends a value of ours without making another one of it."""
    return isinstance(kind, NullType) or likeness(kind, dialect) is not None


def _kinds(kind: TypeEngine[Any], dialect: str | None) -> list[TypeEngine[Any]]:
    """The type that stands for `kind` in the dialect; of no dialect, all that may."""
    variants = variants_of(kind)
    return [kind, *variants.values()] if dialect is None else [variants.get(dialect, kind)]


def _likeness(kind: TypeEngine[Any]) -> Likeness | None:
    if isinstance(kind, TypeDecorator) or _changes_values(cast(Hashable, type(kind))):
        return None
    if isinstance(kind, Integer):
        return "integer"
    if isinstance(kind, Uuid):
        return "uuid" if kind.as_uuid else None
    if not isinstance(kind, String) or kind.__visit_name__.upper() in _PADDED or kind.collation:
        return None
    return "string"


@lru_cache(maxsize=512)
def _changes_values(cls: Hashable) -> bool:
    assert isinstance(cls, type)
    own = [each for each in cls.__mro__ if not each.__module__.startswith(("sqlalchemy.", "builtins", "typing"))]
    return any(not _CHANGING.isdisjoint(vars(each)) for each in own)
