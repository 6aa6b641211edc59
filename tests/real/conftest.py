"""A table on real PostgreSQL, a cache on real Redis, and a place to stop a writer."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from sqlalchemy import Connection, create_engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from perfkit import Cache, Policy
from perfkit.cache import Seen
from perfkit.cache.redis import RedisStore
from perfkit.cache.store import Heard
from perfkit.waiting import run_now
from perfkit.wire.wires import open_wires
from tests.servers import OwnCluster, OwnRedis
from tools.services import Program

LONG_S = 30
PATIENCE_S = 10.0  # with a store: a busy machine is not a server that is down


class Base(DeclarativeBase):
    pass


class Bin(Base):
    __tablename__ = "bins"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class GatedStore:
    """A real store; a test may stand in front of any of its commands."""

    def __init__(self, url: str) -> None:
        self._wires = open_wires(url, timeout_s=PATIENCE_S)
        self._real = RedisStore(self._wires.blocking, cell_ttl_ms=3_600_000)
        self.before: dict[str, Callable[[], None]] = {}
        self.before_commit: Callable[[], None] = lambda: None
        self.commands: list[str] = []
        self.on_their_way: list[tuple[Sequence[bytes], bytes]] | None = None  # a list: posted bumps stay in it

    def _pass(self, command: str) -> None:
        self.commands.append(command)
        self.before.get(command, lambda: None)()

    async def read(self, keys: Sequence[bytes]) -> Seen:
        self._pass("read")
        return await self._real.read(keys)

    async def ensure(self, cells: Sequence[bytes]) -> Seen:
        self._pass("ensure")
        return await self._real.ensure(cells)

    async def put(self, key: bytes, entry: bytes, ttl_ms: int) -> None:
        self._pass("put")
        await self._real.put(key, entry, ttl_ms)

    async def mark(self, cells: Sequence[bytes], writer: bytes, hold_ms: int) -> None:
        self._pass("mark")
        await self._real.mark(cells, writer, hold_ms)
        self.before_commit()

    async def bump(self, cells: Sequence[bytes], writer: bytes) -> None:
        self._pass("bump")
        await self._real.bump(cells, writer)

    async def post_mark(self, cells: Sequence[bytes], writer: bytes, hold_ms: int) -> Heard | None:
        self._pass("mark")
        answer = await self._real.post_mark(cells, writer, hold_ms)
        if answer is None:
            return None

        async def heard() -> None:
            self._pass("heard")
            await answer()
            self.before_commit()

        return heard

    async def post_bump(self, cells: Sequence[bytes], writer: bytes) -> None:
        self._pass("bump")
        if self.on_their_way is None:
            await self._real.post_bump(cells, writer)
        else:
            self.on_their_way.append((cells, writer))

    def deliver(self) -> None:
        """The posted bumps arrive."""
        while self.on_their_way:
            run_now(self._real.bump(*self.on_their_way.pop(0)))

    async def drop(self, keys: Sequence[bytes]) -> int:
        self._pass("drop")
        return await self._real.drop(keys)

    def close(self) -> None:
        self._wires.close()


class Shop:
    """One process of a service."""

    def __init__(self, database: str, store: GatedStore | str, *, timeout_s: float = PATIENCE_S, **policy: Any) -> None:
        self.engine = create_engine(database.replace("postgresql:", "postgresql+psycopg:"))
        Base.metadata.create_all(self.engine)
        self.cache = Cache("real", Policy(**policy))
        self.store = store
        self.loads = 0
        self.inside: Callable[[], None] = lambda: None
        cache = self.cache

        @cache.query(tags="bins#{bin_id}")
        def name_of(session: Session, bin_id: int) -> str | None:
            self.loads += 1
            found = session.execute(select(Bin.name).where(Bin.id == bin_id)).scalar_one_or_none()
            self.inside()
            return found

        self._name_of = name_of
        cache.connect(store, timeout_s=timeout_s)
        cache.watch(self.engine, Base.metadata, database="real")

    def read(self, bin_id: int = 1) -> str | None:
        with Session(self.engine) as session:
            return self._name_of(session, bin_id)

    def write(self, name: str, bin_id: int = 1) -> None:
        with Session(self.engine) as session:
            session.merge(Bin(id=bin_id, name=name))
            session.commit()

    def close(self) -> None:
        self.cache.close()
        self.engine.dispose()
        if isinstance(self.store, GatedStore):
            self.store.close()


class Shops:
    """Makes processes of one service, on one database and one server or cluster; closes them when the block ends."""

    def __init__(
        self, database: str, url: str, *, is_gated: bool = True, timeout_s: float = PATIENCE_S, **policy: Any
    ) -> None:
        """`is_gated`: a test may stand in front of their stores. `policy` is what they have in common."""
        self.database, self.url, self.policy = database, url, policy
        self._timeout_s = timeout_s
        self._is_gated = is_gated
        self._made: list[Shop] = []

    def __call__(self, **policy: Any) -> Shop:
        store = GatedStore(self.url) if self._is_gated else self.url
        self._made.append(Shop(self.database, store, timeout_s=self._timeout_s, **{**self.policy, **policy}))
        return self._made[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for shop in self._made:
            shop.close()

    def cell(self) -> bytes:
        """The cell of the first row, as the first of them reads it."""
        (value,) = run_now(self._made[0].store._real.read([b"real:t:{bins}:bins#1"])).values
        return value or b""


WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"


def hang_commits(connection: Connection) -> None:
    """From now on an UPDATE of `bins` waits at COMMIT for the advisory lock 42."""
    connection.execute(
        text(
            "CREATE FUNCTION wait_a_little() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_advisory_lock(42); RETURN NULL; END $$"
        )
    )
    connection.execute(
        text(
            "CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON bins DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION wait_a_little()"
        )
    )


def cut_inside_commit(writer: Shop, pg_url: str) -> list[BaseException]:
    """Let it write while COMMIT hangs, and terminate its backend there; what it raised."""
    failed: list[BaseException] = []

    def write() -> None:
        try:
            writer.write("new")
        except DBAPIError as error:
            failed.append(error)

    with psycopg.connect(pg_url, autocommit=True) as outside:
        outside.execute("SELECT pg_advisory_lock(42)")
        thread = threading.Thread(target=write)
        thread.start()
        while (found := outside.execute(WAITING).fetchone()) is None:
            pass
        outside.execute("SELECT pg_terminate_backend(%s)", found)
        thread.join(LONG_S)
    return failed


@pytest.fixture
def posting(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine, a bump is posted."""
    monkeypatch.setattr("perfkit.cache.write.POSTED_WITHIN_S", LONG_S)


@pytest.fixture
def shops(pg_url: str, redis_url: str) -> Iterator[Shops]:
    with Shops(pg_url, redis_url) as made:
        yield made


@pytest.fixture
def own_redis(redis_program: Program) -> Iterator[OwnRedis]:
    with tempfile.TemporaryDirectory(prefix="perfkit-own-") as folder:
        server = OwnRedis(redis_program, Path(folder))
        yield server
        server.kill()


@pytest.fixture
def own_cluster(redis_program: Program) -> Iterator[OwnCluster]:
    """Three masters, three replicas."""
    with tempfile.TemporaryDirectory(prefix="perfkit-own-") as folder:
        cluster = OwnCluster(redis_program, Path(folder))
        yield cluster
        cluster.kill()
