"""The mode "committed" on real servers: its mark is on its way while COMMIT is, and is heard of after it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest
from sqlalchemy import text

from perfkit.cache import Reason
from perfkit.cache.store import Heard
from perfkit.errors import StoreDown
from tests.conftest import url_of
from tests.real.conftest import WAITING, Base, GatedStore, Shop, Shops, cut_inside_commit, hang_commits
from tests.real.test_async_interleavings import Process
from tests.servers import until

LONG_S = 30


@pytest.fixture(params=["redis", "valkey", "cluster"])
def service(pg_url: str, request: pytest.FixtureRequest) -> Iterator[Shops]:
    with Shops(pg_url, url_of(request.param, request), mode="committed") as made:
        yield made


@pytest.fixture
def shops(pg_url: str, redis_url: str) -> Iterator[Shops]:
    with Shops(pg_url, redis_url, mode="committed") as made:
        yield made


@pytest.mark.usefixtures("posting")
def test_a_commit_waits_for_nothing_but_what_has_arrived_meanwhile(shops):
    """Sent before COMMIT, heard after it, and the bump is left to itself."""
    shop = shops()

    shop.write("new")

    assert shop.store.commands == ["mark", "heard", "bump"]


@pytest.mark.usefixtures("posting")
def test_until_a_posted_bump_arrives_readers_get_the_new_row(shops):
    """The mark stands, of which the writer has heard before commit() returned."""
    shop, writer = shops(), shops()
    writer.write("old")
    assert shop.read() == shop.read() == "old"
    writer.store.on_their_way = []

    writer.write("new")

    assert (shop.read(), writer.read(), shop.read()) == ("new", "new", "new")
    writer.store.deliver()
    until(lambda: shop.read() == "new" and shop.cache.stats().hits > 1)


def test_a_load_that_a_commit_overtakes_is_not_served_afterwards(service):
    """The stale fill: read the old row, be overtaken, keep it."""
    shop, other = service(), service()
    shop.write("old")
    shop.inside = lambda: other.write("new") if shop.loads == 1 else None

    assert shop.read() == "old"

    assert (shop.read(), other.read()) == ("new", "new")


def test_a_load_between_commit_and_bump_leaves_nothing_old(service):
    """It may get the old row until the bump, and what it keeps may not outlive that."""
    shop, writer = service(), service()
    writer.write("old")
    shop.read()
    committed, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        committed.set()
        go_on.wait(LONG_S)

    writer.store.before["bump"] = hold
    thread = threading.Thread(target=writer.write, args=("new",))
    thread.start()
    assert committed.wait(LONG_S)
    shop.read()

    go_on.set()
    thread.join(LONG_S)
    assert (shop.read(), shop.read()) == ("new", "new")


class LateMarks(GatedStore):
    """Its marks arrive when the writer asks whether they have, or not at all."""

    arrives = True

    async def post_mark(self, cells: Sequence[bytes], writer: bytes, hold_ms: int) -> Heard:
        async def heard() -> None:
            self._pass("heard")
            if not self.arrives:
                raise StoreDown("no answer")
            await self._real.mark(cells, writer, hold_ms)

        return heard


@pytest.mark.parametrize("arrives", [True, False], ids=["late", "never"])
def test_a_mark_that_comes_after_the_commit_or_never_leaves_nothing_old(pg_url, redis_url, arrives):
    """A reader has kept the old row meanwhile, under the version that stands until then."""
    shop = Shop(pg_url, GatedStore(redis_url), mode="committed")
    writer = Shop(pg_url, LateMarks(redis_url), mode="committed")
    writer.write("old")
    writer.store.arrives = arrives
    writer.store.commands.clear()
    seen: list[str | None] = []
    writer.store.before["heard"] = lambda: seen.append(shop.read())

    writer.write("new")

    assert seen == ["new"], "committed, and read by who had kept nothing"
    assert (shop.read(), shop.read(), writer.read()) == ("new", "new", "new")
    assert writer.cache.stats().unbumped_commits == 0
    shop.close()
    writer.close()


def test_a_server_that_dies_inside_the_commit_is_told_of_it_when_it_is_back(pg_url, own_redis):
    """The mark was sent, nobody heard of it, and the bump is owed: the writer itself reads from the database."""
    shop = Shop(pg_url, GatedStore(own_redis.url), mode="committed")
    shop.write("old")
    assert shop.read() == shop.read() == "old"
    shop.store.before.update(mark=own_redis.pause, heard=own_redis.kill)

    shop.write("new")

    assert shop.read() == "new"
    assert shop.cache.stats().unbumped_commits == 1
    shop.store.before.clear()
    own_redis.start()
    until(lambda: shop.read() == "new" and shop.cache.stats().hits > 1)
    shop.close()


def test_a_connection_cut_inside_commit_leaves_the_mark(shops, pg_url):
    """The outcome is not known: nothing is published, and nothing is owed, before the mark is over."""
    shop, writer = shops(), shops()
    writer.write("old")
    assert shop.read() == "old"
    with writer.engine.begin() as connection:
        hang_commits(connection)

    failed = cut_inside_commit(writer, pg_url)

    assert len(failed) == 1
    assert shops.cell().startswith(b"d")
    assert shop.read() == "old", "it was never committed"
    assert writer.cache.stats().unbumped_commits == 1
    assert not writer.cache._runtime.arrears


async def created(process: Process) -> None:
    async with process.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


@pytest.mark.usefixtures("posting")
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_an_async_commit_waits_for_as_little(pg_url, redis_url, driver):
    """Its mark has its answer while the loop waits for the database."""
    process = Process(pg_url, driver, redis_url, mode="committed")
    other = Process(pg_url, driver, redis_url, mode="committed")
    await created(process)
    await process.write("old")
    assert [await other.read(), await other.read()] == ["old", "old"]

    await process.write("new")

    assert await other.read() == "new"
    await process.close()
    await other.close()


async def test_readers_do_not_wait_for_a_commit_that_hangs(pg_url, redis_url, monkeypatch):
    """Its mark has a connection of its own; and after the writer was cancelled, nobody is short of one."""
    monkeypatch.setattr("perfkit.wire.nodes.MAX_CONNECTIONS", 1)
    process = Process(pg_url, "asyncpg", redis_url, mode="committed")
    await created(process)
    await process.write("old")
    async with process.engine.begin() as connection:
        await connection.run_sync(hang_commits)
    async with process.engine.connect() as outside:
        await outside.execution_options(isolation_level="AUTOCOMMIT")
        await outside.execute(text("SELECT pg_advisory_lock(42)"))
        writing = asyncio.create_task(process.write("new"))
        while (await outside.execute(text(WAITING))).scalar() is None:
            pass

        during = await process.read(2)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await outside.execute(text("SELECT pg_advisory_unlock(42)"))

    assert during is None
    assert await process.read() in ("old", "new")
    stats = process.cache.stats()
    assert (stats.unbumped_commits, Reason.STORE_DOWN in stats.unkept) == (1, False)
    await process.close()
