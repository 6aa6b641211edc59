"""Hundreds of cases, a kind of statement and an ordering each, on every way through their pages.

`nox -s fuzz -- paging 600` runs as many as you like, on MariaDB and asyncpg besides.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, NullPool, create_engine, make_url
from sqlalchemy.orm import Session

from tests.paging.harbour import Base, fill_harbour
from tests.paging.judging import judge
from tests.paging.kinds import case_of, kinds

ON_SQLITE, ON_POSTGRES = 140, 75
pytestmark = pytest.mark.filterwarnings("ignore:SELECT statement has a cartesian product", "ignore:Dialect sqlite")


@pytest.fixture(scope="module")
def harbours(request: pytest.FixtureRequest) -> Iterator[dict[str, Engine]]:
    """A filled harbour on each database."""
    url = make_url(request.getfixturevalue("pg_databases")()).set(drivername="postgresql+psycopg")
    engines = {"sqlite": create_engine("sqlite://"), "postgresql": create_engine(url, poolclass=NullPool)}
    for engine in engines.values():
        Base.metadata.create_all(engine)
        with Session(engine) as session, session.begin():
            fill_harbour(session)
    yield engines
    for engine in engines.values():
        engine.dispose()


@pytest.mark.parametrize(
    ("dialect", "seed"),
    [*(("sqlite", seed) for seed in range(ON_SQLITE)), *(("postgresql", seed) for seed in range(ON_POSTGRES))],
)
def test_a_case_conforms(harbours: dict[str, Engine], dialect: str, seed: int) -> None:
    """Forward, backward, zig-zag, past the end, from any row, by any size: its rows, in its order, each once."""
    with Session(harbours[dialect]) as session:
        judge(session, case_of(seed, dialect), random.Random(seed))


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_every_kind_is_among_the_cases(dialect: str) -> None:
    count = {"sqlite": ON_SQLITE, "postgresql": ON_POSTGRES}[dialect]

    seen = {case_of(seed, dialect).kind for seed in range(count)}

    assert seen == set(kinds(dialect))
