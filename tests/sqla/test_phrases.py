"""Joins and conditions come back as the code they were written in, or as the news that there is more."""

from __future__ import annotations

import datetime as dt
from functools import partial

import pytest
from sqlalchemy import and_, exists, func, or_, select
from sqlalchemy.orm import aliased

from perfkit.loading.fixes import column_name
from perfkit.sqla.phrases import Phrases, phrases_of
from tests.loading.models import Bin, Customer, Organization

OF_ONE = Bin.customer_id == 7


def phrases(statement):
    """Without the bind whose value is 7."""
    compiled = statement.compile()
    without = [name for name, value in compiled.params.items() if value == 7]
    return phrases_of(compiled, compiled.params, without, partial(column_name, by_class=True))


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        (Bin.name == "x", "Bin.name == 'x'"),
        (Bin.id > 3, "Bin.id > 3"),
        (Bin.note.is_(None), "Bin.note.is_(None)"),
        (Bin.note.is_not(None), "Bin.note.is_not(None)"),
        (Bin.name.like("b%"), "Bin.name.like('b%')"),
        (Bin.id.in_([1, 2]), "Bin.id.in_([1, 2])"),
        (Bin.id.not_in([1, 2]), "Bin.id.not_in([1, 2])"),
        (Bin.id == Bin.customer_id, "Bin.id == Bin.customer_id"),
        (Bin.name == dt.date(2026, 1, 2), "Bin.name == datetime.date(2026, 1, 2)"),
        (or_(Bin.id == 1, and_(Bin.id > 2, Bin.name != "y")), "or_(Bin.id == 1, and_(Bin.id > 2, Bin.name != 'y'))"),
    ],
)
def test_a_condition_is_said_as_it_was_written(condition, code):
    """With the value it was given."""
    assert phrases(select(Bin).where(OF_ONE, condition)) == Phrases("", (code,), is_all=True)


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        (select(Bin).join(Bin.customer), ".join(Bin.customer)"),
        (select(Bin).outerjoin(Bin.customer), ".join(Bin.customer, isouter=True)"),
        (select(Bin).join(Customer), ".join(Customer)"),
        (
            select(Bin).join(Customer, Customer.id == Bin.customer_id),
            ".join(Customer, Customer.id == Bin.customer_id)",
        ),
        (
            select(Bin).join(Customer, Bin.customer).join(Organization),
            ".join(Customer, Bin.customer).join(Organization)",
        ),
        (select(func.count()).select_from(Bin), ""),
    ],
)
def test_a_join_is_said_as_it_was_written(statement, code):
    """Along a relationship, or to a class."""
    assert phrases(statement.where(OF_ONE)) == Phrases(code, (), is_all=True)


def test_the_conditions_are_those_around_the_value_that_varies():
    """Of the innermost statement that has it."""
    asked = select(exists().where(OF_ONE, Bin.id > 3))

    assert phrases(asked) == Phrases("", ("Bin.id > 3",), is_all=True)


@pytest.mark.parametrize(
    "statement",
    [
        select(Bin).where(func.lower(Bin.name) == "x"),
        select(Bin).where(Bin.name.startswith("x")),
        select(Bin).where(Bin.name == dt.datetime(2026, 1, 2, tzinfo=dt.UTC)),
        select(Bin).join(aliased(Customer), Bin.customer),
        select(Bin).join(aliased(Bin), Bin.id == Bin.customer_id),
        select(Bin).select_from(select(Bin.id).subquery()),
        select(Bin).where(Bin.customer.of_type(aliased(Customer)).has()),
    ],
)
def test_what_has_no_plain_words_is_told_to_be_there(statement):
    """Functions, aliases, subqueries, values that no code makes."""
    assert not phrases(statement.where(OF_ONE)).is_all
