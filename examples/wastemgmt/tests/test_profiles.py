"""What the screens load takes as many statements for many rows as for few."""

from __future__ import annotations

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session

from perfkit.loading import check_profiles, one
from wastemgmt.models import Bin, Customer, Organization, Route, User
from wastemgmt.profiles import BinList, BinView, RouteDetail, RouteList


async def add_bins(session, count: int) -> None:
    """Each at a customer of its own, each of those served by an organization of its own with two users."""
    for key in range(200, 200 + count):
        session.add(Organization(id=key, name=f"Organization {key}", city="Helsinki"))
    await session.flush()
    for key in range(200, 200 + count):
        for number in (0, 1):
            session.add(
                User(id=2 * key + number, organization_id=key, email=f"{key}.{number}@x", full_name="U", role="driver")
            )
    await session.flush()
    for key in range(200, 200 + count):
        session.add(
            Customer(
                id=key,
                organization_id=key,
                account_manager_id=2 * key,
                name=f"Customer {key}",
                category="café",
                city="Helsinki",
                location="SRID=4326;POINT(24.94 60.17)",
            )
        )
    await session.flush()
    for key in range(200, 200 + count):
        session.add(
            Bin(
                id=key,
                customer_id=key,
                bin_type="glass",
                capacity_l=240,
                location="SRID=4326;POINT(24.94 60.17)",
                created_by_id=1,
            )
        )


@pytest.fixture
def statements(database):
    """What the database is asked from now on."""
    found: list[str] = []

    def note(*given) -> None:
        found.append(given[2])

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    yield found
    event.remove(database.engine.sync_engine, "before_cursor_execute", note)


@pytest.mark.parametrize("count", [2, 40])
async def test_a_list_of_bins_takes_four_statements_however_many_bins(database, statements, count):
    """Bin, Customer, Organization, User."""
    async with database.writing() as session:
        await add_bins(session, count)
    statements.clear()

    async with database.reading() as session:
        bins = (await session.scalars(BinList.apply(select(Bin).where(Bin.id >= 200)))).all()
        seen = {(each.customer.organization.name, len(each.customer.organization.users)) for each in bins}
        assert all(each.customer.account_manager for each in bins)  # the list shows them, too

    selects = [each for each in statements if each.startswith("SELECT")]
    assert (len(bins), len(selects)) == (count, 4)
    assert seen == {(f"Organization {key}", 2) for key in range(200, 200 + count)}


async def test_no_list_joins_who_made_or_changed_a_row(database, statements):
    """Audit columns are read as numbers, and lead nowhere unless somebody asks."""
    async with database.writing() as session:
        await add_bins(session, 2)
    statements.clear()

    async with database.reading() as session:
        bin_ = (await session.scalars(BinList.apply(select(Bin).where(Bin.id == 200)))).one()

        with pytest.raises(InvalidRequestError, match="created_by"):
            _ = bin_.created_by

    joins = [each.partition(" ON ")[2] for each in statements]
    assert not any("created_by_id" in each or "updated_by_id" in each for each in joins)


PAGES = ("organizations", "users", "customers", "bins", "routes", "collections")


async def test_no_page_asks_who_made_or_changed_a_row(client):
    """Neither by a join nor by a statement of its own, on any list and any detail."""
    engine = client._transport.app.state.database.engine.sync_engine
    found: list[str] = []

    def note(*given) -> None:
        found.append(given[2])

    event.listen(engine, "before_cursor_execute", note)
    details = [f"/api/{page}/1" for page in PAGES if page != "collections"]
    answers = [await client.get(path) for path in (*(f"/api/{page}" for page in PAGES), *details)]

    asked = [each.partition(" FROM ")[2] for each in found]
    assert {answer.status_code for answer in answers} == {200}
    assert len(asked) >= len(answers)
    assert not any("created_by_id" in each or "updated_by_id" in each for each in asked)


async def test_who_made_a_row_is_there_for_whom_it_is_asked(database, statements):
    """A screen for auditors says so, and takes one statement more, however many bins."""

    class AuditedBins(BinView):
        created_by = one(fields=["full_name"])

    async with database.writing() as session:
        await add_bins(session, 3)
    statements.clear()

    async with database.reading() as session:
        bins = await session.scalars(AuditedBins.apply(Bin.listed("fill").where(Bin.id >= 200)))
        assert {each.created_by.full_name for each in bins} == {"User 1"}
    assert len(statements) == 2


async def test_a_list_of_routes_does_not_read_their_ways(database, statements):
    """Which are most of a route's bytes, and shown of one route alone."""
    async with database.reading() as session:
        routes = (await session.scalars(RouteList.apply(Route.listed("name")))).all()

        assert [each.name for each in routes] == ["Route 1", "Route 2"]
        with pytest.raises(InvalidRequestError, match="path"):
            _ = routes[0].path
    assert not any("path" in each for each in statements)


async def test_every_screen_of_rows_has_a_profile(client):
    """Each list, and each row alone, is a statement that says what is to be loaded."""
    details = [f"/api/{page}/1" for page in PAGES if page != "collections"]
    asked: list[int] = []

    def note(state) -> None:
        if state.is_select and not (state.is_relationship_load or state.is_column_load):
            asked.append(len(state.user_defined_options) + len(state.statement._with_options))

    event.listen(Session, "do_orm_execute", note)
    try:
        answers = [await client.get(path) for path in (*(f"/api/{page}" for page in PAGES), *details)]
    finally:
        event.remove(Session, "do_orm_execute", note)

    assert {answer.status_code for answer in answers} == {200}
    assert (len(asked), 0 in asked) == (len(answers), False)


async def test_a_route_and_its_stops_are_two_statements(database, statements):
    """However many stops."""
    async with database.reading() as session:
        route = await Route.shown(session, 1, RouteDetail)

        assert route.bin_ids == [1, 2]
    assert len(statements) == 2


def test_the_profiles_are_what_the_models_have():
    """As the service checks them when it starts."""
    check_profiles()

    assert len(RouteDetail.options()) == 2
