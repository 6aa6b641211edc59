"""A plan is kept for statements that differ in the values of their WHERE, and each of them has its own rows."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Integer, bindparam, func, not_, or_, select, text
from sqlalchemy.orm import joinedload, selectinload, subqueryload

from perfkit.errors import InvalidCursor
from perfkit.paging import kept, keyset, offset
from tests.paging.models import Item, Owner, Tag
from tests.paging.test_statements import unpaged
from tests.paging.walks import forward, items

ONE_PLAN: dict[str, Any] = {
    "equal": lambda v: select(Item).where(Item.rank == v),
    "params": lambda v: select(Item).where(Item.rank == bindparam("r")).params(r=v),
    "params in a list": lambda v: select(Item).where(Item.rank.in_(bindparam("r", expanding=True))).params(r=[v]),
    "or": lambda v: select(Item).where(or_(Item.rank == v, Item.id > 50 + v)),
    "lists of any length": lambda v: select(Item).where(Item.rank.in_(range(v))),
    "not in": lambda v: select(Item).where(Item.rank.not_in([v, v + 1])).options(subqueryload(Item.tags)),
    "functions": lambda v: select(Item).where(func.coalesce(Item.price, v) > v, func.abs(Item.rank) >= v),
    "joined": lambda v: select(Item).where(Item.rank <= v).options(joinedload(Item.tags)).order_by(Item.note),
    "like": lambda v: select(Item).where(Item.name.like(f"{'ab'[v % 2]}%"), Item.rank.between(v, v + 1)),
    "not": lambda v: select(Item).where(not_(Item.rank == v)),
    "window": lambda v: select(Item.id, func.rank().over(order_by=Item.rank)).where(Item.rank >= v),
    "grouped": lambda v: select(Item.rank, func.count()).where(Item.rank >= v).group_by(Item.rank),
    "execution options": lambda v: select(Item).where(Item.rank == v).execution_options(populate_existing=True),
}
ANEW: dict[str, Any] = {
    "subquery": lambda v: select(Item).where(Item.owner_id.in_(select(Owner.id).where(Owner.id > v))),
    "exists": lambda v: select(Item).where(Item.rank >= 1, ~Item.tags.any(Tag.weight == v)),
    "having": lambda v: select(Item.rank, func.count()).group_by(Item.rank).having(func.count() > v * 5),
    "order": lambda v: select(Item).order_by(Item.rank * (v - 1)),
    "criteria of an option": lambda v: select(Item).options(selectinload(Item.tags.and_(Tag.weight == v))),
    "text": lambda v: select(Item).where(text("items.rank >= :v").bindparams(v=v)),
    "selected": lambda v: select(Item.id, Item.rank + v),
}


@pytest.mark.parametrize("name", [*ONE_PLAN, *ANEW])
def test_each_value_has_its_own_rows(within_sqlite, name):
    """Whichever it was that the plan was made for."""
    make = {**ONE_PLAN, **ANEW}[name]

    def check(session):
        for value in (0, 1, 2, 0, 1):
            session.expunge_all()
            found = unpaged(session, make(value))  # held, so that entities stay the same
            expected = sorted(map(repr, found))
            pages = forward(session, make(value), 7)
            assert sorted(map(repr, items(pages))) == expected
            assert offset(session, make(value), size=7).items == pages[0].items
            if name == "criteria of an option":
                assert all(tag.weight == value for item in items(pages) for tag in item.tags)

    within_sqlite(check)


@pytest.mark.parametrize("name", ONE_PLAN)
def test_values_of_a_filter_need_no_plan_of_their_own(within_sqlite, monkeypatch, name):
    """One is made for all of them."""
    made = []
    plan_of = kept.plan_of
    monkeypatch.setattr(kept, "_kept", type(kept._kept)())
    monkeypatch.setattr(kept, "plan_of", lambda *given, **named: made.append(given) or plan_of(*given, **named))

    def check(session):
        for value in range(1, 6):
            keyset(session, ONE_PLAN[name](value), size=3)

    within_sqlite(check)
    assert len(made) == 1


def test_a_cursor_knows_the_values_of_its_ordering(within_sqlite):
    """`rank * 2` is another ordering than `rank * 3`, and so is another column of a statement that is wrapped."""

    def check(session):
        for one, other in (
            (select(Item).order_by(Item.rank * 2), select(Item).order_by(Item.rank * 3)),
            (
                select(Item.id, func.rank().over(order_by=Item.rank).label("r")).order_by("r"),
                select(Item.id, func.rank().over(order_by=Item.name).label("r")).order_by("r"),
            ),
        ):
            cursor = keyset(session, one, size=2).next
            assert keyset(session, one, size=2, after=cursor).items
            with pytest.raises(InvalidCursor):
                keyset(session, other, size=2, after=cursor)

    within_sqlite(check)


def test_a_value_that_is_null_is_not_taken_for_one_that_is_not(within_sqlite):
    """`coalesce(price, :other)` can be NULL with the one, and not with the other."""

    def check(session):
        for other in (5, None, 5):
            key = func.coalesce(Item.price, bindparam("other", other, type_=Integer))
            statement = select(Item).order_by(key.desc())
            assert len(items(forward(session, statement, 7))) == 60

    within_sqlite(check)


def test_plans_are_bounded(within_sqlite, monkeypatch):
    """The oldest goes, and is made again."""
    monkeypatch.setattr(kept, "_kept", type(kept._kept)())
    monkeypatch.setattr(kept, "STRUCTURES", 3)

    def check(session):
        for number in range(1, 12):
            statement = select(Item).where(*[Item.rank >= 0] * (number % 5)).order_by(Item.rank * number)
            assert len(keyset(session, statement, size=100).items) == 60
            assert len(kept._kept) <= 3
            assert all(len(each.plans) <= kept.VARIANTS for each in kept._kept.values())

    within_sqlite(check)
