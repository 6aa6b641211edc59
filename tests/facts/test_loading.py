"""What the detector relies on in SQLAlchemy, named by the fact."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, create_engine, event, inspect, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import (
    InstrumentedAttribute,
    Session,
    contains_eager,
    defer,
    joinedload,
    lazyload,
    selectin_polymorphic,
    selectinload,
    undefer,
)

from perfkit.loading import detect
from perfkit.sqla import executions, private
from perfkit.sqla.executions import AUTOBATCH, OPTION, Did, Execution, noting, open_door
from perfkit.sqla.fingerprint import fingerprint_of
from perfkit.sqla.reading import Reads, reads, track, untrack
from perfkit.trace import window
from tests.loading.models import Base, Bin, Customer, Employee, Job, Manager, Organization, fill


@pytest.fixture
def session():
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        fill(session)
    with Session(engine) as session:
        yield session
    engine.dispose()


@pytest.fixture
def noted():
    """What the door sees of a test."""
    found: list[Execution] = []
    close = open_door()
    with noting(found.append):
        yield found
    close()
    untrack()


def test_an_object_has_a_run_between_the_numbers_of_its_query_and_of_the_next(session, noted):
    """So its query is found by bisection, without a look at its rows."""
    one = session.scalars(select(Bin).where(Bin.id == 1)).one()
    other = session.scalars(select(Bin).where(Bin.id == 2)).one()

    first, second = (each.number for each in noted)
    assert first < inspect(one).runid < second < inspect(other).runid


def test_a_lazy_load_tells_whose_attribute_it_loads(session, noted):
    """The state, its run, and the path along which it was loaded."""
    one = session.scalars(select(Bin).where(Bin.id == 1)).one()
    assert one.customer.organization.name == "o3"

    did = [(each.did, None if each.state is None else each.state.class_) for each in noted]
    assert did == [(Did.TOP, None), (Did.LAZY, Bin), (Did.LAZY, Customer)]
    assert noted[1].path.path[-1].key == "customer"
    assert noted[2].load_path.path[1].key == "customer"


def test_an_eager_load_carries_the_execution_options_of_its_query(session, noted):
    """By which its parent's note is known."""
    session.scalars(select(Bin).options(selectinload(Bin.customer).selectinload(Customer.organization))).all()

    root, customers, organizations = noted
    assert [each.did for each in noted] == [Did.TOP, Did.EAGER, Did.EAGER]
    assert customers.parent is root
    assert organizations.parent in (root, customers)


def test_columns_of_a_subclass_are_asked_for_by_a_parameter_with_a_name_of_its_own(session, noted):
    """By nothing else can they be told from a query of the application."""
    session.scalars(select(Employee).options(selectin_polymorphic(Employee, [Manager]))).all()

    assert [each.did for each in noted] == [Did.TOP, Did.EAGER]
    assert noted[1].parent is None


def test_hooks_of_a_flush_have_its_function_on_the_stack(session, noted):
    """That of the Session: the unit of work begins after the first of them."""
    event.listen(session, "before_flush", lambda session, *_: session.scalar(select(Bin.name).where(Bin.id == 1)))

    session.add(Organization(id=99, name="o99"))
    session.flush()

    assert [each.stack.in_flush for each in noted if each.stack] == [True, True]


def test_a_statement_knows_what_it_was_told_to_join():
    """The target, ON, the left side, and how."""
    statement = select(Bin).join(Bin.customer).join(Organization, isouter=True).select_from(Bin)

    (first, *_), (second, *_, flags) = private.joins_of(statement)

    assert (first.property.key, second.name, flags["isouter"]) == ("customer", "organizations", True)
    assert [each.name for each in private.selects_from(statement)] == ["bins"]


def test_columns_that_are_loaded_later_name_their_object_and_themselves(session, noted):
    """A refresh by the user's wish is told apart."""
    one = session.scalars(select(Bin).where(Bin.id == 1)).one()
    assert one.note == "n"
    session.refresh(one, ["name"])

    assert [each.did for each in noted] == [Did.TOP, Did.COLUMNS, Did.REFRESH]
    assert noted[1].names == {"note"}


def test_rows_are_counted_as_they_are_fetched(session, noted):
    """By a strategy in place of the default one; a Session fetches all, and with `yield_per` nobody counts."""
    session.scalars(select(Bin)).all()
    session.scalars(select(Bin)).first()
    session.connection().execute(select(Bin.id)).fetchmany(3)
    session.scalars(select(Bin).execution_options(yield_per=5)).all()

    assert [each.rows for each in noted] == [12, 12, 3, None]
    assert noted[0].first[0] == 1


