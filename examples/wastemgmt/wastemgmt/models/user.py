"""Users: administrators, dispatchers and drivers of an organization."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from wastemgmt.models.base import Base, Kept
from wastemgmt.models.organization import Organization


class Role(StrEnum):
    """What a user does."""

    ADMIN = "admin"
    DISPATCHER = "dispatcher"
    DRIVER = "driver"


class User(Kept, Base):
    """Somebody who works for an organization."""

    __tablename__ = "users"
    __cache_tags__ = ("organization_id",)
    __table_args__ = (Index(None, "full_name", "id"), Index(None, "organization_id", "full_name", "id"))

    organization_id: Mapped[int] = mapped_column(ForeignKey("organizations.id"))
    email: Mapped[str] = mapped_column(String(254), unique=True)
    full_name: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(20))
    is_active: Mapped[bool] = mapped_column(default=True, server_default="1")

    organization: Mapped[Organization] = relationship(back_populates="users", foreign_keys=[organization_id])

    @classmethod
    def orders(cls) -> dict[str, tuple[Any, ...]]:
        return {"name": (cls.full_name, cls.id)}
