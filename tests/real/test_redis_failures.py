"""A Redis that dies, hangs, comes back empty or comes back from the past: answers stay right."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path

import pytest
import redis

from perfkit.cache import Reason
from perfkit.errors import StoreDown
from perfkit.waiting import run_now
from perfkit.wire.answers import Command
from perfkit.wire.breaker import FIRST_PAUSE_S
from perfkit.wire.wires import open_wires
from tests.real.conftest import GatedStore, Shop
from tests.servers import OwnRedis, Proxy, asked, until

TIMEOUT_S = 0.5  # where that is what a test is about


@pytest.fixture
def shop(pg_url: str, own_redis: OwnRedis) -> Iterator[Shop]:
    shop = Shop(pg_url, own_redis.url)
    shop.write("old")
    assert shop.read() == shop.read() == "old"
    assert shop.loads == 1
    yield shop
    shop.close()


def test_a_killed_server_costs_nobody_an_answer(shop, own_redis):
    """Reads come from the database; a write goes on, and is told when the server is back, before anything is served."""
    own_redis.kill()

    assert shop.read() == "old"
    shop.write("new")
    assert shop.read() == "new"
    assert shop.cache.stats().unbumped_commits == 1

    own_redis.start()
    until(lambda: shop.read() == "new" and shop.cache.stats().hits > 1)
    assert shop.read() == "new"


def test_a_server_that_comes_back_from_an_old_snapshot_serves_nothing_of_it(shop, own_redis):
    """Old entries return together with old cells; the server's new life tells them apart."""
    with own_redis.client() as client:
        client.save()
    shop.write("new")
    assert shop.read() == "new"

    own_redis.kill()
    own_redis.start()

    with own_redis.client() as client:
        assert client.dbsize() > 0, "the snapshot was not loaded"
    until(lambda: shop.read() == "new" and shop.cache.stats().hits > 1)


class PostingStore(GatedStore):
    """One that sends its bumps and leaves them to themselves, as the real one does."""

    async def post_bump(self, cells: Sequence[bytes], writer: bytes) -> None:
        await self._real.post_bump(cells, writer)


def test_a_server_that_loses_a_mark_while_a_commit_hangs_is_told_of_the_commit(pg_url, own_redis):
    """Sent on the connection of its old life, the bump would be lost, and what a reader kept meanwhile stay."""
    writer, reader = Shop(pg_url, PostingStore(own_redis.url)), Shop(pg_url, own_redis.url)
    writer.write("old")

    def restarted() -> None:
        own_redis.kill()
        own_redis.start()
        until(lambda: reader.read() == "old" and reader.cache.stats().hits > 1)

    writer.store.before_commit = restarted
    writer.write("new")

    assert reader.read() == "new"
    writer.close()
    reader.close()


def test_a_server_that_hangs_costs_one_time_out(pg_url, own_redis):
    """Then nobody asks it for a while."""
    shop = Shop(pg_url, own_redis.url, timeout_s=TIMEOUT_S)
    shop.write("old")
    shop.read()
    own_redis.pause()
    try:
        for _ in range(50):
            assert shop.read() == "old"
    finally:
        own_redis.go_on()

    assert set(shop.cache.stats().unkept) == {Reason.STORE_DOWN}
    hits = shop.cache.stats().hits
    until(lambda: shop.read() == "old" and shop.cache.stats().hits > hits)
    shop.close()


def test_an_emptied_server_is_filled_again(shop, own_redis):
    """FLUSHALL at any moment."""
    with own_redis.client() as client:
        client.flushall()

    assert shop.read() == shop.read() == "old"
    assert shop.loads == 2


def test_a_server_that_is_full_refuses_and_nobody_notices(shop, own_redis):
    """OOM is a refusal like others."""
    with own_redis.client() as client:
        client.config_set("maxmemory", "1")
        client.config_set("maxmemory-policy", "noeviction")

    assert shop.read() == "old"
    shop.write("new")
    assert shop.read() == "new"
    assert shop.cache.stats().unmarked_commits == 1


