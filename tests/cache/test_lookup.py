"""Entities by their keys: `cache.get`, and `cache.get_many` in one round trip and one statement."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Mapped, Session, aliased, column_property, mapped_column

from perfkit import Cache, Policy
from perfkit.cache import Reason
from perfkit.errors import CacheDeclarationError, StoreDown
from tests.cache.test_dependencies import Counting
from tests.cache.test_entities import Base, Counted, Crane, Depot, Fleet, Tipper, Trip, Truck


class Crowded(Base):
    """Knows how many there are of it, and of something else."""

    __tablename__ = "crowded"
    id: Mapped[int] = mapped_column(primary_key=True)


Crowded.all = column_property(select(func.count(aliased(Crowded.__table__).c.id)).scalar_subquery())
Crowded.depots = column_property(select(func.count(Depot.id)).scalar_subquery())


class Trips(Counting):
    """Takes several entries at once, and can be down."""

    def __init__(self) -> None:
        super().__init__()
        self.trips: list[str] = []
        self.is_down = False

    async def read(self, keys: Any) -> Any:
        if self.is_down:
            raise StoreDown("down")
        self.trips.append("read")
        return await self._real.read(keys)

    async def ensure(self, cells: Any) -> Any:
        self.trips.append("ensure")
        return await self._real.ensure(cells)

    async def mark(self, *rest: Any) -> None:
        if self.is_down:
            raise StoreDown("down")
        await self._real.mark(*rest)

    async def bump(self, *rest: Any) -> None:
        if self.is_down:
            raise StoreDown("down")
        await self._real.bump(*rest)

    async def put_all(self, entries: Any) -> None:
        self.trips.append("put_all")
        for each in entries:
            await self._real.put(*each)


@pytest.fixture
def fleet(tmp_path) -> Iterator[Fleet]:
    """With a store that is asked as a server is."""
    fleet = Fleet(tmp_path / "fleet.db", Trips())
    yield fleet
    fleet.close()


def trips(fleet: Fleet) -> list[str]:
    """The round trips since the last time."""
    store = fleet.cache._runtime.ports(suspending=False).store
    found, store.trips = store.trips, []
    return found


def write(fleet: Fleet, sql: str) -> None:
    with fleet.engine.begin() as connection:
        connection.execute(text(sql))


# ---- one


def test_one_is_the_sessions_and_found_without_sql(fleet):
    """The second time."""
    with fleet.session() as session:
        assert fleet.cache.get(session, Truck, 1).plate == "ABC-1"
    trips(fleet)
    with fleet.session() as session, fleet.silently():
        truck = fleet.cache.get(session, Truck, 1)
        assert truck in session
        assert type(truck) is Tipper
        assert trips(fleet) == ["read"]
        assert fleet.cache.get(session, Truck, 1) is truck
        assert trips(fleet) == []


def test_one_that_is_not_there_is_none_until_it_is(fleet):
    """And that is kept."""
    for _ in range(2):
        with fleet.session() as session:
            assert fleet.cache.get(session, Depot, 9) is None
    assert fleet.cache.stats().hits == 1
    with fleet.session() as session:
        session.add(Depot(id=9, name="new"))
        session.commit()
    with fleet.session() as session:
        assert fleet.cache.get(session, Depot, 9).name == "new"


def test_a_change_to_one_row_leaves_the_others(fleet):
    """Each depends on its own."""
    for _ in range(2):
        for number in (1, 2):
            with fleet.session() as session:
                fleet.cache.get(session, Depot, number)
    assert fleet.cache.stats().hits == 2
    with fleet.session() as session:
        fleet.cache.get(session, Depot, 1).name = "east"
        session.commit()
    with fleet.session() as session:
        with fleet.silently():
            assert fleet.cache.get(session, Depot, 2).name == "south"
        assert fleet.cache.get(session, Depot, 1).name == "east"


@pytest.mark.parametrize("identity", [(2, 1), {"number": 1, "truck_id": 2}])
def test_a_key_of_several_columns(fleet, identity):
    """In the order of the key, or by name."""
    for _ in range(2):
        with fleet.session() as session:
            assert fleet.cache.get(session, Trip, identity).kg == 10.0
    assert fleet.cache.stats().hits == 1
    with pytest.raises(CacheDeclarationError, match=r"2 column\(s\): truck_id, number"):
        fleet.cache.get(session, Trip, 2)


def test_a_class_that_the_row_is_not_of(fleet):
    """As `session.get` has it."""
    with fleet.session() as session:
        assert fleet.cache.get(session, Crane, 2).reach == 12.5
        assert fleet.cache.get(session, Crane, 1) is None
        held = fleet.cache.get(session, Truck, 1)
        assert type(held) is Tipper
        assert fleet.cache.get(session, Crane, 1) is session.get(Crane, 1) is None


def test_what_the_transaction_wrote_is_asked_of_the_database(fleet):
    """Also by `get_many`."""
    with fleet.session() as session:
        fleet.cache.get(session, Depot, 1)
    with fleet.session() as session:
        session.execute(text("UPDATE depots SET name = 'mine' WHERE id = 1"))
        assert fleet.cache.get(session, Depot, 1).name == "mine"
        session.expunge_all()
        assert fleet.cache.get_many(session, Depot, [1, 2])[1].name == "mine"
        session.rollback()
    assert fleet.cache.stats().bypasses == {Reason.OWN_WRITES: 3}


def test_only_mapped_classes_have_keys(fleet):
    """Anything else is a mistake."""
    with fleet.session() as session, pytest.raises(CacheDeclarationError, match="not mapped"):
        fleet.cache.get(session, int, 1)


# ---- many


def test_many_are_one_round_trip(fleet):
    """All hits: one; all misses: one to look, one for versions, one to keep, and one statement."""
    before = len(fleet.statements)
    trips(fleet)
    with fleet.session() as session:
        found = fleet.cache.get_many(session, Truck, range(1, 8))
        assert list(found) == [1, 2, 3, 4, 5, 6]
        assert [type(truck) for truck in found.values()] == [Tipper, Crane, Truck] * 2
    assert len(fleet.statements) == before + 1
    assert trips(fleet) == ["read", "ensure", "put_all"]

    with fleet.session() as session, fleet.silently():
        found = fleet.cache.get_many(session, Truck, [6, 7, 1, 6])
        assert {key: truck.plate for key, truck in found.items()} == {6: "ABC-6", 1: "ABC-1"}
        assert all(truck in session for truck in found.values())
    assert trips(fleet) == ["read"]
    stats = fleet.cache.stats()
    assert (stats.hits, stats.fills) == (3, 7)


def test_one_and_many_find_what_the_other_kept(fleet):
    """They are the same entries."""
    with fleet.session() as session:
        fleet.cache.get(session, Depot, 1)
    before = len(fleet.statements)
    with fleet.session() as session:
        assert set(fleet.cache.get_many(session, Depot, [1, 2])) == {1, 2}
    assert len(fleet.statements) == before + 1
    assert "depots.id IN (?)" in fleet.statements[-1]
    with fleet.session() as session, fleet.silently():
        assert fleet.cache.get(session, Depot, 2).name == "south"


@pytest.mark.parametrize(
    ("keys", "found"),
    [(["2"], {"2": 2}), (["2", 1], {"2": 2, 1: 1}), (["2", 2, 9], {"2": 2, 2: 2}), (["9"], {})],
    ids=["alone", "beside", "both", "none"],
)
def test_keys_that_only_the_database_takes_for_the_entitys_find_it(fleet, keys, found):
    """As `get` and the session do; and none is kept as if it were not there."""
    for _ in range(2):
        with fleet.session() as session:
            assert {key: each.id for key, each in fleet.cache.get_many(session, Depot, keys).items()} == found
    for key in found:
        with fleet.session() as session:
            assert fleet.cache.get(session, Depot, key).id == int(key)


def test_keys_that_only_the_database_takes_for_the_entitys_find_it_in_async_sessions(tmp_path):
    fleet = Fleet(tmp_path / "fleet.db")
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'fleet.db'}")
    fleet.cache.watch(engine)

    async def run() -> None:
        async with AsyncSession(engine) as session:
            assert set(await fleet.cache.get_many(session, Depot, ["2", 1])) == {"2", 1}
        await engine.dispose()

    asyncio.run(run())
    fleet.close()


def test_forty_rows_depend_each_on_its_own(fleet):
    """However many are loaded at once."""
    with fleet.session() as session:
        session.add_all([Depot(id=number, name=f"depot {number}") for number in range(10, 50)])
        session.commit()
    with fleet.session() as session:
        assert len(fleet.cache.get_many(session, Depot, range(10, 50))) == 40
    write(fleet, "UPDATE depots SET name = 'x' WHERE id = 20")
    with fleet.session() as session:
        session.get_one(Depot, 30).name = "y"
        session.commit()
    fleet.statements.clear()
    with fleet.session() as session:
        found = fleet.cache.get_many(session, Depot, range(10, 50))
    assert (found[20].name, found[30].name, found[31].name) == ("x", "y", "depot 31")
    assert len(fleet.statements) == 1


def test_rows_changed_one_by_one_renew_no_others(fleet):
    """Where the writer names the row."""
    with fleet.session() as session:
        fleet.cache.get_many(session, Depot, [1, 2])
    with fleet.session() as session:
        session.get_one(Depot, 1).name = "east"
        session.commit()
    with fleet.session() as session:
        assert fleet.cache.get_many(session, Depot, [1, 2])[1].name == "east"
    assert "depots.id IN (?)" in fleet.statements[-1]
    assert fleet.cache.stats().hits == 1


def test_a_row_that_comes_later_is_found(fleet):
    """That there was none is kept only until then."""
    with fleet.session() as session:
        assert fleet.cache.get_many(session, Depot, [1, 77]).keys() == {1}
    with fleet.session() as session, fleet.silently():
        assert fleet.cache.get_many(session, Depot, [77, 1]).keys() == {1}
    write(fleet, "INSERT INTO depots (id, name, settings, labels) VALUES (77, 'late', '{}', '[]')")
    with fleet.session() as session:
        assert list(fleet.cache.get_many(session, Depot, [77, 1])) == [77, 1]


@pytest.mark.parametrize(
    "look", [lambda c, s: c.get_many(s, Crowded, [1])[1], lambda c, s: c.get(s, Crowded, 1)], ids=["many", "one"]
)
def test_what_else_the_statement_reads_counts(fleet, look):
    """A column that looks at all rows of the same table, one that looks at another."""
    for wanted, new in (((1, 2), Crowded(id=1)), ((2, 2), Crowded(id=2)), ((2, 3), Depot(id=3, name="x"))):
        with fleet.session() as session:
            session.add(new)
            session.commit()
        for _ in range(2):
            with fleet.session() as session:
                found = look(fleet.cache, session)
                assert (found.all, found.depots) == wanted
    assert fleet.cache.stats().hits == 3


def test_held_ones_are_not_asked_for(fleet):
    """They are the session's."""
    with fleet.session() as session:
        held = session.get_one(Depot, 1)
        found = fleet.cache.get_many(session, Depot, [1, 2])
        assert found[1] is held
        assert "depots.id IN (?)" in fleet.statements[-1]
        session.commit()
        fleet.cache.get_many(session, Depot, [1, 2])  # the expired ones are loaded anew, and not kept
    with fleet.session() as session:
        fleet.cache.get_many(session, Depot, [1, 2])
    with fleet.session() as session:
        found = fleet.cache.get_many(session, Depot, [1, 2])
        session.commit()
        with fleet.silently():
            assert fleet.cache.get_many(session, Depot, [1, 2]) == found
            assert found[1].name == "north"