def test_a_compiled_query_knows_what_it_joins_and_its_columns_know_their_alias(session, noted):
    """Of its own choice: `contains_eager` is not among them."""
    session.scalars(select(Customer).options(joinedload(Customer.bins))).unique().all()
    session.scalars(select(Bin).join(Bin.customer).options(contains_eager(Bin.customer))).all()

    joined, joined_by_hand = noted
    assert [path[-1].key for path in joined.joined] == ["bins"]
    assert joined_by_hand.joined == ()
    names = {each[0] for each in private.columns_of(joined.compiled) if each is not None}
    assert len(names) == 2


def test_the_options_of_a_statement_can_be_read():
    """What they say of which path."""
    statement = select(Bin).options(lazyload(Bin.customer), defer(Bin.name), joinedload(Bin.routes), undefer(Bin.note))

    said = {path[-1].key: strategy for path, strategy in private.strategies_of(statement).items()}

    assert said["customer"] == {"lazy": "select"}
    assert said["routes"] == {"lazy": "joined"}
    assert said["name"]["deferred"] is True
    assert said["note"]["deferred"] is False


def test_a_lock_is_in_the_tree_where_the_dialect_leaves_it_out():
    """SQLite has no FOR UPDATE."""
    assert private.locks_rows(select(Job).with_for_update())
    assert not private.locks_rows(select(Job))


def test_a_column_knows_by_whose_attribute_it_was_written():
    """`Bin.id` and not `bins.c.id`."""
    assert private.mapper_annotated(select(Bin.id).selected_columns[0]) is inspect(Bin)
    assert private.mapper_annotated(Bin.__table__.c.id) is None


def test_an_attribute_can_change_its_class_and_change_back(session):
    """To one that notes who reads it; statements are built of it as before."""
    track(inspect(Bin).relationships["customer"])
    assert type(Bin.customer) is Reads

    one = session.scalars(select(Bin).join(Bin.customer).where(Customer.name == "c1")).first()
    assert one.customer.name == "c1"

    assert ("customer", inspect(one).runid) in reads()
    untrack()
    assert type(Bin.customer) is InstrumentedAttribute
    assert reads() == frozenset()


def test_statements_keep_their_fingerprint_while_attributes_are_looked_at():
    """It names classes, too; cached results are found as before."""
    statement = select(Bin).options(selectinload(Bin.customer))
    before = fingerprint_of(statement)
    track(inspect(Bin).relationships["customer"])
    meanwhile = fingerprint_of(select(Bin).options(selectinload(Bin.customer)))
    untrack()

    assert meanwhile == before


async def test_the_frame_outside_a_greenlet_is_that_of_the_awaiting_code(tmp_path):
    """So the application's line is found under an async engine."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/facts.sqlite3")

    def names(_):
        frame, found = private.frame_outside_greenlet(), []
        while frame is not None:
            found.append(frame.f_code.co_name)
            frame = frame.f_back
        return found

    async with AsyncSession(engine) as session:
        found = await session.run_sync(names)
    await engine.dispose()

    assert "test_the_frame_outside_a_greenlet_is_that_of_the_awaiting_code" in found
    assert private.frame_outside_greenlet() is None


def test_what_auto_batching_marks_is_a_batch(session, noted):
    """Whatever else it may look like."""
    session.scalars(select(Organization).execution_options(**{AUTOBATCH: True})).all()

    assert [each.did for each in noted] == [Did.BATCH]


def test_without_the_private_names_less_is_seen_and_nothing_fails(session, monkeypatch):
    """A release of SQLAlchemy that has moved them."""
    monkeypatch.setattr(private.runs, "NEW_RUNID", None)
    monkeypatch.setattr(private.counting, "DEFAULT_FETCH", None)
    found: list[Execution] = []
    close = open_door()
    with noting(found.append):
        session.scalars(select(Bin)).all()
    close()

    assert [(each.number, each.rows) for each in found] == [(0, None)]
    assert private.strategies_of(object()) == {}
    assert private.columns_of(object()) == []
    assert private.joined_paths(object()) == ()


def test_what_cannot_be_seen_is_said_once(monkeypatch):
    """One warning in a process, and nothing with a SQLAlchemy that has all names."""
    assert private.unseen() == []
    monkeypatch.setattr(private.runs, "NEW_RUNID", None)
    window._tell_what_is_not_seen.cache_clear()

    with pytest.warns(RuntimeWarning, match="Not seen: which query loaded an object"), detect():
        pass
    with detect():
        pass
    window._tell_what_is_not_seen.cache_clear()


def test_the_door_takes_its_listeners_away(session):
    """When the last user has closed it."""
    one, other = open_door(), open_door()
    one()
    assert event.contains(Session, "do_orm_execute", executions._on_orm)
    other()

    assert not event.contains(Session, "do_orm_execute", executions._on_orm)
    assert not event.contains(Engine, "before_cursor_execute", executions._before)
    assert OPTION == "perfkit_execution"
