"""A page in the shapes of others says the same as the page."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import select

from perfkit.errors import PagingDeclarationError
from perfkit.paging import connection, connection_arguments, keyset, link_header, listing
from tests.paging.models import Owner

OWNERS = select(Owner.id).order_by(Owner.id)


@pytest.fixture
def pages(within_sqlite):
    """The first, second and third page of five owners, two on each."""

    def read(session):
        first = keyset(session, OWNERS, size=2)
        second = keyset(session, OWNERS, size=2, after=first.next)
        return first, second, keyset(session, OWNERS, size=2, after=second.next)

    return within_sqlite(read)


def links(header: str) -> dict[str, str]:
    """Rel to target."""
    parts = [part.split("; ") for part in header.split(", ")]
    return {rel.removeprefix('rel="').rstrip('"'): target.strip("<>") for target, rel in parts}


def test_a_link_header_leads_to_the_pages_around(pages):
    """What else the query asked for stays; a place of its own is replaced."""
    first, second, third = pages
    found = links(link_header(second, "https://x.example/owners?q=a%26b&after=old&size=2"))

    assert set(found) == {"next", "prev", "first", "last"}
    assert parse_qs(urlsplit(found["next"]).query) == {"q": ["a&b"], "size": ["2"], "after": [second.next]}
    assert parse_qs(urlsplit(found["prev"]).query) == {"q": ["a&b"], "size": ["2"], "before": [second.previous]}
    assert found["first"] == "https://x.example/owners?q=a%26b&size=2"
    assert found["last"] == "https://x.example/owners?q=a%26b&size=2&last=true"
    assert "prev" not in links(link_header(first, "/owners"))
    assert "next" not in links(link_header(third, "/owners"))


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ('/x>; rel="next", <http://evil', "/x%3E;%20rel=%22next%22,%20%3Chttp://evil"),
        ("/kööpenhamina", "/k%C3%B6%C3%B6penhamina"),
        ("/日本", "/%E6%97%A5%E6%9C%AC"),
        ("/100%", "/100%25"),
        ("/a%20b", "/a%20b"),
        ("/a\r\nX: y", "/aX:%20y"),
    ],
)
def test_no_path_ends_the_link_that_it_stands_in(pages, path, shown):
    """Starlette decodes paths; whoever asks for a strange one gets no link of his own, and no error."""
    header = link_header(pages[0], f"https://x.example{path}")

    assert header.encode("ascii")
    assert links(header)["first"] == f"https://x.example{shown}"
    assert header.count("<") == header.count(">") == header.count("rel=") - shown.count("rel=") * 3 == 3


def test_a_query_stays_as_it_was_asked(pages):
    """Bytes that are no text, names without values, names again, and what looks like a position once it is decoded."""
    url = "https://x.example/owners?q=%FF&q=a+b&flag&z=&%61fter=old&w=<>&after_all=1#top"

    assert links(link_header(pages[0], url))["first"] == (
        "https://x.example/owners?q=%FF&q=a+b&flag&z=&w=%3C%3E&after_all=1"
    )


def test_a_connection_has_a_cursor_for_each_edge(within_sqlite, pages):
    """Any of them is a place to go on from."""
    found = connection(pages[1], node=lambda number: {"id": number})

    assert [edge["node"] for edge in found["edges"]] == [{"id": 3}, {"id": 4}]
    assert found["pageInfo"] == {
        "hasNextPage": True,
        "hasPreviousPage": True,
        "startCursor": found["edges"][0]["cursor"],
        "endCursor": found["edges"][1]["cursor"],
    }
    after = connection_arguments(first=2, after=found["edges"][0]["cursor"])
    assert within_sqlite(lambda session: keyset(session, OWNERS, **after).items) == [4, 5]
    before = connection_arguments(last=1, before=found["edges"][1]["cursor"])
    assert within_sqlite(lambda session: keyset(session, OWNERS, **before).items) == [3]
    assert within_sqlite(lambda session: keyset(session, OWNERS, **connection_arguments(last=2)).items) == [4, 5]


def test_an_empty_connection_has_no_cursors(within_sqlite):
    found = connection(within_sqlite(lambda session: keyset(session, OWNERS.where(Owner.id > 99), size=2)))

    assert found["edges"] == []
    assert found["pageInfo"] == {"hasNextPage": False, "hasPreviousPage": False, "startCursor": None, "endCursor": None}


@pytest.mark.parametrize(
    "given", [{}, {"first": 1, "last": 1}, {"first": 1, "before": "x"}, {"last": 1, "after": "x"}, {"after": "x"}]
)
def test_arguments_that_contradict_are_refused(given):
    """Relay advises against them, and no two servers read them alike."""
    with pytest.raises(PagingDeclarationError):
        connection_arguments(**given)


def test_a_listing_has_more_in_the_direction_it_was_read(within_sqlite, pages):
    """Forward, after it; backward, before it."""
    first, second, third = pages
    assert listing(first, "/owners") == {
        "object": "list",
        "url": "/owners",
        "has_more": True,
        "data": [1, 2],
        "next": first.next,
        "previous": None,
    }
    assert not listing(third, "/owners")["has_more"]
    back = within_sqlite(lambda session: keyset(session, OWNERS, size=2, before=second.previous))
    assert back.items == [1, 2]
    assert not listing(back, "/owners")["has_more"]
