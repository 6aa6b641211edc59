"""Keys: how a column of an ordering is read, how its value is bound again, what comes after it, per database.

Values travel as the driver gave them, past SQLAlchemy's types: a type may round (Numeric on SQLite), shift (a
TypeDecorator) or widen, and then `key > value` is about another value than the row's. Four kinds do not survive the
driver either:

    REAL and FLOAT      read as DOUBLE, which holds each of them exactly; PostgreSQL and MariaDB
    intervals, arrays, ranges, jsonb, addresses      read as text and cast back; PostgreSQL
    what has no type in SQLAlchemy     read as text, bound as a literal whose type the server finds; psycopg
    ENUM of MariaDB     sorted by number and compared by name, so its number is the key
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Column, Dialect, Text, and_, bindparam, cast, literal_column, select, true, tuple_, type_coerce
from sqlalchemy import types as kinds
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.elements import ColumnClause, Grouping
from sqlalchemy.sql.expression import ColumnElement

from perfkit.errors import PagingDeclarationError
from perfkit.sqla.ordering import Term


class Raw(kinds.UserDefinedType[Any]):
    """What the driver gives and takes. NullType is not it: beside a column, it becomes the column's type."""

    cache_ok = True

    def get_col_spec(self, **told: Any) -> str:
        """Nothing is ever cast to it."""
        raise NotImplementedError


_UNTYPED = Raw()
# As the driver gives them, they are exact.
_PLAIN = (
    *(kinds.Integer, kinds.Numeric, kinds.String, kinds.Boolean, kinds.Date, kinds.DateTime, kinds.Time),
    *(kinds.LargeBinary, kinds.Uuid),
)
_NULLS_LOW = frozenset({"sqlite", "mysql", "mariadb", "mssql"})
_WITHOUT_NULLS_FIRST = frozenset({"mysql", "mariadb", "mssql"})
_ROW_VALUES = frozenset({"postgresql", "sqlite"})  # MariaDB has them, and no index helps it there


@dataclass(frozen=True, slots=True)
class Key:
    """A term of the ordering on one database. `read` is selected, `compared` stands in conditions."""

    name: str
    """Under which its value is bound."""
    term: Term
    nullable: bool
    aggregate: bool
    compared: ColumnElement[Any]
    read: ColumnElement[Any]
    recast: Any
    """The type that a bound text is cast to, if it is."""
    nulls_first: bool
    native_nulls: bool
    in_rows: bool
    plans_by_value: bool

    def reversed(self) -> Key:
        """The same key, read from the end."""
        return replace(self, term=self.term.reversed(), nulls_first=not self.nulls_first)

    def value(self, value: Any) -> Any:
        """What a cursor holds, as it is bound: the date of another driver as the text that this one casts."""
        return value if self.recast is None or value is None else str(value)

    def bound(self) -> ColumnElement[Any]:
        """Where the value of a cursor is put in, to be compared with the key."""
        bind: Any = bindparam(self.name, type_=_UNTYPED)
        if self.recast is None:
            return bind  # type: ignore[no-any-return]
        return cast(cast(bind, Text), self.recast)

    def unseen(self) -> ColumnElement[Any]:
        """`bound`, so that a planner does not see the value.

        Beside `a IS NULL`, PostgreSQL sees that few rows have `id < 3340` and takes the primary key for them, with
        2,331 rows of 3,340 filtered and a sort; it does not know that an index on (a, id) has them in order.
        """
        expression, kind = self.term.expression, self.term.expression.type
        if not self.plans_by_value or not isinstance(expression, Column):
            return self.bound()
        seen = kinds.BigInteger() if isinstance(kind, kinds.Integer) else kind
        return select(cast(self.bound(), seen)).scalar_subquery()

    def equals(self, is_null: bool) -> ColumnElement[Any]:
        """What has the value, or NULL, on this key."""
        return self.compared.is_(None) if is_null else self.compared.op("=", is_comparison=True)(self.bound())

    def beyond(self, is_null: bool, *, unseen: bool) -> list[ColumnElement[Any]]:
        """What comes after the value, or NULL, on this key: ranges, in the order of the rows in them."""
        if is_null:
            return [self.compared.is_not(None)] if self.nulls_first else []
        after = _after(self.compared, self.unseen() if unseen else self.bound(), self.term.descending)
        return [after, self.compared.is_(None)] if self.nullable and not self.nulls_first else [after]

    def ordered(self) -> list[ColumnElement[Any]]:
        """What stands for it in ORDER BY: what the statement says, so that an index for that serves it."""
        shown, explicit = self.term.shown, self.term.nulls_first
        element = shown.desc() if self.term.descending else shown.asc()
        if explicit is None:
            return [element]
        if self.native_nulls:
            return [element.nulls_first() if explicit else element.nulls_last()]
        is_null = self.term.expression.is_(None)
        return [is_null.desc() if explicit else is_null.asc(), element]


