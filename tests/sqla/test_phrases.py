"""Joins and conditions come back as the code they were written in, or as the news that there is more."""

from __future__ import annotations

import datetime as dt
from functools import partial

import pytest
from sqlalchemy import Integer, and_, cast, exists, func, or_, select
from sqlalchemy.orm import aliased

from perfkit.loading.fixes import column_name
from perfkit.sqla.phrases import Phrases, phrases_of
from tests.loading.models import Bin, Customer, Organization

OF_ONE = Bin.customer_id == 7


def phrases(statement):
    """Of a loop over the value that is 7."""
    compiled = statement.compile()
    varying = [name for name, value in compiled.params.items() if value == 7]
    return phrases_of(compiled, compiled.params, varying, partial(column_name, by_class=True))


def rest(statement):
    return phrases(statement)[2:]


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
        (func.lower(Bin.name) == "x", "func.lower(Bin.name) == 'x'"),
        (or_(Bin.id == 1, and_(Bin.id > 2, Bin.name != "y")), "or_(Bin.id == 1, and_(Bin.id > 2, Bin.name != 'y'))"),
    ],
)
def test_a_condition_is_said_as_it_was_written(condition, code):
    """With the value it was given."""
    assert rest(select(Bin).where(OF_ONE, condition)) == ("", (code,), True)


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
    assert rest(statement.where(OF_ONE)) == (code, (), True)


def test_the_conditions_are_those_around_the_value_that_varies():
    """Of the statement that has it, and of those around that."""
    asked = select(exists().where(OF_ONE, Bin.id > 3))
    around = select(Customer).where(Customer.bins.any(Bin.id == 7), Customer.name == "x")

    assert rest(asked) == ("", ("Bin.id > 3",), True)
    assert rest(around) == ("", ("Customer.name == 'x'", "Customer.id == Bin.customer_id"), True)


@pytest.mark.parametrize(
    ("selected", "code"),
    [
        (func.count(), "func.count()"),
        (func.count(Bin.id.distinct()), "func.count(Bin.id.distinct())"),
        (func.coalesce(func.sum(Bin.id), 0), "func.coalesce(func.sum(Bin.id), 0)"),
        (func.sum(Bin.id * (Bin.customer_id + 1)).label("n"), "func.sum(Bin.id * (Bin.customer_id + 1))"),
    ],
)
def test_what_is_selected_is_said_as_it_was_written(selected, code):
    """Functions and sums of columns, without their labels."""
    assert phrases(select(selected).where(OF_ONE)) == Phrases((code,), ("Bin.customer_id",), "", (), is_all=True)


def test_a_key_may_be_a_function_of_a_column():
    """As in a search that does not tell capitals apart."""
    assert phrases(select(Bin).where(func.lower(Bin.name) == 7)).keys == ("func.lower(Bin.name)",)


@pytest.mark.parametrize(
    "statement",
    [
        select(Bin).where(cast(Bin.name, Integer) == 1),
        select(Bin).where(Bin.name.startswith("x")),
        select(Bin).where(Bin.name == dt.datetime(2026, 1, 2, tzinfo=dt.UTC)),
        select(Bin).join(aliased(Customer), Bin.customer),
        select(Bin).join(aliased(Bin), Bin.id == Bin.customer_id),
        select(Bin).select_from(select(Bin.id).subquery()),
        select(Bin).where(Bin.customer.of_type(aliased(Customer)).has()),
    ],
)
def test_what_has_no_plain_words_is_told_to_be_there(statement):
    """Casts, aliases, subqueries, values that no code makes."""
    assert not phrases(statement.where(OF_ONE)).is_all
