"""A walk counts once: its cursors carry the total, and since when it is known."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import delete, func, select

from perfkit.errors import InvalidCursor, PagingDeclarationError
from perfkit.paging import Cursors, Total, capped, carried, exact, keyset, offset
from tests.paging.models import Item

BY_RANK = select(Item).where(Item.id > 3).order_by(Item.rank)


class Counting:
    """A count and a clock that tests turn."""

    def __init__(self) -> None:
        self.counts, self.now_s = 0, 1_000.0

    def __call__(self, session, statement):
        self.counts += 1
        return exact(session, statement)

    @property
    def once(self):
        return carried(self, max_age_s=60, clock=lambda: self.now_s)


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_walk_counts_once(within_sqlite, encrypt):
    """Forward, back, from a row and past the end."""
    counting, cursors = Counting(), Cursors(["a secret of more than 16 bytes"], encrypt=encrypt)

    def check(session):
        def page(**place):
            return keyset(session, BY_RANK, size=20, count=counting.once, cursors=cursors, **place)

        first = page()
        assert first.total == Total(57)
        known = Total(57, "carried", "exact", datetime.fromtimestamp(1_000, UTC))
        second = page(after=first.next)
        for each in (second, page(before=second.previous), page(after=second.cursor(4)), page(before=second.cursor(0))):
            assert each.total == known
        last = page(after=page(after=second.next).cursor(-1))
        assert (last.items, last.total) == ([], known)
        assert page(before=last.previous).total == known
        assert counting.counts == 1

    within_sqlite(check)


def test_a_total_is_counted_anew_when_it_is_too_old(within_sqlite):
    """By its first count, however often it was handed on; also if the clock went back by more than that."""
    counting = Counting()

    def check(session):
        page = keyset(session, BY_RANK, size=5, count=counting.once)
        session.execute(delete(Item).where(Item.id == 60).execution_options(synchronize_session=False))
        for now_s, kind, value in (
            (1_040, "carried", 57),
            (1_059, "carried", 57),
            (1_061, "exact", 56),
            (1_121, "carried", 56),
            (1_000, "exact", 56),
        ):
            counting.now_s = now_s
            page = keyset(session, BY_RANK, size=5, after=page.next, count=counting.once)
            assert (page.total.kind, page.total.value) == (kind, value), now_s

    within_sqlite(check)


def test_a_total_is_of_one_statement_and_one_way_of_counting(within_sqlite):
    """Another filter, another value of it, other joins or a cap: it is counted."""

    def check(session):
        start = keyset(session, BY_RANK, size=5, count=carried(exact))
        for other, count, total in (
            (BY_RANK.where(Item.id < 10), exact, Total(6)),
            (select(Item).where(Item.id > 50).order_by(Item.rank), exact, Total(10)),
            (select(Item).order_by(Item.rank), exact, Total(60)),
            (BY_RANK.join(Item.owner), exact, None),
            (BY_RANK, capped(10), Total(10, "at_least")),
        ):
            page = keyset(session, other, size=5, after=start.next, count=carried(count))
            assert page.total == (total or exact(session, other))
        for most, kind in ((10, "carried"), (11, "at_least")):
            first = keyset(session, BY_RANK, size=5, count=carried(capped(10)))
            assert keyset(session, BY_RANK, size=5, after=first.next, count=carried(capped(most))).total.kind == kind

    within_sqlite(check)


def test_who_counts_otherwise_can_read_its_cursors(within_sqlite):
    """And the other way round; what is not counted is not told."""

    def check(session):
        with_, without = (keyset(session, BY_RANK, size=5, count=count) for count in (carried(exact), None))
        assert keyset(session, BY_RANK, size=5, after=with_.next).total is None
        assert keyset(session, BY_RANK, size=5, after=with_.next, count=exact).total == Total(57)
        assert keyset(session, BY_RANK, size=5, after=without.next, count=carried(exact)).total == Total(57)
        assert offset(session, BY_RANK, size=5, count=carried(exact)).total == Total(57)
        with pytest.raises(InvalidCursor):
            keyset(session, BY_RANK, size=5, after=with_.next, scope="another's")

    within_sqlite(check)


def test_any_statement_can_carry_its_total(within):
    """Grouped and wrapped ones too, on each database."""

    def check(session):
        for statement in (
            select(Item.rank, func.count()).group_by(Item.rank),
            select(Item.id, func.rank().over(order_by=Item.rank)),
            select(Item).where(Item.rank.in_([1, 2])),
        ):
            first = keyset(session, statement, size=2, count=carried(exact))
            second = keyset(session, statement, size=2, after=first.next, count=carried(exact))
            assert (second.total.kind, second.total.value) == ("carried", first.total.value)

    within(check)


@pytest.mark.parametrize("age", [0, -1, float("nan")])
def test_an_age_is_above_nothing(age):
    with pytest.raises(PagingDeclarationError):
        carried(exact, max_age_s=age)
