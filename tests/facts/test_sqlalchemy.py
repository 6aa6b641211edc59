"""What perfkit relies on in SQLAlchemy, named by the fact."""

from __future__ import annotations

from functools import partial

import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Result,
    String,
    Table,
    create_engine,
    event,
    insert,
    inspect,
    select,
)
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    InstanceState,
    Mapped,
    ORMExecuteState,
    Session,
    mapped_column,
    relationship,
)
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.collections import CollectionAdapter
from sqlalchemy.orm.identity import _WeakInstanceDict
from sqlalchemy.sql.visitors import replacement_traverse

from perfkit.sqla import private
from perfkit.sqla.private import placing
from perfkit.sqla.statements import table_of


class Base(DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")


@pytest.fixture
def engine(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/facts.sqlite3")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def test_do_commit_runs_after_every_commit_listener(engine):
    """So whatever a listener still writes is noted before the mark."""
    order: list[str] = []
    real = engine.dialect.do_commit
    event.listen(engine, "commit", lambda connection: order.append("listener"))
    engine.dialect.do_commit = lambda connection: (order.append("do_commit"), real(connection))

    with Session(engine) as session:
        session.add(Thing())
        session.commit()

    assert order == ["listener", "do_commit"]


def test_a_session_tells_of_a_commit_when_a_savepoint_is_released(engine):
    """Which is why no hook of ours is on Session.after_commit."""
    told: list[bool] = []
    with Session(engine) as session:
        event.listen(session, "after_commit", lambda s: told.append(True))
        with session.begin_nested():
            session.add(Thing())
        assert told == [True]
        session.rollback()


def test_an_error_out_of_do_commit_leaves_the_transaction_open(engine):
    """SQLAlchemy takes it for ended; so a refusal rolls back by itself."""

    def refuse(connection):
        raise RuntimeError("no")

    engine.dialect.do_commit, real = refuse, engine.dialect.do_commit
    with Session(engine) as session:
        session.add(Thing(id=1))
        with pytest.raises(RuntimeError):
            session.commit()
    engine.dialect.do_commit = real

    with engine.connect() as connection:
        assert connection.connection.driver_connection.in_transaction


def test_a_session_with_something_to_flush_has_begun(engine):
    """add(), a changed attribute and delete() each begin a transaction."""
    with Session(engine) as session:
        session.add(Thing(id=1))
        assert session.in_transaction()
        session.commit()
        thing = session.get(Thing, 1)
        session.commit()
        assert not session.in_transaction()
        thing.name = "changed"
        assert session.in_transaction()
        session.rollback()
        session.delete(thing)
        assert session.in_transaction()


def test_sqlite_drivers_begin_at_the_first_write(engine):
    """Reads before it are fresh, each for itself."""
    with engine.connect() as connection:
        connection.execute(select(Thing))
        assert not connection.connection.driver_connection.in_transaction
        connection.execute(insert(Thing).values(name="x"))
        assert connection.connection.driver_connection.in_transaction


def test_a_savepoint_before_the_first_write_of_sqlite_is_a_transaction_of_its_own(engine):
    """Its release commits, and the rollback afterwards undoes nothing; so we begin before it."""
    with Session(engine) as session:
        with session.begin_nested():
            session.add(Thing(id=1))
        session.rollback()

    with Session(engine) as session:
        assert session.get(Thing, 1) is not None


def test_engines_made_by_execution_options_share_the_dialect_and_not_the_listeners(engine):
    """What is put on one of them is not heard at the others; what is put on their root is heard at all."""
    heard: list[str] = []
    made = engine.execution_options(a=1)
    assert made.dialect is engine.dialect
    assert private.root_engine(made.execution_options(b=2)) is engine
    event.listen(made, "begin", lambda connection: heard.append("made"))
    event.listen(engine, "begin", lambda connection: heard.append("root"))

    with engine.begin():
        pass
    assert heard == ["root"]
    with made.begin():
        pass
    assert sorted(heard) == ["made", "root", "root"]


async def test_aiosqlite_tells_whether_a_transaction_is_open(tmp_path):
    """Without a round trip to its thread."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/facts.sqlite3")
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        assert raw.driver_connection.in_transaction is False
    await engine.dispose()


def test_the_public_name_for_an_inserted_key_is_right_for_one_row_only(engine):
    """values([…]) of several rows tells the key of one, so its binds are looked at."""
    things = Table("things", MetaData(), Column("id", Integer, primary_key=True), Column("name", Integer))
    with engine.connect() as connection:
        many = connection.execute(insert(things).values([{"name": 1}, {"name": 2}]))
        assert len(many.inserted_primary_key_rows) == 1


def test_a_bulk_statement_for_a_class_of_two_tables_is_compiled_for_each(engine):
    """The statement that the compiled one names bears the last of them."""
    seen: list[tuple[str, str]] = []

    class Own(DeclarativeBase): ...

    class Part(Own):
        __tablename__ = "parts"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "part"}  # noqa: RUF012

    class Small(Part):
        __tablename__ = "small_parts"
        id: Mapped[int] = mapped_column(ForeignKey(Part.id), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "small"}  # noqa: RUF012

    def listener(connection, cursor, sql, parameters, context, executemany):
        if context.compiled is not None and context.compiled.isinsert:
            seen.append((context.compiled.statement.table.name, table_of(context.compiled).name))

    Own.metadata.create_all(engine)
    event.listen(engine, "before_cursor_execute", listener)
    with Session(engine) as session:
        session.execute(insert(Small), [{"id": 1}])
    event.remove(engine, "before_cursor_execute", listener)

    assert seen == [("small_parts", "parts"), ("small_parts", "small_parts")]


async def test_the_private_names_are_there(engine, tmp_path):
    """Each with a fallback; this says whether it is needed."""
    with engine.connect() as connection:
        assert private.is_autocommit(connection) is False
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert private.is_autocommit(connection) is True
    own = create_engine("sqlite://", isolation_level="AUTOCOMMIT")
    with own.connect() as connection:
        assert private.is_autocommit(connection) is True
    assert private.engine_isolation(own.dialect) == "AUTOCOMMIT"
    own.dispose()
    assert private.in_greenlet() is False
    suspending = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/facts.sqlite3")
    async with AsyncSession(suspending) as session:
        assert await session.run_sync(lambda _: private.in_greenlet()) is True
    await suspending.dispose()


def test_every_mapped_class_is_found():
    """Also of other bases: `__cache_tags__` is looked for in all of them."""
    assert Thing in private.mapped_classes()


def test_a_class_that_is_mapped_no_more_is_not_found():
    """Nor does it hide the others of its registry."""

    class Own(DeclarativeBase): ...

    class Gone(Own):
        __tablename__ = "gone"
        id: Mapped[int] = mapped_column(primary_key=True)

    Own.registry.dispose()

    class Back(Own):
        __tablename__ = "back"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert Gone not in private.mapped_classes()
    assert Back in private.mapped_classes()


def test_variants_of_a_type_are_known_by_their_dialect():
    """They decide there which values are equal."""
    assert list(private.variants_of(String().with_variant(Integer(), "sqlite"))) == ["sqlite"]
    assert not private.variants_of(String())


@pytest.mark.parametrize(("prefixes", "is_temporary"), [(["TEMPORARY"], True), (["LOCAL TEMP"], True), ([], False)])
def test_a_temporary_table_is_known_by_its_prefix(prefixes, is_temporary):
    """There is no public name for them."""
    assert private.is_temporary(Table("picks", MetaData(), prefixes=prefixes)) is is_temporary


def test_sqlalchemy_makes_a_state_as_placed_rows_have_theirs(engine):
    """What is written out for placed rows is what its calls do; a loaded entity's state has as much, and more of it."""
    with Session(engine) as session, Session(engine) as other:
        session.add(Thing(id=1, name="one"))
        session.commit()
        loaded = session.scalars(select(Thing)).one()
        place = private.placer(inspect(Thing), ("id", "name"), (0,), ())
        (placed,), fresh = place([(1, "one")], other, None)

        theirs, ours = inspect(loaded), inspect(placed)
        assert placing._is_known_how(inspect(Thing).class_manager)
        assert not isinstance(place, partial)
        assert (ours.class_, ours.manager, ours.key) == (theirs.class_, theirs.manager, theirs.key)
        assert (ours.committed_state, ours.expired_attributes) == (theirs.committed_state, theirs.expired_attributes)
        assert ours.session is other
        assert vars(ours).keys() < vars(theirs).keys()
        assert vars(placed).keys() == vars(loaded).keys()
        assert placed in other
        del placed, fresh
        assert not other.identity_map


def _and_a_name(state, entity, manager, init=InstanceState.__init__):
    init(state, entity, manager)
    state.name = "new"


def _and_its_number(identity_map, state, key, add=_WeakInstanceDict._add_unpresent):
    add(identity_map, state, key)
    state.number = 7


def _nothing(*_: object) -> None:
    pass


@pytest.mark.parametrize(
    ("place", "name", "other"),
    [
        (InstanceState, "__init__", _and_a_name),
        (InstanceState, "__init__", _nothing),
        (InstanceState, "__slots__", (*InstanceState.__slots__, "more")),
        (_WeakInstanceDict, "_add_unpresent", _and_its_number),
        (_WeakInstanceDict, "_add_unpresent", _nothing),
        (inspect(Thing).class_manager, "_state_constructor", type("Own", (InstanceState,), {})),
        (inspect(Thing).class_manager, "_state_setter", _nothing),
    ],
)
def test_states_that_are_made_otherwise_are_left_to_sqlalchemy(engine, monkeypatch, place, name, other):
    """Another version may do more in these places, and an instrumentation manager may."""
    monkeypatch.setattr(place, name, other)

    assert not placing._is_known_how(inspect(Thing).class_manager)
    assert isinstance(private.placer(inspect(Thing), ("id", "name"), (0,), ()), partial)


@pytest.mark.parametrize(
    ("read", "hands_out"),
    [
        (lambda session: session.get(Thing, 1), True),
        (lambda session: session.scalars(select(Thing)).all(), True),
        (lambda session: session.scalars(select(Thing).where(Thing.id == 2)).all(), False),
        (lambda session: session.execute(select(Thing.name)).all(), False),
    ],
)
def test_a_session_asks_its_identity_map_before_it_hands_out_what_it_holds(engine, read, hands_out):
    """By `get`, whether there is a row to load or not; of what it did not hold before, nothing is told."""
    told: list[bool] = []
    with Session(engine) as session:
        session.add_all([Thing(id=1), Thing(id=2)])
        session.commit()
    with Session(engine) as session:
        held = session.get(Thing, 1)
        with private.noticing_held(session, lambda: told.append(True)):
            read(session)
        assert held is not None
        assert "get" not in vars(session.identity_map)
    assert bool(told) is hands_out


# ---- lazy loads


class Family(DeclarativeBase):
    pass


class Parent(Family):
    __tablename__ = "parents"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="", deferred=True)
    children: Mapped[list[Child]] = relationship(order_by="Child.id", back_populates="parent")


class Child(Family):
    __tablename__ = "children"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("parents.id"))
    parent: Mapped[Parent] = relationship(back_populates="children")


