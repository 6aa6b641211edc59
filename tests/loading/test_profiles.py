"""Declared profiles: what is loaded by how many statements, what raises, and what is refused."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import ForeignKey, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    aliased,
    contains_eager,
    joinedload,
    lazyload,
    load_only,
    mapped_column,
    raiseload,
    relationship,
    selectinload,
)

from perfkit.errors import ProfileError, UnknownAttribute
from perfkit.loading import EagerProfile, check_profiles, joined, lazy, many, never, one, set_strictness
from tests.loading.fleet import Base, Bin, Collection, Customer, Fleet, GlassBin, Organization, Place, User


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    made = Fleet()
    yield made
    made.close()


@pytest.fixture
def strict() -> Iterator[None]:
    before = set_strictness("raise")
    yield
    set_strictness(before)


class Card(EagerProfile, entity=Organization, fields=("name",)): ...


class Plain(EagerProfile, entity=Bin, fields=("name",)): ...


class Tagged(EagerProfile, entity=Bin):
    tags = many()


class Chain(EagerProfile, entity=Bin):
    customer = one(organization=one(created_by=one()))


@pytest.mark.parametrize("bins", [2, 40])
def test_a_chain_takes_one_statement_for_each_relationship_however_many_objects_there_are(bins: int) -> None:
    """Bin, Customer, Organization, User: four."""
    fleet = Fleet(bins)

    with fleet.session() as session:
        found = session.scalars(Chain.apply(select(Bin))).all()
        names = {each.customer.organization.created_by.name for each in found}

    assert (len(found), fleet.count, len(names)) == (bins, 4, min(bins, 3))
    fleet.close()


def test_a_joined_object_takes_no_statement(fleet: Fleet):
    """And the rows are as many as without."""

    class Joined(EagerProfile, entity=Bin):
        customer = joined(organization=joined())

    with fleet.session() as session:
        found = session.scalars(Joined.apply(select(Bin).limit(4))).all()
        names = [each.customer.organization.name for each in found]

    assert (len(names), fleet.count) == (4, 1)


def test_a_collection_is_loaded_by_one_statement(fleet: Fleet):
    """One-to-many and many-to-many alike, and no row of the first statement is repeated."""

    class Full(EagerProfile, entity=Bin):
        collections = many(fields=["weight_g"])
        tags = many()

    with fleet.session() as session:
        found = session.scalars(Full.apply(select(Bin).order_by(Bin.id))).all()
        seen = [(len(each.collections), len(each.tags)) for each in found]

    assert (seen, fleet.count) == ([(2, 0), (2, 1), (2, 2)] * 2, 3)


def test_fields_are_what_is_selected(fleet: Fleet):
    """With the key, what tells classes apart, and the version without which nothing could be written."""
    with fleet.session() as session:
        session.scalars(Plain.apply(select(Bin))).all()

    (statement,) = fleet.statements
    assert statement.split() == ["SELECT", "bins.id,", "bins.name,", "bins.kind,", "bins.version", "FROM", "bins"]


def test_fields_bring_the_foreign_keys_of_what_is_loaded(fleet: Fleet):
    """A second statement joins nothing, and finds its objects by their keys."""

    class Named(Plain):
        customer = one(fields=["name"])

    with fleet.session() as session:
        session.scalars(Named.apply(select(Bin))).all()

    assert "bins.customer_id" in fleet.statements[0]
    assert "JOIN" not in fleet.statements[1]


def test_a_composite_is_a_field(fleet: Fleet, strict: None):
    """It brings its columns."""

    class Where(EagerProfile, entity=Bin, fields=("place",)): ...

    with fleet.session() as session:
        found = session.scalars(Where.apply(select(Bin))).first()

        assert found is not None
        assert found.place == Place(24, 60)
        assert fleet.count == 1


def test_a_synonym_is_a_field(fleet: Fleet, strict: None):
    """It is the column that it stands for."""

    class Labelled(EagerProfile, entity=Bin, fields=("label",)): ...

    with fleet.session() as session:
        assert session.scalars(Labelled.apply(select(Bin).order_by(Bin.id))).first().label == "bin 0"
        assert fleet.count == 1


@pytest.mark.parametrize("path", ["customer", "collections", "lat"])
def test_in_tests_what_is_left_out_raises(fleet: Fleet, strict: None, path: str):
    """A relationship, a collection, a column: the error names it."""
    with fleet.session() as session:
        found = session.scalars(Plain.apply(select(Bin))).first()

        with pytest.raises(InvalidRequestError, match=r"'Bin\.\w+' is not available"):
            getattr(found, path)
    assert fleet.count == 1


def test_in_tests_what_is_left_out_further_down_raises(fleet: Fleet, strict: None):
    """Each level says what it loads."""
    with fleet.session() as session:
        found = session.scalars(Chain.apply(select(Bin))).first()

        with pytest.raises(InvalidRequestError, match=r"'Organization\.customers' is not available"):
            _ = found.customer.organization.customers


def test_in_production_what_is_left_out_is_lazy(fleet: Fleet):
    """That is how it begins."""
    with fleet.session() as session:
        found = session.scalars(Plain.apply(select(Bin).order_by(Bin.id))).first()

        assert (found.customer.name, found.lat, len(found.collections)) == ("customer 0", 60, 2)


@pytest.mark.parametrize("mode", ["raise", "lazy"])
def test_what_is_mapped_as_eager_is_not_loaded_unless_asked_for(fleet: Fleet, mode: Any):
    """`created_by` is lazy="joined" in the model, and audit columns cost a JOIN in each list."""
    with fleet.session() as session:
        session.scalars(Chain.apply(select(Bin), strictness=mode)).all()

    assert "JOIN" not in fleet.statements[0]
    assert "created_by_id" in fleet.statements[0]


def test_lazy_is_no_error_in_tests(fleet: Fleet, strict: None):
    """Neither for a relationship nor for a column, and its foreign key has come already."""

    class Later(Plain):
        customer = lazy()
        lat = lazy()

    with fleet.session() as session:
        found = session.scalars(Later.apply(select(Bin).order_by(Bin.id))).first()
        assert fleet.count == 1

        assert found.customer.name == "customer 0"
        assert fleet.count == 2
        assert found.lat == 60


def test_what_the_session_holds_is_never_an_error(fleet: Fleet, strict: None):
    """Only a statement is."""
    with fleet.session() as session:
        found = session.scalars(Chain.apply(select(Bin))).all()

        assert {each for one_ in found for each in [one_.customer.organization.created_by]} <= set(session)


def test_a_call_has_a_strictness_of_its_own(fleet: Fleet):
    """Whatever is set."""
    with fleet.session() as session:
        found = session.scalars(Plain.apply(select(Bin), strictness="raise")).first()

        with pytest.raises(InvalidRequestError):
            _ = found.collections


def test_never_takes_away_what_a_base_loads(fleet: Fleet, strict: None):
    """A profile has what its bases have, and replaces it."""

    class Short(Chain):
        customer = never()

    with fleet.session() as session:
        found = session.scalars(Short.apply(select(Bin))).first()

        with pytest.raises(InvalidRequestError, match="customer"):
            _ = found.customer
    assert fleet.count == 1


def test_a_column_that_is_never_loaded_is_not_selected(fleet: Fleet):
    """The others are."""

    class NoNote(EagerProfile, entity=Collection):
        note = never()

    with fleet.session() as session:
        session.scalars(NoNote.apply(select(Collection))).all()

    assert "collections.weight_g" in fleet.statements[0]
    assert "collections.note" not in fleet.statements[0]


def test_a_part_without_an_entity_is_for_many_profiles(fleet: Fleet, strict: None):
    """As the audit columns that all models have."""

    class Audited(EagerProfile):
        created_by = one(fields=["name"])

    class Bins(Audited, EagerProfile, entity=Bin):
        customer = one(Customers)

    with fleet.session() as session:
        found = session.scalars(Bins.apply(select(Bin))).all()

        assert {each.created_by.name for each in found} == {"user 2"}
        assert {each.customer.created_by.name for each in found} == {"user 1"}
    with pytest.raises(ProfileError, match="Audited: is a part of other profiles"):
        Audited.apply(select(Bin))


class Customers(EagerProfile, entity=Customer):
    created_by = one(fields=["name"])


def test_a_profile_used_in_another_can_be_added_to(fleet: Fleet, strict: None):
    """The profile itself stays what it is."""

    class Bins(EagerProfile, entity=Bin):
        customer = one(Customers, fields=["name"], organization=one(Card))

    with fleet.session() as session:
        found = session.scalars(Bins.apply(select(Bin).order_by(Bin.id))).first()

        assert found.customer.organization.name == "organization 0"
        assert found.customer.created_by.name == "user 1"
        assert fleet.count == 4
        with pytest.raises(InvalidRequestError):
            _ = session.scalars(Customers.apply(select(Customer).where(Customer.id == 2))).one().organization


def test_a_profile_serves_a_subclass_of_its_entity(fleet: Fleet, strict: None):
    """`select(GlassBin)` gives bins."""
    with fleet.session() as session:
        found = session.scalars(Chain.apply(select(GlassBin))).all()

        assert {each.customer.organization.created_by.name for each in found} == {"user 0", "user 1", "user 2"}
        assert fleet.count == 4


def test_of_a_subclass_selected_by_itself_the_rest_is_left_out(fleet: Fleet, strict: None):
    """What it has beyond the profile's entity, too."""
    with fleet.session() as session:
        found = session.scalars(Plain.apply(select(GlassBin))).first()

        with pytest.raises(InvalidRequestError, match=r"'GlassBin\.melter'|'GlassBin\.melter_id'"):
            _ = found.melter


