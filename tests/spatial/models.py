"""Tables that the spatial tests share."""

from __future__ import annotations

from typing import Any

from geoalchemy2 import Geometry
from sqlalchemy import Index
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from perfkit.spatial import geography


class Base(DeclarativeBase):
    pass


class Bin(Base):
    __tablename__ = "bins"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    location: Mapped[Any | None] = mapped_column(Geometry("POINT", 4326))


class Route(Base):
    __tablename__ = "routes"

    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[Any | None] = mapped_column(Geometry("LINESTRING", 4326))


Index("ix_bins_geography", geography(Bin.location), postgresql_using="gist").ddl_if(dialect="postgresql")
Index("ix_routes_geography", geography(Route.path), postgresql_using="gist").ddl_if(dialect="postgresql")
