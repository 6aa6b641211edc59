"""The orders of test_interleavings.py on event loops: psycopg and asyncpg, awaited and in a greenlet."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from perfkit import Cache, Policy
from perfkit.cache import Reason, Seen
from perfkit.cache.store import Heard
from perfkit.sqla.private import await_in_greenlet
from tests.real.conftest import WAITING, Base, Bin, hang_commits

LONG_S = 30
Hook = Callable[[], Awaitable[None]]


class Gated:
    """A real store; a test may stand in front of any of its commands, on the loop."""

    def __init__(self, real: Any, before: dict[str, Hook], *, in_greenlet: bool) -> None:
        self._real, self._before, self._in_greenlet = real, before, in_greenlet

    async def _pass(self, command: str) -> None:
        hook = self._before.get(command)
        if hook is None:
            return
        if self._in_greenlet:
            await_in_greenlet(hook())
        else:
            await hook()

    async def read(self, keys: Sequence[bytes]) -> Seen:
        await self._pass("read")
        return await self._real.read(keys)

    async def ensure(self, cells: Sequence[bytes]) -> Seen:
        return await self._real.ensure(cells)

    async def put(self, key: bytes, entry: bytes, ttl_ms: int) -> None:
        await self._pass("put")
        await self._real.put(key, entry, ttl_ms)

    async def mark(self, cells: Sequence[bytes], writer: bytes, hold_ms: int) -> None:
        await self._real.mark(cells, writer, hold_ms)
        await self._pass("COMMIT")

    async def bump(self, cells: Sequence[bytes], writer: bytes) -> None:
        await self._pass("bump")
        await self._real.bump(cells, writer)

    async def post_mark(self, cells: Sequence[bytes], writer: bytes, hold_ms: int) -> Heard | None:
        answer: Heard | None = await self._real.post_mark(cells, writer, hold_ms)
        if answer is None:
            return None

        async def heard() -> None:
            await answer()
            await self._pass("COMMIT")

        return heard

    async def post_bump(self, cells: Sequence[bytes], writer: bytes) -> None:
        await self._pass("bump")
        await self._real.post_bump(cells, writer)

    async def drop(self, keys: Sequence[bytes]) -> int:
        return await self._real.drop(keys)


class Process:
    """One process of a service, on the running loop; `before` are its gates."""

    def __init__(self, database: str, driver: str, store: str, **policy: Any) -> None:
        self.engine: AsyncEngine = create_async_engine(database.replace("postgresql:", f"postgresql+{driver}:"))
        self.cache = Cache("async", Policy(**policy))
        self.loads = 0
        self.before: dict[str, Hook] = {}
        self.inside: Hook = nothing
        self.way = "awaited"

        @self.cache.query(tags="bins#{bin_id}")
        async def name_of(session: AsyncSession, bin_id: int) -> str | None:
            self.loads += 1
            found = (await session.execute(select(Bin.name).where(Bin.id == bin_id))).scalar_one_or_none()
            await self.inside()
            return found

        @self.cache.query(tags="bins#{bin_id}")
        def name_in_greenlet(session: Session, bin_id: int) -> str | None:
            self.loads += 1
            found = session.execute(select(Bin.name).where(Bin.id == bin_id)).scalar_one_or_none()
            await_in_greenlet(self.inside())
            return found

        self._awaited, self._greenlet = name_of, name_in_greenlet
        self.cache.connect(store, timeout_s=LONG_S)
        self.cache.watch(self.engine, Base.metadata, database="one")
        runtime = self.cache._runtime
        runtime._ports = tuple(
            ports._replace(store=Gated(ports.store, self.before, in_greenlet=i == 2))
            for i, ports in enumerate(runtime._ports)
        )

    async def read(self, bin_id: int = 1) -> str | None:
        async with AsyncSession(self.engine) as session:
            if self.way == "awaited":
                return await self._awaited(session, bin_id)
            return await session.run_sync(self._greenlet, bin_id)

    async def write(self, name: str, bin_id: int = 1) -> None:
        async with AsyncSession(self.engine) as session:
            await session.merge(Bin(id=bin_id, name=name))
            await session.commit()

    async def close(self) -> None:
        await self.cache.aclose()
        await self.engine.dispose()


async def nothing() -> None:
    pass


class Gate:
    """Where one who comes waits until he is let go; whoever comes later passes."""

    def __init__(self) -> None:
        self.reached, self.open = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> None:
        if not self.reached.is_set():
            self.reached.set()
            await self.open.wait()


@pytest.fixture(params=["awaited", "greenlet"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["psycopg", "asyncpg"])
async def processes(
    request: pytest.FixtureRequest, pg_url: str, redis_url: str, way: str
) -> AsyncIterator[Callable[..., Process]]:
    made: list[Process] = []

    def make(**policy: Any) -> Process:
        made.append(Process(pg_url, request.param, redis_url, **policy))
        made[-1].way = way
        return made[-1]

    async with make().engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield make
    for process in made:
        await process.close()


async def test_a_load_that_a_commit_overtakes_is_not_served_afterwards(processes):
    """The stale fill."""
    process, other = processes(), processes()
    await process.write("old")
    process.inside = gate = Gate()

    overtaken = asyncio.create_task(process.read())
    await gate.reached.wait()
    await other.write("new")
    gate.open.set()

    assert await overtaken == "old"
    assert [await process.read(), await other.read()] == ["new", "new"]


async def test_a_load_that_is_kept_late_is_not_served(processes):
    """Overtaken between its load and its SET: the entry is written, and valid for nobody."""
    process, other = processes(), processes()
    await process.write("old")
    process.before["put"] = gate = Gate()

    overtaken = asyncio.create_task(process.read())
    await gate.reached.wait()
    await other.write("new")
    gate.open.set()

    assert await overtaken == "old"
    assert [await process.read(), await other.read()] == ["new", "new"]


async def test_a_read_that_starts_after_a_commit_does_not_join_a_load_from_before(processes):
    """The flight is keyed by the versions, too."""
    process, other = processes(), processes()
    await process.write("old")
    process.inside = gate = Gate()
    early = asyncio.create_task(process.read())
    await gate.reached.wait()
    await other.write("new")

    late = await asyncio.wait_for(process.read(), LONG_S)

    gate.open.set()
    assert (late, await early) == ("new", "old")


async def test_a_read_between_commit_and_bump_gets_the_new_row(processes):
    """Visible is visible; and nothing is kept under the mark."""
    process, writer = processes(), processes()
    await writer.write("old")
    assert [await process.read(), await process.read()] == ["old", "old"]
    writer.before["bump"] = gate = Gate()

    writing = asyncio.create_task(writer.write("new"))
    await gate.reached.wait()
    loads = process.loads
    seen = [await process.read(), await process.read()]
    gate.open.set()
    await writing

    assert (seen, process.loads) == (["new", "new"], loads + 2)
    assert process.cache.stats().unkept == {Reason.MARKED: 2}
    assert [await process.read(), await process.read()] == ["new", "new"]
    assert process.loads == loads + 3


async def test_a_read_between_mark_and_commit_gets_the_old_row_and_keeps_nothing(processes):
    """It is the current one until then."""
    process, writer = processes(), processes()
    await writer.write("old")
    await process.read()
    writer.before["COMMIT"] = gate = Gate()

    writing = asyncio.create_task(writer.write("new"))
    await gate.reached.wait()
    seen = await process.read()
    gate.open.set()
    await writing

    assert (seen, await process.read()) == ("old", "new")


async def test_the_first_of_two_writers_does_not_publish_for_the_second(processes):
    """One cell, two marks."""
    process, one, two = processes(), processes(), processes()
    await one.write("old", 2)
    two.before["COMMIT"] = gate = Gate()
    second = asyncio.create_task(two.write("second", 3))
    await gate.reached.wait()

    async with AsyncSession(one.engine) as session:
        await session.execute(text("UPDATE bins SET name = 'bulk' WHERE id = 2"))
        await session.commit()
    loads = process.loads
    await process.read(3)
    await process.read(3)

    assert process.loads == loads + 2, "kept under the second writer's mark"
    gate.open.set()
    await second
    assert [await process.read(2), await process.read(3)] == ["bulk", "second"]


@pytest.mark.parametrize("where", ["COMMIT", "bump"])
async def test_a_writer_that_is_cancelled_leaves_its_mark_or_has_not_committed(processes, redis_url, where):
    """Before COMMIT it rolls back; after it the outcome stands, and the mark runs out."""
    process, writer = processes(mark_hold=60), processes(mark_hold=60)
    await writer.write("old")
    assert await process.read() == "old"
    writer.before[where] = gate = Gate()
    writing = asyncio.create_task(writer.write("new"))
    await gate.reached.wait()

    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)

    with redis.Redis.from_url(redis_url) as client:
        assert client.get("async:t:{bins}:bins#1").startswith(b"d")
    assert await process.read() == ("old" if where == "COMMIT" else "new")


@pytest.mark.parametrize("how", ["terminated", "cancelled"])
async def test_a_commit_of_which_nobody_hears_leaves_the_mark(processes, redis_url, how):
    """The backend is terminated inside COMMIT, or the task is cancelled while COMMIT hangs and goes through later."""
    process, writer = processes(mark_hold=60), processes(mark_hold=60)
    await writer.write("old")
    async with writer.engine.begin() as connection:
        await connection.run_sync(hang_commits)
    assert await process.read() == "old"
    async with process.engine.connect() as outside:
        await outside.execute(text("SELECT pg_advisory_lock(42)"))
        writing = asyncio.create_task(writer.write("new"))
        while (pid := (await outside.execute(text(WAITING))).scalar()) is None:
            pass
        if how == "terminated":
            await outside.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
            with pytest.raises(DBAPIError):
                await writing
        else:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        await outside.rollback()
        with redis.Redis.from_url(redis_url) as client:
            assert client.get("async:t:{bins}:bins#1").startswith(b"d")
        await outside.execute(text("SELECT pg_advisory_unlock(42)"))

    gone = "SELECT count(*) FROM pg_stat_activity WHERE pid = :pid AND state <> 'idle'"
    async with process.engine.connect() as outside:
        while (await outside.execute(text(gone), {"pid": pid})).scalar():
            pass
        visible = (await outside.execute(text("SELECT name FROM bins WHERE id = 1"))).scalar()
    assert await process.read() == visible
    assert writer.cache.stats().unbumped_commits == 1


KILLED = """
import asyncio, os, signal, sys
sys.path[:0] = {path!r}
from tests.real.test_async_interleavings import Process