def test_a_right_that_is_missing_is_a_bypass(pg_url, own_redis):
    """NOPERM."""
    with own_redis.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "on", "nopass", "~*", "+@all", "-mget")

    shop = Shop(pg_url, own_redis.url)
    shop.write("old")

    assert shop.read() == "old"
    assert shop.cache.stats().unkept == {Reason.STORE_DOWN: 1}
    shop.close()


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"\x00" * 100, b"\x93\x01\x00", b"\xdd\xff\xff\xff\xff", b"\xc1", b"\x94\x01\xc4\x01x\x90\x90", b"[1, 2]"],
)
def test_rubbish_in_an_entry_is_a_miss(shop, own_redis, rubbish):
    """Whoever wrote it."""
    with own_redis.client() as client:
        (key,) = client.keys("real:v:*")
        client.set(key, rubbish)

    assert shop.read() == "old"
    assert shop.loads == 2


def test_an_entry_with_a_forged_payload_is_a_miss(shop, own_redis):
    """Its versions are right, its payload is not ours."""
    import msgpack

    with own_redis.client() as client:
        (key,) = client.keys("real:v:*")
        form, _, *rest = msgpack.unpackb(client.get(key))
        client.set(key, msgpack.packb([form, b"\xff\xffrubbish", *rest]))

    assert shop.read() == "old"
    assert shop.cache.stats().odd == {Reason.UNREADABLE: 1}


def test_a_server_that_is_not_there_at_start_is_used_when_it_comes(pg_url, own_redis):
    """Nothing fails, and nobody has to be told."""
    own_redis.kill()
    shop = Shop(pg_url, own_redis.url)
    shop.write("old")
    assert shop.read() == shop.read() == "old"
    assert set(shop.cache.stats().unkept) <= {Reason.STORE_DOWN, Reason.UNSETTLED}

    own_redis.start()

    until(lambda: shop.read() == "old" and shop.cache.stats().hits > 0)
    shop.close()


@pytest.fixture
def proxy(own_redis: OwnRedis) -> Iterator[Proxy]:
    proxy = Proxy(own_redis.port)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("after", [0, 1, 2, 5, 9, 14, 25, 60, 100])
def test_a_connection_that_is_cut_inside_an_answer_is_asked_again(pg_url, proxy, after):
    """On a new one, at once: it may only have died while it was idle. Half an answer is nobody's."""
    shop = Shop(pg_url, proxy.url)
    shop.write("old")
    assert shop.read() == shop.read() == "old"

    proxy.cut_after = after
    assert [shop.read(), shop.read()] == ["old", "old"]

    assert (shop.loads, shop.cache.stats().hits) == (1, 3)
    shop.close()


@pytest.mark.parametrize("after", [0, 2, 3])
def test_a_mark_whose_answer_is_cut_is_set_again_and_once(pg_url, proxy, own_redis, after):
    """Marking twice is marking once: the bump takes both back."""
    shop = Shop(pg_url, proxy.url)
    shop.write("old")
    shop.read()

    proxy.cut_after = after
    shop.write("new")

    assert (shop.cache.stats().marked_commits, shop.cache.stats().unmarked_commits) == (2, 0)
    with own_redis.client() as client:
        assert client.get("real:t:{bins}:bins#1").startswith(b"c")
    assert shop.read() == shop.read() == "new"
    shop.close()


def test_a_server_that_is_slow_costs_one_time_out(pg_url, proxy):
    """Then the breaker is open; it closes when answers come in time again."""
    shop = Shop(pg_url, proxy.url, timeout_s=TIMEOUT_S)
    shop.write("old")
    shop.read()
    proxy.passes.clear()

    began = time.monotonic()
    for _ in range(20):
        assert shop.read() == "old"
    assert time.monotonic() - began < 20 * TIMEOUT_S, "each call waited"

    proxy.passes.set()
    hits = shop.cache.stats().hits
    until(lambda: shop.read() == "old" and shop.cache.stats().hits > hits)
    shop.close()


@pytest.fixture
def replica(own_redis: OwnRedis, redis_program, tmp_path: Path) -> Iterator[OwnRedis]:
    """Of `own_redis`, and up to date."""
    with own_redis.client() as client:
        client.config_set("repl-diskless-sync-delay", 0)
    server = OwnRedis(redis_program, tmp_path, "--replicaof", f"127.0.0.1 {own_redis.port}")
    until(lambda: server.client().info("replication")["master_link_status"] == "up")
    yield server
    server.kill()


def test_a_promoted_replica_that_lagged_serves_nothing_of_the_past(pg_url, own_redis, replica, proxy):
    """Old entries and old cells live on in it together, as in an old snapshot."""
    shop = Shop(pg_url, proxy.url)
    shop.write("old")
    assert shop.read() == "old"
    until(lambda: replica.client().dbsize() == own_redis.client().dbsize())
    replica.pause()
    shop.write("new")
    own_redis.kill()
    replica.go_on()
    asked(replica, "REPLICAOF", "NO", "ONE")
    with replica.client() as client:
        assert client.keys("real:v:*"), "the old entry is there"
    proxy.leads_to = replica.port

    until(lambda: shop.read() == "new" and shop.cache.stats().hits > 0)
    shop.close()


