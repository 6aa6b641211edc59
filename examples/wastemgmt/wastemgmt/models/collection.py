"""Collections: what happened at a stop."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, String, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column, relationship

from wastemgmt.models.base import Base
from wastemgmt.models.bin import Bin
from wastemgmt.models.route import Route
from wastemgmt.models.user import User
from wastemgmt.perf import cache


class CollectionStatus(StrEnum):
    """What became of it."""

    COLLECTED = "collected"
    SKIPPED = "skipped"
    BLOCKED = "blocked"


class Collection(Base):
    """A truck stopped at a bin. Never changed and never deleted."""

    __tablename__ = "collections"
    __cache_tags__ = ("route_id", "bin_id")

    bin_id: Mapped[int] = mapped_column(ForeignKey("bins.id"), index=True)
    route_id: Mapped[int] = mapped_column(ForeignKey("routes.id"), index=True)
    driver_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), index=True)
    collected_at: Mapped[datetime] = mapped_column(index=True)
    fill_before_percent: Mapped[int]
    weight_g: Mapped[int]
    status: Mapped[str] = mapped_column(String(20), default=CollectionStatus.COLLECTED, server_default="collected")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    bin: Mapped[Bin] = relationship()
    route: Mapped[Route] = relationship()
    driver: Mapped[User | None] = relationship()

    @classmethod
    async def newest(cls, session: AsyncSession) -> datetime | None:
        """When the newest collection was."""
        return (await session.execute(select(func.max(cls.collected_at)))).scalar_one()

    @classmethod
    @cache.query()
    async def page(
        cls,
        session: AsyncSession,
        *,
        limit: int,
        offset: int = 0,
        bin_id: int | None = None,
        route_id: int | None = None,
    ) -> list[Collection]:
        """Newest first. Remembered until one is added that could be among them."""
        statement = select(cls).order_by(cls.collected_at.desc(), cls.id.desc()).limit(limit).offset(offset)
        for column, value in ((cls.bin_id, bin_id), (cls.route_id, route_id)):
            if value is not None:
                statement = statement.where(column == value)
        return list(await session.scalars(statement))