async def main():
    process = Process({database!r}, "asyncpg", {redis!r}, mark_hold=1.0)
    async def die():
        os.kill(os.getpid(), signal.SIGKILL)
    process.before["bump"] = die
    await process.write("new")

asyncio.run(main())
"""


async def test_a_writer_killed_between_commit_and_bump_leaves_no_old_answer(processes, pg_url, redis_url):
    """A process, and a real SIGKILL."""
    process = processes()
    await process.write("old")
    assert [await process.read(), await process.read()] == ["old", "old"]

    program = KILLED.format(path=sys.path, database=pg_url, redis=redis_url)
    ended = subprocess.run([sys.executable, "-c", program], cwd=Path.cwd(), timeout=LONG_S, check=False)  # noqa: ASYNC221

    assert ended.returncode == -signal.SIGKILL
    hits = process.cache.stats().hits
    while process.cache.stats().hits == hits:
        assert await process.read() == "new"


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_a_snapshot_neither_gets_nor_gives(processes, level):
    """Its past is its own."""
    process, writer = processes(), processes()
    await writer.write("old")
    async with AsyncSession(process.engine.execution_options(isolation_level=level)) as session:
        await session.execute(select(Bin.id))
        await writer.write("new")
        assert await process._awaited(session, 1) == "old"

    assert await process.read() == "new"
    assert process.cache.stats().bypasses == {Reason.SNAPSHOT: 1}
