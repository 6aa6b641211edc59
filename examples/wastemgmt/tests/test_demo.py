"""The demo's parts: the same plan for both runs, honest figures, and a service that is really driven."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from wastemgmt import migrate
from wastemgmt.database import make_engine
from wastemgmt.load.deep import measure
from wastemgmt.load.drive import Answers, Driver, collections_in
from wastemgmt.load.figures import figures_of, percentile, table_of
from wastemgmt.load.plan import BINS, COLLECT, KINDS, ROUTE_STATISTICS, Planned, Turn, requests
from wastemgmt.load.service import DidNotStart, Service
from wastemgmt.seed import seed


def test_both_runs_get_the_same_requests_and_writes_among_them() -> None:
    """In the same order, due at the same times."""
    plan = requests(72, per_s=8)

    assert plan == requests(72, per_s=8)
    assert [each.due_s for each in plan] == sorted(each.due_s for each in plan)
    assert {each.kind for each in plan} == set(KINDS)
    assert sum(each.kind == COLLECT for each in plan) >= 2


def test_first_pages_are_asked_for_more_often_than_others() -> None:
    """As people do."""
    turns = [each.turn for each in requests(4000, per_s=8) if each.kind == BINS]

    assert turns.count(Turn.FIRST) > 2 * turns.count(Turn.NEXT) > 2 * turns.count(Turn.LAST) > 0


async def test_a_reader_turns_from_the_page_that_was_shown() -> None:
    """From the first to the second, from that to the third, and not beyond the last."""
    pages = {None: "1", "1": "2", "2": None}
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.query.decode())
        page = {"next": pages[request.url.params.get("after")]}
        return httpx.Response(200, json=page, headers={"x-query-count": "1"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://service") as client:
        driver = Driver(client, collections=0)
        for turn in (Turn.NEXT, Turn.NEXT, Turn.NEXT, Turn.NEXT, Turn.LAST):
            await driver.open([Planned(BINS, "/api/bins?size=50", None, 0.0, turn)], lambda _: None)

    assert asked == [f"size=50{turned}" for turned in ("", "&after=1", "&after=2", "", "&last=true")]


@pytest.mark.perfkit_ignore("Collection", reason="a measurement repeats itself", at="*load/deep.py")
async def test_the_deepest_page_is_the_same_by_offset_and_by_keyset(city: str) -> None:
    """Or their times would say nothing."""
    engine = make_engine(city)
    found = await measure(engine)
    await engine.dispose()

    assert found.rows_before > 100_000
    assert min(found.offset_ms, found.keyset_ms) > 0


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
    return replace(planned, due_s=0.0)
