"""What profiles rely on in SQLAlchemy, named by the fact."""

from __future__ import annotations

import pytest
from sqlalchemy import inspect, select
from sqlalchemy.exc import ArgumentError, InvalidRequestError
from sqlalchemy.orm import Load, aliased, defer, joinedload, lazyload, load_only, selectin_polymorphic, selectinload

from perfkit.sqla.private import strategies_of, wildcards_of
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


def test_a_statement_tells_which_wildcards_without_a_class_it_has():
    """They are no `Load`."""
    assert wildcards_of(select(Bin).options(lazyload("*"))) == {"relationship": {"lazy": "select"}}
    assert list(wildcards_of(select(Bin).options(defer("*")))) == ["column"]
    assert wildcards_of(select(Bin).options(lazyload(Bin.customer))) == {}


def test_equal_statements_of_two_aliases_load_along_the_path_of_the_first():
    """It was compiled for that one, so an object tells its entity by the mapper, not by the alias."""
    fleet = Fleet(1)
    roots = []
    for _ in range(2):
        other = aliased(Customer)
        with fleet.session() as session:
            found = session.scalars(select(other)).one()
            roots.append((inspect(found).load_path.path[0], inspect(other)))

    assert roots[0][0] is roots[0][1]
    assert roots[1][0] is roots[0][1]
    assert roots[1][0].mapper is roots[1][1].mapper
    fleet.close()
