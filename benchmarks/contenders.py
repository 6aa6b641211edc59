"""Ways to cache one number of a row, each as its documentation says; for benchmarks/stale.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import redis
from sqlalchemy import Engine, event, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from perfkit import Cache, Policy
from perfkit.cache import cached
from perfkit.cache.policy import L1, Mode

TTL_S = 300
LEASE_S = 0.02
MARK_HOLD_S = 1.0  # short, because one writer in twenty dies


class Base(DeclarativeBase):
    """The model of the stress."""


class Row(Base):
    """`n` counts its commits."""

    __tablename__ = "rows"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    n: Mapped[int] = mapped_column(default=0)


class Contender(Protocol):
    """A cached read, and what a writer has to do."""

    loads: int

    def read(self, row_id: int) -> int: ...
    def write(self, row_id: int) -> int:
        """The new number, when everything is done that a writer does."""
        ...


class Perfkit:
    """A decorator, and an engine that is watched."""

    def __init__(self, engine: Engine, url: str, mode: Mode, l1: L1 = "auto", *, writer_waits: bool = False) -> None:
        self.loads = 0
        self._engine = engine
        policy = Policy(
            mode=mode, ttl=TTL_S, mark_hold=MARK_HOLD_S, idle_timeout=MARK_HOLD_S / 2, l1=l1, writer_waits=writer_waits
        )
        cache = self.cache = Cache("stale", policy)

        @cache.query()
        def number(session: Session, row_id: int) -> int:
            self.loads += 1
            return session.execute(select(Row.n).where(Row.id == row_id)).scalar_one()

        self._number = number
        cache.connect(url)
        cache.watch(engine, Base.metadata, database="stale")

    def read(self, row_id: int) -> int:
        with Session(self._engine) as session:
            return self._number(session, row_id)

    def write(self, row_id: int) -> int:
        return counted_up(self._engine, row_id)


class Entities(Perfkit):
    """The same number, of an entity by its key, of several, and of a statement that is cached itself."""

    def __init__(self, engine: Engine, url: str, way: str) -> None:
        super().__init__(engine, url, "strict")
        self._way = way
        event.listen(engine, "before_cursor_execute", self._count)

    def _count(self, *_: object) -> None:
        self.loads += 1  # a read that is no hit is one statement

    def read(self, row_id: int) -> int:
        with Session(self._engine) as session:
            if self._way == "one":
                row = self.cache.get(session, Row, row_id)
            elif self._way == "many":
                row = self.cache.get_many(session, Row, {row_id, 0, 1, 2}).get(row_id)
            else:
                row = session.scalars(select(Row).where(Row.id == row_id).options(cached(cache=self.cache))).one()
            assert row is not None
            return row.n


class Dogpile:
    """`get_or_create` under a distributed lock, `delete` after the commit."""

    def __init__(self, engine: Engine, url: str) -> None:
        from dogpile.cache import make_region  # the tests run the others without it

        self.loads = 0
        self._engine = engine
        self._region = make_region().configure(
            "dogpile.cache.redis",
            expiration_time=TTL_S,
            arguments={"url": url, "distributed_lock": True, "lock_timeout": 5, "thread_local_lock": False},
        )

    def read(self, row_id: int) -> int:
        def load() -> int:
            self.loads += 1
            return loaded(self._engine, row_id)

        found: int = self._region.get_or_create(f"row:{row_id}", load)
        return found

    def write(self, row_id: int) -> int:
        number = counted_up(self._engine, row_id)
        self._region.delete(f"row:{row_id}")
        return number


class Uncached:
    """The database, at each read."""

    def __init__(self, engine: Engine, url: str) -> None:
        self.loads = 0
        self._engine = engine

    def read(self, row_id: int) -> int:
        self.loads += 1
        return loaded(self._engine, row_id)

    def write(self, row_id: int) -> int:
        return counted_up(self._engine, row_id)


class Deleting:
    """GET, else load and SET; DEL after the commit: what most services do by hand."""

    def __init__(self, engine: Engine, url: str) -> None:
        self.loads = 0
        self._engine = engine
        self._client = redis.Redis.from_url(url)

    def read(self, row_id: int) -> int:
        found = self._client.get(f"row:{row_id}")
        if isinstance(found, bytes):
            return int(found)
        self.loads += 1
        number = loaded(self._engine, row_id)
        self._client.set(f"row:{row_id}", number, ex=TTL_S)
        return number

    def write(self, row_id: int) -> int:
        number = counted_up(self._engine, row_id)
        self._client.delete(f"row:{row_id}")
        return number


CONTENDERS: dict[str, Callable[[Engine, str], Contender]] = {
    "perfkit, strict": lambda engine, url: Perfkit(engine, url, "strict"),
    "perfkit, strict, validated": lambda engine, url: Perfkit(engine, url, "strict", "validate"),
    "perfkit, strict, 20 ms lease, writers wait": lambda engine, url: Perfkit(
        engine, url, "strict", LEASE_S, writer_waits=True
    ),
    "perfkit, strict, entities": lambda engine, url: Entities(engine, url, "one"),
    "perfkit, strict, several entities": lambda engine, url: Entities(engine, url, "many"),
    "perfkit, strict, statements": lambda engine, url: Entities(engine, url, "statement"),
    "perfkit, 20 ms lease": lambda engine, url: Perfkit(engine, url, "strict", LEASE_S),
    "perfkit, committed": lambda engine, url: Perfkit(engine, url, "committed"),
    "dogpile.cache, distributed lock": Dogpile,
    "delete after commit, by hand": Deleting,
}


def loaded(engine: Engine, row_id: int) -> int:
    """The number, from the database."""
    with Session(engine) as session:
        return session.execute(select(Row.n).where(Row.id == row_id)).scalar_one()


def counted_up(engine: Engine, row_id: int) -> int:
    """The number after one more commit."""
    with Session(engine) as session:
        statement = update(Row).where(Row.id == row_id).values(n=Row.n + 1).returning(Row.n)
        number = session.execute(statement).scalar_one()
        session.commit()
        return number