@pytest.fixture
def family(engine):
    Family.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Parent(id=number, children=[Child(), Child()]) for number in (1, 2, 3))
        session.commit()
    with Session(engine) as session:
        yield session


@pytest.fixture
def children():
    """Of parents: what fills the lists of them."""
    return inspect(Parent).class_manager["children"].impl


def test_a_list_is_put_as_sqlalchemy_puts_one(family, children):
    """Filled without events, and one that tells of what comes later."""
    parents, members = list(family.scalars(select(Parent)).all()), list(family.scalars(select(Child)))
    put = private.list_putter(inspect(Parent), "children")

    put(parents[:1], [members[:2]])
    set_committed_value(parents[1], "children", members[2:4])

    assert placing._is_known_list(inspect(Parent), children)
    assert not isinstance(put, partial)
    ours, usual = parents[0].children, parents[1].children
    assert (type(ours), ours, usual) == (type(usual), members[:2], members[2:4])
    assert (ours._sa_adapter.attr, ours._sa_adapter.data) == (usual._sa_adapter.attr, ours)
    assert ours._sa_adapter.owner_state is inspect(parents[0])
    assert not family.dirty
    ours.append(members[5])
    assert members[5].parent is parents[0]


@pytest.mark.parametrize("first", ["put", "listen"])
def test_who_listens_to_new_lists_hears_of_those_that_are_put(family, children, first):
    """Empty, as it is when SQLAlchemy tells of it; whether he came before or later."""
    heard = []
    parent, members = family.get(Parent, 1), list(family.scalars(select(Child)))[:2]

    def listen(entity, made, adapter):
        heard.append((entity, list(made)))

    put = private.list_putter(inspect(Parent), "children") if first == "put" else None
    event.listen(Parent.children, "init_collection", listen)
    try:
        (put or private.list_putter(inspect(Parent), "children"))([parent], [members])
    finally:
        event.remove(Parent.children, "init_collection", listen)

    assert heard == [(parent, [])]
    assert parent.children == members


