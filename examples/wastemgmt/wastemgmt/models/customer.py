"""Customers: the businesses at whose doors the bins stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geoalchemy2 import Geometry, WKBElement
from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from wastemgmt.models.base import Base, Kept
from wastemgmt.models.organization import Organization
from wastemgmt.models.user import User

if TYPE_CHECKING:
    from wastemgmt.models.bin import Bin


class Customer(Kept, Base):
    """A shop, office, café or hotel, served by one organization."""

    __tablename__ = "customers"
    __cache_tags__ = ("organization_id",)
    __table_args__ = (Index(None, "name", "id"), Index(None, "organization_id", "name", "id"))

    organization_id: Mapped[int] = mapped_column(ForeignKey("organizations.id"))
    account_manager_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    category: Mapped[str] = mapped_column(String(50))
    street: Mapped[str | None] = mapped_column(String(200))
    house_number: Mapped[str | None] = mapped_column(String(50))
    postcode: Mapped[str | None] = mapped_column(String(20))
    city: Mapped[str] = mapped_column(String(100))
    location: Mapped[WKBElement] = mapped_column(Geometry("POINT", srid=4326))

    organization: Mapped[Organization] = relationship(foreign_keys=[organization_id])
    account_manager: Mapped[User | None] = relationship(foreign_keys=[account_manager_id])
    bins: Mapped[list[Bin]] = relationship("Bin", back_populates="customer", order_by="Bin.id")

    @classmethod
    def orders(cls) -> dict[str, tuple[Any, ...]]:
        return {"name": (cls.name, cls.id)}