def test_a_replica_is_not_asked(pg_url, own_redis, replica, caplog):
    """It may be behind its master. The log says what is wrong with the address."""
    shop = Shop(pg_url, replica.url)
    shop.write("old")

    assert shop.read() == shop.read() == "old"

    assert (shop.cache.stats().hits, shop.loads) == (0, 2)
    assert "is a replica" in caplog.text
    shop.close()


def test_a_master_that_becomes_a_replica_without_cutting_connections_is_noticed(pg_url, own_redis, replica):
    """Each connection asks who its server is once a second, beside its next command."""
    shop = Shop(pg_url, own_redis.url)
    shop.write("old")
    assert shop.read() == shop.read() == "old"
    asked(replica, "REPLICAOF", "NO", "ONE")

    asked(own_redis, "REPLICAOF", "127.0.0.1", replica.port)

    until(lambda: shop.read() == "old" and Reason.STORE_DOWN in shop.cache.stats().unkept)
    shop.close()


@pytest.mark.parametrize(
    "policy", ["noeviction", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl", "allkeys-lru"]
)
def test_a_full_server_keeps_the_marks_unless_it_may_evict_all_keys(pg_url, own_redis, policy):
    """A dirty cell has no expiry, so that `volatile-…` finds nothing to evict in it. Nobody is failed in any case."""
    store = GatedStore(own_redis.url)
    shop, reader = Shop(pg_url, store), Shop(pg_url, own_redis.url)
    shop.write("old")
    reader.read()
    kept: list[bytes] = []
    with own_redis.client() as client:
        client.config_set("maxmemory-policy", policy)

        def flood() -> None:
            client.config_set("maxmemory", client.info("memory")["used_memory"] + 300_000)
            for i in range(2000):
                try:
                    client.set(f"other:{i}", b"x" * 500, ex=1000)
                except redis.ResponseError:
                    break
            kept.append(client.get("real:t:{bins}:bins#1") or b"")
            assert reader.read() == "new"

        store.before["bump"] = flood
        shop.write("new")

    assert kept[0].startswith(b"d") or policy == "allkeys-lru"
    assert reader.read() == shop.read() == "new"
    shop.close()
    reader.close()


@pytest.mark.parametrize("command", ["mget", "set", "evalsha", "eval", "info"])
def test_each_right_that_is_missing_is_a_bypass_until_it_is_given(pg_url, own_redis, command):
    """NOPERM is counted, and logged once."""
    with own_redis.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", f"-{command}")
        shop = Shop(pg_url, own_redis.url.replace("://", "://app:secret@"))
        shop.write("old")

        assert shop.read() == shop.read() == "old"
        assert (shop.loads, shop.cache.stats().hits) == (2, 0)

        client.execute_command("ACL", "SETUSER", "app", f"+{command}")
        until(lambda: shop.read() == "old" and shop.cache.stats().hits > 0)
    shop.close()


def test_a_wrong_password_is_a_bypass(pg_url, own_redis):
    """As a server that is down; who asks for it is told why, also while nobody tries."""
    with own_redis.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all")
    shop = Shop(pg_url, own_redis.url.replace("://", "://app:wrong@"))
    shop.write("old")

    assert shop.read() == shop.read() == "old"
    assert shop.cache.stats().hits == 0
    for _ in range(2):
        with pytest.raises(StoreDown, match="invalid username-password pair"):
            shop.cache.ping()
    shop.close()


def test_scripts_that_were_flushed_are_sent_again(shop, own_redis):
    """By their text, once."""
    with own_redis.client() as client:
        client.script_flush()

    shop.write("new")

    assert (shop.read(), shop.read(), shop.cache.stats().unmarked_commits) == ("new", "new", 0)


@pytest.mark.parametrize("key", ["entry", "cell"])
def test_a_key_of_another_type_is_a_bypass(shop, own_redis, key):
    """WRONGTYPE; what can be overwritten, is."""
    with own_redis.client() as client:
        name = client.keys("real:v:*")[0] if key == "entry" else b"real:t:{bins}:bins#1"
        client.delete(name)
        client.lpush(name, "x")

    assert shop.read() == shop.read() == "old"
    shop.write("new")
    assert shop.read() == shop.read() == "new"


def test_a_server_that_is_still_loading_is_a_bypass(pg_url, own_redis):
    """LOADING, after a restart with much to load."""
    shop = Shop(pg_url, own_redis.url)
    shop.write("old")
    shop.read()
    with own_redis.client() as client:
        for i in range(200):
            client.set(f"other:{i}", b"x" * 100)
        client.save()
    own_redis.kill()
    loading = copy(own_redis)
    loading._options = ("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
    loading.start(waits=False)
    until(lambda: b"LOADING" in raw_answer(loading.port))

    assert shop.read() == "old"
    assert shop.cache.stats().unkept == {Reason.STORE_DOWN: 1}
    loading.kill()
    shop.close()


def raw_answer(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"GET x\r\n")
        return connection.recv(100)


def test_more_callers_than_connections_wait_for_one_and_no_longer_than_a_command(pg_url, own_redis):
    """64 for an event loop; with a server that hangs, everybody is answered by the database."""
    import asyncio

    from sqlalchemy import select
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    from perfkit import Cache, Policy
    from tests.real.conftest import Base, Bin

    engine = create_async_engine(pg_url.replace("://", "+asyncpg://"), pool_size=10, max_overflow=0)
    cache = Cache("crowd", Policy())

    @cache.query(tags="bins#{bin_id}")
    async def name_of(session: AsyncSession, bin_id: int) -> str | None:
        return (await session.execute(select(Bin.name).where(Bin.id == bin_id))).scalar_one_or_none()

    async def read(bin_id: int) -> str | None:
        async with AsyncSession(engine) as session:
            return await name_of(session, bin_id)

    async def run() -> None:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        cache.connect(own_redis.url, timeout_s=5)
        cache.watch(engine, Base.metadata)
        await asyncio.gather(*(read(i) for i in range(300)))
        with own_redis.client() as client:
            assert len(client.client_list()) <= 64 + 1
        await cache.aclose()
        cache.connect(own_redis.url, timeout_s=0.2)
        cache.watch(engine, Base.metadata)
        own_redis.pause()
        try:
            await asyncio.gather(*(read(i) for i in range(300)))
        finally:
            own_redis.go_on()
        assert cache.stats().unkept[Reason.STORE_DOWN] >= 300
        hits = cache.stats().hits
        while cache.stats().hits == hits:
            await read(1)
        await cache.aclose()
        await engine.dispose()

    asyncio.run(run())


@pytest.mark.parametrize("suspends", [False, True])
def test_connections_that_lead_nowhere_any_more_cost_one_time_out_together(proxy, suspends):
    """A host that vanished, or a firewall that forgot: nothing says so, and each of them would be tried in turn."""
    wires = open_wires(proxy.url, timeout_s=TIMEOUT_S)
    wire = wires.suspending if suspends else wires.blocking
    command = Command(b"", ("PING",))

    async def asked() -> list[str]:
        nodes = wires.nodes.suspending if suspends else wires.nodes.blocking
        sent = [await nodes[None].send([command]) for _ in range(5)]
        for each in sent:
            await nodes[None].receive(each)
        proxy.forget()
        outcomes = []
        for _ in range(3):
            try:
                outcomes += [answer.value.decode() for answer in await wire.run(command)]
            except StoreDown:
                outcomes.append("down")
                time.sleep(2 * FIRST_PAUSE_S)  # noqa: ASYNC251 - the breaker's
        if suspends:
            await wires.aclose()
        return outcomes

    assert (asyncio.run(asked()) if suspends else run_now(asked())) == ["down", "PONG", "PONG"]
    wires.close()


@pytest.mark.parametrize("suspends", [False, True])
def test_an_answer_that_comes_by_the_byte_is_not_waited_for_longer_than_any_other(proxy, suspends):
    """A socket's time-out is between two bytes: an answer of a hundred would take a hundred of them."""
    wires = open_wires(proxy.url, timeout_s=TIMEOUT_S)
    command = Command(b"", ("ECHO", "x" * 100))
    wire = wires.suspending if suspends else wires.blocking
    proxy.pause_s = TIMEOUT_S / 2

    async def asked() -> float:
        began = time.monotonic()
        with pytest.raises(StoreDown):
            await wire.run(command)
        return time.monotonic() - began

    assert (asyncio.run(asked()) if suspends else run_now(asked())) < 5 * TIMEOUT_S
    wires.close()