def _and_counts(adapter, attribute, state, made, init=CollectionAdapter.__init__):
    init(adapter, attribute, state, made)
    made.count_of_all = 0


@pytest.mark.parametrize(
    ("place", "name", "other"),
    [
        (CollectionAdapter, "__init__", _nothing),
        (CollectionAdapter, "__init__", _and_counts),
        (CollectionAdapter, "_reset_empty", _nothing),
        (None, "collection_factory", list),
    ],
)
def test_lists_that_are_made_otherwise_are_left_to_sqlalchemy(family, monkeypatch, children, place, name, other):
    """Another version may do more there."""
    monkeypatch.setattr(place or children, name, other)

    assert not placing._is_known_list(inspect(Parent), children)
    assert isinstance(private.list_putter(inspect(Parent), "children"), partial)


def heard(session, load):
    """What `do_orm_execute` tells of the one statement that `load` sends."""
    executions: list[ORMExecuteState] = []

    def note(execution):
        executions.append(execution)

    event.listen(session, "do_orm_execute", note)
    load()
    event.remove(session, "do_orm_execute", note)
    return executions[0]


def test_nothing_that_batching_needs_is_missing():
    """It would turn itself off, and say what."""
    assert private.why_not_batched() is None


def test_objects_of_one_statement_have_its_number(family):
    """Larger for later ones, and between the numbers that are taken before and after it."""
    first, one, between = private.new_run(), family.scalars(select(Parent)).all(), private.new_run()
    other, last = family.scalars(select(Child)).all(), private.new_run()

    (run,) = {private.run_of(inspect(each)) for each in one}
    (later,) = {private.run_of(inspect(each)) for each in other}

    assert first < run < between < later < last


