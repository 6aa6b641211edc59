"""Statements that are cached themselves, by an option."""

from __future__ import annotations

import asyncio
import doctest
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    Table,
    TypeDecorator,
    bindparam,
    column,
    event,
    exists,
    func,
    literal,
    literal_column,
    quoted_name,
    select,
    text,
    type_coerce,
    union,
)
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import (
    Bundle,
    Session,
    aliased,
    joinedload,
    load_only,
    raiseload,
    registry,
    selectinload,
    with_loader_criteria,
)

from perfkit import Cache
from perfkit.cache import Reason, cached
from perfkit.cache import statements as module
from perfkit.cache.served import Statements
from perfkit.errors import CacheDeclarationError, NotCached, Unpackable
from perfkit.sqla.fingerprint import NoFingerprint, fingerprint_of
from tests.cache.test_dependencies import Counting
from tests.cache.test_entities import Base, Depot, Fleet, Kind, Trip, Truck, _described


@pytest.fixture(params=["memory", "served"])
def fleet(request, tmp_path) -> Iterator[Fleet]:
    module._told.clear()
    fleet = Fleet(tmp_path / "fleet.db", None if request.param == "memory" else Counting())
    yield fleet
    fleet.close()


def hits(fleet: Fleet) -> int:
    return fleet.cache.stats().hits


STATEMENTS: list[Any] = [
    lambda: select(Truck).order_by(Truck.id),
    lambda: select(Truck).where(Truck.id.in_([1, 2])).options(selectinload(Truck.trips), joinedload(Truck.depot)),
    lambda: select(Truck, Depot).join(Truck.depot).order_by(Truck.id),
    lambda: select(Truck.id, Truck.plate.label("p"), func.count(Trip.number)).join(Truck.trips).group_by(Truck.id),
    lambda: select(Truck.__table__.c.id, Depot.__table__.c.id).where(
        Truck.__table__.c.depot_id == Depot.__table__.c.id
    ),
    lambda: select(func.count()).select_from(Truck),
    lambda: select(Truck.kind).order_by(Truck.id),
    lambda: select(Depot.settings).order_by(Depot.id),
    lambda: select(aliased(Truck, name="t")).order_by(text("1")),
    lambda: select(Truck).where(exists().where(Trip.truck_id == Truck.id)).options(load_only(Truck.plate)),
    lambda: select(Truck).from_statement(select(Truck).where(Truck.id > 2).order_by(Truck.id)),
    lambda: select(Truck).where(Truck.id == 99),
    lambda: select(literal_column("*")).select_from(Depot).order_by(text("1")),
    lambda: select(Bundle("both", Truck.id, Truck.plate), Truck.kind).order_by(Truck.id),
    lambda: select(column(quoted_name("id", quote=True))).select_from(Truck.__table__).order_by(text("1")),
    lambda: select(aliased(Truck, select(Truck).where(Truck.id > 2).subquery()), literal(1)).order_by(text("1")),
]


def rows_of(session: Session, statement: Any) -> Any:
    """Names and rows, entities by what is loaded of them."""
    result = session.execute(statement)
    names = list(result.keys())
    return names, [[_described(each) if isinstance(each, Base) else each for each in row] for row in result.all()]


@pytest.mark.parametrize("make", STATEMENTS)
def test_the_second_execution_runs_no_sql(fleet, make):
    """And gives the same."""
    with fleet.session() as session:
        plain = rows_of(session, make())
    with fleet.session() as session:
        assert rows_of(session, make().options(cached(ttl=60))) == plain
    with fleet.session() as session, fleet.silently():
        assert rows_of(session, make().options(cached(ttl=60))) == plain
    assert hits(fleet) == 1
    assert fleet.cache.stats().functions[0].name == "cached.statement"


def test_a_result_is_one_in_every_way(fleet):
    """Scalars, by name, by column, one, first, partitions, unique."""
    statement = select(Truck.id, Truck.plate, Truck).order_by(Truck.id).options(cached())
    for _ in range(2):
        with fleet.session() as session:
            assert session.scalars(statement).all() == [1, 2, 3, 4, 5, 6]
            assert session.scalar(statement) == 1
            assert session.scalars(select(Truck).where(Truck.id == 3).options(cached())).one().plate == "ABC-3"
            row = session.execute(statement).first()
            assert (row.id, row.plate, row._mapping[Truck.plate]) == (1, "ABC-1", "ABC-1")
            assert row.Truck is row._mapping[Truck]
            assert row.Truck in session
            assert [len(part) for part in session.execute(statement).partitions(4)] == [4, 2]
            assert len(session.execute(statement).mappings().all()) == 6
            assert session.scalars(select(Depot.settings).options(cached())).unique().all() == [{"open": 7}, {}]
            kinds = select(Truck.kind).options(cached())
            assert len(session.scalars(kinds).all()) == 6
            assert sorted(kind.name for kind in session.scalars(kinds).unique()) == ["GLASS", "PAPER"]
    assert hits(fleet) > 8


