"""Helpers far from the loop that calls them."""

from __future__ import annotations

from functools import singledispatch, wraps

from tests.loading.fresh.shop import Customer


def address_of(customer):
    """One line for an envelope."""
    return ", ".join([customer.name, customer.city.name])


@singledispatch
def label_of(value):
    """A label for any object."""
    return str(value)


@label_of.register
def _(customer: Customer):
    return "/".join(label.text for label in customer.labels)


def logged(function):
    """As decorators do."""

    @wraps(function)
    def call(*args, **kwargs):
        return function(*args, **kwargs)

    return call
