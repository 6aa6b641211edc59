"""What the pages of a case must be: its rows unpaged, in an order that its ORDER BY allows, the same for every walk."""

from __future__ import annotations

import random
from collections import Counter
from itertools import groupby
from typing import Any

from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session

from perfkit.paging import keyset
from tests.paging.kinds import Case
from tests.paging.walks import backward, forward, items


def judge(session: Session, case: Case, chance: random.Random) -> None:
    """Every walk through a case; raises AssertionError."""
    whole = keyset(session, case.statement, size=1000).items
    place = 0
    for group in groups(session, case):
        assert Counter(map(repr, whole[place : place + len(group)])) == Counter(group), "rows of one place"
        place += len(group)
    assert place == len(whole)
    for size in {chance.choice([1, 2]), chance.choice([3, 5, 7]), max(1, len(whole) + chance.choice([-1, 0, 1, 5]))}:
        pages = forward(session, case.statement, size)
        assert items(pages) == whole, f"forward by {size}"
        assert all(len(page) == size for page in pages[:-1])
        assert items(backward(session, case.statement, size)) == whole, f"backward by {size}"
    zig_zag(session, case.statement, whole, chance)
    from_any_row(session, case.statement, whole, chance)


def groups(session: Session, case: Case) -> list[list[str]]:
    """The rows unpaged, those that tie in the ORDER BY together."""
    statement = case.statement
    if case.places is not None:
        rows = [(tuple(row[place] for place in case.places), row) for row in unpaged(session, statement)]
    else:
        width = len(statement.column_descriptions)
        found = unpaged(session, statement.add_columns(*(term.label(f"t{n}") for n, term in enumerate(case.terms))))
        rows = [(tuple(row[width:]), row[:width]) for row in found]
    return [
        [repr(row[0] if len(row) == 1 and not _is_compound(statement) else row) for _, row in group]
        for _, group in groupby(rows, key=lambda row: row[0])
    ]


def _is_compound(statement: Any) -> bool:
    return not hasattr(statement, "column_descriptions")


def unpaged(session: Session, statement: Any) -> list[Any]:
    """What SQLAlchemy gives by itself; joined collections without their repetitions."""
    result = session.execute(statement)
    try:
        return [tuple(row) for row in result]
    except InvalidRequestError:
        return [tuple(row) for row in session.execute(statement).unique(_by_identity)]


def _by_identity(row: Any) -> Any:
    return tuple(row)


def zig_zag(session: Session, statement: Any, whole: list[Any], chance: random.Random) -> None:
    """Back and forth with pages of any size: always the window where one stands."""
    size = chance.randint(1, 6)
    page, start = keyset(session, statement, size=size), 0
    for _ in range(10):
        end = start + len(page)
        assert page.items == whole[start:end], "zig-zag"
        assert (page.has_previous, page.has_next) == (start > 0, end < len(whole)), "zig-zag, flags"
        size = chance.randint(1, 6)
        if chance.random() < 0.6 and page.next is not None:
            page, start = keyset(session, statement, size=size, after=page.next), end
        elif page.previous is not None:
            page = keyset(session, statement, size=size, before=page.previous)
            start -= len(page)


def from_any_row(session: Session, statement: Any, whole: list[Any], chance: random.Random) -> None:
    """What comes after a row, and before it."""
    page = keyset(session, statement, size=1000)
    for place in chance.sample(range(len(whole)), min(3, len(whole))):
        cursor = page.cursor(place)
        assert keyset(session, statement, size=1000, after=cursor).items == whole[place + 1 :], "after a row"
        assert keyset(session, statement, size=1000, before=cursor).items == whole[:place], "before a row"
