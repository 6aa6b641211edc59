"""Read by mypy and pyright, never run: a page has the type of what its statement selects."""

from __future__ import annotations

from typing import Any, assert_type

from sqlalchemy import Row, String, func, select, union
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from perfkit.paging import Page, akeyset, keyset


class Base(DeclarativeBase): ...


class Bin(Base):
    __tablename__ = "bins"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))


def pages(session: Session) -> None:
    page = keyset(session, select(Bin).order_by(Bin.name), size=20)
    assert_type(page, Page[Bin])
    assert_type(page.items, list[Bin])
    assert_type(page.next, str | None)
    assert_type(keyset(session, select(Bin.name), size=20, after=page.next), Page[str])
    assert_type(keyset(session, select(Bin, func.count(Bin.id)), size=20, last=True), Page[Row[Bin, int]])
    assert_type(keyset(session, union(select(Bin.id), select(Bin.id)), size=20), Page[Any])


async def awaited(session: AsyncSession) -> None:
    assert_type(await akeyset(session, select(Bin), size=20, before=None), Page[Bin])
    assert_type(await akeyset(session, select(Bin.id, Bin.name), size=20), Page[Row[int, str]])
