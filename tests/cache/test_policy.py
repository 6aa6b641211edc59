"""Policies: each of them off or on per function, and each keeps its bound."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine, event, func, select
from sqlalchemy.exc import NoResultFound, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from perfkit import Cache, Policy
from perfkit.cache import MemoryStore, Reason
from perfkit.cache.background import Background
from perfkit.cache.entries import Entry, seal, unseal
from perfkit.cache.keeping import Keeping
from perfkit.clock import SYSTEM
from perfkit.errors import CacheDeclarationError, LoadTimeout, Unreadable
from perfkit.sqla.changes import SeeingChanges
from perfkit.sqla.spare import spare_of
from perfkit.sqla.watching import Watching, watchers
from tests.cache.conftest import Base, Bin
from tests.cache.test_dependencies import Counting
from tests.protocol.automata import TurnedClock

PATIENCE_S = 30


class Depot:
    """A database with two bins, a cache on a store whose clock the test turns, and loads that the test can hold up."""

    def __init__(self, path: Any, store: Any = None) -> None:
        self.clock = TurnedClock()
        self.engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})
        self.async_engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        Base.metadata.create_all(self.engine)
        self.cache = Cache("policy")
        self.store = MemoryStore(clock=self.clock) if store is None else store
        self.cache.connect(self.store)
        self.cache._runtime.near.now = self.clock.monotonic
        self.cache.watch(self.engine, Base.metadata, database="policy")
        self.cache.watch(self.async_engine, database="policy")
        self.loads = 0
        self.sessions: list[Any] = []
        self.before_load: Callable[[], None] = lambda: None
        self.add()
        self.add()

    def function(self, **own: Any) -> Callable[..., Any]:
        """A cached function of this depot, sync: how many bins there are of a kind."""

        @self.cache.query(**own)
        def count(session: Session, kind: str = "glass") -> int | None:
            self.loads += 1
            self.sessions.append(session)
            self.before_load()
            return session.scalar(select(func.count()).where(Bin.kind == kind))

        return count

    def async_function(self, **own: Any) -> Callable[..., Any]:
        @self.cache.query(**own)
        async def acount(session: AsyncSession, kind: str = "glass") -> int | None:
            self.loads += 1
            self.sessions.append(session)
            await asyncio.to_thread(self.before_load)
            return await session.scalar(select(func.count()).where(Bin.kind == kind))

        return acount

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        with Session(self.engine) as session:
            return function(session, *args)

    async def acall(self, function: Callable[..., Any], *args: Any) -> Any:
        async with AsyncSession(self.async_engine) as session:
            return await function(session, *args)

    def add(self) -> None:
        with Session(self.engine) as session:
            session.add(Bin(name="more"))
            session.commit()

    def settle(self) -> None:
        """Wait until nothing is loaded in the background any more."""
        for future, _ in list(self.cache._runtime.background._running.values()):
            future.exception(PATIENCE_S)

    async def asettle(self) -> None:
        """The same for tasks."""
        while tasks := self.cache._runtime.background._tasks:
            await asyncio.wait(tasks)

    def close(self) -> None:
        self.cache.close()
        self.engine.dispose()


@pytest.fixture
def depot(tmp_path) -> Iterator[Depot]:
    depot = Depot(tmp_path / "policy.db")
    yield depot
    depot.close()


class Gate:
    """Holds up a load until the test lets it go."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.opened.wait(PATIENCE_S)


# ---- options of a function


