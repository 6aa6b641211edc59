"""Lists over HTTP: pages, their OpenAPI document, and 400 for what is no cursor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Request, Response
from httpx import ASGITransport, AsyncClient
from pydantic import BaseModel, ConfigDict
from sqlalchemy import StaticPool, create_engine, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from perfkit import Cache
from perfkit.errors import PagingDeclarationError
from perfkit.integrations.fastapi import (
    BAD_REQUEST,
    Connection,
    KeysetPage,
    KeysetParams,
    Listing,
    OffsetPage,
    OffsetParams,
    install,
    keyset_params,
    offset_params,
)
from perfkit.paging import Cursors, exact, keyset, link_header, offset


class Base(DeclarativeBase):
    pass


class Bin(Base):
    __tablename__ = "bins"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    secret: Mapped[str] = mapped_column(default="s")


class BinOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    kind: str


Paged = Annotated[KeysetParams, Depends(keyset_params(size=3, max_size=5))]
Large = Annotated[KeysetParams, Depends(keyset_params(max_size=5_000))]
Numbered = Annotated[OffsetParams, Depends(offset_params(size=3, max_size=50_000))]
CURSORS = Cursors(["a secret of 32 characters or so."])
BINS = select(Bin).order_by(Bin.kind)


@pytest.fixture
async def client() -> AsyncIterator[AsyncClient]:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    app = FastAPI()
    install(app)

    @app.get("/bins", responses=BAD_REQUEST)
    def bins(params: Paged, request: Request, response: Response) -> KeysetPage[BinOut]:
        with Session(engine) as session:
            page = keyset(session, BINS, cursors=CURSORS, count=exact, **params.options)
            response.headers["Link"] = link_header(page, request.url)
            return KeysetPage[BinOut].of(page)

    @app.get("/large/{region:path}", responses=BAD_REQUEST)
    def large(region: str, params: Large) -> KeysetPage[BinOut]:
        with Session(engine) as session:
            return KeysetPage[BinOut].of(keyset(session, BINS, cursors=CURSORS, **params.options))

    @app.get("/numbered", responses=BAD_REQUEST)
    def numbered(params: Numbered) -> OffsetPage[BinOut]:
        with Session(engine) as session:
            return OffsetPage[BinOut].of(offset(session, BINS, **params.options))

    @app.get("/connection", responses=BAD_REQUEST)
    def related(params: Paged) -> Connection[BinOut]:
        with Session(engine) as session:
            return Connection[BinOut].of(keyset(session, BINS, cursors=CURSORS, **params.options))

    @app.get("/listing", responses=BAD_REQUEST)
    def listed(params: Paged, request: Request) -> Listing[BinOut]:
        with Session(engine) as session:
            return Listing[BinOut].of(keyset(session, BINS, cursors=CURSORS, **params.options), request.url.path)

    with Session(engine) as session, session.begin():
        session.execute(insert(Bin), [{"id": n, "kind": "ab"[n % 2]} for n in range(1, 9)])
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        yield client
    engine.dispose()


def ids(items: list[dict[str, Any]]) -> list[int]:
    return [item["id"] for item in items]


async def test_a_list_is_read_by_following_next(client):
    """Or the Link header, which leads to the same pages; no column that the model lacks is shown."""
    seen, answer = [], (await client.get("/bins")).json()
    while True:
        seen += answer["items"]
        if answer["next"] is None:
            break
        answer = (await client.get("/bins", params={"after": answer["next"]})).json()
    assert ids(seen) == [2, 4, 6, 8, 1, 3, 5, 7]
    assert seen[0] == {"id": 2, "kind": "a"}
    assert answer["total"] == {"value": 8, "kind": "exact", "counted": None, "counted_at": None}

    linked = await client.get("/bins")
    followed = await client.get(linked.links["next"]["url"])
    assert ids(followed.json()["items"]) == [8, 1, 3]
    assert ids((await client.get(followed.links["prev"]["url"])).json()["items"]) == [2, 4, 6]
    assert ids((await client.get(followed.links["last"]["url"])).json()["items"]) == [3, 5, 7]


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "é", "1' OR 1=1", "a" * 30_000, "\x00"])
@pytest.mark.parametrize("path", ["/bins", "/connection", "/listing"])
async def test_what_is_no_cursor_is_a_bad_request(client, path, cursor):
    """With a problem as its body; never a 500, and never the first page."""
    for way in ("after", "before"):
        answer = await client.get(path, params={way: cursor})
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert {**answer.json(), "detail": ""} == {
            "type": "about:blank",
            "title": "Bad Request",
            "status": 400,
            "detail": "",
            "instance": path,
        }


async def test_places_that_contradict_are_a_bad_request(client):
    cursor = (await client.get("/bins")).json()["next"]

    assert (await client.get("/bins", params={"after": cursor, "last": True})).status_code == 400
    assert (await client.get("/bins", params={"after": cursor, "before": cursor})).status_code == 400


@pytest.mark.parametrize("size", [0, -1, 6, "x"])
async def test_a_size_out_of_range_is_a_validation_error(client, size):
    assert (await client.get("/bins", params={"size": size})).status_code == 422


async def test_pages_by_number_end_where_they_cost_too_much(client):
    """Further in, the answer says what to use instead."""
    page = (await client.get("/numbered", params={"page": 2})).json()
    assert (ids(page["items"]), page["page"], page["has_next"]) == ([8, 1, 3], 2, True)
    deep = await client.get("/numbered", params={"page": 5000})
    assert deep.status_code == 400
    assert "keyset" in deep.json()["detail"]


@pytest.mark.parametrize("digits", [30, 4299, 4300, 5000])
async def test_no_page_number_is_too_long_to_be_refused(client, digits):
    """Python does not show numbers of more than 4,300 digits, and three rows on each page make one of them."""
    assert (await client.get("/numbered", params={"page": "9" * digits})).status_code in (400, 422)


async def test_the_bounds_of_the_parameters_are_those_of_the_page(client):
    """What a dependency lets through, the page does not refuse."""
    assert len((await client.get("/large/", params={"size": 5_000})).json()["items"]) == 8
    assert (await client.get("/large/", params={"size": 5_001})).status_code == 422
    assert (await client.get("/numbered", params={"size": 40_000})).status_code == 200


@pytest.mark.parametrize("params", [keyset_params, offset_params])
@pytest.mark.parametrize("size", [0, 101])
def test_a_usual_size_out_of_range_is_refused_when_it_is_declared(params, size):
    """FastAPI checks what was asked for, and not what stands in for it."""
    with pytest.raises(PagingDeclarationError, match="from 1 to 100"):
        params(size=size, max_size=100)


async def test_the_instance_of_a_problem_is_a_uri(client):
    """Also where the path was encoded."""
    answer = await client.get("/large/a%20%3E%C3%A9%25", params={"after": "x"})
    assert answer.json()["instance"] == "/large/a%20%3E%C3%A9%25"


async def test_a_connection_and_a_listing_are_the_same_pages(client):
    """In the words of Relay, and in the manner of Stripe."""
    first = (await client.get("/connection")).json()
    assert ids([edge["node"] for edge in first["edges"]]) == [2, 4, 6]
    assert first["pageInfo"]["hasNextPage"]
    after = (await client.get("/listing", params={"after": first["pageInfo"]["endCursor"]})).json()
    assert ids(after["data"]) == [8, 1, 3]
    assert (after["object"], after["url"], after["has_more"]) == ("list", "/listing", True)


def test_a_page_that_a_cache_keeps_has_its_link_header():
    """What a cached function returns is the response model, which knows the cursors around it; a write is seen."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    cache = Cache("pages")

    @cache.query()
    def page_of(session: Session, params: KeysetParams) -> KeysetPage[BinOut]:
        return KeysetPage[BinOut].of(keyset(session, BINS, cursors=CURSORS, **params.options))

    def read(after: str | None = None) -> KeysetPage[BinOut]:
        with Session(engine) as session:
            return page_of(session, KeysetParams(3, after))

    cache.connect("memory://")
    cache.watch(engine, Base.metadata)
    try:
        with Session(engine) as session, session.begin():
            session.execute(insert(Bin), [{"id": n, "kind": "ab"[n % 2]} for n in range(1, 9)])
        cursor = read().next
        made, kept = read(cursor), read(cursor)
        assert (kept, cache.stats().hits) == (made, 1)
        assert link_header(kept, "http://test/bins").count("rel=") == 4

        with Session(engine) as session, session.begin():
            session.add(Bin(id=9, kind="a"))
        assert ids([dict(each) for each in read(cursor).items]) == [8, 9, 1]
    finally:
        cache.close()
        engine.dispose()


async def test_the_openapi_document_shows_the_parameters_and_the_400(client):
    """Bounds, descriptions, and the media type of a problem."""
    operation = (await client.get("/openapi.json")).json()["paths"]["/bins"]["get"]
    parameters = {each["name"]: each for each in operation["parameters"]}
    assert set(parameters) == {"size", "after", "before", "last"}
    assert (parameters["size"]["schema"]["minimum"], parameters["size"]["schema"]["maximum"]) == (1, 5)
    assert all(each["description"] for each in parameters.values())
    assert "detail" in operation["responses"]["400"]["content"]["application/problem+json"]["schema"]["properties"]
