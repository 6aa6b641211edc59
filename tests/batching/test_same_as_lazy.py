"""Whatever a program does: with auto-batching it sees what it would see without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, String, create_engine, delete, event, inspect, select, text, update
from sqlalchemy.exc import IntegrityError, InvalidRequestError, PendingRollbackError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    lazyload,
    mapped_column,
    raiseload,
    relationship,
    selectinload,
    with_loader_criteria,
)

from perfkit.loading import autobatch
from tests.batching.fuzz import OnPostgres, OnSqlite, difference
from tests.batching.models import Bin, Customer, GlassBin, Organization, Setting, Tag, Visit, Weighing

PROGRAMS = 240


@pytest.fixture
def both(engine):
    """Runs a program without and with batching, each in a transaction that is rolled back, and compares."""

    def run(program: Callable[[Session], Any], **options: Any) -> Any:
        with Session(engine) as session:
            plain = program(session)
            session.rollback()
        with Session(engine) as session, autobatch(trigger="first") as batching:
            batched = program(session)
            session.rollback()
        assert batched == plain
        return batched, batching.stats

    return run


def test_random_programs_on_sqlite():
    """Some hundreds; `nox -s fuzz` runs 10,000."""
    database = OnSqlite()
    for seed in range(PROGRAMS):
        assert difference(seed, database, trigger=("first", "adaptive", "second")[seed % 3]).found is None


def test_random_programs_on_postgresql(pg_url):
    """The same, others."""
    database = OnPostgres(pg_url.replace("postgresql:", "postgresql+psycopg:"))
    try:
        for seed in range(20_000, 20_000 + PROGRAMS // 3):
            assert difference(seed, database).found is None
    finally:
        database.engine.dispose()


# ---- writes


def test_a_core_update_of_a_later_sibling_is_seen(both):
    """The later ones are empty by then, although they were read ahead."""

    def program(session: Session) -> list[int]:
        found = []
        for each in session.scalars(select(Customer).where(Customer.id.in_([1, 2, 3, 4, 6])).order_by(Customer.id)):
            found.append(len(each.bins))
            session.execute(update(Bin.__table__).values(customer_id=None))
        return found

    found, stats = both(program)

    assert found[0] > 0
    assert found[1:] == [0, 0, 0, 0]
    assert stats.dropped > 0


WRITES: dict[str, Callable[[Session], Any]] = {
    "core": lambda s: s.execute(delete(Bin.metadata.tables["customer_tags"])),
    "text": lambda s: s.execute(text("DELETE FROM customer_tags")),
    "connection": lambda s: s.connection().exec_driver_sql("DELETE FROM customer_tags"),
    "orm": lambda s: s.execute(update(Tag).values(name="new").execution_options(synchronize_session=False)),
    "flush": lambda s: (s.add(Tag(id=77, name="new", customers=[s.get_one(Customer, 3)])), s.flush()),
    "autoflush": lambda s: s.add(Tag(id=77, name="new", customers=[s.get_one(Customer, 3)])),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_write_between_two_siblings_is_seen(both, write):
    """In whatever way this session writes."""

    def program(session: Session) -> Any:
        customers = session.scalars(select(Customer).order_by(Customer.id)).all()
        first = [each.id for each in customers[0].tags]
        WRITES[write](session)
        return first, [[(tag.id, tag.name) for tag in each.tags] for each in customers[1:]]

    both(program)


def test_what_waits_is_flushed_when_a_sibling_asks(both):
    """As by its lazy load, although its rows are there already."""

    def program(session: Session) -> Any:
        customers = session.scalars(select(Customer).order_by(Customer.id)).all()
        first = [tag.id for tag in customers[0].tags]
        session.add(Visit(bin_id=14, number=9))
        waiting = len(session.new)
        second = [tag.id for tag in customers[1].tags]
        return first, waiting, second, len(session.new)

    (_, waiting, _, after), _ = both(program)

    assert (waiting, after) == (1, 0)


def test_a_savepoint_that_is_rolled_back_takes_its_rows_along(both):
    """What was read inside is not what is there afterwards."""

    def program(session: Session) -> Any:
        customers = session.scalars(select(Customer).order_by(Customer.id)).all()
        inner = session.begin_nested()
        session.execute(delete(Bin.metadata.tables["customer_tags"]))
        inside = len(customers[0].tags)
        inner.rollback()
        return inside, [len(each.tags) for each in customers]

    (inside, after), _ = both(program)

    assert inside == 0
    assert sum(after) == 17


def test_a_session_that_joined_a_transaction_begins_anew(engine):
    """Its commit releases a savepoint, and what was read before is of a transaction that is over."""
    for block in (autobatch.off(), autobatch(trigger="first")):
        with engine.connect() as connection, connection.begin(), block:
            session = Session(connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
            customers = session.scalars(select(Customer).order_by(Customer.id)).all()
            for each in customers[:2]:
                session.expire_all()
                assert (each.name, len(each.bins) > 0) == (f"customer {each.id}", each.id < 8)
                session.commit()
                assert not session.in_transaction()
            assert customers[2].name == "customer 3"
            assert session.in_transaction()
            session.commit()
            assert len(customers[2].tags) == 3
            session.commit()
            assert len(customers[3].tags) > 0
            assert session.in_transaction()
            session.close()


def test_a_changed_key_in_memory_leads_where_it_says(both):
    """Not flushed yet, and not where the row says."""

    def program(session: Session) -> Any:
        with session.no_autoflush:
            bins = session.scalars(select(Bin).where(Bin.customer_id.is_not(None)).order_by(Bin.id)).all()
            first = bins[0].customer.id
            for each in bins[1:]:
                each.customer_id = 9
            return first, [each.customer and each.customer.id for each in bins[1:]]

    both(program)


def test_a_flush_that_fails_lets_nothing_be_read(both):
    """As long as the session waits for its rollback."""

    def program(session: Session) -> Any:
        customers = session.scalars(select(Customer).order_by(Customer.id)).all()
        assert customers[0].tags is not None
        session.add(Tag(id=1, name="taken"))
        with pytest.raises(IntegrityError):
            session.flush()
        with pytest.raises(PendingRollbackError):
            _ = customers[1].tags
        session.rollback()
        return [len(each.tags) for each in customers]

    both(program)


# ---- what is in the session


def test_siblings_are_untouched_until_they_are_asked(engine):
    """Neither is their attribute loaded, nor what it leads to in the session."""
    with Session(engine) as session, autobatch():
        customers = session.scalars(select(Customer).order_by(Customer.id)).all()
        tags = customers[0].tags
        assert "tags" in inspect(customers[1]).unloaded
        assert {key for key in list(session.identity_map) if key[0] is Tag} == {inspect(tag).key for tag in tags}


def test_who_is_met_in_another_way_is_as_he_would_have_been(both):
    """With the options of that way, and not those under which he was read ahead."""

    def program(session: Session) -> Any:
        statement = select(Bin).order_by(Bin.id).options(lazyload(Bin.customer).raiseload(Customer.tags))
        bins = session.scalars(statement).all()
        first = bins[0].customer.id
        other = session.get_one(Customer, 7)
        return first, len(other.tags), sorted(inspect(other).unloaded)

    both(program)


def test_who_asks_again_gets_what_is_there_now(engine):
    """A sibling was given what another transaction has changed since."""
    with Session(engine) as session, autobatch(), engine.connect() as other:
        customers = session.scalars(select(Customer).order_by(Customer.id)).all()
        before = [len(each.tags) for each in customers]
        other.execute(delete(Bin.metadata.tables["customer_tags"]))
        other.commit()
        for each in customers:
            session.expire(each, ["tags"])
        after = [len(each.tags) for each in customers]

    assert sum(before) == 19
    assert sum(after) == 0


def test_an_expired_object_is_not_filled_from_older_rows(engine):
    """It is in the session, and loads itself anew."""
    with Session(engine) as session, autobatch(), engine.connect() as other:
        bins = session.scalars(select(Bin).where(Bin.customer_id.in_([2, 3])).order_by(Bin.id)).all()
        first = bins[0].customer
        others = [each for each in bins[1:] if each.customer_id == first.id and type(each) is type(bins[0])]
        session.expire(first)
        other.execute(update(Customer.__table__).values(name="new"))
        other.commit()

        assert [each.customer.name for each in others] == ["new"] * len(others)
    assert others


def test_load_events_come_when_an_attribute_is_asked_for(engine):
    """And not for those who are not."""
    loaded: list[Any] = []

    def note(tag: Tag, context: Any) -> None:
        loaded.append(tag.id)

    event.listen(Tag, "load", note)
    with Session(engine) as session, autobatch():
        customers = session.scalars(select(Customer).order_by(Customer.id)).all()
        first = [tag.id for tag in customers[0].tags]
        assert sorted(loaded) == sorted(first)
    event.remove(Tag, "load", note)


def test_an_event_that_loads_lazily_itself(both):
    """While a batch is being given."""

    def look(customer: Customer, context: Any) -> None:
        seen.append(len(customer.tags))

    seen: list[int] = []
    event.listen(Customer, "load", look, restore_load_context=True)
    try:
        both(lambda session: [each.customer and each.customer.id for each in session.scalars(select(Bin))])
    finally:
        event.remove(Customer, "load", look)
    assert seen


def test_an_event_that_asks_a_sibling_for_the_same(both):
    """While its rows become entities for another."""
    customers: list[Customer] = []

    def ask(tag: Tag, context: Any) -> None:
        if customers:
            seen.append([each.id for each in customers.pop().tags])

    seen: list[list[int]] = []
    event.listen(Tag, "load", ask, restore_load_context=True)

    def program(session: Session) -> Any:
        seen.clear()
        found = session.scalars(select(Customer).order_by(Customer.id)).all()
        customers[:] = found[1:]
        first = [each.id for each in found[0].tags]
        customers.clear()
        return first, list(seen), [[tag.id for tag in each.tags] for each in found]

    try:
        (_, asked, _), _ = both(program)
    finally:
        event.remove(Tag, "load", ask)
    assert asked


def test_merge_without_a_look_is_of_no_load(both):
    """It has no siblings."""

    def program(session: Session) -> Any:
        with Session(session.get_bind()) as other:
            outside = other.scalars(select(Customer).where(Customer.id < 5)).all()
        merged = [session.merge(each, load=False) for each in outside]
        return [each.organization and each.organization.id for each in merged]

    both(program)


# ---- options


@pytest.mark.parametrize("how", ["option", "class", "sql", "dynamic", "write_only"])
def test_what_must_not_load_does_not(engine, how):
    """Or loads in its own way."""
    with Session(engine) as session, autobatch():
        options = [raiseload(Customer.tags)] if how == "option" else []
        customers = session.scalars(select(Customer).options(*options).order_by(Customer.id)).all()
        for each in customers:
            if how == "dynamic":
                assert each.dynamic.count() >= 0
            elif how == "write_only":
                assert session.scalars(each.written.select()).all() is not None
            elif how == "sql" and each.organization_id is None:
                assert each.refused_sql is None
            else:
                name = {"option": "tags", "class": "refused", "sql": "refused_sql"}[how]
                with pytest.raises(InvalidRequestError):
                    getattr(each, name)


def test_criteria_hold_for_what_is_loaded_lazily(both):
    """As they were given with the statement of the parents."""
    criteria = with_loader_criteria(Visit, Visit.kilos > 20)
    both(lambda s: [[visit.kilos for visit in each.visits] for each in s.scalars(select(Bin).options(criteria))])


@pytest.mark.parametrize("is_first", [True, False])
def test_criteria_that_a_listener_changes_meanwhile_hold_from_then_on(both, is_first):
    """Each object sees those of its own moment, whether the listener comes before ours or after it."""
    limit = [0]

    def add(execution: Any) -> None:
        if execution.is_select:
            execution.statement = execution.statement.options(with_loader_criteria(Visit, Visit.kilos > limit[0]))

    def program(session: Session) -> Any:
        limit[0] = 0
        event.listen(session, "do_orm_execute", add, insert=is_first)
        found = []
        for each in session.scalars(select(Bin).order_by(Bin.id)).all():
            found.append([visit.kilos for visit in each.visits])
            limit[0] = 15
        return found

    both(program)


def test_two_places_of_one_class(both):
    """Bins under two names in one row."""

    def program(session: Session) -> Any:
        other = aliased(Bin)
        rows = session.execute(select(Bin, other).join(other, other.id == Bin.id + 1).order_by(Bin.id)).all()
        return [(one.customer and one.customer.id, two.sensor and two.sensor.id) for one, two in rows]

    both(program)


def test_two_places_with_options_of_their_own(both):
    """What is loaded of a customer is said for each place."""

    def program(session: Session) -> Any:
        other = aliased(Bin)
        statement = (
            select(Bin, other)
            .join(other, other.id == Bin.id + 12)
            .options(lazyload(Bin.customer).load_only(Customer.id), lazyload(other.customer).undefer(Customer.note))
            .order_by(Bin.id)
        )
        found = []
        for one, two in session.execute(statement).all():
            for each in (one, two):
                if each.customer is not None:
                    found.append((each.customer.id, sorted(inspect(each.customer).unloaded)))
                    session.expunge(each.customer)
        return found

    both(program)


def test_a_deleted_row_is_missed_by_its_own_object(both):
    """And by no other."""

    def program(session: Session) -> Any:
        settings = session.scalars(select(Setting).order_by(Setting.id)).all()
        session.commit()
        session.execute(delete(Setting.__table__).where(Setting.id == 3))
        found = []
        for each in settings:
            try:
                found.append(each.name)
            except InvalidRequestError as error:
                found.append(type(error).__name__)
        return found

    (found), _ = both(program)

    assert found.count("ObjectDeletedError") == 1


def test_columns_of_joined_inheritance_are_left_alone(engine, sent):
    """They come by a statement of their own kind, which is not looked into."""
    with Session(engine) as session, autobatch():
        bins = [each for each in session.scalars(select(Bin)) if isinstance(each, GlassBin)]
        sent.clear()
        colours = [each.colour for each in bins]

    assert len(colours) == len(sent) == 8


@pytest.mark.parametrize("codes", ["ab", "aA"])
def test_keys_that_only_the_database_takes_for_equal(codes):
    """'a' finds 'A' where a collation says so; with batching, too."""

    class Own(DeclarativeBase):
        pass

    class Parent(Own):
        __tablename__ = "parents"
        id: Mapped[int] = mapped_column(primary_key=True)
        code: Mapped[str]
        children: Mapped[list[Child]] = relationship(
            primaryjoin="Parent.code == foreign(Child.code)", viewonly=True, order_by="Child.id"
        )

    class Child(Own):
        __tablename__ = "children"
        id: Mapped[int] = mapped_column(primary_key=True)
        code = Column(String(collation="NOCASE"), ForeignKey("parents.code"))

    own = create_engine("sqlite://")
    Own.metadata.create_all(own)
    with Session(own) as session:
        session.add_all(Parent(id=number, code=code) for number, code in enumerate(codes))
        session.add_all(Child(id=number, code=code) for number, code in enumerate("AaBb"))
        session.commit()
    found = []
    for block in (autobatch.off(), autobatch(trigger="first")):
        with Session(own) as session, block:
            parents = session.scalars(select(Parent).order_by(Parent.id))
            found.append([[child.id for child in each.children] for each in parents])
    assert found[0] == found[1]
    own.dispose()


def test_nested_eager_loads_are_complete(both):
    """Whatever is loaded with what is loaded lazily."""
    statement = (
        select(Organization)
        .options(lazyload(Organization.customers).options(selectinload(Customer.tags), selectinload(Customer.bins)))
        .order_by(Organization.id)
    )

    def program(session: Session) -> Any:
        return [
            (each.id, [(one.id, len(one.tags), len(one.bins)) for one in each.customers])
            for each in session.scalars(statement)
        ]

    both(program)


def test_keys_of_two_columns(both):
    """In both directions, with some of them gone from memory."""

    def program(session: Session) -> Any:
        visits = session.scalars(select(Visit).order_by(Visit.bin_id, Visit.number)).all()
        del visits[::2]
        return [[each.id for each in visit.weighings] for visit in visits], [
            each.visit.kilos for each in session.scalars(select(Weighing).order_by(Weighing.id))
        ]

    both(program)