def test_a_function_may_say_anything_that_its_policy_says(depot):
    """What it does not say, the policy does."""
    narrow, short = depot.function(max_bytes=1), depot.function(ttl=timedelta(seconds=10))
    depot.call(narrow)
    assert depot.cache.stats().unkept == {Reason.TOO_LARGE: 1}
    for loads in (2, 2, 3):
        depot.call(short)
        assert depot.loads == loads
        depot.clock.now_s += 6


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"jiter": 0.1}, "Did you mean jitter="),
        ({"mark_hold": 3}, "said for the whole cache, Policy(mark_hold="),
        ({"mode": "ttl"}, "said for the whole cache, Policy(mode="),
        ({"expires": 3}, "has no such option. There are tags, reads, version, when, keep_if, entities, ttl"),
        ({"compress_above": 1.5}, "must be bytes"),
        ({"max_bytes": 1e6}, "a number of bytes"),
        ({"reads": {"view": 3}}, "give a list of table names"),
        ({"jitter": 1.5}, "from 0 to 0.9"),
        ({"early": -1}, "from 0"),
        ({"early": True}, "from 0"),
        ({"negative": 0}, "between 1 millisecond"),
        ({"keep_errors": (BaseException,)}, "below Exception"),
        ({"keep_errors": NoResultFound}, "must be a tuple"),
        ({"compress_above": -1}, "must be bytes"),
        ({"compress_above": "2 kB"}, "must be bytes"),
        ({"max_bytes": "1 MB"}, "a number of bytes"),
        ({"when": True}, "give a function that says yes or no"),
        ({"keep_if": 7}, "give a function that says yes or no"),
        ({"tags": 7}, "give a mapped class, a Table, a string, or a list of these"),
        ({"entity": True}, "Did you mean entities="),
        ({"soft_timeout": 1}, "fail_safe="),
        ({"soft_timeout": 2, "hard_timeout": 1, "fail_safe": 9}, "longer than hard_timeout"),
        ({"stale": 1, "l1": "off"}, "leave l1 away"),
        ({"stale": "1m"}, "stale='1m'"),
    ],
)
def test_an_option_that_cannot_work_is_refused(depot, own, message):
    """Where it is declared, with what to do."""
    with pytest.raises(CacheDeclarationError, match=message.replace("(", r"\(")):
        depot.cache.query(**own)


@pytest.mark.parametrize("mode", ["committed", "ttl"])
def test_a_veto_is_refused_where_nothing_is_marked(mode):
    """Who asks for it, and would get none, hears of it before the store is down."""
    with pytest.raises(CacheDeclarationError, match=f"with mode='{mode}': only 'strict' waits"):
        Policy(mode=mode, on_mark_failure="veto")


# ---- how long


def test_jitter_shortens_and_never_lengthens():
    """So that what was kept together does not end together."""
    keeping = Keeping(10_000, 1, jitter=0.2)
    assert keeping.life_ms("x", lambda: 0.0) == 10_000
    assert keeping.life_ms("x", lambda: 1.0) == 8_000


def test_the_store_keeps_it_for_the_jittered_time(depot):
    """And what the process holds ends with it."""
    depot.cache._runtime._ports = tuple(each._replace(chance=lambda: 1.0) for each in depot.cache._runtime._ports)
    count = depot.function(ttl=100, jitter=0.5)
    depot.call(count)
    depot.clock.now_s += 49
    depot.call(count)
    assert depot.loads == 1
    depot.clock.now_s += 2
    depot.call(count)
    assert depot.loads == 2


def test_none_and_what_is_empty_live_for_the_negative_time(depot):
    """A value lives for the ttl."""

    @depot.cache.query(ttl=100, negative=5)
    def named(session: Session, name: str) -> list[int]:
        depot.loads += 1
        return list(session.scalars(select(Bin.id).where(Bin.name == name)))

    for name, after in (("more", 2), ("none", 3)):
        depot.call(named, name)
        depot.clock.now_s += 6
        depot.call(named, name)
        assert depot.loads == after - (name == "more")


