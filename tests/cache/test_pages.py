"""Pages that are kept: what leads on from them leads to the same rows as from a page that was just read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from perfkit.codec import Codec
from perfkit.errors import Unreadable
from perfkit.paging import Cursors, NumberedPage, Page, Total, capped, exact, keyset, offset
from tests.cache.conftest import Bin, Kit

CURSORS = Cursors(secrets=[b"a secret of some length, for cursors"], encrypt=True)
ITEMS = 7

Options = dict[str, str | None]


@pytest.fixture
def stocked(small: Kit) -> Kit:
    with Session(small.engine) as session:
        session.query(Bin).delete()
        session.add_all([Bin(id=n, name=f"bin {n}", kind="glass") for n in range(1, ITEMS + 1)])
        session.commit()
    return small


def read_page(session: Session, size: int = 3, **options: Any) -> Page[Bin]:
    return keyset(session, select(Bin).order_by(Bin.name, Bin.id), size=size, cursors=CURSORS, **options)


def walk(kit: Kit, page_of: Callable[..., Page[Bin]], **options: Any) -> list[list[int]]:
    """The rows of each page to the end, and then of each on the way back."""
    found: list[list[int]] = []
    with Session(kit.engine) as session:
        page = page_of(session, **options)
        while True:
            found.append([each.id for each in page])
            if page.next is None:
                break
            page = page_of(session, after=page.next)
        while page.previous is not None:
            page = page_of(session, before=page.previous)
            found.append([each.id for each in page])
    return found


def test_a_walk_over_kept_pages_is_that_over_the_table(stocked):
    """There and back, and all of it a second time out of the cache."""

    @stocked.cache.query()
    def page_of(session: Session, after: str | None = None, before: str | None = None) -> Page[Bin]:
        return read_page(session, after=after, before=before)

    walks = [walk(stocked, read_page), walk(stocked, page_of)]
    loads = stocked.cache.stats_of(page_of).fills
    walks.append(walk(stocked, page_of))

    assert walks == [[[1, 2, 3], [4, 5, 6], [7], [4, 5, 6], [1, 2, 3]]] * 3
    assert stocked.cache.stats_of(page_of).fills == loads


@pytest.mark.parametrize("count", [None, exact, capped(5)])
@pytest.mark.parametrize("options", [{}, {"last": True}, {"size": 20}], ids=str)
def test_a_kept_page_is_the_page(stocked, options, count):
    """Its items are the session's, its total and all of its cursors those that it had."""

    @stocked.cache.query()
    def page_of(session: Session) -> Page[Bin]:
        return read_page(session, count=count, **options)

    with Session(stocked.engine) as session:
        page_of(session)
    with Session(stocked.engine) as session:
        kept, read = page_of(session), read_page(session, count=count, **options)
        cursors = [kept.cursor(place) for place in range(len(kept))]

        assert stocked.cache.stats_of(page_of).hits == 1
        assert kept == read
        assert all(mine is its for mine, its in zip(kept.items, read.items, strict=True))
        for place, cursor in enumerate(cursors):
            assert read_page(session, after=cursor).items == read_page(session, after=read.cursor(place)).items


def test_a_page_of_rows_and_an_empty_one(stocked):
    """What is beside them is not in them; and who went past the end comes back."""

    @stocked.cache.query()
    def rows(session: Session, after: str | None = None) -> Page[Row[int, str]]:
        found = select(Bin.id, Bin.kind).order_by(Bin.name, Bin.id)
        return keyset(session, found, size=4, after=after, cursors=CURSORS)

    for _ in range(2):
        with Session(stocked.engine) as session:
            first = rows(session)
            assert [tuple(row) for row in first] == [(n, "glass") for n in (1, 2, 3, 4)]
            end = rows(session, first.cursor(3))
            past = rows(session, end.cursor(2))
            assert (past.items, past.has_next, past.next) == ([], False, None)
            back = keyset(
                session,
                select(Bin.id, Bin.kind).order_by(Bin.name, Bin.id),
                size=1,
                before=past.previous,
                cursors=CURSORS,
            )
            assert [row.id for row in back] == [ITEMS]


def test_a_write_makes_a_kept_page_anew(stocked):
    """Its statement is looked at like any other."""

    @stocked.cache.query()
    def page_of(session: Session) -> Page[Bin]:
        return read_page(session)

    with Session(stocked.engine) as session:
        page_of(session)
        stocked.write(lambda s: s.add(Bin(id=99, name="a first one", kind="paper")))

    with Session(stocked.engine) as session:
        assert [each.id for each in page_of(session)] == [99, 1, 2]


def test_numbered_pages_are_kept(stocked):
    """They are values."""

    @stocked.cache.query()
    def numbered(session: Session) -> NumberedPage[Bin]:
        return offset(session, select(Bin).order_by(Bin.id), size=3, count=exact)

    for _ in range(2):
        with Session(stocked.engine) as session:
            found = numbered(session)
            assert (found.items[0].id, found.pages, found.total) == (1, 3, Total(ITEMS))
            assert found.items[0] in session
    assert stocked.cache.stats_of(numbered).hits == 1


@pytest.mark.parametrize(
    ("place", "strange"), [(2, 7), (3, b"before"), (4, [7]), (4, 7), (5, [1, 2, 3, 4, 5]), (None, None)], ids=str
)
def test_a_page_that_somebody_else_has_written_is_unreadable(place, strange):
    """Cursors are text, and there are as many parts as there were."""
    codec = Codec([Page])
    raw = codec.pack(Page(items=[1], has_next=False, has_previous=False, total=Total(1)))
    (number, stamp, rows), root = msgpack.unpackb(raw[1:], strict_map_key=False)
    ((*parts,),) = msgpack.unpackb(rows)
    if place is None:
        parts.append("more")
    else:
        parts[place] = strange

    with pytest.raises(Unreadable):
        codec.unpack(raw[:1] + msgpack.packb([[number, stamp, msgpack.packb([parts])], root]))


def test_an_empty_page_lives_for_the_negative_time(stocked):
    """As an empty list does; a page with rows lives for the ttl."""

    @stocked.cache.query(ttl=60, negative=0.001)
    def page_of(session: Session, above: int) -> Page[Bin]:
        stocked.loads[f"above {above}"] += 1
        return keyset(session, select(Bin).where(Bin.id > above).order_by(Bin.id), size=3)

    for above in (0, ITEMS):
        for _ in range(2):
            with Session(stocked.engine) as session:
                page_of(session, above)
            time.sleep(0.005)
    assert stocked.loads == {"above 0": 1, f"above {ITEMS}": 2}
