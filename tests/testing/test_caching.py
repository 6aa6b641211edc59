"""The kit for our users' tests: its assertions hold, fail, and say why."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from perfkit import Cache
from perfkit.errors import CacheDeclarationError
from perfkit.testing import assert_cached, assert_invalidates, in_memory
from tests.cache.conftest import Base, Bin


class Kit:
    def __init__(self, path: Any) -> None:
        self.engine = create_engine(f"sqlite:///{path}")
        self.async_engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        Base.metadata.create_all(self.engine)
        self.cache = Cache("kit")

        @self.cache.query(ttl=60)
        def count(session: Session) -> int | None:
            return session.scalar(select(func.count()).select_from(Bin))

        @self.cache.query()
        async def acount(session: AsyncSession) -> int | None:
            return await session.scalar(select(func.count()).select_from(Bin))

        @self.cache.query()
        def now(session: Session) -> str | None:
            return session.scalar(select(func.current_timestamp()))

        self.count, self.acount, self.now = count, acount, now

    def commit(self, change: Any) -> None:
        with Session(self.engine) as session:
            change(session)
            session.commit()


@pytest.fixture
def kit(tmp_path) -> Iterator[Kit]:
    kit = Kit(tmp_path / "kit.db")
    with in_memory(kit.cache, kit.engine, Base.metadata):
        yield kit
    kit.engine.dispose()


def test_in_memory_leaves_the_cache_as_it_was(tmp_path):
    """The next test connects it anew, and finds nothing."""
    kit = Kit(tmp_path / "kit.db")
    for fills in (1, 2):
        with in_memory(kit.cache, kit.engine, Base.metadata) as cache, Session(kit.engine) as session:
            assert cache is kit.cache
            kit.count(session)
            kit.count(session)
        assert kit.cache.stats().fills == fills
    with pytest.raises(CacheDeclarationError):
        kit.cache.watch(kit.engine)
    kit.engine.dispose()


def test_in_memory_is_over_when_watching_fails(tmp_path):
    """Half connected, the next test could not connect it."""
    kit = Kit(tmp_path / "kit.db")
    with pytest.raises(CacheDeclarationError), in_memory(kit.cache, "no engine"):  # type: ignore[arg-type]
        pass
    with in_memory(kit.cache, kit.engine, Base.metadata):
        pass
    kit.engine.dispose()


def test_what_is_cached_passes_and_gives_its_result(kit):
    """Of functions that have been called before, too."""
    with Session(kit.engine) as session:
        assert assert_cached(kit.cache, kit.count, session) == 0
        assert assert_cached(kit.cache, kit.count, session) == 0


def test_what_is_not_cached_fails_and_says_why(kit):
    """With the reason, and the statement behind it."""
    volatile = r"(?s)now was not answered by the cache: VOLATILE: .*CURRENT_TIMESTAMP"
    with Session(kit.engine) as session:
        with pytest.warns(match="not cached"), pytest.raises(AssertionError, match=volatile):
            assert_cached(kit.cache, kit.now, session)
        session.add(Bin(name="mine"))
        session.flush()
        with pytest.raises(AssertionError, match="OWN_WRITES"):
            assert_cached(kit.cache, kit.count, session)


async def test_async_functions_are_awaited(tmp_path):
    """The same, in a coroutine."""
    kit = Kit(tmp_path / "kit.db")
    with in_memory(kit.cache, kit.async_engine, Base.metadata):
        async with AsyncSession(kit.async_engine) as session:
            assert await assert_cached(kit.cache, kit.acount, session) == 0
            session.add(Bin(name="mine"))
            await session.flush()
            with pytest.raises(AssertionError, match="OWN_WRITES"):
                await assert_cached(kit.cache, kit.acount, session)
    await kit.async_engine.dispose()
    kit.engine.dispose()


def test_a_commit_that_concerns_it_passes(kit):
    """By class, table, row, and where it is not said which rows."""
    with assert_invalidates(kit.cache, Bin, Bin.__table__, "bins", "bins#1"):
        kit.commit(lambda session: session.add(Bin(id=1, name="one")))
    with assert_invalidates(kit.cache, Bin, "bins#77"):
        kit.commit(lambda session: session.execute(update(Bin).values(name="x").where(Bin.name == "one")))


def test_a_commit_that_does_not_fails_and_says_what_was_changed(kit):
    """So does one that was rolled back, and one that never came."""
    others = r"concerned teams, bins#2; what was changed: bins, bins#1"
    with pytest.raises(AssertionError, match=others), assert_invalidates(kit.cache, "teams", Bin, "bins#2"):
        kit.commit(lambda session: session.add(Bin(id=1, name="one")))

    def undo(session: Session) -> None:
        session.add(Bin(name="two"))
        session.flush()
        session.rollback()

    nothing = r"concerned Bin; what was changed: nothing"
    with pytest.raises(AssertionError, match=nothing), assert_invalidates(kit.cache, Bin):
        kit.commit(undo)


def test_to_ask_for_nothing_is_refused(kit):
    """A test that cannot fail shows nothing."""
    with pytest.raises(CacheDeclarationError, match="of nothing: name what"), assert_invalidates(kit.cache):
        pass


def test_an_exception_inside_is_itself(kit):
    """And not hidden by an assertion."""
    with pytest.raises(KeyError), assert_invalidates(kit.cache, Bin):
        raise KeyError


def test_time_stands_still_until_it_is_let_go(kit):
    """A ttl is tested without waiting for it."""
    with Session(kit.engine) as session:
        kit.count(session)
        with kit.cache.frozen_clock() as clock:
            kit.count(session)
            clock.tick(59)
            kit.count(session)
            assert kit.cache.stats_of(kit.count).fills == 1
            clock.tick(timedelta(seconds=2))
            kit.count(session)
            kit.count(session)
            assert kit.cache.stats_of(kit.count).fills == 2
        kit.count(session)
        assert kit.cache.stats_of(kit.count).fills == 3, "what was kept in the time to come is forgotten"


def test_a_result_held_before_is_not_believed_in_frozen_time(kit):
    """The quick way looks at the machine's clock."""
    with Session(kit.engine) as session:
        for _ in range(3):
            kit.count(session)
            session.rollback()
        with kit.cache.frozen_clock() as clock:
            clock.tick(61)
            kit.count(session)
    assert kit.cache.stats_of(kit.count).fills == 2


def test_the_time_of_a_server_cannot_be_frozen(tmp_path):
    """It is its own."""
    kit = Kit(tmp_path / "kit.db")
    for to in (None, "redis://localhost:1"):
        if to:
            kit.cache.connect(to)
        with pytest.raises(CacheDeclarationError, match="not connected to memory"), kit.cache.frozen_clock():
            pass
    kit.cache.close()
    kit.engine.dispose()
