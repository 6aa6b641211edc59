"""The last page of the longest list, as OFFSET reads it and as keyset() does: the same rows, and not the same time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from perfkit.paging import keyset
from wastemgmt.load.plan import PAGE
from wastemgmt.models import Collection

ROUNDS = 15


@dataclass(frozen=True, slots=True)
class Deep:
    """How far in the page is, and what it took."""

    rows_before: int
    offset_ms: float
    keyset_ms: float


async def measure(engine: AsyncEngine) -> Deep:
    """Medians of some rounds, in turn; with the ORM's part, in which both make the same entities."""
    async with AsyncSession(engine) as session:
        return await session.run_sync(_measure)


def _measure(session: Session) -> Deep:
    newest = Collection.listed("newest")
    before = (session.execute(select(func.count()).select_from(Collection))).scalar_one() - PAGE
    cursor = keyset(session, newest, size=PAGE + 1, last=True).cursor(0)
    by_offset, by_keyset = newest.offset(before).limit(PAGE), _after(newest, cursor)
    if [each.id for each in session.scalars(by_offset)] != [each.id for each in by_keyset(session)]:
        raise RuntimeError("OFFSET and keyset() read other rows")
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        times[0].append(_ms(session, lambda session: list(session.scalars(by_offset))))
        times[1].append(_ms(session, by_keyset))
    return Deep(before, round(median(times[0]), 1), round(median(times[1]), 1))


def _after(statement: Select[Collection], cursor: str) -> Callable[[Session], list[Collection]]:
    return lambda session: keyset(session, statement, size=PAGE, after=cursor).items


def _ms(session: Session, read: Callable[[Session], list[Collection]]) -> float:
    session.expunge_all()
    began = time.perf_counter()
    read(session)
    return (time.perf_counter() - began) * 1000
