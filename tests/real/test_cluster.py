"""Redis Cluster: slots that move and masters that die, while a service reads and writes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Self

import pytest
import redis
from redis.crc import key_slot
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from perfkit import Cache, Policy
from perfkit.cache import Reason
from perfkit.errors import CommitRefused, StoreDown
from tests.real.conftest import Base, Bin, Shop, Shops
from tests.servers import OwnCluster, OwnRedis, asked, until

CELLS_SLOT = key_slot(b"real:t:{bins}:bins#1")


@pytest.fixture
def shops(pg_url: str, own_cluster: OwnCluster) -> Iterator[Shops]:
    with Shops(pg_url, own_cluster.url, is_gated=False) as made:
        yield made


class Move:
    """The slot of all cells on its way from one master to another, one step at a time."""

    def __init__(self, cluster: OwnCluster) -> None:
        self._cluster = cluster
        self.source = cluster.master_of(CELLS_SLOT)
        self.target = next(node for node in cluster.masters if node is not self.source)

    def begin(self) -> None:
        asked(self.target, "CLUSTER", "SETSLOT", CELLS_SLOT, "IMPORTING", self._cluster.id_of(self.source))
        asked(self.source, "CLUSTER", "SETSLOT", CELLS_SLOT, "MIGRATING", self._cluster.id_of(self.target))

    def keys(self) -> list[bytes]:
        found: list[bytes] = asked(self.source, "CLUSTER", "GETKEYSINSLOT", CELLS_SLOT, 1000)
        return found

    def carry(self, *keys: bytes) -> None:
        if keys:
            asked(self.source, "MIGRATE", "127.0.0.1", self.target.port, "", 0, 5000, "KEYS", *keys)

    def end(self) -> None:
        for node in (self.target, self.source, *self._cluster.masters):
            asked(node, "CLUSTER", "SETSLOT", CELLS_SLOT, "NODE", self._cluster.id_of(self.target))


def test_answers_stay_right_at_every_step_of_a_moving_slot(shops, own_cluster):
    """Some cells here, some there: commands that name both are asked again one key at a time."""
    shop, other = shops(), shops()
    shop.write("0")
    assert shop.read() == shop.read() == "0"
    move = Move(own_cluster)
    names = iter(range(1, 100))

    def all_is_well() -> None:
        assert shop.read() == other.read()
        name = str(next(names))
        other.write(name)
        assert (shop.read(), shop.read(), other.read()) == (name, name, name)

    move.begin()
    all_is_well()
    for key in move.keys()[:2]:
        move.carry(key)
        all_is_well()
    move.carry(*move.keys())
    all_is_well()
    move.end()
    all_is_well()

    hits = shop.cache.stats().hits
    shop.read()
    assert shop.cache.stats().hits == hits + 1
    for each in (shop.cache.stats(), other.cache.stats()):
        assert (Reason.STORE_DOWN in each.unkept, each.unmarked_commits) == (False, 0)


class Traffic:
    """Readers and writers at work, who know what is committed: each read compares with the database before it."""

    def __init__(self, shops: list[Shop]) -> None:
        self._shops = shops
        self._stop = threading.Event()
        self.stale: list[str] = []
        self.broken: list[BaseException] = []
        self.reads = self.writes = self.refused = 0
        self._threads = [threading.Thread(target=self._guard, args=(self._read, shop)) for shop in shops]
        self._threads += [threading.Thread(target=self._guard, args=(self._write, shop)) for shop in shops[:2]]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _guard(self, work: Callable[[Shop], None], shop: Shop) -> None:
        while not self._stop.is_set():
            try:
                work(shop)
            except CommitRefused:
                self.refused += 1
            except BaseException as error:
                self.broken.append(error)
                raise

    def _read(self, shop: Shop) -> None:
        with Session(shop.engine) as session:
            visible = int(session.execute(select(Bin.name).where(Bin.id == 1)).scalar_one())
        found = int(shop.read() or -1)
        self.reads += 1
        if found < visible:
            self.stale.append(f"{found} although {visible} was visible")

    def _write(self, shop: Shop) -> None:
        with Session(shop.engine) as session:
            row = session.get_one(Bin, 1, with_for_update=True)
            row.name = str(int(row.name) + 1)
            session.commit()
        self.writes += 1

    def goes_on(self, count: int) -> None:
        """Return when `count` more reads and some writes have been made."""
        reads, writes = self.reads + count, self.writes + count // 20
        until(lambda: self.broken or (self.reads >= reads and self.writes >= writes))


def test_nothing_is_stale_and_nobody_fails_while_a_slot_moves_under_load(shops, own_cluster):
    """There and back, key by key, between whatever the readers and writers are doing."""
    made = [shops() for _ in range(3)]
    made[0].write("0")

    with Traffic(made) as traffic:
        for _ in range(4):
            move = Move(own_cluster)
            move.begin()
            while keys := move.keys():
                move.carry(keys[0])
                traffic.goes_on(20)
            move.end()
            traffic.goes_on(50)

    assert (traffic.stale, traffic.broken) == ([], [])
    assert sum(shop.cache.stats().hits for shop in made) > 0
    assert sum(shop.cache.stats().unmarked_commits for shop in made) == 0


def test_a_master_dies_under_load_and_its_replica_takes_over(shops, own_cluster):
    """Reads go on from the database, refused commits are tried again, and afterwards there are hits again."""
    made = [shops(on_mark_failure="veto", mark_hold=2.0) for _ in range(3)]
    made[0].write("0")
    dying = own_cluster.master_of(CELLS_SLOT)

    with Traffic(made) as traffic:
        traffic.goes_on(100)
        dying.kill()
        until(lambda: own_cluster.master_of(CELLS_SLOT) is not dying)
        writes = traffic.writes
        until(lambda: traffic.broken or traffic.writes > writes + 10)
        hits = sum(shop.cache.stats().hits for shop in made)
        until(lambda: traffic.broken or sum(shop.cache.stats().hits for shop in made) > hits + 10)

    assert (traffic.stale, traffic.broken) == ([], [])
    assert traffic.refused > 0


def test_without_a_veto_writes_go_on_while_a_master_is_dead(shops, own_cluster):
    """They are owed, and told when the replica has taken over; who waits for it reads what was written."""
    shop, other = shops(), shops()
    shop.write("old")
    assert other.read() == "old"
    dying = own_cluster.master_of(CELLS_SLOT)

    dying.kill()
    shop.write("new")

    assert shop.read() == "new"
    until(lambda: own_cluster.master_of(CELLS_SLOT) is not dying)
    until(lambda: shop.read() == other.read() == "new" and shop.cache.stats().hits > 0 and other.cache.stats().hits > 0)
    assert shop.cache.stats().unmarked_commits == 1


def test_a_manual_failover_cuts_no_connection_and_is_noticed(shops, own_cluster):
    """The old master sends everybody on, and the new one bears another epoch."""
    shop = shops()
    shop.write("old")
    assert shop.read() == shop.read() == "old"
    loads = shop.loads
    before = own_cluster.master_of(CELLS_SLOT)
    replica = own_cluster.replicas[own_cluster.masters.index(before)]

    asked(replica, "CLUSTER", "FAILOVER")
    until(lambda: own_cluster.master_of(CELLS_SLOT) is replica)
    until(lambda: shop.read() == "old" and shop.loads > loads)

    shop.write("new")
    assert (shop.read(), shop.read()) == ("new", "new")


def test_async_callers_share_a_cluster(pg_url, own_cluster):
    """Awaited, and sync code in a greenlet, over the same connections."""
    engine = create_async_engine(pg_url.replace("postgresql:", "postgresql+asyncpg:"))
    cache = Cache("real", Policy())
    loads = 0

    @cache.query(tags="bins#{bin_id}")
    async def name_of(session: AsyncSession, bin_id: int) -> str | None:
        nonlocal loads
        loads += 1
        return (await session.execute(select(Bin.name).where(Bin.id == bin_id))).scalar_one_or_none()

    async def write(name: str) -> None:
        async with AsyncSession(engine) as session:
            await session.merge(Bin(id=1, name=name))
            await session.commit()

    async def read() -> str | None:
        async with AsyncSession(engine) as session:
            return await name_of(session, 1)

    async def run() -> None:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        cache.connect(own_cluster.url, timeout_s=30)  # a busy machine is not a server that is down
        cache.watch(engine, Base.metadata)
        await write("old")
        assert await asyncio.gather(*(read() for _ in range(50))) == ["old"] * 50
        assert loads == 1
        move = Move(own_cluster)
        move.begin()
        move.carry(*move.keys()[:1])
        await write("new")
        assert await asyncio.gather(*(read() for _ in range(50))) == ["new"] * 50
        move.carry(*move.keys())
        move.end()
        assert await read() == "new"
        await cache.aclose()
        await engine.dispose()

    asyncio.run(run())


def test_a_hit_is_one_command_for_each_slot(shops, own_cluster):
    """Those of the entry, of the table's cells and of the namespace's cell; sent at once, read afterwards."""
    shop = shops()
    shop.write("old")
    assert shop.read() == shop.read() == "old"
    before = [commands(node) for node in own_cluster.masters]

    shop.read()

    done = [after - then for after, then in zip(map(commands, own_cluster.masters), before, strict=True)]
    assert sum(done) == 3


def commands(node: OwnRedis) -> int:
    with redis.Redis(port=node.port) as client:
        statistics = client.info("commandstats")
    return sum(each["calls"] for name, each in statistics.items() if name in ("cmdstat_mget", "cmdstat_evalsha"))


def test_a_cluster_that_is_addressed_as_one_server_is_down(pg_url, own_cluster, caplog):
    """MOVED is a refusal there: answers come from the database, and the log says what to write instead."""
    other = next(node for node in own_cluster.masters if node is not own_cluster.master_of(CELLS_SLOT))
    shop = Shop(pg_url, other.url)
    shop.write("old")

    assert shop.read() == shop.read() == "old"

    assert shop.cache.stats().unkept == {Reason.UNSETTLED: 2}
    assert "connect to redis+cluster://" in caplog.text
    shop.close()


def test_a_server_that_is_no_cluster_is_named_once_with_what_it_says(redis_url: str, caplog: pytest.LogCaptureFixture):
    """A URL of the wrong kind would be silence otherwise: the database answers, and nothing is ever a hit."""
    cache = Cache("no-cluster")
    cache.connect(redis_url.replace("redis://", "redis+cluster://").partition("?")[0])
    try:
        for _ in range(2):
            with pytest.raises(StoreDown, match=r"has slot \d+: .+:\d+ said .*cluster support disabled"):
                cache.ping()
    finally:
        cache.close()

    told = [each.getMessage() for each in caplog.records if each.name == "perfkit.wire"]
    assert len(told) == 1
    assert "does not say who has which slot" in told[0]
    assert "cluster support disabled" in told[0]
