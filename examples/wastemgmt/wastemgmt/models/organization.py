"""Organizations: the haulers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from wastemgmt.models.base import Base, Kept

if TYPE_CHECKING:
    from wastemgmt.models.user import User


class Organization(Kept, Base):
    """A company that empties bins."""

    __tablename__ = "organizations"

    name: Mapped[str] = mapped_column(String(200), unique=True)
    city: Mapped[str] = mapped_column(String(100))

    users: Mapped[list[User]] = relationship(
        "User", back_populates="organization", foreign_keys="User.organization_id", order_by="User.id"
    )

    @classmethod
    def orders(cls) -> dict[str, tuple[Any, ...]]:
        return {"name": (cls.name,)}