def test_keys_of_several_columns_at_once(fleet):
    """In one statement, too."""
    for hits in (0, 2):
        with fleet.session() as session:
            found = fleet.cache.get_many(session, Trip, [(1, 1), (2, 2), (9, 9)])
            assert {key: trip.kg for key, trip in found.items()} == {(1, 1): 10.0, (2, 2): 20.0}
        assert fleet.cache.stats().hits == (0 if hits == 0 else 3)
    write(fleet, "UPDATE trips SET kg = 1 WHERE truck_id = 1")
    with fleet.session() as session:
        assert fleet.cache.get_many(session, Trip, [(1, 1)])[1, 1].kg == 1


def test_a_key_of_another_type_keeps_no_absence(fleet):
    """The database finds what Python thinks is something else."""
    for _ in range(2):
        with fleet.session() as session:
            fleet.cache.get_many(session, Depot, ["1"])
    assert fleet.cache.stats().hits == 0
    assert sum(fleet.cache.stats().unkept.values()) == 2


def test_without_the_store_all_come_from_the_database(fleet):
    """And the reason is counted."""
    fleet.cache._runtime.ports(suspending=False).store.is_down = True
    with fleet.session() as session:
        assert len(fleet.cache.get_many(session, Truck, [1, 2, 3])) == 3
    assert fleet.cache.stats().unkept == {Reason.STORE_DOWN: 3}
    with fleet.cache.off(), fleet.session() as session:
        assert len(fleet.cache.get_many(session, Truck, [1, 2, 3])) == 3
    assert fleet.cache.stats().bypasses == {Reason.OFF: 3}


