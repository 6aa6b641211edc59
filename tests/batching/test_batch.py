"""autobatch: how many statements are sent, when, and for whom."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from sqlalchemy import create_engine, event, select, text, update
from sqlalchemy.orm import Session, defer, joinedload, lazyload, load_only, selectinload, sessionmaker

from perfkit.loading import Stats, autobatch, batch
from perfkit.sqla import loads, private
from tests.batching.models import (
    BigDepot,
    Bin,
    Contract,
    Customer,
    Depot,
    GlassBin,
    Organization,
    PaperBin,
    Place,
    Route,
    Sensor,
    Tag,
    Visit,
    Weighing,
)

SHAPES: dict[str, tuple[Callable[[Session], Any], int]] = {
    "many to one": (lambda s: [each.customer for each in s.scalars(select(Bin))], 2),
    "one to many": (lambda s: [each.bins for each in s.scalars(select(Customer))], 2),
    "many to many": (lambda s: [each.tags for each in s.scalars(select(Customer))], 2),
    "and back": (lambda s: [each.customers for each in s.scalars(select(Tag))], 2),
    "one to one": (lambda s: [each.sensor for each in s.scalars(select(Bin))], 2),
    "its other side": (lambda s: [each.bin for each in s.scalars(select(Sensor))], 2),
    "a dict": (lambda s: [each.settings for each in s.scalars(select(Customer))], 2),
    "a set": (lambda s: [each.labels for each in s.scalars(select(Customer))], 2),
    "viewonly, with a condition": (lambda s: [each.heavy for each in s.scalars(select(Customer))], 2),
    "not by primary key": (
        lambda s: [
            each.contracts
            for each in s.scalars(select(Organization).options(lazyload(Organization.contracts, Contract.terms)))
        ],
        2,
    ),
    "key of two columns": (lambda s: [each.weighings for each in s.scalars(select(Visit))], 2),
    "to a key of two columns": (lambda s: [each.visit for each in s.scalars(select(Weighing))], 2),
    "association": (lambda s: [place.bin for each in s.scalars(select(Route)) for place in each.places], 3),
    "a tree": (lambda s: [each.children for each in s.scalars(select(Organization))], 2),
    "of a subclass, joined": (lambda s: [each.pieces for each in s.scalars(select(GlassBin))], 2),
    "of a subclass, single": (lambda s: [each.reader for each in s.scalars(select(PaperBin))], 2),
    "of a concrete subclass": (lambda s: [each.tag for each in s.scalars(select(BigDepot))], 2),
    "of some of a polymorphic list": (
        lambda s: [each.reader for each in s.scalars(select(Bin)) if isinstance(each, PaperBin)],
        3,  # a column of the subclass comes first
    ),
    "a chain": (lambda s: [each.customer and each.customer.tags for each in s.scalars(select(Bin))], 3),
    "a deferred column": (lambda s: [each.note for each in s.scalars(select(Customer))], 2),
    "a group of them": (lambda s: [each.memo + each.terms for each in s.scalars(select(Customer))], 2),
    "a column_property": (lambda s: [each.bin_count for each in s.scalars(select(Customer))], 2),
    "deferred by the statement": (
        lambda s: [each.name for each in s.scalars(select(Customer).options(defer(Customer.name)))],
        2,
    ),
    "left out by the statement": (
        lambda s: [each.name for each in s.scalars(select(Customer).options(load_only(Customer.id)))],
        2,
    ),
    "inside of an eager load": (
        lambda s: [
            tag.customers
            for each in s.scalars(select(Customer).options(selectinload(Customer.tags)))
            for tag in each.tags
        ],
        3,
    ),
    "with options for what it leads to": (
        lambda s: [
            each.customer and each.customer.organization
            for each in s.scalars(select(Bin).options(lazyload(Bin.customer).joinedload(Customer.organization)))
        ],
        2,
    ),
    "with criteria of its own": (
        lambda s: [each.visits for each in s.scalars(select(Bin).options(lazyload(Bin.visits.and_(Visit.kilos > 5))))],
        2,
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_one_statement_loads_for_all(engine, sent, shape):
    """And what it gives is what SQLAlchemy gives alone."""
    read, statements = SHAPES[shape]
    with Session(engine) as session:
        plain = _identities(read(session))
    assert len(sent) > statements
    sent.clear()

    with Session(engine) as session, autobatch():
        batched = _identities(read(session))

    assert (batched, len(sent)) == (plain, statements)


def _all(values: Iterable[Any]) -> list[Any]:
    return list(values)


def _identities(found: list[Any]) -> list[Any]:
    return [
        [each.__mapper__.identity_key_from_instance(each) for each in sorted(value, key=lambda each: each.id)]
        if isinstance(value, set)
        else str(sorted((key, each.id) for key, each in value.items()))
        if isinstance(value, dict)
        else [each.__mapper__.identity_key_from_instance(each) for each in value]
        if isinstance(value, list)
        else value.__mapper__.identity_key_from_instance(value)
        if hasattr(value, "__mapper__")
        else value
        for value in found
    ]


@pytest.mark.parametrize("url", ["sqlite", "postgresql"])
def test_the_chain_takes_four_statements(engine, request, url):
    """Whatever the number of bins."""
    if url == "postgresql":
        from tests.batching.models import fill

        engine = create_engine(request.getfixturevalue("pg_url").replace("postgresql:", "postgresql+psycopg:"))
        fill(engine)
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    with Session(engine) as session, autobatch():
        found = [
            each.customer.organization.parent.id
            for each in session.scalars(select(Bin).where(Bin.customer_id.in_([2, 3, 6, 7])).order_by(Bin.id))
            if each.customer.organization.parent
        ]
    assert found
    assert len(sent) == 4
    if url == "postgresql":
        engine.dispose()


def test_what_was_expired_by_a_commit_comes_back_at_once(engine, sent):
    """Columns in one statement, and a relation of all in another."""
    with Session(engine) as session, autobatch():
        customers = session.scalars(select(Customer).order_by(Customer.id)).all()
        session.commit()
        sent.clear()

        names = [each.name for each in customers]
        tags = [each.tags for each in customers]

    assert names == [f"customer {number}" for number in range(1, 10)]
    assert len(tags) == 9
    assert len(sent) == 2


# ---- when


def test_one_object_is_loaded_as_ever(engine, sent):
    """There is nobody to load for."""
    with Session(engine) as session, autobatch() as batching:
        session.get_one(Customer, 1).tags  # noqa: B018

    assert len(sent) == 2
    assert batching.stats == Stats()


def test_the_second_may_be_waited_for(engine, sent):
    """The first costs one statement more, or one less, if it stays alone."""
    with Session(engine) as session, autobatch(trigger="second"):
        customers = session.scalars(select(Customer).order_by(Customer.id)).all()
        sent.clear()
        assert customers[0].tags is not None
        assert "IN (" not in sent[0]
        _all(each.tags for each in customers)

    assert len(sent) == 2


def test_the_adaptive_trigger_waits_where_little_is_used(engine, sent):
    """Of 9 customers one is asked for its tags, time and again."""

    def first_only() -> int:
        with Session(engine) as session, autobatch():
            customers = session.scalars(select(Customer).order_by(Customer.id)).all()
            sent.clear()
            assert customers[0].tags is not None
            session.rollback()
        return "IN (" in sent[0]

    read_ahead = [first_only() for _ in range(30)]

    assert read_ahead[0]
    assert not read_ahead[-1]


def test_a_batch_is_bounded(engine, sent):
    """The next object behind it reads the next one."""
    with Session(engine) as session, autobatch(max_batch=4):
        _all(each.tags for each in session.scalars(select(Customer)))

    assert len(sent) == 1 + 3


def test_from_the_last_to_the_first(engine, sent):
    """Those before the first that is asked are not forgotten."""
    with Session(engine) as session, autobatch():
        _all(each.tags for each in reversed(session.scalars(select(Customer)).all()))

    assert len(sent) == 2


def test_in_parts_each_part_is_a_batch(engine, sent):
    """`yield_per` lets the others not be there yet."""
    with Session(engine) as session, autobatch():
        for part in session.scalars(select(Bin).execution_options(yield_per=8)).partitions():
            _all(each.visits for each in part)
            del part

    assert len(sent) == 1 + 3


def test_an_object_in_the_session_is_not_read_again(engine, sent):
    """Nor is a NULL looked for."""
    with Session(engine) as session, autobatch():
        customers = session.scalars(select(Customer)).all()
        sent.clear()
        _all(each.customer for each in session.scalars(select(Bin)))

    assert len(customers) == 9
    assert len(sent) == 1


def test_twice_in_vain_is_enough(engine, sent):
    """Where each turn of a loop writes, nothing is read ahead any more."""
    with Session(engine) as session, autobatch() as batching:
        for each in session.scalars(select(Customer)).all():
            assert each.tags is not None
            session.execute(update(Organization.__table__).values(parent_id=None))

    assert batching.stats.batches == 2
    assert len(sent) == 1 + 9 + 9


def test_objects_that_came_one_by_one_cost_no_search_each(engine, monkeypatch):
    """The identity map is passed by once."""
    passed: list[int] = []
    real = private.newest_first

    def counting(session):
        for state in real(session):
            passed.append(1)
            yield state

    monkeypatch.setattr(private, "newest_first", counting)
    with Session(engine) as session, autobatch():
        bins = [session.get_one(Bin, number) for number in range(1, 25)]
        _all(each.visits for each in bins)

    assert len(passed) < 3 * 24


# ---- for whom


def test_a_relation_may_stay_out(engine, sent):
    """`info={"perfkit": {"autobatch": False}}`."""
    with Session(engine) as session, autobatch():
        _all(each.left_alone for each in session.scalars(select(Customer)))

    assert len(sent) == 10


@pytest.mark.parametrize("is_first", [True, False])
def test_a_statement_may_stay_out(engine, sent, is_first):
    """With all that comes of it, and no other statement; also if it begins the session's transaction."""
    with autobatch(), Session(engine) as session:
        if not is_first:
            session.scalars(select(Depot)).all()
        else:
            session.add(Tag(id=99, name="new"))
        bins = session.scalars(select(Bin).execution_options(perfkit_autobatch=False)).all()
        sent.clear()
        _all(each.customer for each in bins)
        assert len(sent) == 7
        sent.clear()
        _all(each.weighings for each in session.scalars(select(Visit)))
        assert len(sent) == 2


