"""Lists come in pages: none loses a row, each takes as many statements as it is said to, and none gets slow."""

from __future__ import annotations

import pytest

from perfkit.paging import assert_seekable
from wastemgmt import migrate
from wastemgmt.database import Database
from wastemgmt.models import Bin, Collection, Customer, Organization, Route, User
from wastemgmt.perf import cache
from wastemgmt.seed import seed
from wastemgmt.settings import Settings

once = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

LISTS = ["organizations", "users", "customers", "bins", "bins?order=waiting", "routes", "routes?order=length"]
LISTS += ["collections", "collections?bin_id=1", "bins?customer_id=1", "customers?organization_id=2"]


def queries(response) -> int:
    return int(response.headers["x-query-count"])


def ids(answer) -> list[int]:
    return [each["id"] for each in answer.json()["items"]]


async def page(client, path, **query):
    """A page of a list; it is there."""
    name, _, own = path.partition("?")
    answer = await client.get(
        f"/api/{name}", params={**dict(pair.split("=") for pair in own.split("&") if own), **query}
    )
    assert answer.status_code == 200, answer.text
    return answer


async def test_a_list_is_all_of_its_pages(client):
    """Forward by the Link header, backward by `previous`, whatever the size."""
    for path in LISTS:
        whole = ids(await page(client, path))
        for size in (1, 2, 3):
            forward, backward = await walk_forward(client, path, size), await walk_backward(client, path, size)
            assert (forward, backward) == (whole, whole), (path, size)


async def walk_forward(client, path, size) -> list[int]:
    seen, answer = [], await page(client, path, size=size)
    while True:
        seen += ids(answer)
        if "next" not in answer.links:
            return seen
        assert answer.json()["next"] in answer.links["next"]["url"]
        answer = await client.get(answer.links["next"]["url"])


async def walk_backward(client, path, size) -> list[int]:
    seen, answer = [], await page(client, path, size=size, last=True)
    while True:
        seen = ids(answer) + seen
        if answer.json()["previous"] is None:
            return seen
        answer = await page(client, path, size=size, before=answer.json()["previous"])


async def test_lists_are_in_the_order_that_they_say(client):
    """The fullest first; those that were never collected before all others; the newest; the longest."""
    assert ids(await page(client, "bins")) == [1, 3, 2]
    assert ids(await page(client, "bins?order=waiting")) == [2, 3, 1]
    assert ids(await page(client, "routes?order=length")) == [2, 1]
    newest = [each["collected_at"] for each in (await page(client, "collections")).json()["items"]]
    assert newest == sorted(newest, reverse=True)
    assert [each["name"] for each in (await page(client, "customers")).json()["items"]] == ["Customer 1", "Customer 2"]


STATEMENTS = {
    "organizations": (1, 1, 1, 2),
    "users": (1, 1, 1, 2),
    "customers": (1, 1, 1, 2),
    "routes": (1, 1, 1, 2),
    "routes?order=length": (1, 1, 1, 2),
    "collections": (1, 1, 1, 2),
    "collections?bin_id=1": (1, 1, 1, 2),
    "bins": (4, 4, 4, 5),
    # the second goes over from bins that were never collected to those that were, and is one statement all the same
    "bins?order=waiting": (4, 4, 4, 5),
}


async def test_a_page_takes_so_many_statements(client):
    """The first, the second, the last and one with a count; and each of them none when it is asked for again."""
    for path, statements in STATEMENTS.items():
        second = (await page(client, path, size=1)).json()["next"]

        with cache.off():
            plain = await taken(client, path, second)
        await taken(client, path, second)

        assert plain == statements, path
        assert await taken(client, path, second) == (0, 0, 0, 0), path


async def taken(client, path, second) -> tuple[int, ...]:
    asked = [{}, {"after": second}, {"last": True}, {"count": True}]
    return tuple([queries(await page(client, path, size=1, **each)) for each in asked])


async def test_a_count_says_what_it_is(client):
    """Where it is asked for, of all pages, and of those that the filter leaves."""
    assert (await page(client, "bins")).json()["total"] is None
    total = (await page(client, "bins", size=1, count=True)).json()["total"]
    assert (total["value"], total["kind"]) == (3, "exact")
    assert (await page(client, "bins?customer_id=1", size=1, count=True)).json()["total"]["value"] == 2