def test_a_number_between_two_is_that_of_no_load(family):
    """So a state can be told that it belongs to another group."""
    parents = family.scalars(select(Parent)).all()
    private.regroup(inspect(parents[0]), 0.5)
    assert private.run_of(inspect(parents[0])) == 0.5
    family.scalars(select(Parent)).all()
    assert private.run_of(inspect(parents[0])) == 0.5


def test_a_session_knows_whether_there_is_something_to_flush(family):
    """New, changed or deleted; a change that was taken back is one."""
    parent = family.scalars(select(Parent)).first()
    assert private.is_clean(family)
    parent.name = "other"
    assert not private.is_clean(family)
    family.flush()
    assert private.is_clean(family)
    family.add(Parent(id=99))
    assert not private.is_clean(family)


def test_who_came_last_stands_last_in_the_identity_map(family):
    """A look backwards finds them first, and a refresh moves nobody."""
    parents = family.scalars(select(Parent).order_by(Parent.id)).all()
    children = family.scalars(select(Child).order_by(Child.id)).all()
    family.refresh(parents[0])

    found = [state.obj() for state in private.newest_first(family)]

    assert found == [*reversed(children), *reversed(parents)]


def test_a_lazy_load_is_told_with_its_object_its_relation_and_its_binds(family):
    """In its statement each of them is compared with one column."""
    parent = family.scalars(select(Parent)).first()
    execution = heard(family, lambda: parent.children)

    assert execution.lazy_loaded_from is inspect(parent)
    assert execution.loader_strategy_path[-1] is Parent.children.property
    binds, by_identity = private.lazy_binds(Parent.children.property)
    assert list(binds.values()) == [Parent.__table__.c.id]
    assert not by_identity
    assert set(binds) == set(execution.parameters)
    assert str(execution.statement.whereclause).count(" = ") == 1


def test_a_lazy_load_by_primary_key_is_told_the_same_way(family):
    """Its bind is that of the mapper, and the column that of the parent."""
    child = family.scalars(select(Child)).first()
    execution = heard(family, lambda: child.parent)

    binds, by_identity = private.lazy_binds(Child.parent.property)
    assert list(binds.values()) == [Child.__table__.c.parent_id]
    assert by_identity
    assert set(binds) == set(execution.parameters) == set(private.identity_binds(inspect(Parent)))


def test_a_column_load_is_told_with_its_object_and_its_names(family):
    """Deferred ones, and what was expired; not what somebody refreshes."""
    parent = family.scalars(select(Parent)).first()

    execution = heard(family, lambda: parent.name)
    assert execution.is_column_load
    assert private.refresh_of(execution) == (inspect(parent), {"name"})
    family.expire(parent)
    assert "id" in private.refresh_of(heard(family, lambda: parent.id))[1]
    assert private.refresh_of(heard(family, lambda: family.refresh(parent))) is None


def test_the_conditions_of_a_statement_can_be_exchanged(family):
    """All of them, and nothing else."""
    statement = select(Parent).where(Parent.id == 1).where(Parent.name == "").order_by(Parent.id)
    changed = private.with_where(statement, [Parent.id.in_([2, 3])])

    assert [each.id for each in family.scalars(changed)] == [2, 3]
    assert family.scalars(statement).one().id == 1