def test_declared_exceptions_are_kept_and_raised_anew(depot):
    """Others are not; and a bump ends them like any result."""

    @depot.cache.query(keep_errors=(NoResultFound,), negative=5)
    def only_bin(session: Session, name: str) -> int:
        depot.loads += 1
        if name == "bad":
            raise ValueError(name)
        return session.scalars(select(Bin.id).where(Bin.name == name)).one()

    raised = []
    for _ in range(2):
        with pytest.raises(NoResultFound) as caught:
            depot.call(only_bin, "none")
        raised.append(caught.value)
    assert depot.loads == 1
    assert raised[0] is not raised[1]
    assert raised[0].args == raised[1].args
    with Session(depot.engine) as session:
        session.add(Bin(name="none", id=77))
        session.commit()
    assert depot.call(only_bin, "none") == 77
    for loads in (3, 4):
        with pytest.raises(ValueError, match="bad"):
            depot.call(only_bin, "bad")
        assert depot.loads == loads
    depot.cache.close()


def test_an_exception_below_one_that_is_kept_is_not(depot):
    """It may say more than its class and arguments do."""

    class Gone(NoResultFound):
        pass

    @depot.cache.query(keep_errors=(NoResultFound,))
    def find(session: Session) -> int:
        session.scalar(select(func.count()).select_from(Bin))
        depot.loads += 1
        raise Gone("x")

    for loads in (1, 2):
        with pytest.raises(Gone):
            depot.call(find)
        assert depot.loads == loads


def test_an_exception_that_cannot_be_made_again_is_not_kept(depot):
    """Its arguments say too little, or cannot be packed."""

    class Missing(Exception):
        def __init__(self, name: str, session: object) -> None:
            super().__init__(name)

    @depot.cache.query(keep_errors=(Missing,))
    def find(session: Session) -> int:
        session.scalar(select(func.count()).select_from(Bin))
        depot.loads += 1
        raise Missing("x", session)

    for loads in (1, 2):
        with pytest.raises(Missing):
            depot.call(find)
        assert depot.loads == loads


def test_who_keeps_errors_shares_no_entries_with_who_does_not(depot):
    """Their entries have another form."""
    plain, keeps = depot.function(), depot.function(version=0, keep_errors=(NoResultFound,))
    with Session(depot.engine) as session:
        assert depot.cache.key_of(plain, session) != depot.cache.key_of(keeps, session)


# ---- which calls and results


def test_conditions_on_arguments_and_on_results(depot):
    """Those for which they are false are answered by the database, and counted."""
    count = depot.function(when=lambda session, kind: kind != "paper", keep_if=lambda result: result > 0)
    for _ in range(2):
        assert depot.call(count, "paper") == 0
        assert depot.call(count, "metal") == 0
        assert depot.call(count) == 2
    assert depot.loads == 5
    stats = depot.cache.stats()
    assert stats.bypasses == {Reason.CONDITION: 2}
    assert stats.unkept == {Reason.UNWANTED: 2}


def test_a_condition_gets_defaults_too(small):
    """It need not repeat them, nor know how a call was written."""
    asked: list[Any] = []

    @small.cache.query(when=lambda *given, **named: asked.append((given[1:], named)))
    def found(session: Session, kind: str = "glass", /, *more: int, size: int = 7, **named: int) -> str:
        return kind

    with Session(small.engine) as session:
        found(session)
        found(session, "paper", 1, 2, size=3, depth=4)
    assert asked == [(("glass",), {"size": 7}), (("paper", 1, 2), {"size": 3, "depth": 4})]


@pytest.mark.parametrize("when", [lambda kind: True, lambda session: True, lambda session, kind, more: True])
def test_a_condition_that_cannot_be_called_is_refused(depot, when):
    """Where it is declared, and not in a request."""
    with pytest.raises(CacheDeclarationError, match=r"when= is called with all arguments of the function, \(session, "):
        depot.function(when=when)


def test_a_condition_is_asked_again_at_each_call(tmp_path):
    """Also where the result is held in the process."""
    depot = Depot(tmp_path / "policy.db", MemoryStore())
    depot.cache._runtime.near.now = SYSTEM.monotonic
    wanted = [True]
    count = depot.function(when=lambda *given: wanted[0])
    depot.call(count)
    depot.call(count)
    wanted[0] = False
    depot.call(count)
    assert depot.loads == 2
    depot.close()