class Glass(EagerProfile, entity=GlassBin, fields=("colour",)):
    melter = one(Card)


class AnyBin(EagerProfile, entity=Bin, fields=("name",), subclasses=(Glass,)): ...


def test_subclasses_have_profiles_of_their_own(fleet: Fleet, strict: None):
    """One statement for what they have beyond the entity, one for each of their relationships."""
    with fleet.session() as session:
        found = session.scalars(AnyBin.apply(select(Bin).order_by(Bin.id))).all()
        seen = [(each.name, isinstance(each, GlassBin) and (each.colour, each.melter.name)) for each in found]

    assert seen[:2] == [("bin 0", False), ("bin 1", ("green", "organization 1"))]
    assert fleet.count == 3


def test_subclasses_have_profiles_where_a_relationship_leads_to_them(fleet: Fleet, strict: None):
    """Below a collection as at the root."""

    class WithBins(EagerProfile, entity=Customer):
        bins = many(AnyBin)

    with fleet.session() as session:
        found = session.scalars(WithBins.apply(select(Customer).order_by(Customer.id))).all()
        seen = [isinstance(each, GlassBin) and (each.colour, each.melter.name) for one_ in found for each in one_.bins]

    assert seen[:2] == [False, ("green", "organization 1")]
    assert fleet.count == 4


