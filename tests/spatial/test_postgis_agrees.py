"""The same questions to PostGIS and to `lite`, and PostGIS's index under `within`."""

from __future__ import annotations

import math
import random

import pytest
import shapely
from geoalchemy2 import Geography
from sqlalchemy import Float, cast, column, create_engine, func, select, text, values
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from perfkit.spatial import Place, distance_m, length_m, lite, point, within
from perfkit.spatial.geodesic import metres_between
from tests.spatial.models import Base, Bin, Route
from tests.spatial.test_lite import ANSWERS

POINTS_TOLERANCE_M = 1e-4
LINES_TOLERANCE_M = 1e-3

STATION = point(24.9414, 60.1719)


def around_helsinki(dice: random.Random) -> Place:
    return Place(dice.gauss(24.94, 0.1), dice.gauss(60.17, 0.05))


def anywhere(dice: random.Random) -> Place:
    return Place(dice.uniform(-180, 180), math.degrees(math.asin(dice.uniform(-1, 1))))


@pytest.mark.parametrize(("where", "most_m"), [(around_helsinki, 50_000), (anywhere, 19_900_000)])
def test_points_are_as_far_apart_as_postgis_says(pg_session, where, most_m):
    """300 pairs each, in town and around the globe: within 0.1 mm."""
    dice = random.Random(2)
    pairs = [(where(dice), where(dice)) for _ in range(300)]
    given = values(*(column(name, Float) for name in ("lon1", "lat1", "lon2", "lat2")), name="pairs").data(
        [(*one, *other) for one, other in pairs]
    )
    one, other = (func.ST_SetSRID(func.ST_MakePoint(given.c[f"lon{n}"], given.c[f"lat{n}"]), 4326) for n in (1, 2))

    told = pg_session.scalars(select(distance_m(one, other))).all()

    compared = [(metres_between(*pair), metres) for pair, metres in zip(pairs, told, strict=True) if metres < most_m]
    assert len(compared) > 280
    assert max(abs(ours - theirs) for ours, theirs in compared) < POINTS_TOLERANCE_M


def test_nearly_opposite_points_are_within_a_hundredth(pg_session):
    """Where Vincenty's iteration does not settle: 0.6 % is what lite.py promises."""
    dice = random.Random(3)
    opposite = [(Place(lon, lat), Place(lon - 180 + dice.uniform(-0.5, 0.5), -lat + dice.uniform(-0.5, 0.5)))
                for lon, lat in ((dice.uniform(1, 179), dice.uniform(-80, 80)) for _ in range(200))]  # fmt: skip

    told = [pg_session.scalar(select(distance_m(point(*one), point(*other)))) for one, other in opposite]

    ours = [metres_between(*pair) for pair in opposite]
    assert max(abs(mine / theirs - 1) for mine, theirs in zip(ours, told, strict=True)) < 6e-3


def shapes(dice: random.Random):
    def path(length):
        return [around_helsinki(dice) for _ in range(length)]

    for _ in range(60):
        yield shapely.Point(around_helsinki(dice)), shapely.LineString(path(dice.randint(2, 30)))
        yield shapely.Point(around_helsinki(dice)), shapely.MultiPoint(path(4))
    for _ in range(20):
        yield shapely.LineString(path(2)), shapely.LineString(path(3))
        yield shapely.Point(around_helsinki(dice)), shapely.Point(around_helsinki(dice)).buffer(0.01, 2)
        yield shapely.MultiLineString([path(2), path(2)]), shapely.Point(around_helsinki(dice))
    yield shapely.Point(24.94, 60.17), shapely.LineString([(24.94, 60.17), (25, 60.2)])
    yield shapely.Point(24.94, 60.17), shapely.LineString([(24.9, 60.1), (24.9, 60.1)])
    yield shapely.Point(24.94, 60.17), shapely.box(24.9, 60.1, 25, 60.2)
    yield shapely.Point(24.94, 60.17), shapely.LineString([(20, 60.17), (30, 60.17)])