def test_bypass_calls_the_function_itself(depot):
    """Nothing is looked for and nothing kept."""
    count = depot.function()
    for _ in range(2):
        with Session(depot.engine) as session:
            assert depot.cache.bypass(count, session) == 2
    assert depot.loads == 2
    assert depot.cache.stats().bypasses == {Reason.OFF: 2}
    depot.call(count)
    depot.call(count)
    assert depot.loads == 3


# ---- compression


def test_what_is_large_is_compressed_and_comes_back(depot):
    """What would only grow is left as it is."""

    @depot.cache.query(compress_above=100)
    def names(session: Session) -> list[str]:
        depot.loads += 1
        session.scalar(select(func.count()).select_from(Bin))
        return ["bin"] * 10_000

    assert depot.call(names) == depot.call(names) == ["bin"] * 10_000
    assert depot.loads == 1
    with Session(depot.engine) as session:
        peeked = depot.cache.peek(names, session)
    assert peeked is not None
    assert peeked.bytes < 1_000
    small = Entry(b"0123456789", (), ())
    assert seal(small, compress_above=5) == seal(small)


def test_a_few_bytes_never_become_more_than_a_result_may_have():
    """Who can write to the store can put a bomb there."""
    bomb = seal(Entry(bytes(10_000_000), (), ()), compress_above=0)
    assert len(bomb) < 100_000
    with pytest.raises(Unreadable, match="larger than"):
        unseal(bomb, max_bytes=1_000_000)
    assert len(unseal(bomb, max_bytes=10_000_000).payload) == 10_000_000


@pytest.mark.parametrize("cut", [1, 3, 10, 40])
def test_a_compressed_entry_that_is_cut_off_is_unreadable(cut):
    """It must not pass for a shorter one."""
    import msgpack

    form, payload, *rest = msgpack.unpackb(seal(Entry(b"glass " * 100, (), ()), compress_above=0), use_list=False)
    with pytest.raises(Unreadable):
        unseal(msgpack.packb((form, payload[:-cut], *rest)), max_bytes=10_000)


# ---- early refresh


def test_the_nearer_the_end_and_the_longer_the_load_the_likelier():
    """XFetch: `took * early * -ln(u) >= what is left`."""
    keeping = Keeping(10_000, 1, early=1.0)
    half = lambda: 0.5  # noqa: E731 - ln 2 = 0.69
    assert not keeping.is_due(9_000, 10_000, 1_000_000, half)
    assert keeping.is_due(9_400, 10_000, 1_000_000, half)
    assert not keeping.is_due(9_400, 10_000, 100_000, half)
    assert not Keeping(10_000, 1).is_due(9_999, 10_000, 10**9, half)


@pytest.mark.parametrize("age_ms", [-1, 10_001])
def test_an_age_by_another_clock_makes_nobody_load(age_ms):
    """Else each caller would, for as long as that clock is wrong."""
    assert not Keeping(10_000, 1, early=100).is_due(age_ms, 10_000, 10**12, lambda: 0.999)


def test_one_caller_loads_in_time_and_all_have_hits(depot):
    """In the background, in a session of its own, which is closed."""
    count = depot.function(ttl=100, early=1.0)

    def takes_long() -> None:
        depot.clock.now_s += 10

    depot.before_load = takes_long
    depot.call(count)
    depot.cache._runtime._ports = tuple(each._replace(chance=lambda: 0.95) for each in depot.cache._runtime._ports)
    depot.clock.now_s += 85  # 5 s are left, and with that chance it begins 30 s before the end
    with Session(depot.engine) as session:
        assert count(session) == 2
    depot.settle()
    assert depot.loads == 2
    assert depot.sessions[1] is not session
    assert not depot.sessions[1].in_transaction()
    stats = depot.cache.stats()
    assert (stats.hits, stats.fills, stats.functions[0].refreshed) == (1, 1, 1)
    depot.clock.now_s += 60
    depot.call(count)
    assert depot.loads == 2, "the new entry lives from when it was loaded"


