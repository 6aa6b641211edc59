"""What the models' queries answer, and what their sessions allow."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.exc import StaleDataError

from wastemgmt.database import ReadOnly
from wastemgmt.models import Bin, Organization, Route
from wastemgmt.models.bin import BinsOfCategory, BinsOfType, BinStatistics
from wastemgmt.models.route import (
    CollectionsOfOrganization,
    CollectionsOfStatus,
    RoutesOfStatus,
    RoutesOfWeekday,
    RouteStatistics,
)
from wastemgmt.perf import cache

NEWEST = datetime(2026, 6, 30, 10, tzinfo=UTC)


async def test_route_statistics_of_the_small_city(database):
    """Counted by hand: the third collection is older than 30 days."""
    async with database.reading() as session:
        found = await Route.statistics(session)

    assert found == RouteStatistics(
        organization_id=None,
        routes=2,
        by_status=[RoutesOfStatus("active", 2, 3.0, 1.5, 2, 480)],
        by_weekday=[RoutesOfWeekday(1, 1, 1.0), RoutesOfWeekday(2, 1, 2.0)],
        collections=[CollectionsOfStatus("collected", 2, 12.0, 80.0)],
        by_organization=[CollectionsOfOrganization("North", 2, 12.0)],
    )


async def test_route_statistics_of_one_organization(database):
    """Nothing of the other."""
    async with database.reading() as session:
        found = await Route.statistics(session, 2)

    assert (found.organization_id, found.routes, found.collections, found.by_organization) == (2, 1, [], [])


async def test_bin_statistics_of_the_small_city(database):
    """Counted by hand."""
    async with database.reading() as session:
        found = await Bin.statistics(session)

    assert found == BinStatistics(
        organization_id=None,
        bins=3,
        by_status={"active": 3},
        by_type=[BinsOfType("glass", 2, 480, 67.5, 1, 2, 12.0), BinsOfType("paper", 1, 240, 10.0, 0, 0, 0.0)],
        by_category=[BinsOfCategory("café", 1, 2, 52.5), BinsOfCategory("hotel", 1, 1, 40.0)],
        overdue=2,
        newest_collection=NEWEST,
    )


async def test_statistics_are_remembered_until_something_in_them_changes(database):
    """By whoever writes, in whatever way."""
    before = cache.stats()
    async with database.reading() as session:
        await Bin.statistics(session)
        await Bin.statistics(session)
    assert cache.stats().hits == before.hits + 1

    async with database.writing() as session:
        changed = await Bin.get(session, 3)
        changed.fill_percent = 100

    async with database.reading() as session:
        found = await Bin.statistics(session)
    assert [each.overflowing for each in found.by_type] == [2, 0]


async def test_routes_nearby_are_measured_in_metres(database):
    """The nearest first, and none beyond the radius."""
    async with database.reading() as session:
        near = await Route.nearby(session, lon=24.945, lat=60.171, radius_m=300)
        far = await Route.nearby(session, lon=24.945, lat=60.171, radius_m=5000)

    assert [(route.id, round(metres)) for route, metres in near] == [(1, 111)]
    assert [route.id for route, _ in far] == [1, 2]


async def test_a_deleted_row_is_not_found_and_not_counted(database):
    """It stays in the records."""
    async with database.writing() as session:
        (await Bin.get(session, 3)).delete()

    async with database.reading() as session:
        assert await Bin.get(session, 3) is None
        assert [each.id for each in await session.scalars(Bin.listed("fill"))] == [1, 2]
        assert (await Bin.statistics(session)).bins == 2


async def test_two_editors_cannot_overwrite_each_other(database):
    """The second one's version is not the row's any more."""
    async with AsyncSession(database.engine) as slow:
        organization = await slow.get(Organization, 1)
        async with database.writing() as quick:
            (await Organization.get(quick, 1)).name = "Quick"
        organization.name = "Slow"

        with pytest.raises(StaleDataError):
            await slow.flush()

    async with database.reading() as session:
        assert (await Organization.get(session, 1)).name == "Quick"


async def test_who_changes_something_is_written_down(database):
    """And who made it."""
    async with database.writing(1) as session:
        made = Organization(name="West", city="Espoo")
        session.add(made)
        await session.flush()
        (await Organization.get(session, 2)).city = "Vantaa"

    async with database.reading() as session:
        west, south = await Organization.get(session, made.id), await Organization.get(session, 2)
    assert (west.created_by_id, west.updated_by_id) == (1, 1)
    assert (south.created_by_id, south.updated_by_id) == (None, 1)


async def test_a_session_that_reads_cannot_write(database):
    """It is not the type's word alone."""
    async with database.reading() as session:
        (await Organization.get(session, 1)).name = "Other"

        with pytest.raises(ReadOnly, match="writing"):
            await session.flush()
        session.expunge_all()