def key_of(term: Term, name: str, dialect: Dialect, *, nullable: bool, aggregate: bool) -> Key:
    """A term as the key of a page on `dialect`."""
    database, kind = dialect.name, term.expression.type
    compared = term.expression
    if not isinstance(compared, ColumnClause):
        compared = Grouping(compared)  # `a > 1` beside `=`
    read: ColumnElement[Any] = type_coerce(compared, _UNTYPED)
    recast, in_rows = None, database in _ROW_VALUES
    if database == "postgresql":
        read, recast = _on_postgresql(compared, kind, dialect)
    elif database in ("mysql", "mariadb"):
        if isinstance(kind, kinds.Float):
            read = type_coerce(cast(compared, kinds.Double), _UNTYPED)
        elif isinstance(kind, kinds.Enum) and kind.native_enum:
            compared = compared.op("+")(literal_column("0"))
            read = type_coerce(compared, _UNTYPED)
    nulls_first = term.nulls_first
    if nulls_first is None:
        nulls_first = (database in _NULLS_LOW) is not term.descending
    native = database not in _WITHOUT_NULLS_FIRST
    by_value = database == "postgresql" and isinstance(kind, kinds.Integer | kinds.Uuid)
    return Key(name, term, nullable, aggregate, compared, read, recast, nulls_first, native, in_rows, by_value)


def _on_postgresql(compared: ColumnElement[Any], kind: Any, dialect: Dialect) -> tuple[ColumnElement[Any], Any]:
    """How to read it, and what to cast it back to."""
    kind = kind.dialect_impl(dialect) if isinstance(kind, kinds.TypeDecorator) else kind
    kind = kind.impl if isinstance(kind, kinds.TypeDecorator) else kind
    if isinstance(kind, kinds.JSON) and not isinstance(kind, postgresql.JSONB):
        raise PagingDeclarationError(
            f"ORDER BY {compared}: PostgreSQL has no order for json; cast it to jsonb or text."
        )
    if isinstance(kind, kinds.Float):
        return type_coerce(cast(compared, kinds.Double), _UNTYPED), None
    if dialect.driver == "asyncpg" and (isinstance(kind, kinds.Date) or getattr(kind, "timezone", False)):
        return type_coerce(cast(compared, Text), _UNTYPED), kind  # it takes the first and last day for infinity
    if isinstance(kind, _PLAIN):
        return type_coerce(compared, _UNTYPED), None
    if isinstance(kind, kinds.NullType):
        if dialect.driver == "asyncpg":  # binds what the server says that it wants, in its own format
            return type_coerce(compared, _UNTYPED), None
        return type_coerce(cast(compared, Text), _UNTYPED), None
    return type_coerce(cast(compared, Text), _UNTYPED), kind


def form_of(kind: Any, dialect: Dialect) -> str:
    """What the values of a type are to a driver: text, a number, a date.

    Those of no known type are text for psycopg and what asyncpg makes of them.
    """
    if isinstance(kind, kinds.NullType):
        return "asyncpg's" if dialect.driver == "asyncpg" else "text"
    try:
        return str(kind.python_type.__name__)
    except NotImplementedError:
        return type(kind).__name__


def is_as_it_is(column: Column[Any], dialect: Dialect) -> bool:
    """Whether its values reach Python as the driver gives them, and go back so: whole numbers and text."""
    kind = column.type
    plain = isinstance(kind, kinds.Integer | kinds.String) and not isinstance(kind, kinds.Enum)
    if not plain or kind.column_expression(column) is not None:
        return False
    return kind.dialect_impl(dialect).result_processor(dialect, None) is None


def after_rows(keys: Sequence[Key], *, unseen: bool) -> ColumnElement[Any]:
    """What comes after the values of keys without NULLs and of one direction: a comparison of row values."""
    ours = tuple_(*(key.compared for key in keys))
    theirs = tuple_(*(key.unseen() if unseen else key.bound() for key in keys))
    return _after(ours, theirs, keys[0].term.descending)


def all_of(conditions: Sequence[ColumnElement[Any]]) -> ColumnElement[Any]:
    """Every one of them; of none, everything: a statement of one row has no keys."""
    if not conditions:
        return true()
    return conditions[0] if len(conditions) == 1 else and_(*conditions)


def _after(left: Any, right: Any, descending: bool) -> ColumnElement[Any]:
    compared: ColumnElement[Any] = left.op("<" if descending else ">", is_comparison=True)(right)
    return compared