# ---- stale while it is loaded again


def test_a_result_out_of_date_is_served_while_one_load_renews_it(depot):
    """For so long at most; afterwards callers wait for the truth."""
    count = depot.function(stale=30)
    assert depot.call(count) == 2
    gate = depot.before_load = Gate()
    depot.add()
    depot.clock.now_s += 29
    with depot.cache.noting_older() as older:
        assert depot.call(count) == 2
        assert gate.reached.wait(PATIENCE_S)
        assert depot.call(count) == 2
    assert [(each.why, each.age_s) for each in older] == [("stale", 29.0)] * 2
    assert older[0].function.endswith("count")
    gate.opened.set()
    depot.settle()
    assert depot.call(count) == 3
    assert depot.loads == 2
    stats = depot.cache.stats()
    assert (stats.stale, stats.fills, stats.hits) == (2, 1, 1)
    assert stats.calls == 4


def test_what_is_older_than_its_bound_is_not_served(depot):
    """It counts from when it was last current, which here was the moment of the change."""
    count = depot.function(stale=30)
    depot.call(count)
    depot.clock.now_s += 1000
    assert depot.call(count) == 2
    depot.add()
    depot.clock.now_s += 31
    assert depot.call(count) == 3
    assert depot.cache.stats().stale == 0


def test_a_result_whose_time_is_up_counts_from_then(depot):
    """The ttl is for changes that nobody sees."""
    count = depot.function(ttl=100, stale=30)
    depot.call(count)
    depot.clock.now_s += 120
    assert depot.call(count) == 2
    assert depot.cache.stats().stale == 1
    depot.settle()
    depot.clock.now_s += 131
    depot.call(count)
    assert depot.cache.stats().stale == 1


def test_a_session_that_has_written_is_never_answered_by_it(depot):
    """Its own writes are the database's to show."""
    count = depot.function(stale=30)
    depot.call(count)
    with Session(depot.engine) as session:
        session.add(Bin(name="mine"))
        session.flush()
        assert count(session) == 3
        session.rollback()


def test_where_no_session_can_be_made_who_comes_first_loads(depot):
    """A connection of the caller's own cannot be made twice; the others are served meanwhile."""
    count = depot.function(stale=30)
    depot.call(count)
    depot.add()
    gate = depot.before_load = Gate()
    found: list[Any] = []

    def first() -> None:
        with depot.engine.connect() as connection, Session(connection) as session:
            found.append(count(session))

    thread = threading.Thread(target=first)
    thread.start()
    assert gate.reached.wait(PATIENCE_S)
    with depot.engine.connect() as connection, Session(connection) as session:
        assert count(session) == 2
    gate.opened.set()
    thread.join(PATIENCE_S)
    assert found == [3]
    assert depot.loads == 2


def test_what_another_process_has_loaded_is_preferred(tmp_path):
    """A look at the store before an older result is served."""
    store = Counting()
    one, other = Depot(tmp_path / "a.db", store), Depot(tmp_path / "a.db", store)
    count, its = one.function(stale=30), other.function(stale=30)
    one.call(count)
    other.add()
    other.call(its)
    assert one.call(count) == other.call(its)
    assert one.cache.stats().stale == 0
    assert one.loads == 1
    one.close()
    other.close()


def test_with_a_server_the_bound_counts_from_the_last_look_at_it(tmp_path):
    """What other processes do after that, this one does not know."""
    depot = Depot(tmp_path / "served.db", Counting())
    other = Depot(tmp_path / "served.db", depot.store)
    count = depot.function(stale=30)
    depot.call(count)
    depot.clock.now_s += 20
    assert depot.call(count) == 4
    assert depot.loads == 1
    other.add()
    depot.clock.now_s += 31
    with depot.cache.noting_older() as older:
        assert depot.call(count) == 5
    assert older == []
    other.add()
    depot.clock.now_s += 29
    with depot.cache.noting_older() as older:
        assert depot.call(count) == 5
    assert [each.age_s for each in older] == [29.0]
    depot.settle()
    for each in (depot, other):
        each.close()