def test_an_entity_of_a_subquery_has_no_name_and_comes_as_a_scalar(fleet):
    """SQLAlchemy names no column of it."""
    some = aliased(Truck, select(Truck).where(Truck.id > 4).subquery())
    statement = select(some).order_by(some.id).options(cached())
    for _ in range(2):
        with fleet.session() as session:
            assert [truck.id for truck in session.scalars(statement)] == [5, 6]
            assert session.execute(statement).first()._mapping[some].id == 5
    assert hits(fleet) == 3


def test_a_bundle_has_its_columns_by_name(fleet):
    """Hit or not."""
    statement = select(Bundle("both", Truck.id, Truck.plate)).where(Truck.id == 3).options(cached())
    for _ in range(2):
        with fleet.session() as session:
            assert session.scalars(statement).one().plate == "ABC-3"
            assert session.execute(statement).unique().one().both.id == 3
    assert hits(fleet) == 3


def test_joined_collections_have_to_be_made_unique(fleet):
    """Hit or not, as without a cache."""
    statement = select(Truck).order_by(Truck.id).options(joinedload(Truck.trips), cached())
    for _ in range(3):
        with fleet.session() as session, pytest.raises(InvalidRequestError, match="unique"):
            session.scalars(statement).all()
        with fleet.session() as session:
            found = session.scalars(statement).unique().all()
            assert [len(truck.trips) for truck in found] == [2, 2, 2, 0, 0, 0]
    assert hits(fleet) == 5


def test_values_structure_and_options_are_the_key(fleet):
    """What is asked for otherwise is something else."""
    asked = [
        select(Truck).where(Truck.id == 1),
        select(Truck).where(Truck.id == 2),
        select(Truck).where(Truck.id != 1),
        select(Truck).where(Truck.kind == Kind.GLASS),
        select(Truck).where(Truck.kind == Kind.PAPER),
        select(Truck).where(Truck.id.in_([1])),
        select(Truck).where(Truck.id.in_([1, 2])),
        select(Truck).where(Truck.id == 1).options(selectinload(Truck.trips)),
        select(Truck).where(Truck.id == 1).options(load_only(Truck.plate)),
        select(Truck.id).where(Truck.id == 1),
        select(Truck).limit(1),
        select(Truck).limit(2),
        select(Truck).order_by(Truck.id.desc()).limit(2),
        select(Truck).options(with_loader_criteria(Truck, Truck.id > 1, propagate_to_loaders=False)),
        select(Truck.id).options(with_loader_criteria(Truck, Truck.id > 1)),
        select(Truck).options(with_loader_criteria(Truck, Truck.id > 2, propagate_to_loaders=False)),
        select(Truck.id).options(with_loader_criteria(Truck, Truck.id > 2)),
    ]
    for statement in asked:
        with fleet.session() as session:
            session.execute(statement.options(cached())).all()
    assert hits(fleet) == 0
    for statement in asked:
        with fleet.session() as session, fleet.silently():
            session.execute(statement.options(cached())).all()
    assert hits(fleet) == len(asked)


def test_parameters_of_the_execution_are_part_of_the_key(fleet):
    """Given beside the statement."""
    statement = select(Truck.plate).where(Truck.id == bindparam("id")).options(cached())
    for _ in range(2):
        for number in (1, 2):
            with fleet.session() as session:
                assert session.scalar(statement, {"id": number}) == f"ABC-{number}"
    assert hits(fleet) == 2


def test_parameters_of_the_statement_are_part_of_the_key(fleet):
    """SQLAlchemy keeps what `params()` was given apart from the binds."""
    statement = select(Truck.plate).where(Truck.id == bindparam("id")).options(cached())
    for _ in range(2):
        for number in (1, 2):
            with fleet.session() as session:
                assert session.scalar(statement.params(id=number)) == f"ABC-{number}"
    assert hits(fleet) == 2


