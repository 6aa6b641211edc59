"""Everything, in chunks: a walk that can be taken up again anywhere, and parts for several workers.

Each chunk is a page, so what is committed in between is seen in those that follow, no transaction has to stay open, and
the cursor of a chunk is all that is needed to go on after a crash. Measured over a million rows, chunks of 5,000 take
as long as a server-side cursor (1.27 s and 1.23 s), chunks of 1,000 twice as long, OFFSET 53 times.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import Integer, Select, and_, func
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from perfkit.errors import PagingDeclarationError
from perfkit.paging.cursor import Cursors
from perfkit.paging.keyset import OF_THIS_PROCESS, keyset
from perfkit.paging.page import Page
from perfkit.sqla.ordering import has_aggregate, has_window
from perfkit.sqla.private import parts_of, without_locks
from perfkit.sqla.uniqueness import keys_of, sources_of

CHUNK = 5_000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an export is: chunks and items since it began, and where it would go on; None at the end."""

    chunks: int
    items: int
    resume: str | None


def export(
    session: Session,
    statement: Any,
    *,
    chunk: int = CHUNK,
    after: str | None = None,
    cursors: Cursors = OF_THIS_PROCESS,
    scope: str = "",
    progress: Callable[[Progress], None] | None = None,
    assume_unique: bool = False,
) -> Iterator[Page[Any]]:
    """All rows of `statement` in its order, a page of `chunk` at a time.

    Entities of a chunk leave the session with the next one unless something holds or has changed them, so that memory
    does not grow.

    Args:
        session: what reads.
        statement: a SELECT, or a compound of them, without LIMIT and OFFSET.
        chunk: items per page; below 5,000 it takes longer.
        after: the `next` of an earlier export's page, to go on behind it.
        cursors: how cursors are signed; give some if another process is to go on.
        scope: whom a cursor is for.
        progress: called after each chunk has been used.
        assume_unique: believe that the ORDER BY tells every two rows apart.

    Raises:
        InvalidCursor: `after` is not of this ordering.
        NotUniqueOrder: nothing shows that the ORDER BY tells every two rows apart.
        PagingDeclarationError: a chunk below 1, or a statement that no page can be made of.
    """
    _check_number("chunk", chunk)
    chunks = items = 0
    same: Any = {"cursors": cursors, "scope": scope, "assume_unique": assume_unique}
    while True:
        page = keyset(session, statement, size=chunk, max_size=chunk, after=after, **same)
        if page.items or not chunks:
            yield page
        chunks, items, after = chunks + 1, items + len(page), page.next
        if progress is not None:
            progress(Progress(chunks, items, after))
        if after is None:
            return
        del page


async def aexport(
    session: AsyncSession,
    statement: Any,
    *,
    chunk: int = CHUNK,
    after: str | None = None,
    cursors: Cursors = OF_THIS_PROCESS,
    scope: str = "",
    progress: Callable[[Progress], None] | None = None,
    assume_unique: bool = False,
) -> AsyncIterator[Page[Any]]:
    """`export` for an AsyncSession."""
    same: Any = {"cursors": cursors, "scope": scope, "progress": progress, "assume_unique": assume_unique}

    def walk(sync: Session) -> Iterator[Page[Any]]:
        return export(sync, statement, chunk=chunk, after=after, **same)

    pages = await session.run_sync(walk)
    while (page := await session.run_sync(lambda sync: next(pages, None))) is not None:
        yield page


def split(session: Session, statement: Select[Any], parts: int) -> list[Select[Any]]:
    """`statement` as up to `parts` statements without a row in common, for as many workers.

    Cut by the first column of the primary key of the first table, which has to be a number: between its smallest and
    largest value at even distances, which costs two look-ups in its index. Where the keys have gaps, parts are unequal.

    Raises:
        PagingDeclarationError: less than one part, no such column, or rows that are made of several, which parts would
            change: of groups, DISTINCT, a window function, a UNION or a FULL JOIN.
    """
    _check_number("parts", parts)
    if (wrong := _changed_by_parts(statement)) is not None:
        raise PagingDeclarationError(f"split() would change the rows of a statement with {wrong}: export it in one.")
    column = _cut_by(statement)
    plain = without_locks(statement).order_by(None)
    ends = plain.with_only_columns(func.min(column), func.max(column), maintain_column_froms=True)
    low, high = tuple(session.execute(ends).one())
    if low is None:
        return [statement]
    width = -(-(high - low + 1) // parts)
    bounds = range(low + width, high + 1, width)
    edges = [None, *bounds, None]
    return [
        statement.where(and_(*_between(column, start, end))) if len(edges) > 2 else statement
        for start, end in pairwise(edges)
    ]


def _check_number(option: str, number: object) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise PagingDeclarationError(f"{option}={number!r}: give 1 or more.")


def _between(column: Any, start: int | None, end: int | None) -> list[Any]:
    found = [] if start is None else [column >= start]
    return found if end is None else [*found, column < end]


def _changed_by_parts(statement: Any) -> str | None:
    """What in a statement makes its rows depend on others, which may be in another part."""
    if not isinstance(statement, Select):
        return "more than one SELECT, or none"
    parts, selected = parts_of(statement), list(statement.selected_columns)
    if parts.is_limited:
        return "a LIMIT or OFFSET of its own"
    if parts.group_by or any(map(has_aggregate, selected)):
        return "groups"
    if parts.is_distinct or parts.distinct_on:
        return "DISTINCT"
    if any(map(has_window, selected)):
        return "a window function"
    if any(source.optional for source in sources_of(statement).all[:1]):
        return "a FULL JOIN"
    return None


def _cut_by(statement: Any) -> Any:
    for source in sources_of(statement).all[:1]:
        for key in keys_of(source.selectable)[:1]:
            first = next(column for column in source.selectable.c if column in key)
            if isinstance(first.type, Integer):
                return first
    raise PagingDeclarationError("split() needs a primary key whose first column is an integer.")