def test_a_load_in_the_background_is_watched_by_nobody_of_before():
    """What its caller's outer load depends on is not decided there."""

    class Watcher:
        def before_statement(self, *_: Any) -> None:
            pass

    background, variable = Background(), ContextVar("tenant", default="")
    variable.set("north")
    with Watching(Watcher()), SeeingChanges():
        began = background.start("key", lambda: (watchers(), variable.get()))
    assert began is not None
    assert began[0].result(PATIENCE_S) == ((), "north")
    background.close()


def test_a_load_that_is_lost_with_its_loop_does_not_block_others_for_ever():
    """A loop that is closed says nothing of its tasks."""
    clock = TurnedClock()
    background = Background(max_running=1, clock=clock)

    async def begin() -> None:
        assert background.start_task("key", lambda: asyncio.sleep(3600)) is not None

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    lost = background.running("key")
    assert lost is not None
    assert background.start("other", lambda: 7) is None, "there is room for one"
    clock.now_s += 301
    began = background.start("key", lambda: 7)
    assert began is not None
    assert began[0].result(PATIENCE_S) == 7
    for task in background._tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*background._tasks, return_exceptions=True))
    loop.close()
    assert background.running("key") is None
    background.close()


def test_a_load_goes_on_when_the_cache_is_closed_and_what_waits_for_it_is_told(depot):
    """And the next connection begins anew."""
    background = depot.cache._runtime.background
    gate = Gate()
    began = background.start("key", lambda: gate() or 7)
    assert began is not None
    assert gate.reached.wait(PATIENCE_S)
    background.close()
    again = background.start("other", lambda: 8)
    gate.opened.set()
    assert began[0].result(PATIENCE_S) == 7
    assert again is not None
    assert again[0].result(PATIENCE_S) == 8


def test_what_is_built_on_an_older_result_is_not_kept(depot):
    """Else the older one would be served as current, by another name."""
    count = depot.function(stale=30)

    @depot.cache.query()
    def twice(session: Session) -> int:
        return 2 * int(count(session))

    depot.call(count)
    depot.add()
    gate = depot.before_load = Gate()
    assert depot.call(twice) == 4
    gate.opened.set()
    depot.settle()
    assert depot.call(twice) == 6
    assert depot.cache.stats().unkept == {Reason.OLDER: 1}


async def test_async_functions_are_renewed_by_a_task(tmp_path):
    """In a session of its own, too."""
    depot = Depot(tmp_path / "policy.db")
    count = depot.async_function(stale=30)
    assert await depot.acall(count) == 2
    gate = depot.before_load = Gate()
    depot.add()
    assert await depot.acall(count) == 2
    assert await asyncio.to_thread(gate.reached.wait, PATIENCE_S)
    assert await depot.acall(count) == 2
    gate.opened.set()
    await depot.asettle()
    assert await depot.acall(count) == 3
    assert depot.loads == 2
    await depot.async_engine.dispose()
    depot.close()


# ---- a database that does not answer, or not in time


def broken() -> None:
    raise OperationalError("SELECT 1", {}, Exception("server closed the connection unexpectedly"))


def test_while_the_database_is_dead_an_older_result_is_served_and_said_so(depot, caplog):
    """And not tried again by everybody; up to the bound."""
    count = depot.function(ttl=10, fail_safe=60)
    depot.call(count)
    depot.clock.now_s += 30
    depot.before_load = broken
    with depot.cache.noting_older() as older:
        assert depot.call(count) == depot.call(count) == 2
    assert [(each.why, each.age_s) for each in older] == [("rescued", 20.0)] * 2
    assert depot.loads == 2, "the second caller did not try"
    assert "server closed the connection" in caplog.text
    assert depot.cache.stats().rescued == 2
    depot.clock.now_s += 2
    depot.call(count)
    assert depot.loads == 3
    depot.clock.now_s += 60
    with pytest.raises(OperationalError):
        depot.call(count)
    depot.before_load = lambda: None
    depot.clock.now_s += 2
    assert depot.call(count) == 2


