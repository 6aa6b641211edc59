"""One load for all processes, whatever becomes of the one who loads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import create_engine, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from perfkit import Cache, Policy
from perfkit.cache import MemoryStore, Warmed, read
from perfkit.cache.read import CLAIM
from perfkit.errors import CacheDeclarationError, StoreDown
from perfkit.waiting import run_now
from tests.cache.conftest import Base, Bin
from tests.cache.test_policy import Gate

PATIENCE_S = 30


class Fleet:
    """Processes, as far as a cache can tell: caches of their own on one store and one database."""

    def __init__(self, path: Any, to: Any) -> None:
        self.engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})
        Base.metadata.create_all(self.engine)
        self.to, self.loads, self.caches = to, 0, []
        self.lock = threading.Lock()
        self.before_load: Any = lambda: None

    def process(self, **policy: Any) -> Any:
        cache = Cache("fleet", Policy(single_flight="cluster", **policy))

        @cache.query()
        def count(session: Session, kind: str = "glass") -> int | None:
            with self.lock:
                self.loads += 1
            self.before_load()
            return session.scalar(select(func.count()).where(Bin.kind == kind))

        cache.connect(self.to, timeout_s=PATIENCE_S)
        cache.watch(self.engine, Base.metadata, database="fleet")
        self.caches.append(cache)
        return lambda *args: self.call(count, *args)

    def call(self, function: Any, *args: Any) -> Any:
        with Session(self.engine) as session:
            return function(session, *args)

    def close(self) -> None:
        for cache in self.caches:
            cache.close()
        self.engine.dispose()


@pytest.fixture
def fleet(store_url, tmp_path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path / "fleet.db", MemoryStore() if store_url == "memory://" else store_url)
    yield fleet
    fleet.close()


def test_one_process_loads_and_the_others_have_its_result(fleet):
    """All of them ask at the same time."""
    gate = fleet.before_load = Gate()
    processes = [fleet.process() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(processes[0])]
        assert gate.reached.wait(PATIENCE_S)
        asked = fleet.loads
        answers += [pool.submit(process) for process in processes[1:]]
        looked = threading.Event()
        assert not looked.wait(0.05)  # no claim of ours: only so that some of them are likely to be waiting by now
        gate.opened.set()
        assert [answer.result(PATIENCE_S) for answer in answers] == [0, 0, 0]
    assert asked == fleet.loads == 1
    totals = [cache.stats() for cache in fleet.caches]
    assert sum(each.fills for each in totals) == 1
    assert sum(each.shared + each.hits for each in totals) == 2


def test_when_the_one_who_loads_fails_another_does(fleet):
    """It gives its claim back."""
    first, second = fleet.process(), fleet.process()

    def fails() -> None:
        raise ZeroDivisionError

    fleet.before_load = fails
    with pytest.raises(ZeroDivisionError):
        first()
    fleet.before_load = lambda: None
    assert second() == 0
    assert fleet.caches[1].stats().fills == 1


def test_a_claim_whose_holder_was_killed_ends_by_itself(fleet, monkeypatch):
    """Nobody waits for it longer than it lasts."""
    monkeypatch.setattr(read, "CLAIM_HOLD_MS", 60)
    process = fleet.process()
    declared = fleet.caches[0]._declared[0]
    with Session(fleet.engine) as session:
        name = declared.key_of((session,), {}) + CLAIM
    store = fleet.caches[0]._store(suspending=False)
    assert run_now(store.claim(name, b"x" * 12, 60))
    assert process() == 0
    assert fleet.loads == 1
    assert run_now(store.claim(name, b"y" * 12, 60)), "and it has been given back"


def test_a_commit_meanwhile_ends_the_waiting(fleet, monkeypatch):
    """What the other loads is under versions that are no more; known where it is known what will be read."""
    monkeypatch.setattr(read, "CLAIM_HOLD_MS", 3_600_000)  # nothing else ends it while the test is patient
    process = fleet.process()
    process("paper")
    declared = fleet.caches[0]._declared[0]
    with Session(fleet.engine) as session:
        name = declared.key_of((session,), {}) + CLAIM
    store = fleet.caches[0]._store(suspending=False)
    assert run_now(store.claim(name, b"x" * 12, 60_000))
    asked = threading.Event()
    real = type(store).claim

    async def claim(self: Any, key: bytes, holder: bytes, hold_ms: int) -> bool:
        found = await real(self, key, holder, hold_ms)
        asked.set()
        return found

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr(type(store), "claim", claim)
        answer = pool.submit(process)
        assert asked.wait(PATIENCE_S)
        with Session(fleet.engine) as session:
            session.add(Bin(name="new"))
            session.commit()
        # who sees the mark already may still read the row before COMMIT
        assert answer.result(PATIENCE_S) in (0, 1)
    run_now(store.release(name, b"x" * 12))
    assert process() == 1


def test_a_store_that_knows_no_claims_is_a_store(tmp_path):
    """One of your own need not: then each process loads for itself."""

    class Plain:
        def __init__(self) -> None:
            real = MemoryStore()
            for name in ("read", "ensure", "put", "mark", "bump", "drop"):
                setattr(self, name, getattr(real, name))

    fleet = Fleet(tmp_path / "fleet.db", Plain())
    assert fleet.process()() == 0
    assert fleet.loads == 1
    fleet.close()


def test_nobody_waits_longer_than_a_claim_lasts(tmp_path, monkeypatch):
    """Also where one after the other takes it."""
    monkeypatch.setattr(read, "CLAIM_HOLD_MS", 30)
    store = MemoryStore()
    fleet = Fleet(tmp_path / "fleet.db", store)

    async def always_anothers(*_: Any) -> bool:
        return False

    store.claim = always_anothers  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(fleet.process()).result(PATIENCE_S) == 0
    assert fleet.loads == 1
    fleet.close()


def test_claims(fleet):
    """One has it, again if asked again; nobody takes it away, and its time is up some time."""
    fleet.process()
    store = fleet.caches[0]._store(suspending=False)
    one, other, key = b"1" * 12, b"2" * 12, b"fleet:v:some@thing:()~"
    assert run_now(store.claim(key, one, 60_000))
    assert run_now(store.claim(key, one, 60_000))
    assert not run_now(store.claim(key, other, 60_000))
    run_now(store.release(key, other))
    assert not run_now(store.claim(key, other, 60_000))
    run_now(store.release(key, one))
    assert run_now(store.claim(key, other, 1))
    threading.Event().wait(0.02)
    assert run_now(store.claim(key, one, 60_000))


def test_without_the_store_each_loads_for_itself(tmp_path):
    """A claim is no reason to fail."""
    store = MemoryStore()
    fleet = Fleet(tmp_path / "fleet.db", store)
    process = fleet.process()

    async def down(*_: Any) -> bool:
        raise StoreDown("gone")

    store.claim = down  # type: ignore[method-assign]
    assert process() == 0
    assert fleet.loads == 1
    fleet.close()


# ---- before anybody asks


@pytest.mark.parametrize("workers", [1, 4])
def test_a_warm_up_loads_what_is_not_there(tmp_path, workers):
    """With progress, and however many there are."""
    fleet = Fleet(tmp_path / "fleet.db", "memory://")
    fleet.process()
    cache, told = fleet.caches[0], []

    @cache.query()
    def bins_of(session: Session, kind: str) -> int | None:
        if kind == "bad":
            raise ValueError(kind)
        return session.scalar(select(func.count()).where(Bin.kind == kind))

    with Session(fleet.engine) as session:
        bins_of(session, "k3")
    calls = [{"kind": f"k{i}"} for i in range(10)] + [{"kind": "bad"}]
    warmed = cache.warm(bins_of, calls, sessions=sessionmaker(fleet.engine), workers=workers, progress=told.append)
    assert (warmed.loaded, warmed.hits, warmed.skipped, warmed.failed, warmed.total) == (9, 1, 0, 1, 11)
    assert [each.done for each in told] == list(range(1, 12))
    assert isinstance(told[0], Warmed)
    again = cache.warm(bins_of, iter(calls[:10]), sessions=sessionmaker(fleet.engine), workers=workers)
    assert (again.loaded, again.hits, again.total) == (0, 10, None)
    fleet.close()


async def test_an_async_warm_up(tmp_path):
    """In tasks."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'warm.db'}")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    cache = Cache("warm")

    @cache.query()
    async def bins_of(session: AsyncSession, kind: str) -> int | None:
        if kind == "bad":
            raise ValueError(kind)
        return await session.scalar(select(func.count()).where(Bin.kind == kind))

    cache.connect()
    cache.watch(engine, Base.metadata)
    calls = ({"kind": kind} for kind in ("a", "b", "a", "bad"))
    warmed = await cache.awarm(bins_of, calls, sessions=async_sessionmaker(engine), workers=2)
    assert (warmed.loaded + warmed.hits, warmed.failed) == (3, 1)
    await cache.aclose()
    await engine.dispose()


