"""The database ends a transaction that idles between its mark and its COMMIT for too long."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from perfkit import Cache, Policy
from perfkit.cache.write import Writer
from perfkit.errors import CacheDeclarationError
from tests.real.conftest import Base, Bin, GatedStore, Shop

ASK = "SELECT setting::int FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'"


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_it_is_set_on_every_connection_also_on_those_that_were_open(pg_url, driver):
    """And stays set after a rollback and after the connection was given back."""
    cache = Cache("idle", Policy(mark_hold=10, idle_timeout=3))

    async def suspending() -> list[int]:
        engine = create_async_engine(pg_url.replace("://", f"+{driver}://"))
        found: list[int] = []
        async with engine.connect():  # stays in the pool
            pass
        cache.connect()
        cache.watch(engine)
        for _ in range(2):
            async with engine.connect() as one, engine.connect() as two:
                for connection in (one, two):
                    await connection.rollback()
                    found.append((await connection.execute(text(ASK))).scalar_one())
        cache.close()
        await engine.dispose()
        return found

    assert asyncio.run(suspending()) == [3000] * 4


def test_two_caches_on_one_engine_agree_on_the_shorter_limit(pg_url):
    """Set once on each connection, and not back and forth; also after dispose(), and no more after close()."""
    engine = create_engine(pg_url.replace("://", "+psycopg://"))
    caches = [Cache(f"idle{i}", Policy(mark_hold=10, idle_timeout=i)) for i in (3, 2, 4)]
    for cache in caches:
        cache.connect()
        cache.watch(engine)

    def found() -> int:
        with engine.connect() as connection:
            return connection.scalar(text(ASK))

    assert [found(), found()] == [2000, 2000]
    engine.dispose()
    assert found() == 2000
    for cache in caches:
        cache.close()
    engine.dispose()
    assert found() == 0
    engine.dispose()


def test_it_is_set_on_mariadb(mariadb_url):
    """In whole seconds there."""
    engine = create_engine(mariadb_url.replace("://", "+pymysql://"))
    cache = Cache("idle", Policy(mark_hold=10, idle_timeout=2.5))
    cache.connect()
    cache.watch(engine)

    with engine.connect() as connection:
        assert connection.scalar(text("SELECT @@SESSION.idle_transaction_timeout")) == 3

    cache.close()
    engine.dispose()


@pytest.mark.parametrize(("own", "warned"), [("0", True), ("5s", False), ("6s", True)])
def test_without_one_the_databases_own_is_looked_at_once(pg_url, caplog, own, warned):
    """Off, or longer than half of mark_hold, is a warning that says what to do."""
    engine = create_engine(
        pg_url.replace("://", "+psycopg://"),
        connect_args={"options": f"-c idle_in_transaction_session_timeout={own}"},
    )
    cache = Cache("idle", Policy(mark_hold=10))
    cache.connect()
    cache.watch(engine)

    for _ in range(3):
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    assert caplog.text.count("idle_in_transaction_session_timeout is") == warned
    cache.close()
    engine.dispose()


def test_more_than_half_of_the_hold_is_refused():
    """The other half is for COMMIT."""
    with pytest.raises(CacheDeclarationError, match="half of mark_hold"):
        Policy(mark_hold=10, idle_timeout=6)


def test_a_writer_that_is_stopped_past_the_deadline_of_its_mark_commits_nothing(pg_url, redis_url, monkeypatch):
    """It was stopped between mark and COMMIT; readers have gone on; its COMMIT comes to nothing."""
    reader = Shop(pg_url, redis_url)
    store = GatedStore(redis_url)
    writer = Shop(pg_url, store, mark_hold=0.4, idle_timeout=0.2)
    reader.write("old")
    assert reader.read() == "old"

    def stopped() -> None:
        hits = reader.cache.stats().hits
        while reader.cache.stats().hits == hits:  # until the mark has run out, and the old row is kept again
            assert reader.read() == "old"

    store.before_commit = stopped
    # it is told that its mark is too old; only one that was stopped after that look commits
    monkeypatch.setattr(Writer, "_is_too_old", lambda self, mark_ms: False)
    with pytest.raises(DBAPIError):
        writer.write("new")

    with reader.engine.connect() as connection:
        assert connection.scalar(select(Bin.name)) == "old"
    assert reader.read() == "old"
    reader.close()
    writer.close()


def test_other_modes_leave_the_database_alone(pg_url, caplog):
    """Only a mark has a deadline."""
    engine = create_engine(pg_url.replace("://", "+psycopg://"))
    Base.metadata.create_all(engine)
    cache = Cache("idle", Policy(mode="committed"))
    cache.connect()
    cache.watch(engine)

    with engine.connect() as connection:
        assert connection.scalar(text(ASK)) == 0

    assert "idle" not in caplog.text
    cache.close()
    engine.dispose()