def test_what_only_a_subclass_has_is_left_out_as_well(fleet: Fleet, strict: None):
    """Although nobody named the subclass."""
    with fleet.session() as session:
        found = session.scalars(Tagged.apply(select(Bin).where(Bin.kind == "glass"))).first()

        with pytest.raises(InvalidRequestError, match=r"'GlassBin\.melter' is not available"):
            _ = found.melter


def test_a_statement_of_an_alias_gets_the_options_for_it(fleet: Fleet, strict: None):
    """And another entity of the statement gets none."""
    other = aliased(Bin)
    statement = select(other, Collection).join(Collection, Collection.bin_id == other.id)

    with fleet.session() as session:
        found = session.execute(Chain.apply(statement)).first()

        assert found[0].customer.organization.created_by.name
        with pytest.raises(InvalidRequestError):
            _ = found[0].tags
        assert fleet.count == 4
        assert found[1].bin


def test_a_statement_that_selects_no_such_entity_is_refused():
    """Columns of it are no objects of it."""
    with pytest.raises(ProfileError, match=r"Plain.apply: the statement selects no Bin\."):
        Plain.apply(select(Bin.id))


@pytest.mark.parametrize("own", [joinedload(Bin.customer), selectinload(Bin.customer)])
def test_eager_options_of_the_statement_stay_and_are_gone_further_from(fleet: Fleet, strict: None, own: Any):
    """The profile loads what lies behind."""
    with fleet.session() as session:
        found = session.scalars(Chain.apply(select(Bin).options(own))).all()

        assert {each.customer.organization.created_by.name for each in found} == {"user 0", "user 1", "user 2"}
        assert fleet.count == (3 if "joined" in str(own.context[0].strategy) else 4)


