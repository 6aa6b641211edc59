"""The middleware for ASGI: a window over each request, which is answered whatever becomes of that."""

from __future__ import annotations

import asyncio
import logging

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Mount, Route

from perfkit.errors import NPlusOneFound
from perfkit.integrations.asgi import DetectMiddleware
from perfkit.integrations.requests import summary
from perfkit.loading import Ignores, Kind, detect, ignore, reports
from perfkit.loading.reports.plain import subject
from tests.integrations.shop import Base, Bin, filled_engine, one_by_one, together
from tests.loading.findings import finding


@pytest.fixture
def engine():
    engine = filled_engine()
    yield engine
    engine.dispose()


@pytest.fixture
def told():
    return []


@pytest.fixture
def report(told):
    return lambda findings: told.append((subject(), [(str(each.kind), each.path) for each in findings]))


N_PLUS_ONE = [("lazy_load", "Bin.customer")]


@pytest.fixture
def app(engine):
    """A route for each way to answer."""
    app = FastAPI()

    @app.get("/bins/{size}")
    async def in_the_loop(size: int):
        return one_by_one(engine)[:size]

    @app.get("/threaded")
    def in_a_thread():
        return one_by_one(engine)

    @app.get("/fine")
    async def fine():
        return together(engine)

    @app.get("/streamed")
    async def streamed():
        async def pieces():
            yield "first "
            await asyncio.sleep(0)
            yield str(one_by_one(engine))

        return StreamingResponse(pieces())

    @app.get("/background")
    async def later():
        return JSONResponse("accepted", background=BackgroundTask(one_by_one, engine))

    @app.get("/broken")
    async def broken():
        one_by_one(engine)
        raise RuntimeError("broken")

    return app


async def get(app, path, *, raises=True):
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=raises)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        return await client.get(path)


async def test_the_report_gets_what_a_request_did_and_its_route(app, told, report):
    """The template, not the path: there are as many as the code has routes."""
    watched = DetectMiddleware(app, report=report)

    assert (await get(watched, "/bins/3")).json() == [1, 2, 3]
    await get(watched, "/fine")

    assert told == [("GET /bins/{size}", N_PLUS_ONE)]
    assert watched.counts() == {"watched": 2, "with_findings": 1, "failures": 0}


@pytest.mark.parametrize("path", ["/threaded", "/streamed", "/background"])
async def test_a_request_is_watched_to_its_end(app, told, report, path):
    """In the thread that runs a sync handler, while a response streams, and in a background task."""
    response = await get(DetectMiddleware(app, report=report), path)

    assert response.status_code == 200
    assert told == [(f"GET {path}", N_PLUS_ONE)]


async def test_requests_at_the_same_time_have_windows_of_their_own(app, told, report):
    """Each is in the context of its task."""
    watched = DetectMiddleware(app, report=report)

    await asyncio.gather(*(get(watched, path) for path in ["/bins/1", "/fine", "/bins/2", "/fine", "/threaded"]))

    assert sorted(told) == sorted([*[("GET /bins/{size}", N_PLUS_ONE)] * 2, ("GET /threaded", N_PLUS_ONE)])


async def test_the_route_of_a_mounted_application_is_whole(engine, told, report):
    """A request may come with a root path of its own, which is no part of the template."""

    async def bins(request):
        return JSONResponse(one_by_one(engine))

    app = Starlette(routes=[Mount("/v1", routes=[Route("/bins/{size}", bins)])])
    transport = httpx.ASGITransport(app=DetectMiddleware(app, report=report), root_path="/shop")
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        await client.get("/shop/v1/bins/3")

    assert [route for route, _ in told] == ["GET /v1/bins/{size}"]


async def test_an_application_without_routes_has_findings_too(engine, told, report):
    """Of nobody knows which."""

    async def bare(scope, receive, send):
        one_by_one(engine)
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    response = await get(DetectMiddleware(bare, report=report, header=True), "/")

    assert response.headers["perfkit-findings"] == "1 (lazy_load Bin.customer)"
    assert told == [(None, N_PLUS_ONE)]


async def test_the_header_is_for_those_who_ask_for_it(app, report):
    """Who then knows that it was looked for, where nothing was found."""
    shown, hidden = DetectMiddleware(app, report=report, header=True), DetectMiddleware(app, report=report)

    assert (await get(shown, "/bins/3")).headers["perfkit-findings"] == "1 (lazy_load Bin.customer)"
    assert (await get(shown, "/fine")).headers["perfkit-findings"] == "0"
    assert "perfkit-findings" not in (await get(hidden, "/bins/3")).headers