def test_a_commit_makes_it_out_of_date(fleet):
    """As everything that is cached."""
    statement = select(Truck).where(Truck.depot_id == 1).order_by(Truck.id).options(cached())
    for plate in ("X", "Y", "Z"):
        with fleet.session() as session:
            session.scalars(statement).all()[0].plate = plate
            session.commit()
        with fleet.session() as session:
            assert session.scalars(statement).first().plate == plate


def test_own_changes_are_seen(fleet):
    """By asking the database."""
    statement = select(func.count()).select_from(Truck).options(cached())
    for _ in range(2):
        with fleet.session() as session:
            assert session.scalar(statement) == 6
    with fleet.session() as session:
        session.delete(session.get(Truck, 6))
        assert session.scalar(statement) == 5
    assert fleet.cache.stats().bypasses == {Reason.OWN_WRITES: 1}


def test_lazy_loads_are_not_cached_by_the_way(fleet):
    """The option is for the statement it is given to."""
    statement = select(Truck).where(Truck.id == 1).options(cached())
    for _ in range(2):
        with fleet.session() as session:
            truck = session.scalars(statement).one()
            before = len(fleet.statements)
            assert len(truck.trips) == 2
            assert len(fleet.statements) == before + 1
    assert fleet.cache.stats().calls == 2


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (lambda s, q: s.execute(q.execution_options(populate_existing=True)).all(), "populate_existing"),
        (lambda s, q: s.execute(q.execution_options(yield_per=2)).all(), "yield_per"),
        (lambda s, q: s.execute(q, execution_options={"schema_translate_map": {None: None}}).all(), "schema_translate"),
        (lambda s, q: s.execute(q, bind_arguments={"bind": s.get_bind()}).all(), "its engine is chosen"),
        (lambda s, q: s.query(Truck).options(cached()).all(), "it is a Query"),
        (lambda s, q: s.execute(q.where(func.random() != 0)).all(), "changes by itself"),
    ],
)
def test_what_cannot_be_cached_is_executed_and_said_once(fleet, run, why):
    """Never refused; at the line that executes it, without advice that is for functions."""
    with pytest.warns(NotCached, match=why) as told, fleet.session() as session:
        assert len(run(session, select(Truck).options(cached()))) == 6
    assert (told[0].filename, len(told)) == (__file__, 1)
    assert str(told[0].message).startswith("cached.statement is not cached: ")
    assert "tags=" not in str(told[0].message)
    with warnings.catch_warnings(), fleet.session() as session:
        warnings.simplefilter("error")
        assert len(run(session, select(Truck).options(cached()))) == 6
    assert hits(fleet) == 0


def test_other_statements_are_left_alone(fleet):
    """Without the option, without ORM, not a SELECT."""
    with fleet.session() as session:
        session.execute(text("SELECT 1"))
        session.execute(select(Truck)).all()
        assert session.execute(Truck.__table__.update().values(x=1)).rowcount == 6
    assert fleet.cache.stats().calls == 0


def test_a_listener_that_changes_statements_comes_first(fleet):
    """Such as one that shows each tenant its own rows."""
    tenant = 1

    def of_tenant(state: Any) -> None:
        if state.is_select:
            state.statement = state.statement.options(with_loader_criteria(Truck, Truck.depot_id == tenant))

    event.listen(Session, "do_orm_execute", of_tenant)
    try:
        statement = select(Truck.id).order_by(Truck.id).options(cached())
        with pytest.warns(NotCached, match="registered after"), fleet.session() as session:
            assert session.scalars(statement).all() == [3, 6]
        other = Cache("other")
        other.connect()
        other.watch(fleet.engine)  # start-up: from here on it is the last
        other.close()
        for _ in range(2):
            for tenant, wanted in ((1, [3, 6]), (2, [1, 4])):  # noqa: B007
                with fleet.session() as session:
                    assert session.scalars(statement).all() == wanted
        assert hits(fleet) == 2
    finally:
        event.remove(Session, "do_orm_execute", of_tenant)


def test_a_listener_of_one_session_comes_last_and_is_heeded(fleet):
    """Nothing is cached there."""
    statement = select(Truck.id).options(cached())
    with fleet.session() as session:
        session.scalars(statement).all()
    with fleet.session() as session:
        event.listen(
            session,
            "do_orm_execute",
            lambda state: setattr(state, "statement", state.statement.where(Truck.id == 1)),
        )
        with pytest.warns(NotCached, match="registered after"):
            assert session.scalars(statement).all() == [1]