def test_contains_eager_of_the_statement_stays(fleet: Fleet, strict: None):
    """The statement joins by itself."""
    statement = select(Bin).join(Bin.customer).options(contains_eager(Bin.customer))

    with fleet.session() as session:
        found = session.scalars(Chain.apply(statement)).all()

        assert len({each.customer.organization.name for each in found}) == 6
        assert fleet.count == 3


@pytest.mark.parametrize("own", [lazyload(Bin.customer), raiseload(Bin.customer)])
def test_where_the_statement_wants_it_lazy_the_profile_says_nothing(fleet: Fleet, own: Any):
    """Nor of what lies behind."""
    with fleet.session() as session:
        session.scalars(Chain.apply(select(Bin).options(own))).all()

    assert fleet.count == 1


def test_an_option_of_the_statement_for_what_the_profile_leaves_out_stays(fleet: Fleet, strict: None):
    """Before the profile, and after it."""
    before = Plain.apply(select(Bin).options(selectinload(Bin.collections)))
    after = Plain.apply(select(Bin)).options(selectinload(Bin.collections))

    for statement in (before, after):
        with fleet.session() as session:
            assert len(session.scalars(statement).first().collections) == 2
            assert fleet.count == 2


def test_columns_that_the_statement_chose_stay(fleet: Fleet):
    """Fields are then not the profile's affair."""
    with fleet.session() as session:
        session.scalars(Plain.apply(select(Bin).options(load_only(Bin.lat)))).all()

    assert "bins.lat" in fleet.statements[0]
    assert "bins.name" not in fleet.statements[0]


def test_options_are_for_get_too(fleet: Fleet, strict: None):
    """The session takes them as a statement does."""
    with fleet.session() as session:
        found = session.get(Bin, 1, options=Chain.options())

        assert found.customer.organization.created_by.name == "user 0"
        assert fleet.count == 4


def test_what_a_profile_loaded_can_be_written(fleet: Fleet, strict: None):
    """The columns that a write needs have come."""
    with fleet.session() as session:
        found = session.scalars(Plain.apply(select(Bin).where(Bin.id == 1))).one()
        found.name = "new"
        session.commit()

    with fleet.session() as session:
        assert session.get(Bin, 1).name == "new"


def test_the_options_of_a_class_are_made_once():
    """A statement costs no more than one that has them written out."""
    assert Chain.options() is Chain.options()
    assert Chain.options(strictness="raise") is not Chain.options()


async def test_an_async_session_takes_the_same_statement():
    """A profile only makes options."""
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        owner = User(name="user")
        session.add(owner)
        await session.flush()
        organization = Organization(name="organization", created_by_id=owner.id)
        session.add(Bin(name="bin", customer=Customer(name="customer", organization=organization)))
        await session.commit()

    async with AsyncSession(engine) as session:
        (found,) = (await session.scalars(Chain.apply(select(Bin)))).all()

        assert found.customer.organization.created_by.name == "user"
    await engine.dispose()