@pytest.fixture
def lite_session():
    engine = create_engine("sqlite://")
    lite.install(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()


def test_lines_are_as_far_and_as_long_as_postgis_says(pg_session, lite_session):
    """Points, lines, surfaces and collections against each other: within 1 mm."""
    for one, other in shapes(random.Random(4)):
        here, there = (func.ST_GeomFromText(shape.wkt, 4326) for shape in (one, other))
        question = select(distance_m(here, there), length_m(there))

        ours, theirs = lite_session.execute(question).one(), pg_session.execute(question).one()

        assert ours == pytest.approx(tuple(theirs), abs=LINES_TOLERANCE_M), (one.wkt, other.wkt)


@pytest.mark.parametrize(("sql", "answer"), ANSWERS, ids=[sql for sql, _ in ANSWERS])
def test_functions_of_lite_answer_as_those_of_postgis(pg_session, sql, answer):
    """What test_lite.py expects is what PostGIS says."""
    assert pg_session.execute(text(f"SELECT {sql}")).scalar_one() == answer


def fill(session: Session) -> None:
    Base.metadata.create_all(session.connection())
    spot = "ST_SetSRID(ST_MakePoint(24.94 + random() / 5 - 0.1, 60.17 + random() / 10 - 0.05), 4326)"
    session.execute(text(f"INSERT INTO bins (location) SELECT {spot} FROM generate_series(1, 20000)"))
    session.execute(text(f"INSERT INTO routes (path) SELECT ST_MakeLine({spot}, {spot}) FROM generate_series(1, 2000)"))
    session.execute(text("ANALYZE bins, routes"))


def explain(session: Session, statement) -> str:
    compiled = statement.compile(session.get_bind(), compile_kwargs={"literal_binds": True})
    return "\n".join(row[0] for row in session.connection().exec_driver_sql(f"EXPLAIN {compiled}"))


def test_within_uses_the_geography_index(pg_session):
    """On 20,000 bins and 2,000 routes."""
    fill(pg_session)

    bins = explain(pg_session, select(Bin.id).where(within(Bin.location, STATION, 300)))
    routes = explain(pg_session, select(Route.id).where(within(Route.path, STATION, 50)))

    assert "ix_bins_geography" in bins, bins
    assert "ix_routes_geography" in routes, routes
    assert "Seq Scan" not in bins + routes


def test_the_obvious_cast_does_not(pg_session):
    """The trap that `geography()` is there for: GeoAlchemy2's cast has a typmod, which no index here matches."""
    fill(pg_session)
    place = func.ST_SetSRID(func.ST_MakePoint(STATION.lon, STATION.lat), 4326)

    obvious = func.ST_DWithin(cast(Bin.location, Geography), cast(place, Geography), 300)

    assert "Seq Scan on bins" in explain(pg_session, select(Bin.id).where(obvious))


def test_both_databases_find_the_same_rows(pg_session, lite_session):
    """2,000 bins and 200 routes, at several distances, and the rest by negation."""
    dice = random.Random(5)
    bins = [f"SRID=4326;POINT({spot.lon!r} {spot.lat!r})" for spot in (around_helsinki(dice) for _ in range(2_000))]
    lines = [[around_helsinki(dice) for _ in range(3)] for _ in range(200)]
    routes = [f"SRID=4326;{shapely.LineString(line).wkt}" for line in lines]
    for session in (pg_session, lite_session):
        Base.metadata.create_all(session.connection())
        session.add_all([Bin(id=number, location=location) for number, location in enumerate([None, *bins])])
        session.add_all([Route(id=number, path=path) for number, path in enumerate([None, *routes])])
        session.flush()

    for metres in (0, 100, 1_000, 5_000):
        for question in (
            select(Bin.id).where(within(Bin.location, STATION, metres)).order_by(Bin.id),
            select(Bin.id).where(~within(Bin.location, STATION, metres)).order_by(Bin.id),
            select(Route.id).where(within(Route.path, STATION, metres)).order_by(Route.id),
        ):
            assert lite_session.scalars(question).all() == pg_session.scalars(question).all()


async def test_within_on_asyncpg(pg_url):
    """Its server-side parameters have types of their own."""
    engine = create_async_engine(pg_url.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(Bin.__table__.insert(), {"location": "SRID=4326;POINT(24.9414 60.1719)"})
        question = select(distance_m(Bin.location, point(24.9316, 60.1690))).where(within(Bin.location, STATION, 5))

        found = (await connection.execute(question)).scalars().all()
    await engine.dispose()

    assert found == [pytest.approx(632.7, abs=0.1)]
