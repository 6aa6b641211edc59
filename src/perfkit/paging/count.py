"""How many rows there are on all pages, at the price that one is willing to pay.

    exact           every row is counted
    capped(n)       counting stops at n: "more than 1000"
    estimated(n)    what the planner expects, unless that is less than n: then exact

Measured on 5 million rows of PostgreSQL 15 with a filter of four values: 76 ms exact, 0.11 ms capped at 1,001, 0.07 ms
estimated and 1.6 % off. An estimate lies where conditions go together, by a factor of five at times. There is no
`count(*) OVER ()`: it makes a page read every row, and was slower than counting apart each time.

Whatever takes a session and a statement may count: a function that a `Cache` keeps gives its totals the kind `cached`.
`carried` counts for the first page of a walk, and lets cursors tell the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import time
from typing import Any

from sqlalchemy import ClauseElement, Executable, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.base import Generative

from perfkit.errors import PagingDeclarationError
from perfkit.paging.cursor import Memo
from perfkit.paging.page import Total
from perfkit.paging.plan import dialect_of
from perfkit.sqla.private import criteria_of, options_of, roots_of, without_locks

Count = Callable[[Session, Any], Total]


def exact(session: Session, statement: Any) -> Total:
    """All rows of `statement`; joined eager loads multiply nothing."""
    return Total(_number(session, statement, select(func.count()).select_from(_rows(statement))))


def capped(most: int) -> Count:
    """A count that reads at most `most` rows, and one more.

    Raises:
        PagingDeclarationError: less than 1.
    """
    if most < 1:
        raise PagingDeclarationError(f"capped({most!r}): give 1 or more.")

    def count(session: Session, statement: Any) -> Total:
        rows = select(_rows(statement)).limit(most + 1).subquery()
        found = _number(session, statement, select(func.count()).select_from(rows))
        return Total(most, "at_least") if found > most else Total(found)

    return _named(count, f"capped({most})")


def estimated(exact_below: int = 1000) -> Count:
    """A count that asks the planner first, and counts if it expects less than `exact_below`.

    Only PostgreSQL is asked; elsewhere, it is `capped(exact_below)`.

    Raises:
        PagingDeclarationError: less than 1.
    """
    if exact_below < 1:
        raise PagingDeclarationError(f"estimated({exact_below!r}): give 1 or more.")

    def count(session: Session, statement: Any) -> Total:
        if dialect_of(session, statement).name != "postgresql":
            return capped(exact_below)(session, statement)
        asking = select(_rows(statement))
        bind = session.get_bind(clause=asking, **_bind(statement))
        explain = _as_asked(statement, _Explain(asking))
        told: Any = session.execute(explain, bind_arguments={"bind": bind}).scalar_one()
        rows = int(told[0]["Plan"]["Plan Rows"])
        return exact(session, statement) if rows < exact_below else Total(rows, "estimate")

    return _named(count, f"estimated({exact_below})")


def cached(count: Callable[[], int | Total]) -> Count:
    """A count that is kept elsewhere, such as a function with `@cache.cached(…)` that returns a number."""

    def total(session: Session, statement: Any) -> Total:
        found = count()
        return replace(found, kind="cached") if isinstance(found, Total) else Total(found, "cached")

    return total


@dataclass(frozen=True, slots=True)
class Carried:
    """A count whose totals travel in cursors, signed, until they are older than `max_age_s`."""

    count: Count
    max_age_s: float
    clock: Callable[[], float]

    def __call__(self, session: Session, statement: Any) -> Total:
        return self.count(session, statement)

    def total(self, session: Session, statement: Any, found: Memo | None, of: bytes) -> tuple[Total, Memo]:
        """What a cursor brought, if it is of these rows and new enough, or what is counted now; and for the next."""
        now_s = self.clock()
        if found is not None and found.of == of and abs(now_s - found.at_s) <= self.max_age_s:
            counted: Any = found.kind
            return Total(found.value, "carried", counted, datetime.fromtimestamp(found.at_s, UTC)), found
        total = self.count(session, statement)
        return total, Memo(of, total.value, total.kind, now_s)

    @property
    def name(self) -> str:
        """The same in every process for the same way of counting, as far as its name tells."""
        return f"{getattr(self.count, '__module__', '')}.{getattr(self.count, '__qualname__', '')}"


def carried(count: Count, *, max_age_s: float = 300.0, clock: Callable[[], float] = time) -> Count:
    """A count that is made once for a walk: cursors carry it with its age, and past `max_age_s` it is made anew.

    It costs 40 bytes of a cursor or so, and no store. A total is told again for the same statement only, values and
    all; with another filter, it is counted. What else decides which rows there are, such as criteria that a session
    adds by an event or policies of the database, is not seen: give each tenant a `scope`, and no cursor of another one
    is read. Elsewhere than in `keyset` it is `count`.

    Raises:
        PagingDeclarationError: an age that is not above 0.

    >>> once = carried(capped(1000), max_age_s=60)
    """
    if not max_age_s > 0:
        raise PagingDeclarationError(f"max_age_s={max_age_s!r}: give seconds, more than 0.")
    return Carried(count, max_age_s, clock)


def _named(count: Count, name: str) -> Count:
    """What tells it from other ways of counting."""
    count.__qualname__ = name
    return count


def _rows(statement: Any) -> Any:
    return without_locks(statement).order_by(None).subquery()


def _number(session: Session, statement: Any, counting: Any) -> int:
    return int(session.execute(_as_asked(statement, counting), bind_arguments=_bind(statement)).scalar_one())


def _as_asked(statement: Any, counting: Any) -> Any:
    """With what holds for a statement as a whole, and not for its subqueries: loader criteria, a map of schemas."""
    told = {name: value for name, value in statement.get_execution_options().items() if name not in _OF_MANY_ROWS}
    # there is no server-side cursor of an EXPLAIN
    return counting.options(*criteria_of(statement)).execution_options(**told, stream_results=False)


_OF_MANY_ROWS = frozenset({"stream_results", "yield_per", "max_row_buffer"})


def _bind(statement: Any) -> dict[str, Any]:
    mapper = next((each.mapper for each in roots_of(statement)), None)
    return {} if mapper is None else {"mapper": mapper}


class _Explain(Generative, Executable, ClauseElement):
    """EXPLAIN of a statement, with its values."""

    inherit_cache = False
    is_select = True  # for who adds loader criteria to each SELECT of a session

    def __init__(self, statement: Any) -> None:
        self.statement = statement


@compiles(_Explain, "postgresql")
def _explain(element: _Explain, compiler: Any, **options: Any) -> str:
    explained = element.statement.options(*options_of(element))
    return f"EXPLAIN (FORMAT JSON) {compiler.process(explained, **options)}"