def test_an_eager_load_of_a_statement_stays_out_with_it(engine, sent):
    """Its children are its own."""
    with Session(engine) as session, autobatch():
        statement = select(Customer).options(selectinload(Customer.tags)).execution_options(perfkit_autobatch=False)
        tags = {tag for each in session.scalars(statement).all() for tag in each.tags}
        sent.clear()
        _all(tag.customers for tag in tags)

    assert len(sent) == len(tags)


def test_a_block_inside_may_stay_out(engine, sent):
    """`autobatch.off()`."""
    with Session(engine) as session, autobatch():
        customers = session.scalars(select(Customer)).all()
        with autobatch.off():
            _all(each.tags for each in customers)

    assert len(sent) == 10


def test_outside_of_a_block_nothing_is_batched(engine, sent):
    """Before it, after it, and by a batch that was read in it."""
    with Session(engine) as session:
        customers = session.scalars(select(Customer)).all()
        with autobatch():
            assert customers[0].tags is not None
        sent.clear()
        _all(each.tags for each in customers)

    assert len(sent) == 8


def test_a_function_is_a_block(engine, sent):
    """Sync; its name and its answer stay."""

    @autobatch()
    def tags() -> int:
        with Session(engine) as session:
            return sum(len(each.tags) for each in session.scalars(select(Customer)))

    assert tags() == 19
    assert tags.__name__ == "tags"
    assert len(sent) == 2


