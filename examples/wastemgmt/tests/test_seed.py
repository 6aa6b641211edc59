"""The seed makes the same city everywhere, and only where it may."""

from __future__ import annotations

import gzip
import json
import math
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from wastemgmt import migrate
from wastemgmt.city import COLUMNS_OF, DAYS, NOW, Ids, rows_of
from wastemgmt.database import make_engine
from wastemgmt.models import Base, Bin, Collection, Customer, Route, RouteStop
from wastemgmt.seed import CannotSeed, seed

CUSTOMERS = 1202
DATA = Path(migrate.__file__).parent / "data"


def data(name: str) -> Any:
    return json.loads(gzip.decompress((DATA / f"{name}.json.gz").read_bytes()))


@pytest.fixture(scope="module")
def city() -> dict[str, list[tuple[Any, ...]]]:
    return {table.name: table.rows for table in rows_of(0, Ids())}


@pytest.fixture(params=["sqlite", "psycopg", "asyncpg"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/wastemgmt.sqlite3"
    named: str = request.getfixturevalue("pg_url")
    return named.replace("postgresql://", f"postgresql+{request.param}://")


def test_the_customers_are_named_places_of_central_helsinki() -> None:
    """About 1,200 of them, each with a name and inside the extract's box."""
    customers = data("customers")

    assert len(customers) == CUSTOMERS
    assert all(name and 24.93 < lon < 24.96 and 60.15 < lat < 60.18 for name, *_, lon, lat in customers)


def test_the_streets_are_one_piece() -> None:
    """A truck reaches every node from every other."""
    streets = data("streets")
    beside: dict[int, list[int]] = {}
    for a, b in streets["edges"]:
        beside.setdefault(a, []).append(b)
        beside.setdefault(b, []).append(a)

    reached, ahead = set(), [0]
    while ahead:
        here = ahead.pop()
        if here not in reached:
            reached.add(here)
            ahead.extend(beside[here])

    assert reached == set(range(len(streets["nodes"])))


def test_each_tour_follows_streets_past_its_customers() -> None:
    """Consecutive nodes are joined by a street, and every customer is visited once, within 250 m of the way."""
    streets, customers = data("streets"), data("customers")
    edges = {tuple(edge) for edge in streets["edges"]}
    visited: list[int] = []
    for tour in data("tours"):
        path = tour["path"]
        assert all((min(a, b), max(a, b)) in edges for a, b in pairwise(path))
        way = [streets["nodes"][node] for node in path]
        for customer in tour["customers"]:
            lon, lat = customers[customer][-2:]
            assert min(math.hypot((x - lon) * 0.5, y - lat) for x, y in way) * 111_195 < 250
        visited += tour["customers"]

    assert sorted(visited) == list(range(len(customers)))


def test_the_same_seed_makes_the_same_rows(city: dict[str, list[tuple[Any, ...]]]) -> None:
    """In this process and in any other; a change of this digest is a change of everybody's demo."""
    assert digest(city) == digest({table.name: table.rows for table in rows_of(0, Ids())})
    assert digest(city) != digest({table.name: table.rows for table in rows_of(1, Ids())})


def test_ninety_days_are_simulated(city: dict[str, list[tuple[Any, ...]]]) -> None:
    """Collections on weekdays in the 90 days, most of them done; the bins say when they were emptied last."""
    done = [row for row in city["collections"] if row[-1] == "collected"]
    moments = [row[4] for row in city["collections"]]
    last = {row[1]: row[4] for row in done}

    assert (NOW - min(moments)).days <= DAYS
    assert max(moments) < NOW
    assert 0.9 < len(done) / len(moments) < 1
    assert all(row[7] == last.get(row[0]) for row in city["bins"])
    assert all(0 <= row[4] <= 100 for row in city["bins"])


def test_only_stops_of_driven_routes_have_collections(city: dict[str, list[tuple[Any, ...]]]) -> None:
    """So that what is joined through stops and what is joined through collections agree."""
    stops = {row[1:3] for row in city["route_stops"]}
    driven = {row[0] for row in city["routes"] if row[4] in ("active", "completed")}

    assert {(row[2], row[1]) for row in city["collections"]} <= stops
    assert {row[2] for row in city["collections"]} == driven


async def test_every_database_gets_the_same_city(url: str, city: dict[str, list[tuple[Any, ...]]]) -> None:
    """Counts and sums over every table; foreign keys are checked by the database."""
    await migrate.upgrade(url)
    engine = make_engine(url)

    report = await seed(engine)

    async with engine.connect() as connection:
        found = {
            name: (await connection.execute(select(func.count()).select_from(Base.metadata.tables[name]))).scalar_one()
            for name in COLUMNS_OF
        }
        sums = select(
            func.sum(Collection.weight_g), func.min(Collection.collected_at), func.max(Collection.collected_at)
        )
        grams, first, newest = (await connection.execute(sums)).one()
        location = (await connection.execute(select(func.ST_X(Customer.location)).where(Customer.id == 1))).scalar_one()
        bin_row = (await connection.execute(select(Bin.fill_percent, Bin.last_collected_at).where(Bin.id == 7))).one()
    await engine.dispose()
    assert found == report.rows == {name: len(rows) for name, rows in city.items()}
    assert grams == sum(row[6] for row in city["collections"])
    assert newest == report.newest_collection
    assert (first, newest) == (min(row[4] for row in city["collections"]), max(row[4] for row in city["collections"]))
    assert location == city["customers"][0][-1].lon
    assert tuple(bin_row) == (city["bins"][6][4], city["bins"][6][7])


async def test_new_rows_get_keys_after_the_seeded_ones(pg_url: str) -> None:
    """COPY brings its own keys, so the sequences are set."""
    await migrate.upgrade(pg_url)
    engine = make_engine(pg_url)
    report = await seed(engine)

    async with engine.begin() as connection:
        statement = RouteStop.__table__.insert().values(route_id=1, bin_id=1, position=9999).returning(RouteStop.id)
        key = (await connection.execute(statement)).scalar_one()

    await engine.dispose()
    assert key == report.rows["route_stops"] + 1


async def test_two_cities_lie_apart(tmp_path: Path) -> None:
    """`scale` doubles everything, with other names and other places."""
    url = f"sqlite:///{tmp_path}/two.sqlite3"
    await migrate.upgrade(url)
    engine = make_engine(url)

    told: list[tuple[int, int]] = []
    report = await seed(engine, scale=2, progress=lambda done, of: told.append((done, of)))

    async with engine.connect() as connection:
        names = (await connection.execute(select(func.count(Route.name.distinct())))).scalar_one()
    await engine.dispose()
    assert report.rows["customers"] == 2 * CUSTOMERS
    assert told == [(1, 2), (2, 2)]
    assert names == 120


async def test_a_database_with_rows_is_left_alone(tmp_path: Path) -> None:
    """Unless it is told to be emptied."""
    url = f"sqlite:///{tmp_path}/full.sqlite3"
    engine = make_engine(url)
    with pytest.raises(CannotSeed, match="wastemgmt migrate"):
        await seed(engine)
    await migrate.upgrade(url)
    await seed(engine)

    with pytest.raises(CannotSeed, match="--reset"):
        await seed(engine)

    again = await seed(engine, reset=True)
    await engine.dispose()
    assert again.rows["customers"] == CUSTOMERS


def digest(rows: dict[str, list[tuple[Any, ...]]]) -> str:
    return blake2b(repr(rows).encode(), digest_size=16).hexdigest()