def test_options_of_policies_go_with_the_statement(fleet):
    """And those that need a load of their own are refused."""
    statement = select(Truck.id).options(cached("ids", stage="off"))
    with fleet.session() as session:
        session.scalars(statement).all()
    assert fleet.cache.stats().bypasses == {Reason.STAGE: 1}
    assert fleet.cache.stats().functions[0].name == "cached.ids"
    for name in ("early", "verify", "soft_timeout", "hard_timeout"):
        with pytest.raises(CacheDeclarationError, match=name):
            cached(**{name: 1})
    with pytest.raises(CacheDeclarationError, match=r"cached\(ttll=…\): .* no such option. Did you mean ttl="):
        cached(ttll=1)
    with pytest.raises(CacheDeclarationError, match=r"cached\(mode=…\).*Policy\(mode=…\)"):
        cached(mode="ttl")
    with pytest.raises(CacheDeclarationError, match="ttl=-1"):
        cached(ttl=-1)
    with pytest.raises(CacheDeclarationError, match="keep_errors="):
        cached(keep_errors=[ValueError])
    with pytest.raises(CacheDeclarationError, match="the name is a text"):
        cached(60)
    with pytest.raises(CacheDeclarationError, match=r"cached\(when=…\): only functions have this"):
        cached(when=bool)
    with pytest.raises(CacheDeclarationError, match=r"cached\(cache='fleet'\): give the Cache itself"):
        cached(cache="fleet")


def test_options_that_are_always_others_are_not_kept_for_ever(fleet, monkeypatch):
    """A lambda made for each statement, or a name with an id in it, left something behind at each execution."""
    monkeypatch.setattr("perfkit.cache.served.MAX_STATEMENTS", 2)

    def run(option):
        with fleet.session() as session:
            return session.scalars(select(Truck.id).order_by(Truck.id).options(option)).all()

    found = [run(cached("ids", stage=lambda: "on")) for _ in range(2)]
    with pytest.warns(NotCached, match="make the options once") as told:
        found += [run(cached("ids", stage=lambda: "on")) for _ in range(2)]

    assert found == [[1, 2, 3, 4, 5, 6]] * 4
    assert len(told) == 1
    assert len(fleet.cache.stats().functions) == 2


@dataclass
class Weight:
    kilos: int


class InKilos(TypeDecorator[Weight]):
    impl = Integer
    cache_ok = True

    def process_result_value(self, value: int | None, dialect: Any) -> Weight | None:
        return None if value is None else Weight(value)


def test_a_value_that_cannot_be_kept_is_told_by_its_column(fleet):
    """There is no return annotation of which to speak."""
    statement = select(Truck.id, type_coerce(Truck.id, InKilos).label("weight")).options(cached("trucks"))

    with Session(fleet.engine) as session, pytest.raises(Unpackable) as raised:
        session.execute(statement)

    assert str(raised.value).startswith("cached('trucks'): column 1 of row 0 has a Weight, which cannot be kept.")


def test_with_several_caches_one_has_to_be_named(fleet):
    """Which one is a question of what is kept where."""
    other = Cache("other")
    other.connect()
    other.watch(fleet.engine, Base.metadata)
    with fleet.session() as session:
        with pytest.raises(CacheDeclarationError, match=r"cached\(cache=…\)"):
            session.scalars(select(Truck.id).options(cached())).all()
        session.scalars(select(Truck.id).options(cached(cache=other))).all()
    assert (other.stats().fills, fleet.cache.stats().fills) == (1, 0)
    other.close()


def test_without_a_cache_it_is_executed(fleet):
    """Not watched, not connected."""
    fleet.cache.unwatch(fleet.engine)
    with fleet.session() as session:
        assert len(session.scalars(select(Truck).options(cached())).all()) == 6
    assert fleet.cache.stats().calls == 0


