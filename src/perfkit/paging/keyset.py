"""keyset(): a page after or before a position, at the cost of the page.

planned → read branches until the page is full → trim the keys off the rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypedDict, TypeVar, TypeVarTuple, Unpack, overload

from sqlalchemy import CompoundSelect, Result, Row, Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from perfkit.codec import Codec
from perfkit.errors import PagingDeclarationError
from perfkit.paging.count import Carried, Count
from perfkit.paging.cursor import Cursors, Memo, Position, Side, name_of
from perfkit.paging.kept import planned
from perfkit.paging.page import Edges, Page
from perfkit.paging.plan import Plan, text_of
from perfkit.paging.together import LIMIT
from perfkit.sqla.private import wants_unique

T = TypeVar("T")
U = TypeVar("U")
Ts = TypeVarTuple("Ts")

MAX_SIZE = 1000
OF_THIS_PROCESS = Cursors()


class Options(TypedDict, total=False):
    """What `keyset` takes besides, with its meaning there."""

    after: str | None
    before: str | None
    last: bool
    cursors: Cursors
    scope: str
    bind_filter: bool
    count: Count | None
    assume_unique: bool
    max_size: int


@overload
def keyset(session: Session, statement: Select[T], *, size: int, **options: Unpack[Options]) -> Page[T]: ...
@overload
def keyset(
    session: Session, statement: Select[T, U, *Ts], *, size: int, **options: Unpack[Options]
) -> Page[Row[T, U, *Ts]]: ...
@overload
def keyset(session: Session, statement: CompoundSelect[Any], *, size: int, **options: Unpack[Options]) -> Page[Any]: ...
def keyset(
    session: Session,
    statement: Any,
    *,
    size: int,
    after: str | None = None,
    before: str | None = None,
    last: bool = False,
    cursors: Cursors = OF_THIS_PROCESS,
    scope: str = "",
    bind_filter: bool = False,
    count: Count | None = None,
    assume_unique: bool = False,
    max_size: int = MAX_SIZE,
) -> Page[Any]:
    """The `size` rows of `statement` after a cursor, before one, the first or the `last` ones, in its order.

    The primary key is appended to the ORDER BY, ascending, where it can tie. Put the key in the direction of the
    other keys yourself, and a page is one range of the index instead of two.

    Args:
        session: what reads.
        statement: a SELECT, or a compound of them, without LIMIT and OFFSET.
        size: the number of items, unless the rows end before.
        after: the cursor of a page or an item; the page starts behind it.
        before: the same, and the page ends in front of it.
        last: the end of the rows.
        cursors: how cursors are signed; without it, they are good in this process only.
        scope: whom a cursor is for, such as a tenant: it is refused for another.
        bind_filter: refuse a cursor whose page had another WHERE, which else only moves to the same place there.
        count: what finds `total`: `exact`, `capped(1000)`, `estimated()`, `carried(exact)` or a function of session and
            statement.
        assume_unique: believe that the ORDER BY tells every two rows apart.
        max_size: the largest size that is allowed.

    Raises:
        InvalidCursor: `after` or `before` was not made here, for this ordering, scope and filter.
        NotUniqueOrder: nothing shows that the ORDER BY tells every two rows apart.
        PagingDeclarationError: a size out of range, two positions, or a statement that no page can be made of.
    """
    check_size(size, max_size)
    if (after is not None) + (before is not None) + bool(last) > 1:
        raise PagingDeclarationError("give one of after=, before= and last=.")
    made = planned(session, statement, assume_unique=assume_unique)
    names = Named(made, scope, bind_filter=bind_filter, cursors=cursors)
    text = before if after is None else after
    position = None if text is None else names.read(text)
    backward = bool(last) or before is not None
    found = fetch(session, made, position, size + 1, backward=backward)
    more = len(found.items) > size
    del found.items[size:], found.rows[size:]
    if backward:
        found.items.reverse()
        found.rows.reverse()
    came = position is not None
    total = None
    if isinstance(count, Carried):
        of = name_of(made.rows.encode(), count.name.encode())
        total, names.memo = count.total(session, statement, None if position is None else position.memo, of)
    elif count is not None:
        total = count(session, statement)
    return Page(
        items=found.items,
        has_next=came if backward else more,
        has_previous=more if backward else came,
        total=total,
        is_backward=backward,
        _edges=Edges(found.rows, made.places, position, names.write),
    )


@overload
async def akeyset(session: AsyncSession, statement: Select[T], *, size: int, **options: Unpack[Options]) -> Page[T]: ...
@overload
async def akeyset(
    session: AsyncSession, statement: Select[T, U, *Ts], *, size: int, **options: Unpack[Options]
) -> Page[Row[T, U, *Ts]]: ...
@overload
async def akeyset(
    session: AsyncSession, statement: CompoundSelect[Any], *, size: int, **options: Unpack[Options]
) -> Page[Any]: ...
async def akeyset(session: AsyncSession, statement: Any, *, size: int, **options: Unpack[Options]) -> Page[Any]:
    """`keyset` for an AsyncSession."""
    return await session.run_sync(lambda sync: keyset(sync, statement, size=size, **options))


def check_size(size: int, max_size: int) -> None:
    """Raises: PagingDeclarationError: it is not a number from 1 to `max_size`."""
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= max_size:
        raise PagingDeclarationError(f"size={size!r}: give a number from 1 to {max_size}.")


@dataclass(slots=True)
class Found:
    """Items, and the rows that they are of with their keys, in the order in which they were read."""

    items: list[Any]
    rows: list[Any]


def fetch(session: Session, made: Plan, position: Position | None, limit: int, *, backward: bool) -> Found:
    """Up to `limit` rows from a position on, or from an end."""
    if position is None:
        return read_rows(session.execute(made.start(backward=backward), {LIMIT: limit, **made.values}), made)
    inclusive = position.side is (Side.AFTER if backward else Side.BEFORE)
    nulls = tuple(value is None for value in position.values)
    values = dict(made.values)
    values.update((key.name, key.value(value)) for key, value in zip(made.keys, position.values, strict=True))
    found = Found([], [])
    for statement in made.beyond(nulls, backward=backward, inclusive=inclusive):
        part = read_rows(session.execute(statement, {LIMIT: limit - len(found.items), **values}), made)
        found.items += part.items
        found.rows += part.rows
        if len(found.items) >= limit:
            break
    return found


def read_rows(result: Result[Any], made: Plan) -> Found:
    """The rows of a result, without the keys that were added to them, and with them."""
    if wants_unique(result):
        # joined collections repeat a row once for each member; what tells rows apart is their keys
        result = result.unique(lambda row: _CODEC.pack([row[place] for place in made.places]))
    if made.width == 1:
        rows = list(result.all())
        return Found([row[0] for row in rows], rows)
    if max(made.places, default=0) < made.width:
        items = list(result.all())
        return Found(items, items.copy())
    frozen = result.freeze()
    return Found(list(frozen().columns(*range(made.width)).all()), list(frozen.data))


_CODEC = Codec()


class Named:
    """Cursors of one ordering, scope and filter."""

    def __init__(self, made: Plan, scope: str, *, bind_filter: bool, cursors: Cursors) -> None:
        self._made, self._scope, self._bind_filter, self._cursors = made, scope, bind_filter, cursors
        self._name: bytes | None = None
        self.memo: Memo | None = None
        """What they carry besides."""

    def read(self, text: str) -> Position:
        return self._cursors.read(text, self.name, len(self._made.keys))

    def write(self, position: Position) -> str:
        return self._cursors.write(replace(position, memo=self.memo), self.name)

    @property
    def name(self) -> bytes:
        """What its cursors are sealed under."""
        if self._name is None:
            made = self._made
            bound = self._bind_filter and made.condition is not None
            where = text_of(made.condition, made.values) if bound else ""
            self._name = name_of(made.ordering.encode(), self._scope.encode(), where.encode())
        return self._name
