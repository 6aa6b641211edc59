"""Collections: what happened at a stop."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, String, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column, relationship

from wastemgmt.models.base import Base, Listed
from wastemgmt.models.bin import Bin
from wastemgmt.models.route import Route
from wastemgmt.models.user import User


class CollectionStatus(StrEnum):
    """What became of it."""

    COLLECTED = "collected"
    SKIPPED = "skipped"
    BLOCKED = "blocked"


class Collection(Listed, Base):
    """A truck stopped at a bin. Never changed and never deleted."""

    __tablename__ = "collections"
    __cache_tags__ = ("route_id", "bin_id")
    __table_args__ = (
        Index(None, "collected_at", "id"),
        Index(None, "bin_id", "collected_at", "id"),
        Index(None, "route_id", "collected_at", "id"),
    )

    bin_id: Mapped[int] = mapped_column(ForeignKey("bins.id"))
    route_id: Mapped[int] = mapped_column(ForeignKey("routes.id"))
    driver_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), index=True)
    collected_at: Mapped[datetime]
    fill_before_percent: Mapped[int]
    weight_g: Mapped[int]
    status: Mapped[str] = mapped_column(String(20), default=CollectionStatus.COLLECTED, server_default="collected")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    bin: Mapped[Bin] = relationship()
    route: Mapped[Route] = relationship()
    driver: Mapped[User | None] = relationship()

    @classmethod
    def orders(cls) -> dict[str, tuple[Any, ...]]:
        return {"newest": (cls.collected_at.desc(), cls.id.desc())}

    @classmethod
    async def newest(cls, session: AsyncSession) -> datetime | None:
        """When the newest collection was."""
        return (await session.execute(select(func.max(cls.collected_at)))).scalar_one()