def test_an_error_of_the_function_is_its_callers(depot):
    """It is not for the cache to hide a bug."""
    count = depot.function(ttl=10, fail_safe=60)
    depot.call(count)
    depot.clock.now_s += 30

    def bug() -> None:
        raise KeyError("kind")

    depot.before_load = bug
    with pytest.raises(KeyError):
        depot.call(count)


def test_without_fail_safe_an_error_is_an_error(depot):
    """It is off unless asked for."""
    count = depot.function(ttl=10)
    depot.call(count)
    depot.clock.now_s += 11
    depot.before_load = broken
    with pytest.raises(OperationalError):
        depot.call(count)


def test_who_has_waited_enough_gets_an_older_result_and_the_load_goes_on(depot):
    """In the background; its result is kept."""
    count = depot.function(ttl=10, fail_safe=60, soft_timeout=0.001)
    depot.call(count)
    depot.add()
    gate = depot.before_load = Gate()
    assert depot.call(count) == 2
    gate.opened.set()
    depot.settle()
    depot.before_load = lambda: None
    assert depot.call(count) == 3
    assert depot.loads == 2
    assert depot.cache.stats().rescued == 1


def test_what_would_be_too_old_after_the_wait_is_not_waited_for(depot):
    """The bound holds for the moment when it would be served."""
    count = depot.function(ttl=10, fail_safe=60, soft_timeout=20)
    depot.call(count)
    depot.clock.now_s += 55  # 45 s old, and 65 after the wait
    with Session(depot.engine) as session:
        assert count(session) == 2
    assert depot.sessions == [depot.sessions[0], session], "it was loaded by its caller, who waits for it"
    depot.clock.now_s += 50  # 40 s old: there is time to wait
    with Session(depot.engine) as session:
        assert count(session) == 2
    depot.settle()
    assert depot.sessions[-1] is not session


def test_without_an_older_result_there_is_a_hard_end(depot):
    """Which names the function; the next caller has what came later."""
    count = depot.function(hard_timeout=0.001)
    gate = depot.before_load = Gate()
    with pytest.raises(LoadTimeout, match=r"count took longer than its hard_timeout of 0\.001 s"):
        depot.call(count)
    gate.opened.set()
    depot.settle()
    assert depot.call(count) == 2
    assert depot.loads == 1


