"""Bins, and how full they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from geoalchemy2 import Geometry, WKBElement
from sqlalchemy import ForeignKey, Index, Select, String, case, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column, relationship

from wastemgmt.models.base import Base, Kept
from wastemgmt.models.customer import Customer
from wastemgmt.perf import cache

OVERFLOWING_PERCENT = 90
OVERDUE_DAYS = 14
RECENT_DAYS = 30


class BinType(StrEnum):
    """What goes into it."""

    GENERAL = "general"
    PAPER = "paper"
    GLASS = "glass"
    PLASTIC = "plastic"
    BIO = "bio"
    METAL = "metal"


class BinStatus(StrEnum):
    """Whether it is emptied."""

    ACTIVE = "active"
    MAINTENANCE = "maintenance"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class BinsOfType:
    """The bins of one type; weight is what was collected from them in the last 30 days of the data."""

    bin_type: str
    bins: int
    capacity_l: int
    mean_fill_percent: float
    overflowing: int
    collections: int
    weight_kg: float


@dataclass(frozen=True, slots=True)
class BinsOfCategory:
    """The bins at customers of one category."""

    category: str
    customers: int
    bins: int
    mean_fill_percent: float


@dataclass(frozen=True, slots=True)
class BinStatistics:
    """All bins, or those of one organization's customers."""

    organization_id: int | None
    bins: int
    by_status: dict[str, int]
    by_type: list[BinsOfType]
    by_category: list[BinsOfCategory]
    overdue: int
    """Active bins that were not collected for 14 days before the newest collection."""
    newest_collection: datetime | None


class Bin(Kept, Base):
    """A container at a customer's door."""

    __tablename__ = "bins"
    __cache_tags__ = ("customer_id",)

    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), index=True)
    bin_type: Mapped[str] = mapped_column(String(20))
    capacity_l: Mapped[int]
    fill_percent: Mapped[int] = mapped_column(default=0, server_default="0")
    status: Mapped[str] = mapped_column(String(20), default=BinStatus.ACTIVE, server_default="active")
    location: Mapped[WKBElement] = mapped_column(Geometry("POINT", srid=4326))
    last_collected_at: Mapped[datetime | None]

    customer: Mapped[Customer] = relationship(back_populates="bins")

    @classmethod
    def orders(cls) -> dict[str, tuple[Any, ...]]:
        """The fullest first, or those that wait longest; a bin that was never collected waits longest of all."""
        return {
            "fill": (cls.fill_percent.desc(), cls.id.desc()),
            "waiting": (cls.last_collected_at.asc().nulls_first(), cls.id),
        }

    @classmethod
    @cache.query(ttl=timedelta(minutes=15))
    async def statistics(cls, session: AsyncSession, organization_id: int | None = None) -> BinStatistics:
        """Counts, fill levels and weights; six statements over bins, customers and collections."""
        from wastemgmt.models.collection import Collection

        newest = await Collection.newest(session)
        by_status = await session.execute(_bins_of(organization_id, cls.status, func.count()).group_by(cls.status))
        counts: dict[str, int] = dict(by_status.all())
        overdue = _bins_of(organization_id, func.count()).where(cls.status == BinStatus.ACTIVE)
        if newest is not None:
            before = newest - timedelta(days=OVERDUE_DAYS)
            overdue = overdue.where(or_(cls.last_collected_at.is_(None), cls.last_collected_at < before))
        return BinStatistics(
            organization_id=organization_id,
            bins=sum(counts.values()),
            by_status=dict(sorted(counts.items())),
            by_type=await _by_type(session, organization_id, newest),
            by_category=await _by_category(session, organization_id),
            overdue=(await session.execute(overdue)).scalar_one(),
            newest_collection=newest,
        )

    @classmethod
    async def empty(cls, session: AsyncSession, key: int, *, at: datetime, user_id: int | None = None) -> None:
        """Set the bin to empty, unless it was collected later than `at`.

        One UPDATE that reads nothing first: of two drivers at one bin, neither is told that the other was faster.
        """
        later = or_(cls.last_collected_at.is_(None), cls.last_collected_at <= at)
        values = {"fill_percent": 0, "last_collected_at": at, "version": cls.version + 1}
        if user_id is not None:
            values["updated_by_id"] = user_id
        await session.execute(
            update(cls).where(cls.id == key, later).values(values).execution_options(synchronize_session=False)
        )


Index(None, Bin.fill_percent, Bin.id)
# SQLite sorts NULLs first, and has no word for it in an index: there the migration makes a plain one.
Index("ix_bins_last_collected_at_id", Bin.last_collected_at.asc().nulls_first(), Bin.id).ddl_if(dialect="postgresql")


def _bins_of(organization_id: int | None, *columns: Any) -> Select[*tuple[Any, ...]]:
    """Columns of the bins that are not deleted, joined to their customers."""
    statement = select(*columns).select_from(Bin).join(Customer).where(Bin.deleted_at.is_(None))
    return statement if organization_id is None else statement.where(Customer.organization_id == organization_id)


async def _by_type(session: AsyncSession, organization_id: int | None, newest: datetime | None) -> list[BinsOfType]:
    from wastemgmt.models.collection import Collection

    bins = _bins_of(
        organization_id,
        Bin.bin_type,
        func.count(),
        func.sum(Bin.capacity_l),
        func.sum(Bin.fill_percent),
        func.sum(case((Bin.fill_percent >= OVERFLOWING_PERCENT, 1), else_=0)),
    ).group_by(Bin.bin_type)
    collected = _bins_of(organization_id, Bin.bin_type, func.count(), func.sum(Collection.weight_g)).join(Collection)
    if newest is not None:
        collected = collected.where(Collection.collected_at > newest - timedelta(days=RECENT_DAYS))
    weights = {kind: (count, grams) for kind, count, grams in await session.execute(collected.group_by(Bin.bin_type))}
    return [
        BinsOfType(kind, count, litres, round(fill / count, 2), overflowing, *_counted(weights.get(kind)))
        for kind, count, litres, fill, overflowing in await session.execute(bins.order_by(Bin.bin_type))
    ]


async def _by_category(session: AsyncSession, organization_id: int | None) -> list[BinsOfCategory]:
    statement = _bins_of(
        organization_id, Customer.category, func.count(Customer.id.distinct()), func.count(), func.sum(Bin.fill_percent)
    ).group_by(Customer.category)
    rows: Sequence[Any] = (await session.execute(statement.order_by(Customer.category))).all()
    return [BinsOfCategory(name, customers, bins, round(fill / bins, 2)) for name, customers, bins, fill in rows]


def _counted(found: tuple[int, int] | None) -> tuple[int, float]:
    return (0, 0.0) if found is None else (found[0], found[1] / 1000)
