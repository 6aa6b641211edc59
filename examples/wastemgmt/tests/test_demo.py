"""The demo's parts: the same plan for both runs, honest figures, and a service that is really driven."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from wastemgmt import migrate
from wastemgmt.database import make_engine
from wastemgmt.load.drive import Answers, Driver, collections_in
from wastemgmt.load.figures import figures_of, percentile, table_of
from wastemgmt.load.plan import COLLECT, KINDS, ROUTE_STATISTICS, Planned, requests
from wastemgmt.load.service import DidNotStart, Service
from wastemgmt.seed import seed


def test_both_runs_get_the_same_requests_and_writes_among_them() -> None:
    """In the same order, due at the same times."""
    plan = requests(72, per_s=8)

    assert plan == requests(72, per_s=8)
    assert [each.due_s for each in plan] == sorted(each.due_s for each in plan)
    assert {each.kind for each in plan} == set(KINDS)
    assert sum(each.kind == COLLECT for each in plan) >= 2


def test_a_percentile_is_a_value_that_was_seen() -> None:
    """The smallest one that so many do not exceed."""
    assert percentile([float(n) for n in range(1, 101)], 95) == 95.0
    assert percentile([5.0], 95) == 5.0
    assert percentile([], 95) is None


def test_figures_count_what_came_back() -> None:
    """Statistics that ran no statement are from the cache."""
    answers = Answers(queries=14, statistics=4, remembered=3)
    answers.latencies_ms[ROUTE_STATISTICS] += [1.0, 2.0, 3.0, 100.0]

    figures = figures_of(answers)

    assert (figures.hit_ratio, figures.queries_per_request, figures.p95_ms) == (0.75, 3.5, 100.0)
    assert table_of(figures, None, title="").row_count > 10


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('city')}/city.sqlite3"

    async def make() -> None:
        await migrate.upgrade(url)
        engine = make_engine(url)
        await seed(engine)
        await engine.dispose()

    asyncio.run(make())
    return url


@pytest.mark.parametrize("cached", [False, True])
async def test_a_service_is_driven(city: str, cached: bool, tmp_path: Path) -> None:
    """Every kind of request is answered without an error, and nothing is older than a commit that was acknowledged."""
    kinds = {each.kind: each for each in requests(400, per_s=100)}
    plan = [*kinds.values(), *kinds.values()]
    with Service(database_url=city, cache_url="memory://", cached=cached, log=tmp_path / "log") as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
            first = await client.get("/api/routes/statistics")
            driver = Driver(client, collections=collections_in(first.json()))
            answers = await driver.open([_now(each) for each in plan], lambda _: None)
            per_s = await driver.closed(plan)

    figures = figures_of(answers)
    assert (figures.requests, figures.errors, figures.stale) == (2 * len(KINDS), 0, 0)
    assert (figures.hit_ratio == 0) is not cached
    assert per_s > 0


def test_a_service_that_does_not_start_says_why(tmp_path: Path) -> None:
    """With its last words."""
    with (
        pytest.raises(DidNotStart, match="redis:"),
        Service(database_url="sqlite:///x", cache_url="no-redis:", cached=True, log=tmp_path / "log"),
    ):
        pass


def _now(planned: Planned) -> Planned:
    return Planned(planned.kind, planned.path, planned.body, 0.0)
