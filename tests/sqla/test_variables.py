"""What functions call an alias, and on which line they call something."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.orm import aliased, class_mapper, joinedload

from perfkit.sqla import variables
from perfkit.sqla.origin import stack_here
from tests.loading.models import Bin, Customer

BUYER = aliased(Customer)


def held():
    other = aliased(Bin)
    return select(other), stack_here(1)


def one_of_two():
    first, second = aliased(Bin, name="first"), aliased(Bin, name="second")
    return select(second.id, first.id), select(second), stack_here(1)


def of_the_module():
    return select(BUYER), stack_here(1)


def wrapped():
    other = tuple(aliased(each) for each in (Bin,))
    return select(*other), stack_here(1)


def given(other):
    return select(other), stack_here(1)


def of_a_caller():
    other = aliased(Bin)
    return select(other), given(other)[-1]


@pytest.mark.parametrize(
    ("ask", "of", "name"),
    [
        (held, Bin, "other"),
        (held, Customer, None),
        (one_of_two, Bin, None),
        (of_the_module, Customer, "BUYER"),
        (of_the_module, Bin, None),
        (wrapped, Bin, None),
        (lambda: given(aliased(Bin)), Bin, None),
        (of_a_caller, Bin, "other"),
    ],
)
def test_an_alias_is_called_by_the_variable_that_select_is_given(ask, of, name):
    """And by none, where several or nobody could be meant."""
    stack = ask()[-1]

    assert variables.alias_of(stack, class_mapper(of)) == name


def test_a_call_is_found_by_what_it_is_given():
    """The line, and not that of another call of the same function."""

    def ask():
        statement = select(Bin).options(
            joinedload(Bin.customer),
            joinedload(Bin.routes),
        )
        return statement, stack_here(1)

    _, stack = ask()
    begin = ask.__code__.co_firstlineno

    assert variables.line_of(stack, "joinedload", "routes") == begin + 3
    assert variables.line_of(stack, "joinedload", "alarms") is None