def test_rows_become_entities_when_they_are_asked_for(family):
    """By the result's own generator, one part after the other; until then the session has none of them."""
    statement = select(Child).add_columns(Child.parent_id.label("key")).order_by(Child.id)
    replay = private.Replay(family.execute(statement), statement)

    assert len(family.identity_map) == 0
    assert [key for (key,) in map(replay.taking(["key"]), replay.rows)] == [1, 1, 2, 2, 3, 3]
    assert [each.id for each in replay.entities(replay.rows[2:4], None)] == [3, 4]
    assert replay.entities([], None) == []
    (late,) = replay.entities(replay.rows[5:], None)
    assert (late.id, private.run_of(inspect(late))) == (6, replay.run)
    del late
    assert len(family.identity_map) == 0


def test_rows_are_plain_tuples_whose_places_columns_know(family, monkeypatch):
    """By the labels alone, where nobody else knows; what is not there is nowhere."""
    statement = select(Child).add_columns(Child.parent_id.label("key")).order_by(Child.id)
    replay = private.Replay(family.execute(statement), statement)
    assert {type(row) for row in replay.rows} == {tuple}
    by_column = replay.taking([Child.__table__.c.id, "key"])

    monkeypatch.delattr(Result, "_tuple_getter")

    by_label = replay.taking(["key"])
    assert [by_column(row) for row in replay.rows] == [(n, (n + 1) // 2) for n in range(1, 7)]
    assert [by_label(row) for row in replay.rows] == [((n + 1) // 2,) for n in range(1, 7)]
    assert replay.taking([Child.__table__.c.id]) is None


def test_what_loads_an_attribute_can_be_stood_before(family):
    """For a class and a relation; and taken away again."""
    parent = family.scalars(select(Parent)).first()
    asked: list[object] = []

    class Before:
        def __init__(self, original):
            self.original = original

        def __call__(self, state, passive):
            asked.append(state)
            assert passive == private.PASSIVE_OFF
            return self.original(state, passive)

    private.put_before(inspect(parent), "children", Before)
    assert len(parent.children) == 2
    private.take_away(Before)
    family.expire(parent, ["children"])

    assert len(parent.children) == 2
    assert asked == [inspect(parent)]


def test_live_sessions_and_their_listeners_are_known(family):
    """One that is added while they are told of a statement does not disturb them."""
    assert family in private.live_sessions()
    told: list[str] = []

    def first(execution):
        told.append("first")
        assert private.part_listeners(family)
        event.listen(family, "do_orm_execute", second)

    def second(execution):
        told.append("second")

    event.listen(family, "do_orm_execute", first)
    event.listen(family, "do_orm_execute", lambda execution: told.append("third"))
    family.scalars(select(Parent)).all()

    assert told == ["first", "third"]
    assert private.listeners_of(family)[-1] is second


def test_listeners_on_one_connection_are_of_that_one(engine):
    """Its statements, its end, and the way back to a savepoint."""
    told: list[str] = []
    with engine.connect() as one, engine.connect() as other:
        event.listen(one, "before_cursor_execute", lambda *given: told.append("statement"))
        event.listen(one, "rollback", lambda connection: told.append("rollback"))
        event.listen(one, "rollback_savepoint", lambda connection, name, context: told.append("back"))
        other.execute(select(Thing))
        other.rollback()
        assert told == []
        one.execute(select(Thing))
        one.begin_nested().rollback()
        one.rollback()
    # SAVEPOINT and ROLLBACK TO are statements themselves
    assert told == ["statement", "statement", "back", "statement", "rollback"]


def test_a_blank_takes_the_place_of_a_bind(family):
    """It is filled by a parameter of its name; the blank of an IN list takes lists."""
    statement = select(Parent.id).where(Parent.id.in_([1]), Parent.name == "").order_by(Parent.id)
    binds = private.binds_of(statement)
    terms = private.where_terms(statement)
    blank = private.blank_of(binds[0], "blank")
    changed = private.with_where(
        statement, [replacement_traverse(terms[0], {}, lambda each, **_: blank if each is binds[0] else None), terms[1]]
    )

    assert [bind.value for bind in binds] == [[1], ""]
    assert family.scalars(changed, {"blank": [2, 3]}).all() == [2, 3]
    assert family.scalars(changed, {"blank": []}).all() == []
    assert family.scalars(statement).all() == [1]