def test_an_unknown_attribute_is_an_error_that_suggests_the_nearest():
    """At once, as the models are configured."""
    with pytest.raises(UnknownAttribute) as caught:

        class Wrong(EagerProfile, entity=Bin):
            customer = one(organisation=one())

    assert str(caught.value) == (
        "Wrong.customer: Customer has no attribute 'organisation'. Did you mean 'organization'?"
    )
    assert (caught.value.cls, caught.value.name, caught.value.near) == (Customer, "organisation", "organization")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": one()}, r"W.name: a column of Bin, not a relationship: name it in fields\."),
        ({"customer": many()}, r"W.customer: is one Customer, not a collection: write one\(\)\."),
        ({"collections": one()}, r"W.collections: is a collection of Collection: write many\(\)\."),
        ({"collections": joined()}, r"W.collections: is a collection of Collection: write many\(\)\."),
        ({"readings": many()}, r"W.readings: the relationship is lazy='write_only', and is never loaded as a whole\."),
        (
            {"FIELDS": ("customer",)},
            r"W: fields names 'customer', which is a relationship of Bin, .* customer = one\(\)",
        ),
        ({"FIELDS": "name"}, r"W: fields='name': give a list of names of columns\."),
        ({"FIELDS": ("shouted",)}, r"W: Bin has no attribute 'shouted'\. It is computed from others: name those\."),
        (
            {"FIELDS": ("colour",)},
            r"Bin has no attribute 'colour'\. GlassBin has: put a profile for it into subclasses",
        ),
        ({"FIELDS": ("lat",), "lat": lazy()}, r"W.lat: is lazy\(\), and in fields"),
        ({"customer": one(Card)}, r"W.customer: leads to Customer; the profile given is for Organization\."),
        ({"customer": Card}, r"W.customer: write one\(Card\) or many\(Card\)\."),
        ({"customer": one}, r"W.customer: write one\(\)\."),
        ({"customer": "joined"}, r"W.customer = 'joined': must be one\(\), joined\(\), many\(\)"),
        ({"fields": ("name",)}, r"W: write class W\(EagerProfile, fields=…\), not below\."),
        ({"SUBCLASSES": (Card,)}, r"W: subclasses has a profile for Organization, which is no subclass of Bin\."),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_write(body: dict[str, Any], message: str):
    """When the class is made."""
    with pytest.raises(ProfileError, match=message):
        type(
            "W",
            (EagerProfile,),
            {name: value for name, value in body.items() if name.islower()},
            entity=Bin,
            fields=body.get("FIELDS"),
            subclasses=body.get("SUBCLASSES", ()),
        )


def test_relationships_may_have_the_names_that_profiles_use():
    """The methods stay what they are."""

    class Odd(DeclarativeBase): ...

    class Part(Odd):
        __tablename__ = "parts"
        id: Mapped[int] = mapped_column(primary_key=True)
        whole_id: Mapped[int | None] = mapped_column(ForeignKey("parts.id"))
        options: Mapped[list[Part]] = relationship()
        fields: Mapped[list[Part]] = relationship(viewonly=True)

    class Parts(EagerProfile, entity=Part):
        options = many(fields=many())  # type: ignore[assignment, arg-type]
        fields = many()

    paths = [str(each.path) for option in Parts.options() for each in option.context]
    assert [path.count("fields") + path.count("options") for path in paths] == [1, 2, 1]


def test_a_level_that_is_none_is_refused():
    """In the call that makes it."""
    with pytest.raises(ProfileError, match=r"one\(organization='Card'\): must be one\(\)"):
        one(organization="Card")  # type: ignore[arg-type]
    with pytest.raises(ProfileError, match=r"many\(.*\): give a profile"):
        many(Bin)  # type: ignore[arg-type]


def test_an_entity_that_is_not_mapped_is_refused():
    """When the class is made."""
    with pytest.raises(ProfileError, match="W: entity=<class 'int'> is no mapped class"):
        type("W", (EagerProfile,), {}, entity=int)


def test_an_unknown_strictness_is_refused():
    """The setting stays."""
    with pytest.raises(ProfileError, match="strictness 'strict': must be 'raise' or 'lazy'"):
        set_strictness("strict")  # type: ignore[arg-type]


@pytest.fixture
def no_profile_left() -> Iterator[None]:
    """A profile that cannot work would be found by whoever checks all of them."""
    yield
    gc.collect()


def test_before_models_are_configured_a_profile_is_checked_by_check_profiles(no_profile_left: None):
    """What it names may be imported later."""

    class Late(DeclarativeBase): ...

    class Truck(Late):
        __tablename__ = "trucks"
        id: Mapped[int] = mapped_column(primary_key=True)
        driver_id: Mapped[int] = mapped_column(ForeignKey("drivers.id"))
        driver: Mapped[Any] = relationship("Driver")

    class Wrong(EagerProfile, entity=Truck):
        drivr = one()

    class Driver(Late):
        __tablename__ = "drivers"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(UnknownAttribute, match=r"Wrong: Truck has no attribute 'drivr'. Did you mean 'driver'"):
        check_profiles()
    with pytest.raises(UnknownAttribute):
        Wrong.options()