def test_a_commit_that_the_store_does_not_know_of_is_not_missed(fleet):
    """Our own, which is told to the store before anything is asked of it."""
    with fleet.session() as session:
        fleet.cache.get_many(session, Depot, [1])
    store = fleet.cache._runtime.ports(suspending=False).store
    store.is_down = True
    with fleet.session() as session:
        session.get_one(Depot, 1).name = "later"
        session.commit()
    with fleet.session() as session:
        assert fleet.cache.get_many(session, Depot, [1])[1].name == "later"
    store.is_down = False
    with fleet.session() as session:
        assert fleet.cache.get_many(session, Depot, [1])[1].name == "later"


def test_a_commit_during_the_load_is_not_lost(fleet):
    """What was loaded before it is not kept after it."""
    lookup = fleet.cache._lookup(Session(), Depot)
    real = lookup._loading.function

    def load(session: Session, statement: Any) -> Any:
        found = real(session, statement)
        session.rollback()
        somebody = Thread(target=write, args=(fleet, "UPDATE depots SET name = 'later' WHERE id = 1"))
        somebody.start()
        somebody.join()
        return found

    lookup._loading.function = load
    with fleet.session(expire_on_commit=False) as session:
        fleet.cache.get_many(session, Depot, [1, 2])
    lookup._loading.function = real
    with fleet.session() as session:
        assert fleet.cache.get_many(session, Depot, [1, 2])[1].name == "later"


