"""Every way through the pages of a statement, held against the statement itself."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from perfkit.paging import Page, keyset


def whole(session: Session, statement: Any) -> list[Any]:
    """All of its items in the order of its pages, as one page."""
    return keyset(session, statement, size=1000).items


def forward(session: Session, statement: Any, size: int, **options: Any) -> list[Page[Any]]:
    """Its pages, first to last, then the empty one past the end."""
    pages = [keyset(session, statement, size=size, **options)]
    while pages[-1].next is not None:
        pages.append(keyset(session, statement, size=size, after=pages[-1].next, **options))
        assert len(pages) < 500, "pages without an end"
    if pages[-1].items:
        end = keyset(session, statement, size=size, after=pages[-1].cursor(-1), **options)
        assert end.items == []
        assert not end.has_next
        assert end.has_previous
        back = keyset(session, statement, size=size, before=end.previous, **options)
        assert back.items == items(pages)[-size:], "the way back from past the end"
    return pages


def backward(session: Session, statement: Any, size: int, **options: Any) -> list[Page[Any]]:
    """Its pages, read last to first, in their order."""
    pages = [keyset(session, statement, size=size, last=True, **options)]
    while pages[-1].previous is not None:
        pages.append(keyset(session, statement, size=size, before=pages[-1].previous, **options))
        assert len(pages) < 500, "pages without an end"
    return pages[::-1]


def items(pages: list[Page[Any]]) -> list[Any]:
    return [item for page in pages for item in page.items]


def agrees(session: Session, statement: Any, *, expected: list[Any], sizes: tuple[int, ...] = (1, 7)) -> None:
    """Whichever way one goes and however large the pages are, they are `expected`."""
    for size in (*sizes, len(expected) or 1, len(expected) + 5):
        pages = forward(session, statement, size)
        assert items(pages) == expected, size
        assert [page.has_previous for page in pages] == [False] + [True] * (len(pages) - 1)
        assert all(len(page) == size for page in pages[:-1])
        assert items(backward(session, statement, size)) == expected, size
        if len(pages) > 2:
            second = keyset(session, statement, size=size, before=pages[2].previous)
            assert second.items == pages[1].items
            third = keyset(session, statement, size=size, after=second.next)
            assert third.items == pages[2].items