async def test_requests_are_apart_in_a_window_around_them(engine, report):
    """Three clients who ask for a bin each are no loop; one request that asks for five is an N+1 wherever one looks."""

    async def one(request):
        with Session(engine) as session:
            return JSONResponse(session.get(Bin, request.path_params["key"]).id)

    async def five(request):
        return JSONResponse(one_by_one(engine))

    watched = DetectMiddleware(Starlette(routes=[Route("/bins/{key:int}", one), Route("/five", five)]), report=report)

    with detect() as window:
        await asyncio.gather(*(get(watched, f"/bins/{key}") for key in (1, 2, 3)))
        assert window.findings == []
        for _ in range(2):
            await get(watched, "/five")

    assert [(each.path, each.statements) for each in window.findings] == [("Bin.customer", 10)]


async def test_a_filter_says_what_counts(app, told, report):
    """For the header and for the report."""
    ignores = Ignores(ignore("Bin.customer", reason="five at most"), models=Base)

    response = await get(DetectMiddleware(app, report=report, left=ignores.left, header=True), "/bins/3")

    assert (told, response.headers["perfkit-findings"]) == ([], "0")


async def test_a_sample_of_the_requests_is_watched(app, told, report):
    """The others go straight through."""
    draws = iter([0.05, 0.5, 0.2, 0.1])
    watched = DetectMiddleware(app, report=report, sample=0.1, draw=lambda: next(draws))

    for _ in range(4):
        await get(watched, "/bins/3")

    assert len(told) == watched.counts()["watched"] == 1


NOT_MEANT = [
    {"sample": 1.5},
    {"sample": -0.1},
    {"min_parents": 1},
    {"report": "log"},
    {"left": Ignores(models=Base)},  # in place of its `left`
]


@pytest.mark.parametrize("options", NOT_MEANT)
def test_options_that_cannot_be_meant_are_refused(app, options):
    """When the application is made, before the first request."""
    with pytest.raises((ValueError, TypeError), match=next(iter(options))):
        DetectMiddleware(app, **options)


async def test_what_a_handler_raises_goes_on_and_its_findings_are_told(app, told, report):
    """The error of the request is the one that counts, also where findings are to be errors."""
    watched = DetectMiddleware(app, report=reports.several(report, reports.fail))

    with pytest.raises(RuntimeError, match="broken"):
        await get(watched, "/broken")

    assert told == [("GET /broken", N_PLUS_ONE)]


async def test_a_report_that_fails_breaks_no_request(app, caplog):
    """It is counted each time and logged once."""

    def broken(findings):
        raise OSError("the collector is down")

    watched = DetectMiddleware(app, report=broken)
    with caplog.at_level(logging.ERROR, logger="perfkit.loading"):
        statuses = [(await get(watched, "/bins/3")).status_code for _ in range(3)]

    assert statuses == [200, 200, 200]
    assert watched.counts() == {"watched": 3, "with_findings": 3, "failures": 3}
    assert len(caplog.records) == 1
    assert "the collector is down" in caplog.text


async def test_a_filter_that_fails_breaks_no_request(app, told, report):
    """Not even when the header asks for it in the middle of the response."""

    def broken(findings):
        raise KeyError("left")

    watched = DetectMiddleware(app, report=report, left=broken, header=True)

    assert (await get(watched, "/bins/3")).json() == [1, 2, 3]
    assert (told, watched.counts()["failures"]) == ([], 2)


async def test_findings_can_be_errors_in_tests(app):
    """`reports.fail` is meant: its error goes on, when the response has been sent."""
    with pytest.raises(NPlusOneFound, match=r"Bin\.customer"):
        await get(DetectMiddleware(app, report=reports.fail), "/bins/3")


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_what_is_no_request_passes_through(kind, report):
    """With the scope and the channels that the server gave."""
    seen = []

    async def inner(*given):
        seen.append(given)

    given = ({"type": kind}, object(), object())
    watched = DetectMiddleware(inner, report=report)
    await watched(*given)

    assert seen == [given]
    assert watched.counts()["watched"] == 0


def test_a_header_holds_nothing_but_printable_ascii():
    """A path may be a statement, with whatever somebody wrote into it."""
    found = finding("SELECT 1\r\nSet-Cookie: a=b\x00 –ä", kind=Kind.REPEATED)

    assert summary([found]) == "1 (repeated SELECT 1??Set-Cookie: a=b? ??)"


def test_a_header_stays_short():
    """It has the number of all, and names the first."""
    assert summary([finding(f"Bin.a{number}") for number in range(5)]) == (
        "5 (lazy_load Bin.a0, lazy_load Bin.a1, lazy_load Bin.a2, ...)"
    )
    assert len(summary([finding("x" * 5_000)])) == 300
    assert summary([finding("x" * 5_000)]).endswith("x...)")
