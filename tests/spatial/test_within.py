"""`within` on SQLite: what it finds, and that it looks into the R*Tree."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import and_, bindparam, create_engine, delete, func, not_, or_, select, text, update
from sqlalchemy.orm import Session, aliased

from perfkit.errors import GeometryError
from perfkit.spatial import Place, distance_m, geography, lite, point, within
from tests.spatial.models import Base, Bin, Route

STATION = point(24.9414, 60.1719)


@pytest.fixture(scope="module")
def town():
    """3,000 bins and 300 routes around the station of Helsinki, and one of each without a geometry."""
    engine = create_engine("sqlite://")
    lite.install(engine)
    Base.metadata.create_all(engine)
    dice = random.Random(1)

    def spot():
        return f"{dice.gauss(24.9414, 0.03):.6f} {dice.gauss(60.1719, 0.015):.6f}"

    with Session(engine) as session:
        session.add_all([Bin(), Route()])
        session.add_all([Bin(location=f"SRID=4326;POINT({spot()})") for _ in range(3_000)])
        session.add_all([Route(path=f"SRID=4326;LINESTRING({spot()},{spot()},{spot()})") for _ in range(300)])
        session.commit()
        yield session
    engine.dispose()


def plan(session: Session, statement) -> str:
    compiled = statement.compile(session.get_bind(), compile_kwargs={"literal_binds": True})
    return "\n".join(row.detail for row in session.execute(text(f"EXPLAIN QUERY PLAN {compiled}")))


R_TREE = re.compile(r"SCAN idx_bins_location VIRTUAL TABLE INDEX 2:")


@pytest.mark.parametrize("metres", [0, 50, 300, 2_000])
def test_it_finds_what_measuring_everything_finds(town, metres):
    """The R*Tree withholds nothing and adds nothing."""
    measured = distance_m(Bin.location, STATION) <= metres

    assert town.scalars(select(Bin.id).where(within(Bin.location, STATION, metres)).order_by(Bin.id)).all() == (
        town.scalars(select(Bin.id).where(measured).order_by(Bin.id)).all()
    )


def test_the_nearest_point_of_a_line_counts(town):
    """A route that passes by is near, wherever it begins."""
    near = select(Route.id).where(within(Route.path, STATION, 200)).order_by(Route.id)
    measured = select(Route.id).where(distance_m(Route.path, STATION) <= 200).order_by(Route.id)

    found = town.scalars(near).all()

    assert found == town.scalars(measured).all()
    assert 10 < len(found) < 200


STATEMENTS = {
    "a filter": lambda near: select(Bin.id).where(near(Bin)),
    "a filter among others": lambda near: select(Bin.id).where(and_(Bin.id > 5, near(Bin), Bin.name.is_(None))),
    "an alias": lambda near: select((other := aliased(Bin)).id).where(near(other)),
    "a count": lambda near: select(func.count()).select_from(Bin).where(near(Bin)),
    "an update": lambda near: update(Bin).where(near(Bin)).values(name="near"),
    "a delete": lambda near: delete(Bin).where(near(Bin)),
    "a subquery": lambda near: select(Route.id).where(select(Bin.id).where(near(Bin)).exists()),
}


@pytest.mark.parametrize("make", STATEMENTS.values(), ids=STATEMENTS)
def test_the_r_tree_is_used(town, make):
    """And rows are fetched by rowid: none is scanned."""
    told = plan(town, make(lambda entity: within(entity.location, STATION, 300)))

    assert R_TREE.search(told), told
    assert "USING INTEGER PRIMARY KEY (rowid=?)" in told
    assert "SCAN bins" not in told


def test_without_an_index_every_row_is_measured(town):
    """A negation cannot be answered by an index; the answer is right all the same, and NULL is in neither."""
    near, far = within(Bin.location, STATION, 300), not_(within(Bin.location, STATION, 300))

    counts = [town.scalar(select(func.count()).select_from(Bin).where(which)) for which in (near, far, or_(near, far))]

    assert counts[0] + counts[1] == counts[2] == 3_000
    assert not R_TREE.search(plan(town, select(Bin.id).where(far)))


def test_one_statement_serves_many_places(town):
    """Place and distance are binds: the compiled statement is cached, and the answers differ."""
    statements = [select(Bin.id).where(within(Bin.location, place, 500)) for place in (STATION, point(24.90, 60.20))]

    assert statements[0]._generate_cache_key() == statements[1]._generate_cache_key()
    assert town.scalars(statements[0]).all() != town.scalars(statements[1]).all()


def test_metres_may_be_a_parameter(town):
    """For statements that are kept."""
    kept = select(func.count()).where(within(Bin.location, STATION, bindparam("metres")))

    assert town.scalar(kept, {"metres": 100.0}) < town.scalar(kept, {"metres": 1000.0})
    with pytest.raises(GeometryError, match="cannot be negative"):
        town.scalar(kept, {"metres": -1.0})


def test_a_column_may_be_near_a_column(town):
    """Bins along a route, the tree read once for each route."""
    along = select(Route.id, Bin.id).join(Bin, within(Bin.location, Route.path, 20)).where(Route.id < 5)

    found = town.execute(along).all()

    measured = select(Route.id, Bin.id).join(Bin, distance_m(Bin.location, Route.path) <= 20).where(Route.id < 5)
    assert set(found) == set(town.execute(measured).all()) != set()
    assert R_TREE.search(plan(town, along))


def test_a_column_of_a_subquery_is_measured_row_by_row(town):
    """It has no rowid to be found by."""
    inner = select(Bin.location.label("spot")).where(Bin.id < 100).subquery()

    assert town.scalar(select(func.count()).where(within(inner.c.spot, STATION, 10_000))) == 98


def test_ordered_by_distance(town):
    """What `within` has found is few enough to be sorted."""
    far = distance_m(Bin.location, STATION).label("far")

    found = town.scalars(select(far).where(within(Bin.location, STATION, 500)).order_by(far)).all()

    assert found == sorted(found)
    assert 0 < found[0] < found[-1] <= 500


@pytest.fixture(scope="module")
def globe():
    """No bins yet."""
    engine = create_engine("sqlite://")
    lite.install(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()


@settings(max_examples=50, deadline=None)
@given(st.floats(-180, 180), st.floats(-90, 90), st.floats(0, 2e7))
def test_anywhere_on_earth_the_tree_withholds_nothing(globe, lon, lat, metres):
    """At the poles, across the seam, around the globe."""
    spots = [(-180, 0), (180, 1), (179.9, -60), (0, 90), (10, -90), (lon, lat), (-lon, -lat), (lon / 2, lat / 2)]
    globe.add_all([Bin(location=f"SRID=4326;POINT({x!r} {y!r})") for x, y in spots])
    globe.flush()
    measured = distance_m(Bin.location, point(lon, lat)) <= metres

    found, expected = (
        globe.scalars(select(Bin.id).where(which).order_by(Bin.id)).all()
        for which in (within(Bin.location, point(lon, lat), metres), measured)
    )
    globe.rollback()

    assert found == expected


@pytest.mark.parametrize(("lon", "lat"), [(60.17, 124.9), (181, 0), (float("nan"), 0), (0, -90.1), (float("inf"), 0)])
def test_a_place_off_the_earth_is_refused(lon, lat):
    """Before there is a statement."""
    with pytest.raises(GeometryError, match=r"is not on Earth: degrees, longitude first\.$"):
        point(lon, lat)


@pytest.mark.parametrize("metres", [-1, -0.001, float("nan"), float("inf")])
def test_a_distance_that_is_none_is_refused(metres):
    """Before there is a statement."""
    with pytest.raises(GeometryError, match=r"a distance is a number from 0\.$"):
        within(Bin.location, STATION, metres)


def test_a_place_is_a_value():
    """It can be an argument of a cached function, and a key."""
    assert {point(1, 2): "here"}[Place(1.0, 2.0)] == "here"


def test_geography_is_nothing_to_sqlite():
    """There the functions measure in metres anyway."""
    engine = create_engine("sqlite://")

    assert str(select(geography(Bin.location)).compile(engine)).startswith("SELECT bins.location")
