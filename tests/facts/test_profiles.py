"""What profiles rely on in SQLAlchemy, named by the fact."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.exc import ArgumentError, InvalidRequestError
from sqlalchemy.orm import Load, joinedload, lazyload, load_only, selectin_polymorphic, selectinload

from perfkit.sqla.private import strategies_of
from tests.loading.fleet import Bin, Customer, Fleet, GlassBin


def test_a_statement_tells_which_loader_options_it_has():
    """By path: mappers and attributes in turn, a wildcard as text."""
    statement = select(Bin).options(
        joinedload(Bin.customer).selectinload(Customer.organization), Load(Bin).raiseload("*"), load_only(Bin.name)
    )

    found = {
        tuple(each if isinstance(each, str) else each.key for each in parts[1::2]): strategy.get("lazy")
        for parts, strategy in strategies_of(statement).items()
    }

    assert found == {
        ("customer",): "joined",
        ("customer", "organization"): "selectin",
        ("relationship:*",): "raise",
        ("name",): None,
        ("column:*",): None,
    }


def test_lazyload_over_a_chain_of_eager_options_is_an_error():
    """So profiles look at what is there, and leave their own options away."""
    fleet = Fleet(1)
    statement = select(Bin).options(selectinload(Bin.customer).selectinload(Customer.organization))

    with fleet.session() as session, pytest.raises(InvalidRequestError):
        session.scalars(statement.options(lazyload(Bin.customer))).all()
    fleet.close()


def test_options_of_a_subclass_below_a_relationship_come_after_its_selectin_polymorphic():
    """Before it they are refused."""
    poly, own = selectin_polymorphic(Bin, [GlassBin]), selectinload(GlassBin.melter)

    selectinload(Customer.bins).options(poly, own)

    with pytest.raises(ArgumentError, match="does not link from"):
        selectinload(Customer.bins).options(own, poly)


def test_a_wildcard_for_a_class_does_not_reach_what_only_its_subclasses_have():
    """So profiles name these."""
    fleet = Fleet(2)

    with fleet.session() as session:
        found = session.scalars(select(Bin).where(Bin.kind == "glass").options(Load(Bin).raiseload("*"))).one()
        assert found.melter.name == "organization 1"
    fleet.close()