def test_async_sessions_too(tmp_path):
    """Also `stream`, which is executed as ever."""
    module._told.clear()
    fleet = Fleet(tmp_path / "fleet.db")
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/fleet.db")
    fleet.cache.watch(engine)
    statement = select(Truck).where(Truck.id < 3).options(selectinload(Truck.trips), cached())

    async def run() -> None:
        for _ in range(2):
            async with AsyncSession(engine) as session:
                found = (await session.scalars(statement)).all()
                assert [len(truck.trips) for truck in found] == [2, 2]
                assert all(truck in session for truck in found)
        async with AsyncSession(engine) as session:
            with pytest.warns(NotCached, match="stream_results"):
                assert [row async for row in await session.stream_scalars(statement)]
        await engine.dispose()

    asyncio.run(run())
    assert hits(fleet) == 1
    fleet.close()


def test_its_example_runs():
    """Which the collection of doctests misses, as the name is imported lazily."""
    (example,) = doctest.DocTestFinder(recurse=False).find(cached, "cached", globs={})
    found = doctest.DocTestRunner().run(example)
    assert (found.failed, found.attempted) == (0, 3)


# ---- the fingerprint


def test_a_fingerprint_is_the_same_in_every_process():
    """Whatever order things are hashed in."""
    program = (
        "from tests.cache.test_statements import STATEMENTS; from perfkit.sqla.fingerprint import fingerprint_of\n"
        "print([fingerprint_of(make()) for make in STATEMENTS])"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_what_looks_alike_is_told_apart():
    """Tables with the same columns, classes with the same columns."""
    tables = [Table(name, MetaData(), Column("id", Integer)) for name in ("a", "b")]
    assert len({fingerprint_of(select(table.c.id)).digest for table in tables}) == 2
    classes = [type(name, (), {}) for name in ("A", "B")]
    for cls in classes:
        registry().map_imperatively(cls, Table("same", MetaData(), Column("id", Integer, primary_key=True)))
    assert len({fingerprint_of(select(cls)).digest for cls in classes}) == 2


def test_what_has_no_text_has_no_fingerprint():
    """A lambda's code is its text; an object in it is none."""
    first = fingerprint_of(select(Truck).options(with_loader_criteria(Truck, lambda cls: cls.id > 1)))
    second = fingerprint_of(select(Truck).options(with_loader_criteria(Truck, lambda cls: cls.id > 2)))
    assert first != second
    assert fingerprint_of(union(select(Truck.id), select(Depot.id)))
    with pytest.raises(NoFingerprint):
        fingerprint_of(_Opaque())
    assert fingerprint_of(select(Truck).options(raiseload("*"))) != fingerprint_of(select(Truck))


class _Opaque:
    """No statement that SQLAlchemy could tell from others."""


def test_two_that_come_first_at_once_are_counted_together():
    """Whoever declares it makes the other wait, who then takes the same."""
    both = threading.Barrier(2)
    declared: list[Any] = []

    def declare(function: Any, own: Any) -> Any:
        declared.append(function)
        with suppress(threading.BrokenBarrierError):
            both.wait(0.2)
        return function

    class Asked:
        def execute(self) -> Any:
            return False, [], []

    served = Statements(Cache("fleet")._runtime, declare)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(served.execute, "trucks", {}, None, Asked()) for _ in range(2)]
        assert [each.result(30) for each in asked] == [(False, [], [])] * 2

    assert len(declared) == 1


def test_two_that_get_first_at_once_are_counted_together(fleet, monkeypatch):
    """As with statements."""
    both = threading.Barrier(2)
    query = fleet.cache.query

    def slowly(**options: Any) -> Any:
        with suppress(threading.BrokenBarrierError):
            both.wait(0.2)
        return query(**options)

    monkeypatch.setattr(fleet.cache, "query", slowly)

    def get() -> str:
        with fleet.session() as session:
            return str(fleet.cache.get(session, Depot, 1).name)

    with ThreadPoolExecutor(2) as pool:
        assert [each.result(30) for each in [pool.submit(get) for _ in range(2)]] == ["north", "north"]

    assert len(fleet.cache.stats().functions) == 1


def test_names_that_are_always_others_are_told_of_for_a_while(fleet, monkeypatch):
    """A process does not keep a text of each, nor write one, for as long as it runs."""
    monkeypatch.setattr(module, "MAX_TOLD", 2)

    def always_others(session: Session) -> None:
        for number in range(5):
            statement = select(Truck.id).options(cached(f"truck {number}"))
            session.execute(statement, execution_options={"yield_per": 10}).all()

    with fleet.session() as session, pytest.warns(NotCached) as told:
        always_others(session)

    assert (len(told), len(module._told)) == (2, 2)
