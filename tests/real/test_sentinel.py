"""Redis behind sentinels: whom they name is asked, and nobody else is believed."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from perfkit import Cache
from perfkit.cache import Reason
from perfkit.errors import CacheDeclarationError, StoreDown
from perfkit.waiting import run_now
from perfkit.wire.addresses import Address, check_url, target_of
from perfkit.wire.answers import Command
from perfkit.wire.nodes import EPOCH_TRUSTED_S
from perfkit.wire.sentinel import CONFIRMED_S, elected
from perfkit.wire.wires import Wires, open_wires
from tests.real.conftest import Base, Bin, Shop, Shops
from tests.real.test_cluster import Traffic
from tests.servers import OwnSentinels, asked, until
from tools.services import Program


@pytest.fixture
def sentinels(redis_program: Program) -> Iterator[OwnSentinels]:
    """One master, one replica, three sentinels."""
    with tempfile.TemporaryDirectory(prefix="perfkit-own-") as folder:
        made = OwnSentinels(redis_program, Path(folder))
        yield made
        made.kill()


@pytest.fixture
def shops(pg_url: str, sentinels: OwnSentinels) -> Iterator[Shops]:
    with Shops(pg_url, sentinels.url, is_gated=False, timeout_s=0.5) as made:
        yield made


def test_the_master_is_found_and_one_connection_kept(shops, sentinels):
    """The sentinels are asked once a second, not once a call."""
    shop = shops()
    shop.write("old")
    assert shop.read() == shop.read() == "old"
    before = [each.client().info("stats")["total_connections_received"] for each in sentinels.sentinels]
    for _ in range(200):
        shop.read()
    after = [each.client().info("stats")["total_connections_received"] for each in sentinels.sentinels]
    assert shop.cache.stats().hits == 201
    assert max(now - then for now, then in zip(after, before, strict=True)) < 20


def test_a_master_dies_under_load_and_its_replica_takes_over(shops, sentinels):
    """Nothing is stale, nobody fails, and afterwards there are hits again."""
    made = [shops(on_mark_failure="veto", mark_hold=2.0) for _ in range(3)]
    made[0].write("0")

    with Traffic(made) as traffic:
        traffic.goes_on(100)
        sentinels.master.kill()
        until(lambda: sentinels.master_port() == sentinels.replica.port)
        writes = traffic.writes
        until(lambda: traffic.broken or traffic.writes > writes + 10)
        hits = sum(shop.cache.stats().hits for shop in made)
        until(lambda: traffic.broken or sum(shop.cache.stats().hits for shop in made) > hits + 10)

    assert (traffic.stale, traffic.broken) == ([], [])
    assert traffic.refused > 0


def test_a_master_that_was_replaced_is_not_believed(shops, sentinels):
    """It stood still while its replica took over, and goes on as a master, to whom connections are open."""
    shop = shops()
    shop.write("old")
    assert shop.read() == shop.read() == "old"
    (connection,) = shop.cache._wires.nodes.blocking[None]._idle

    sentinels.master.pause()
    until(lambda: sentinels.master_port() == sentinels.replica.port)
    sentinels.master.go_on()
    shops().write("new")  # another process: it is sent to the new one

    assert shop.read() == "new"
    assert asked(sentinels.master, "ROLE")[0] == b"master"
    assert connection.connection.port == sentinels.master.port


def test_a_new_master_is_used_when_nobody_can_believe_the_old_one_any_more(sentinels):
    """Nor by who starts only then: what it kept there, a commit that is told to the old one would leave as it is."""
    sentinels.master.pause()
    until(lambda: sentinels.most_name(sentinels.replica.port))
    since = time.monotonic()
    wires = open_wires(sentinels.url, timeout_s=0.5)

    with pytest.raises(StoreDown):
        run_now(wires.blocking.run(Command(b"", ("PING",))))
    until(lambda: answers(wires))

    assert CONFIRMED_S + EPOCH_TRUSTED_S < time.monotonic() - since < 10
    wires.close()


def answers(wires: Wires) -> bool:
    try:
        return bool(run_now(wires.blocking.run(Command(b"", ("PING",)))))
    except StoreDown:
        return False


def test_without_most_of_the_sentinels_nobody_is_believed(shops, sentinels):
    """A master that is cut off together with some of the processes cannot know that it was replaced."""
    shop = shops()
    shop.write("old")
    assert shop.read() == shop.read() == "old"
    for each in sentinels.sentinels[:2]:
        each.kill()

    until(lambda: shop.read() == "old" and shop.cache.stats().unkept.get(Reason.STORE_DOWN, 0) > 3)
    hits = shop.cache.stats().hits
    for _ in range(20):
        assert shop.read() == "old"
    assert shop.cache.stats().hits == hits

    for each in sentinels.sentinels[:2]:
        each.start()
    until(lambda: shop.read() == "old" and shop.cache.stats().hits > hits)


@pytest.mark.parametrize("suspends", [False, True])
def test_a_sentinel_that_hangs_is_asked_last(sentinels, suspends):
    """It answers nobody and refuses nobody: asked first, it left callers on an event loop no time at all."""
    wires = open_wires(sentinels.url, timeout_s=0.5)
    wire = wires.suspending if suspends else wires.blocking
    sentinels.sentinels[0].pause()

    async def asked() -> tuple[int, float]:
        answered, longest_s = 0, 0.0
        end = time.monotonic() + 3 * CONFIRMED_S
        while time.monotonic() < end:
            began = time.monotonic()
            try:
                await wire.run(Command(b"", ("PING",)))
                answered += 1
                longest_s = max(longest_s, time.monotonic() - began) if answered > 1 else 0.0
            except StoreDown:
                pass
            time.sleep(0.05)  # noqa: ASYNC251 - nobody else is there
        if suspends:
            await wires.aclose()
        return answered, longest_s

    answered, longest_s = asyncio.run(asked()) if suspends else run_now(asked())
    assert answered > 20
    assert longest_s < 0.4
    wires.close()


async def test_async_callers_find_the_master_too(pg_url, sentinels):
    """In any number of event loops."""
    shop = Shop(pg_url, sentinels.url)
    shop.write("old")
    engine = create_async_engine(pg_url.replace("postgresql:", "postgresql+asyncpg:"))
    cache = Cache("later")

    @cache.query(tags="bins#{bin_id}")
    async def name_of(session: AsyncSession, bin_id: int) -> str | None:
        return await session.scalar(select(Bin.name).where(Bin.id == bin_id))

    cache.connect(sentinels.url)
    cache.watch(engine, Base.metadata, database="real")

    async def read() -> str | None:
        async with AsyncSession(engine) as session:
            return await name_of(session, 1)

    assert [await read() for _ in range(3)] == ["old"] * 3
    assert cache.stats().hits == 2
    sentinels.master.kill()
    while sentinels.master_port() != sentinels.replica.port:
        assert await read() == "old"
        await asyncio.sleep(0.01)
    hits = cache.stats().hits
    async with asyncio.timeout(30):
        while cache.stats().hits == hits:
            assert await read() == "old"
            await asyncio.sleep(0.01)
    await cache.aclose()
    await engine.dispose()
    shop.close()


async def test_async_callers_do_not_believe_one_that_was_replaced(pg_url, sentinels):
    """As sync callers."""
    engine = create_async_engine(pg_url.replace("postgresql:", "postgresql+asyncpg:"))
    cache = Cache("real")

    @cache.query(tags="bins#{bin_id}")
    async def name_of(session: AsyncSession, bin_id: int) -> str | None:
        return await session.scalar(select(Bin.name).where(Bin.id == bin_id))

    async def read() -> str | None:
        async with AsyncSession(engine) as session:
            return await name_of(session, 1)

    cache.connect(sentinels.url)
    cache.watch(engine, Base.metadata, database="real")
    shop = Shop(pg_url, sentinels.url)
    shop.write("old")
    shop.close()
    assert [await read() for _ in range(3)] == ["old"] * 3
    assert cache.stats().hits == 2

    sentinels.master.pause()
    until(lambda: sentinels.master_port() == sentinels.replica.port)
    sentinels.master.go_on()
    other = Shop(pg_url, sentinels.url)
    other.write("new")

    assert await read() == "new"
    assert asked(sentinels.master, "ROLE")[0] == b"master"
    other.close()
    await cache.aclose()
    await engine.dispose()


# ---- without servers


def named(host: str, *, for_ms: int = 60_000) -> list[bytes]:
    return [b"ip", host.encode(), b"port", b"1", b"role-reported-time", str(for_ms).encode()]


@pytest.mark.parametrize(
    ("answers", "of", "found"),
    [
        ([named("a"), named("a"), named("a")], 3, Address("a", 1)),
        ([named("a"), named("a")], 3, Address("a", 1)),
        ([named("a"), named("b"), named("b")], 3, Address("b", 1)),
        ([named("a")], 1, Address("a", 1)),
        ([named("a")], 3, None),
        ([named("a"), named("a")], 4, None),
        ([named("a"), named("b")], 2, None),
        ([named("a"), named("a", for_ms=100)], 2, None),
        ([], 1, None),
        ([None, b"x", [b"ip"], [b"ip", b"a", b"port", b"x"], [b"ip", 7], 7], 6, None),
    ],
)
def test_more_than_half_must_name_it(answers, of, found):
    """Of those that the URL names, not of those that answer."""
    if found is not None:
        assert elected(answers, "bins", of) == found
        return
    with pytest.raises(redis.ConnectionError, match="more than half"):
        elected(answers, "bins", of)


def test_a_url_names_sentinels_and_a_service():
    """With logins of both kinds."""
    target = target_of("rediss+sentinel://app:secret@a,b:1/bins?db=3&sentinel_password=other")
    assert target.seeds == (Address("a", 26379), Address("b", 1))
    assert (target.service, target.sentinel_login) == ("bins", (("password", "other"),))
    assert target.url == "rediss://app:secret@a:26379?db=3"
    assert target.name == "rediss+sentinel://a,b:1/bins"
    assert not target.is_cluster
    with pytest.raises(CacheDeclarationError, match="names no service"):
        check_url("redis+sentinel://a,b")