def test_callers_of_one_slow_load_share_it_and_not_its_value(depot):
    """Each may change what it gets."""

    @depot.cache.query(hard_timeout=PATIENCE_S)
    def names(session: Session) -> list[str]:
        depot.loads += 1
        depot.before_load()
        return list(session.scalars(select(Bin.name)))

    gate = depot.before_load = Gate()
    found: list[list[str]] = []
    threads = [threading.Thread(target=lambda: found.append(depot.call(names))) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert gate.reached.wait(PATIENCE_S)
    gate.opened.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert found == [["more", "more"]] * 3
    assert len({id(each) for each in found}) == 3
    assert depot.loads == 1


@pytest.mark.parametrize("options", [{}, {"keep_if": lambda found: False}], ids=["kept", "unkept"])
def test_entities_of_a_load_with_a_timeout_are_those_of_the_callers_session(depot, options):
    """Not of the session that it had for itself, which is closed: also of what is not kept, by a load of the caller."""

    @depot.cache.query(hard_timeout=PATIENCE_S, **options)
    def bins(session: Session) -> list[Bin]:
        return list(session.scalars(select(Bin).order_by(Bin.id)))

    for _ in range(2):
        with Session(depot.engine) as session:
            first, second = bins(session)
            assert first in session
            assert second in session
            first.kind = "glass"  # as it was
            session.commit()
            assert first.id == 1, "what has expired is loaded again"


async def test_entities_of_an_async_load_with_a_timeout_are_those_of_the_callers_session(tmp_path):
    depot = Depot(tmp_path / "policy.db")

    @depot.cache.query(hard_timeout=PATIENCE_S)
    async def bins(session: AsyncSession) -> list[Bin]:
        return list(await session.scalars(select(Bin).order_by(Bin.id)))

    for _ in range(2):
        async with AsyncSession(depot.async_engine) as session:
            assert all(each in session for each in await bins(session))
    assert (depot.cache.stats().fills, depot.cache.stats().hits) == (1, 1)
    await depot.async_engine.dispose()
    depot.close()


async def test_timeouts_of_async_functions(tmp_path):
    """A task goes on."""
    depot = Depot(tmp_path / "policy.db")
    count = depot.async_function(hard_timeout=0.001)
    gate = depot.before_load = Gate()
    with pytest.raises(LoadTimeout):
        await depot.acall(count)
    gate.opened.set()
    await depot.asettle()
    assert await depot.acall(count) == 2
    assert depot.loads == 1
    await depot.async_engine.dispose()
    depot.close()


def test_a_load_that_cannot_be_left_to_itself_says_so(depot):
    """Once; and waits."""
    count = depot.function(hard_timeout=0.001)
    with depot.engine.connect() as connection, Session(connection) as session:
        with pytest.warns(RuntimeWarning, match="no session can be made"):
            assert count(session) == 2
        assert count(session) == 2


# ---- sessions of its own


def test_a_load_of_its_own_sees_what_the_session_carried(depot):
    """Class and `info`, which rights may hang on; and nothing of perfkit's own."""

    class Tenant(Session):
        pass

    seen: list[Any] = []

    @depot.cache.query(stale=30)
    def count(session: Session) -> int | None:
        seen.append((type(session), dict(session.info)))
        return session.scalar(select(func.count()).select_from(Bin))

    for _ in range(2):
        with Tenant(depot.engine, info={"tenant": 7}) as session:
            count(session)
        depot.add()
    depot.settle()
    assert [kind for kind, _ in seen] == [Tenant, Tenant]
    assert [{key: value for key, value in info.items() if key == "tenant"} for _, info in seen] == [{"tenant": 7}] * 2


def test_a_background_load_gives_its_connection_back(depot):
    """Also when it fails."""
    checked_out = []
    event.listen(depot.engine, "checkout", lambda *_: checked_out.append(1))
    event.listen(depot.engine, "checkin", lambda *_: checked_out.pop())
    count = depot.function(stale=30)
    depot.call(count)
    for trouble in (lambda: None, broken):
        depot.before_load = trouble
        depot.add()
        depot.call(count)
        depot.settle()
        assert not checked_out


@pytest.mark.parametrize("pool", [SingletonThreadPool, StaticPool])
def test_a_pool_without_a_second_connection_gives_no_session(pool):
    """In another thread, SQLite in memory would be another database."""
    engine = create_engine("sqlite://", poolclass=pool)
    with Session(engine) as session:
        assert spare_of(session) is None
    engine.dispose()


def test_what_no_session_can_be_made_of(depot):
    """A class that is made in another way, several engines, no session at all."""

    class Odd(Session):
        def __init__(self, path: str) -> None:
            super().__init__(depot.engine)

    for session in (Odd("x"), Session(binds={Bin: depot.engine}), scoped_session(lambda: Session(depot.engine)), 7):
        assert spare_of(session) is None
    spare = spare_of(Session(depot.engine))
    assert isinstance(spare, Session)
    assert spare.bind is depot.engine


def test_what_perfkit_knows_of_a_session_is_not_known_of_another(depot):
    """Its connections are its own."""
    with Session(depot.engine, info={"tenant": 7}) as session:
        session.scalar(select(func.count()).select_from(Bin))
        assert set(session.info) > {"tenant"}
        spare = spare_of(session)
    assert spare is not None
    assert spare.info == {"tenant": 7}