def test_in_ttl_mode_nothing_but_time_ends_them(fleet):
    """No tags are borne then, whatever the statement reads."""
    cache = Cache("timed", Policy(mode="ttl", ttl=60))
    cache.connect(Trips())
    cache.watch(fleet.engine, Base.metadata)
    with fleet.session() as session:
        session.add(Crowded(id=1))
        session.commit()
    for hits in (0, 2):
        with fleet.session() as session:
            assert len(cache.get_many(session, Crowded, [1, 3])) == 1
        assert cache.stats().hits == hits
    with fleet.session() as session:
        session.add(Crowded(id=2))
        session.commit()
    with fleet.session() as session:
        assert cache.get_many(session, Crowded, [1])[1].all == 1
    cache.close()


def test_async_sessions_have_both(tmp_path):
    """Awaited."""
    fleet = Fleet(tmp_path / "fleet.db")
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/fleet.db")
    fleet.cache.watch(engine)

    async def run() -> None:
        for _ in range(2):
            async with AsyncSession(engine) as session:
                truck = await fleet.cache.get(session, Truck, 1)
                assert truck in session
                assert await fleet.cache.get(session, Truck, 1) is truck
                found = await fleet.cache.get_many(session, Counted, [1, 2])
                assert found[1].name == "one"
        scoped = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
        held = await fleet.cache.get(scoped, Truck, 1)
        assert held.plate == "ABC-1"
        assert len(await fleet.cache.get_many(scoped, Truck, [1, 2])) == 2
        await scoped.remove()
        await engine.dispose()

    asyncio.run(run())
    assert fleet.cache.stats().hits == 4
    fleet.close()
