"""Collection routes along the streets, and their stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from geoalchemy2 import Geometry, WKBElement
from sqlalchemy import ForeignKey, Index, Select, String, UniqueConstraint, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column, relationship

from perfkit.spatial import distance_m, geography, length_m, point, within
from wastemgmt.models.base import Base, Kept
from wastemgmt.models.bin import RECENT_DAYS, Bin
from wastemgmt.models.organization import Organization
from wastemgmt.models.user import User
from wastemgmt.perf import cache


class RouteStatus(StrEnum):
    """Where a route stands."""

    PLANNED = "planned"
    ACTIVE = "active"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class RoutesOfStatus:
    """The routes of one status, and the bins on them."""

    status: str
    routes: int
    length_km: float
    mean_length_km: float
    stops: int
    capacity_l: int


@dataclass(frozen=True, slots=True)
class RoutesOfWeekday:
    """The routes of one weekday; 0 is Monday."""

    weekday: int
    routes: int
    length_km: float


@dataclass(frozen=True, slots=True)
class CollectionsOfStatus:
    """The collections with one outcome, in the last 30 days of the data."""

    status: str
    collections: int
    weight_kg: float
    mean_fill_percent: float


@dataclass(frozen=True, slots=True)
class CollectionsOfOrganization:
    """The collections on one organization's routes, in the last 30 days of the data."""

    organization: str
    collections: int
    weight_kg: float


@dataclass(frozen=True, slots=True)
class RouteStatistics:
    """All routes, or those of one organization."""

    organization_id: int | None
    routes: int
    by_status: list[RoutesOfStatus]
    by_weekday: list[RoutesOfWeekday]
    collections: list[CollectionsOfStatus]
    by_organization: list[CollectionsOfOrganization]


class Route(Kept, Base):
    """A tour that one driver makes on one weekday."""

    __tablename__ = "routes"
    __cache_tags__ = ("organization_id",)
    __table_args__ = (
        Index(None, "name", "id"),
        Index(None, "organization_id", "name", "id"),
        Index(None, "length_m", "id"),
    )

    organization_id: Mapped[int] = mapped_column(ForeignKey("organizations.id"))
    driver_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    status: Mapped[str] = mapped_column(String(20), default=RouteStatus.PLANNED, server_default="planned")
    weekday: Mapped[int]
    length_m: Mapped[float] = mapped_column(default=0.0, server_default="0")
    path: Mapped[WKBElement] = mapped_column(Geometry("LINESTRING", srid=4326))

    organization: Mapped[Organization] = relationship(foreign_keys=[organization_id])
    driver: Mapped[User | None] = relationship(foreign_keys=[driver_id])
    stops: Mapped[list[RouteStop]] = relationship(
        "RouteStop", back_populates="route", order_by="RouteStop.position", cascade="all, delete-orphan"
    )

    @classmethod
    def orders(cls) -> dict[str, tuple[Any, ...]]:
        """By name, or the longest first."""
        return {"name": (cls.name, cls.id), "length": (cls.length_m.desc(), cls.id.desc())}

    @classmethod
    @cache.query(ttl=timedelta(minutes=15))
    async def statistics(cls, session: AsyncSession, organization_id: int | None = None) -> RouteStatistics:
        """Counts, lengths and what was collected; seven statements over routes, stops, bins and collections."""
        by_status = await _by_status(session, organization_id)
        return RouteStatistics(
            organization_id=organization_id,
            routes=sum(each.routes for each in by_status),
            by_status=by_status,
            by_weekday=await _by_weekday(session, organization_id),
            collections=await _collections(session, organization_id),
            by_organization=await _by_organization(session, organization_id),
        )

    @property
    def bin_ids(self) -> list[int]:
        """The bins in the order of their stops; `stops` must be loaded."""
        return [stop.bin_id for stop in self.stops if stop.deleted_at is None]

    async def measure(self, session: AsyncSession) -> None:
        """Set the length to that of the path, as the database measures it."""
        measured = await session.execute(select(length_m(Route.path)).where(Route.id == self.id))
        self.length_m = round(measured.scalar_one(), 1)

    async def stop_at(self, session: AsyncSession, bin_ids: Sequence[int]) -> None:
        """Replace the stops."""
        stops = await self.awaitable_attrs.stops
        stops.clear()
        await session.flush()  # the new ones may take the positions of the old ones
        stops.extend(RouteStop(bin_id=key, position=position) for position, key in enumerate(bin_ids, 1))

    @classmethod
    async def nearby(
        cls, session: AsyncSession, *, lon: float, lat: float, radius_m: float, limit: int = 50
    ) -> Sequence[tuple[Route, float]]:
        """Active routes that pass within `radius_m` metres of a place, nearest first, with their distance in metres."""
        here = point(lon, lat)
        distance = distance_m(cls.path, here)
        statement = (
            select(cls, distance)
            .where(within(cls.path, here, radius_m), cls.deleted_at.is_(None), cls.status == RouteStatus.ACTIVE)
            .order_by(distance, cls.id)
            .limit(limit)
        )
        return [(route, metres) for route, metres in await session.execute(statement)]


