"""What a page costs its client: a session for each, another filter for each, 50 entities and whether more follow."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from fastapi_pagination import set_page, set_params
from fastapi_pagination.cursor import CursorPage
from fastapi_pagination.customization import CustomizedPage, UseIncludeTotal
from fastapi_pagination.ext.sqlalchemy import paginate
from sqlakeyset import select_page
from sqlalchemy import Engine, select, tuple_
from sqlalchemy.orm import Session

from benchmarks.jobs import Job, ordered, position_at
from benchmarks.rounds import Contender, Figure, measure
from perfkit.paging import Cursors, keyset

SIZE, CALLS, FILTERS = 50, 150, 10
ONE_BRANCH, THREE_BRANCHES = "created, id", "status, created DESC, id"
CURSORS = Cursors(["a secret of the benchmark"])
Once = Callable[[], Any]


def walks(engine: Engine, rows: int, rounds: int) -> list[Figure]:
    """Ten walks at once, each with its filter and from its own depth, a page of one after a page of another."""
    floor, select_alone = "keyset by hand", "a plain SELECT"
    contenders = {
        floor: (floor, _by_hand(engine, rows)),
        "perfkit": (floor, _perfkit(engine, ONE_BRANCH, rows)),
        "sqlakeyset": (floor, _sqlakeyset(engine)),
        "fastapi-pagination": (floor, _fastapi_pagination(engine)),
        select_alone: (select_alone, _plain(engine)),
        "perfkit, three branches": (select_alone, _perfkit(engine, THREE_BRANCHES, rows)),
    }
    return measure(
        [Contender(name=name, floor=of, once=once, calls=CALLS) for name, (of, once) in contenders.items()],
        rounds=rounds,
    )


def _filtered(name: str, number: int) -> Any:
    return ordered(name).where(Job.id > number % FILTERS)


def _by_hand(engine: Engine, rows: int) -> Once:
    numbers = count()

    def once() -> Any:
        number = next(numbers)
        after = tuple_(Job.created, Job.id) > (number * 7 % (rows // 20), number)
        with Session(engine) as session:
            found = session.scalars(_filtered(ONE_BRANCH, number).where(after).limit(SIZE + 1)).all()
            return found[:SIZE], len(found) > SIZE

    return once


def _plain(engine: Engine) -> Once:
    numbers = count()

    def once() -> Any:
        with Session(engine) as session:
            return session.scalars(select(Job).where(Job.id > next(numbers) % FILTERS).limit(SIZE + 1)).all()

    return once


def _perfkit(engine: Engine, name: str, rows: int) -> Once:
    numbers = count()
    with Session(engine) as session:
        edges: Any = keyset(session, ordered(name), size=1, cursors=CURSORS)._edges  # noqa: SLF001 - for rows far away
        places = {n: edges.write(position_at(session, name, rows * n // (FILTERS + 1))) for n in range(FILTERS)}

    def once() -> Any:
        number = next(numbers)
        after = places[number % FILTERS]
        with Session(engine) as session:
            page = keyset(session, _filtered(name, number), size=SIZE, after=after, cursors=CURSORS)
            places[number % FILTERS] = page.next or page.cursor(0)
            return page.items, page.has_next

    return once


def _sqlakeyset(engine: Engine) -> Once:
    numbers = count()
    places: dict[int, str | None] = dict.fromkeys(range(FILTERS))

    def once() -> Any:
        number = next(numbers)
        with Session(engine) as session:
            statement = _filtered(ONE_BRANCH, number)
            page = select_page(session, statement, per_page=SIZE, page=places[number % FILTERS])
            places[number % FILTERS] = page.paging.bookmark_next
            return [row[0] for row in page], page.paging.has_next

    return once


def _fastapi_pagination(engine: Engine) -> Once:
    numbers = count()
    places: dict[int, str | None] = dict.fromkeys(range(FILTERS))
    without_total: Any = CustomizedPage[CursorPage[Any], UseIncludeTotal(include_total=False)]  # it counts by default
    set_page(without_total)

    def once() -> Any:
        number = next(numbers)
        params = without_total.__params_type__(size=SIZE, cursor=places[number % FILTERS])
        set_params(params)
        with Session(engine) as session:
            page: Any = paginate(session, _filtered(ONE_BRANCH, number), params=params)
            places[number % FILTERS] = page.next_page
            return page.items

    return once
