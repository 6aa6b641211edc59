"""Read by mypy and pyright, never run: a statement keeps its type when a profile is applied."""

from __future__ import annotations

from typing import assert_type

from sqlalchemy import Select, String, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, mapped_column
from sqlalchemy.orm.interfaces import LoaderOption

from perfkit.loading import EagerProfile, Strictness, joined, lazy, many, never, one, set_strictness


class Base(DeclarativeBase): ...


class Bin(Base):
    __tablename__ = "bins"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))


class Card(EagerProfile, fields=("name",)):
    organization = one(fields=["id", "name"], city=joined())
    collections = many()


class BinList(Card, EagerProfile, entity=Bin, fields=["id", "name"], subclasses=(Card,)):
    organization = one(Card, fields=("id",), created_by=never())
    collections = never()
    updated_by = lazy()


def statements() -> None:
    assert_type(BinList.apply(select(Bin)), Select[Bin])
    assert_type(BinList.apply(select(Bin, Bin.id), strictness="lazy"), Select[Bin, int])
    assert_type(BinList.apply(select(aliased(Bin)).where(Bin.id == 1).limit(3)), Select[Bin])
    assert_type(BinList.options(), tuple[LoaderOption, ...])
    assert_type(set_strictness("raise"), Strictness)


def synchronous(session: Session) -> None:
    assert_type(session.scalars(BinList.apply(select(Bin))).one(), Bin)
    assert_type(session.get(Bin, 1, options=BinList.options()), Bin | None)


async def suspending(session: AsyncSession) -> None:
    assert_type((await session.scalars(BinList.apply(select(Bin)))).one(), Bin)


def wrong() -> None:
    BinList.apply(Bin)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    set_strictness("strict")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    one(organization="Card")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