# What PostGIS needs for metres; SQLite has an R*Tree beside the column.
Index("ix_routes_path_geography", geography(Route.path), postgresql_using="gist").ddl_if(dialect="postgresql")


class RouteStop(Kept, Base):
    """One bin on a route, in the order in which they are emptied."""

    __tablename__ = "route_stops"
    __cache_tags__ = ("route_id",)
    __table_args__ = (UniqueConstraint("route_id", "position"),)

    route_id: Mapped[int] = mapped_column(ForeignKey("routes.id"))
    bin_id: Mapped[int] = mapped_column(ForeignKey("bins.id"), index=True)
    position: Mapped[int]

    route: Mapped[Route] = relationship(back_populates="stops")
    bin: Mapped[Bin] = relationship()


def _routes_of(organization_id: int | None, *columns: Any) -> Select[*tuple[Any, ...]]:
    """Columns of the routes that are not deleted."""
    statement = select(*columns).select_from(Route).where(Route.deleted_at.is_(None))
    return statement if organization_id is None else statement.where(Route.organization_id == organization_id)


async def _by_status(session: AsyncSession, organization_id: int | None) -> list[RoutesOfStatus]:
    stops = (
        _routes_of(organization_id, Route.status, func.count(), func.sum(Bin.capacity_l))
        .join(RouteStop, RouteStop.route_id == Route.id)
        .join(Bin, Bin.id == RouteStop.bin_id)
        .where(RouteStop.deleted_at.is_(None), Bin.deleted_at.is_(None))
        .group_by(Route.status)
    )
    served = {status: (count, litres) for status, count, litres in await session.execute(stops)}
    routes = _routes_of(organization_id, Route.status, func.count(), func.sum(Route.length_m)).group_by(Route.status)
    return [
        RoutesOfStatus(status, count, _km(metres), _km(metres / count), *served.get(status, (0, 0)))
        for status, count, metres in await session.execute(routes.order_by(Route.status))
    ]


async def _by_weekday(session: AsyncSession, organization_id: int | None) -> list[RoutesOfWeekday]:
    routes = _routes_of(organization_id, Route.weekday, func.count(), func.sum(Route.length_m)).group_by(Route.weekday)
    rows = await session.execute(routes.order_by(Route.weekday))
    return [RoutesOfWeekday(weekday, count, _km(metres)) for weekday, count, metres in rows]


async def _collections(session: AsyncSession, organization_id: int | None) -> list[CollectionsOfStatus]:
    from wastemgmt.models.collection import Collection

    recent = await _recent(
        session,
        organization_id,
        Collection.status,
        func.count(),
        func.sum(Collection.weight_g),
        func.sum(Collection.fill_before_percent),
    )
    rows = await session.execute(recent.group_by(Collection.status).order_by(Collection.status))
    return [CollectionsOfStatus(status, n, grams / 1000, round(fill / n, 2)) for status, n, grams, fill in rows]


async def _by_organization(session: AsyncSession, organization_id: int | None) -> list[CollectionsOfOrganization]:
    from wastemgmt.models.collection import Collection

    recent = await _recent(session, organization_id, Organization.name, func.count(), func.sum(Collection.weight_g))
    joined = recent.join(Organization, Organization.id == Route.organization_id)
    rows = await session.execute(joined.group_by(Organization.name).order_by(Organization.name))
    return [CollectionsOfOrganization(name, count, grams / 1000) for name, count, grams in rows]


async def _recent(session: AsyncSession, organization_id: int | None, *columns: Any) -> Select[*tuple[Any, ...]]:
    """Columns of the collections of the last 30 days of the data, joined to their routes."""
    from wastemgmt.models.collection import Collection

    statement = _routes_of(organization_id, *columns).join(Collection, Collection.route_id == Route.id)
    newest = await Collection.newest(session)
    return (
        statement if newest is None else statement.where(Collection.collected_at > newest - timedelta(days=RECENT_DAYS))
    )


def _km(metres: float) -> float:
    return round(metres / 1000, 3)