def test_a_function_without_a_session_cannot_be_warmed(tmp_path):
    """Nor one whose annotation does not say which parameter it is."""
    fleet = Fleet(tmp_path / "fleet.db", "memory://")
    fleet.process()
    cache = fleet.caches[0]

    @cache.query(tags="bins")
    def free(kind: str) -> int:
        return len(kind)

    with pytest.raises(CacheDeclarationError, match="free has 0 parameters that are sessions"):
        cache.warm(free, [{"kind": "a"}], sessions=sessionmaker(fleet.engine))
    fleet.close()


@pytest.mark.parametrize(("sessions", "workers"), [("engine", 4), ("session", 4), ("sessionmaker", 0)])
def test_a_warm_up_that_cannot_begin_is_refused(tmp_path, sessions, workers):
    """Once, and not as the failure of each call."""
    fleet = Fleet(tmp_path / "fleet.db", "memory://")
    fleet.process()

    @fleet.caches[0].query()
    def bins(session: Session) -> int | None:
        return session.scalar(select(func.count()).select_from(Bin))

    with Session(fleet.engine) as session:
        given = {"engine": fleet.engine, "session": session, "sessionmaker": sessionmaker(fleet.engine)}[sessions]
        with pytest.raises(CacheDeclarationError, match=r"give what makes a session|give 1 or more"):
            fleet.caches[0].warm(bins, [{}], sessions=given, workers=workers)
    fleet.close()