async def test_a_bin_that_others_empty_between_two_pages_moves_and_none_is_lost(client):
    """Of bins by fill level the second is emptied when the first page was read: all that were not shown are, once."""
    first = await page(client, "bins", size=1)

    await client.post(
        "/api/collections",
        json={
            "bin_id": 3,
            "route_id": 1,
            "collected_at": "2026-07-01T09:00:00Z",
            "fill_before_percent": 40,
            "weight_g": 1,
        },
    )
    new = {"customer_id": 1, "bin_type": "bio", "capacity_l": 240, "location": {"lon": 24.94, "lat": 60.17}}
    made = await client.post("/api/bins", json={**new, "fill_percent": 50})
    rest = await page(client, "bins", after=first.json()["next"])

    assert (ids(first), ids(rest)) == ([1], [made.json()["id"], 2, 3])


async def test_a_cursor_is_good_for_its_list_and_order_alone(client):
    """Elsewhere it is a bad request, and never the first page."""
    cursor = (await page(client, "bins", size=1)).json()["next"]

    for path in ("bins?order=waiting&after=", "customers?after=", "collections?before="):
        refused = await client.get(f"/api/{path}{cursor}")
        assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json")
        assert "not made here" in refused.json()["detail"]


@once
async def test_processes_with_the_same_secrets_read_each_others_cursors(settings, serving):
    """The newest signs, older ones are still read; another process, with one of its own, refuses."""
    with_new = settings.model_copy(update={"cursor_secrets": ("new " * 4, "old " * 4)})
    with_old = settings.model_copy(update={"cursor_secrets": ("old " * 4,)})
    async with serving(with_old) as client:
        for name in ("North", "South"):
            await client.post("/api/organizations", json={"name": name, "city": "Helsinki"})
        cursor = (await page(client, "organizations", size=1)).json()["next"]

    async with serving(with_new) as client:
        assert len(ids(await page(client, "organizations", after=cursor))) == 1
    async with serving(settings) as client:
        assert (await client.get("/api/organizations", params={"after": cursor})).status_code == 400


def test_a_shared_cache_wants_shared_secrets(monkeypatch):
    """Or a page that one process has kept would lead nowhere in another."""
    monkeypatch.setenv("WASTEMGMT_CACHE_URL", "redis://localhost")
    with pytest.raises(ValueError, match="cursor_secrets"):
        Settings()
    monkeypatch.setenv("WASTEMGMT_CURSOR_SECRETS", "too short")
    with pytest.raises(ValueError, match="at least 16"):
        Settings()

    monkeypatch.setenv("WASTEMGMT_CURSOR_SECRETS", f"{'a' * 16},{'b' * 16}")
    assert Settings().cursor_secrets == ("a" * 16, "b" * 16)


@once
async def test_the_document_shows_how_a_list_is_paged(client):
    """The parameters, the page, the Link header and what a wrong cursor gets."""
    document = (await client.get("/openapi.json")).json()

    for name in ("organizations", "users", "customers", "bins", "routes", "collections"):
        listed = document["paths"][f"/api/{name}"]["get"]
        parameters = {each["name"]: each["schema"] for each in listed["parameters"]}
        assert {"size", "after", "before", "last", "count"} <= set(parameters)
        assert (parameters["size"]["minimum"], parameters["size"]["maximum"]) == (1, 200)
        assert "limit" not in parameters
        assert "Link" in listed["responses"]["200"]["headers"]
        assert "cursor" in listed["responses"]["400"]["description"]
        shown = listed["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert {"items", "next", "previous", "total"} == set(document["components"]["schemas"][shown]["properties"])


ORDERS = [
    (model, order) for model in (Organization, User, Customer, Bin, Route, Collection) for order in model.orders()
]
FILTERS = {
    User: {"organization_id": 2},
    Customer: {"organization_id": 2},
    Bin: {"customer_id": 7},
    Route: {"organization_id": 2},
    Collection: {"route_id": 3},
}


async def test_the_deepest_page_of_every_order_reads_little_more_than_itself(pg_url):
    """On PostgreSQL, with 120,000 collections, of all rows and of those of one owner."""
    await migrate.upgrade(pg_url)
    database = Database(Settings(database_url=pg_url))
    await seed(database.engine)

    async with database.reading() as session:
        for model, order in ORDERS:
            await session.run_sync(assert_seekable, model.listed(order))
            await session.run_sync(assert_seekable, model.listed(order, **FILTERS.get(model, {})))
        await session.run_sync(assert_seekable, Collection.listed("newest", bin_id=7))
    await database.aclose()