def test_always_is_everywhere_until_it_is_stopped(engine, sent):
    """Also in other threads."""
    everywhere = autobatch.always()
    try:
        thread = threading.Thread(target=_tags_of_all, args=[engine])
        thread.start()
        thread.join()
        assert len(sent) == 2
    finally:
        everywhere.stop()
        everywhere.stop()
    sent.clear()

    _tags_of_all(engine)

    assert len(sent) == 10
    assert everywhere.stats == Stats(batches=1, prefetched=9, used=9)


def _tags_of_all(engine) -> None:
    with Session(engine) as session:
        _all(each.tags for each in session.scalars(select(Customer)))


def test_threads_do_not_meet(engine):
    """Each has a session of its own, and batches of its own."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                with Session(engine) as session, autobatch():
                    assert sum(len(each.tags) for each in session.scalars(select(Customer))) == 19
                    assert len({each.customer for each in session.scalars(select(Bin))}) == 8
        except BaseException as error:  # noqa: BLE001 - looked at below
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert failed == []


async def test_tasks_do_not_meet(engine, sent):
    """A block is of one task, and of those that it starts."""

    async def task(is_on: bool) -> None:
        with autobatch() if is_on else autobatch.off():
            await asyncio.sleep(0)
            _tags_of_all(engine)

    await asyncio.gather(task(True), task(False))

    assert len(sent) == 2 + 10


@pytest.mark.parametrize("option", [{"trigger": "third"}, {"max_batch": 1}])
def test_an_option_that_cannot_be_meant_is_refused(option):
    """Where it is written."""
    with pytest.raises(ValueError, match=next(iter(option))):
        autobatch(**option)


# ---- hooks


def test_hooks_twice_are_hooks_once(engine, sent):
    """And none is left."""
    batch.install()
    batch.install()
    with Session(engine) as session, autobatch(), autobatch():
        _all(each.tags for each in session.scalars(select(Customer)))
        impl = Customer.__mapper__.class_manager["tags"].impl
        assert isinstance(impl.callable_, batch._Quick)
        assert not isinstance(impl.callable_.original, batch._Quick)
    assert len(sent) == 2

    batch.uninstall()

    assert not isinstance(impl.callable_, batch._Quick)
    assert not event.contains(Session, "after_begin", batch._on_begin)


def test_a_missing_name_turns_it_off_with_one_warning(engine, sent, monkeypatch):
    """And the application goes on as it was."""
    monkeypatch.setattr(private, "why_not_batched", lambda: "InstanceState.runid")
    monkeypatch.setattr(batch, "_told", set())
    with pytest.warns(UserWarning, match=r"autobatch off: SQLAlchemy 2.* has no InstanceState.runid"):
        autobatch()(_tags_of_all)(engine)
    autobatch()(_tags_of_all)(engine)  # a second warning would be an error

    assert len(sent) == 20


def test_without_the_callable_of_an_attribute_it_is_slower_and_the_same(engine, sent, monkeypatch):
    """Every value goes by way of `do_orm_execute`."""
    monkeypatch.setattr(private, "put_before", lambda *given: None)
    with Session(engine) as session, autobatch():
        assert sum(len(each.tags) for each in session.scalars(select(Customer))) == 19

    assert len(sent) == 2


def test_a_session_with_listeners_of_its_own_is_batched(engine, sent):
    """They hear of the one statement, and may change it each time."""
    heard: list[Any] = []
    with Session(engine) as session:
        event.listen(session, "do_orm_execute", lambda state: heard.append(state.is_relationship_load) and None)
    with session, autobatch():
        _ = [each.tags for each in session.scalars(select(Customer))]

    assert heard
    assert len(sent) == 2


def test_a_listener_that_came_inside_a_block_is_first_in_the_next_one(engine, sent):
    """In the block that it came in, what it will make of a lazy load is not known."""
    heard: list[Any] = []
    with Session(engine) as session:
        with autobatch():
            session.scalars(select(Bin)).all()
            event.listen(session, "do_orm_execute", lambda state: heard.append(state.lazy_loaded_from))
            customers = [each for each in session.scalars(select(Customer)).all() if each.tags is not None]
            assert len(sent) == 2 + len(customers)
        session.expunge_all()
        sent.clear()
        with autobatch():
            _ = [each.tags for each in session.scalars(select(Customer))]

    assert len(sent) == 2
    assert len(heard) >= 2 * (1 + len(customers))


def test_a_listener_of_a_sessionmaker_hears_of_the_batch(engine, sent):
    """As it would of an eager load."""
    make = sessionmaker(engine)
    heard: list[Any] = []
    event.listen(make, "do_orm_execute", lambda state: heard.append(state.lazy_loaded_from))
    with make() as session, autobatch():
        _all(each.tags for each in session.scalars(select(Customer)))
    assert len(sent) == 2
    assert heard


def test_nothing_is_kept_alive(engine):
    """Neither parents, nor what was read for them, nor the session."""
    with autobatch():
        session = Session(engine)
        customers = session.scalars(select(Customer)).all()
        assert customers[0].tags is not None
        assert customers[1].tags is not None
        parent, child, owner = weakref.ref(customers[2]), weakref.ref(customers[1].tags[0]), weakref.ref(session)
        del customers
        gc.collect()
        assert (parent(), child()) == (None, None)
        session.close()
        del session
        gc.collect()
        assert owner() is None


def test_a_text_that_reads_keeps_what_was_read(engine, sent):
    """And one that may write does not."""
    with Session(engine) as session, autobatch() as batching:
        for each in session.scalars(select(Customer)).all():
            session.execute(text("SELECT count(*) FROM bins"))
            assert each.tags is not None
    assert batching.stats.batches == 1
    assert batching.stats.dropped == 0


def test_joined_eager_loads_of_collections(engine, sent):
    """Several rows for one entity, in a batch."""
    with Session(engine) as session, autobatch():
        statement = select(Customer).options(lazyload(Customer.bins).joinedload(Bin.visits))
        found = [[len(each.visits) for each in customer.bins] for customer in session.scalars(statement)]
    batched = len(sent)
    with Session(engine) as session:
        plain = [[len(each.visits) for each in customer.bins] for customer in session.scalars(statement)]

    assert found == plain
    assert batched == 2


def test_contracts_with_terms(engine, sent):
    """Of entities that came by a join."""
    with Session(engine) as session, autobatch():
        contracts = session.scalars(select(Contract).options(joinedload(Contract.organization).lazyload("*"))).all()
        sent.clear()
        _all(each.organization.children for each in contracts)
    assert len(sent) == 1


def test_places(engine, sent):
    """Both sides of an association."""
    with Session(engine) as session, autobatch():
        assert [(each.bin.kind, each.route.id) for each in session.scalars(select(Place))]
    assert len(sent) == 3


def test_the_key_is_selected_beside_an_entity_only_if_it_is_no_part_of_it(engine, sent):
    """As of a table in between."""
    with Session(engine) as session, autobatch():
        customers = session.scalars(select(Customer).order_by(Customer.id)).all()
        sent.clear()
        found = [(len(each.bins), len(each.tags)) for each in customers]

    assert (sum(bins for bins, _ in found), sum(tags for _, tags in found)) == (22, 19)
    assert ["perfkit_key_0" in each for each in sent] == [False, True]


def test_a_key_that_is_not_where_it_should_be_is_selected_from_then_on(engine, sent, monkeypatch):
    """The batch that was read is given up; what asked for it is answered all the same, and so are its siblings."""
    monkeypatch.setattr(loads, "_own_column", lambda mapper, column: Customer.__table__.c.name)
    monkeypatch.setattr(loads, "_labelled", set())

    with Session(engine) as session, autobatch():
        customers = session.scalars(select(Customer).order_by(Customer.id)).all()
        sent.clear()
        assert sum(len(each.bins) for each in customers) == 22

    assert ["perfkit_key_0" in each for each in sent] == [False, False, True]
