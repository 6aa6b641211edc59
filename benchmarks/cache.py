"""A hit, and a commit, against their floors and against dogpile.cache, cashews, aiocache and django-cacheops.

The floors: a dict look-up for memory, GET and msgpack's unpackb for Redis, the same commit without a cache for
writes. The peers keep what they keep by default and are asked for one key; none of them looks at versions, so
none notices a write that nobody told it of. Cacheops is told by Django's own signals, after a write.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, cast

import aiocache
import cashews
import msgpack
import redis
import redis.asyncio
from aiocache.serializers import PickleSerializer
from dogpile.cache import make_region
from sqlalchemy import Engine, create_engine, func, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from benchmarks import django_peer, memory, stampede, starting
from benchmarks.entities import entities_into_a_session
from benchmarks.near import hits_in_the_process
from benchmarks.pinning import pin
from benchmarks.rounds import Contender, Figure, measure, show
from perfkit import Cache, Policy
from perfkit.cache.policy import Mode
from tools import services

VALUE: dict[str, int | str] = {f"status_{i}": i * 7 for i in range(20)} | {"city": "Helsinki", "unit": "kg"}


class Base(DeclarativeBase):
    """The benchmark's models."""


class Bin(Base):
    """One row of which is changed."""

    __tablename__ = "bins"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def run(*, quick: bool, pinned: bool = False) -> dict[str, Any]:
    """Print and return what is measured, by its name. `pinned`: client and servers to cores of their own."""
    rounds = 3 if quick else 15
    with ExitStack() as stack:
        up = stack.enter_context(services.running())
        release = pin(up.redis_url, up.postgres_url) if pinned else lambda: None
        database = (up.postgres_url or "").replace("postgresql:", "postgresql+psycopg:")
        engine = create_engine("sqlite://")
        Base.metadata.create_all(engine)
        url = up.redis_url
        if url is None:
            print("No Redis to be had: only memory is measured.", file=sys.stderr)
        hits = show("A hit: a dict of 22 values", _hits(engine, url, rounds))
        near = show("A hit that asks nobody, under a lease", hits_in_the_process(engine, url, rounds))
        entities: dict[str, Any] = {}
        commits = show("A commit of one changed row, SQLite in memory", _commits("sqlite://", url, rounds))
        if up.postgres_url is not None:
            commits += show("A commit of one changed row, PostgreSQL", _commits(database, url, rounds))
            rows = _commits_of_many(database, url, rounds)
            commits += show("A commit of many changed rows, PostgreSQL", rows)
        misses = [] if url is None else show("A miss", _misses(engine, url, rounds))
        if up.postgres_url is not None and url is not None:
            for count, figures in entities_into_a_session(database, url, rounds).items():
                entities[str(count)] = show(f"{count:,} entities with their relations, into a session", figures)
        sizes: dict[str, Any] = {} if url is None else memory.run(engine, url)
        release()  # a crowd is several processes
        crowd = [] if url is None else stampede.show(stampede.run(url, 1 if quick else 5))
        trips = _round_trips(engine, url) if url is not None else {}
        bumps = [_bump(engine, to, 2_000 if quick else 100_000) for to in ("memory://", url) if to is not None]
        engine.dispose()
    start = starting.run(3 if quick else 15)
    for each in bumps:
        print(
            f"One bump with {each['entries']:,} entries under its tag, {each['store']}: {each['micros']:.0f} µs, "
            f"{each['ratio']:.2f} × the bump of a tag with one entry; {each['hits_afterwards']} hits afterwards."
        )
    for what, commands in trips.items():
        print(f"{what}: {commands} to Redis")
    return {
        "hits": hits,
        "near": near,
        "commits": commits,
        "misses": misses,
        "start": start,
        "entities": entities,
        "stampede": crowd,
        "memory": sizes,
        "bumps": bumps,
        "round_trips": trips,
    }


def _round_trips(engine: Engine, url: str) -> dict[str, str]:
    """The commands that Redis says it was sent, by what was done."""
    with redis.Redis.from_url(url) as client:

        def counted(work: Callable[[], Any], *names: str) -> str:
            before = cast(dict[str, dict[str, int]], client.info("commandstats"))
            work()
            after = cast(dict[str, dict[str, int]], client.info("commandstats"))
            sent = {name: _calls(after, name) - _calls(before, name) for name in names}
            return " + ".join(f"{count} {name.upper()}" for name, count in sent.items() if count) or "nothing"

        cache, plain, _, _ = _perfkit(url, engine)
        strict, committed = _commit("sqlite://", url, "strict"), _commit("sqlite://", url, "committed")
        for once in (strict, committed):
            once()
        plain(8)
        reading = ("mget", "evalsha", "eval", "set")
        writing = ("mget", "evalsha", "eval")  # what SET a script runs inside is no round trip
        found = {
            "A miss": counted(lambda: plain(9), *reading),
            "A hit": counted(lambda: plain(9), *reading),
            "A strict commit": counted(strict, *writing),
            "A committed commit": counted(committed, *writing),
        }
        cache.close()
        return found


def _calls(statistics_of: dict[str, dict[str, int]], command: str) -> int:
    return statistics_of.get(f"cmdstat_{command}", {"calls": 0})["calls"]


def _bump(engine: Engine, to: str, entries: int) -> dict[str, Any]:
    """Make many entries out of date, and time the one command that does it."""
    cache = Cache("bump", Policy(ttl=900))

    @cache.query(tags="many:all")
    def one(number: int) -> int:
        return number

    cache.connect(to)
    cache.watch(engine, Base.metadata)
    cache.bump("lonely:1")  # scripts are known to the server from here on
    for number in range(entries):
        one(number)

    def micros(tag: str) -> float:
        began = time.perf_counter()
        cache.bump(tag)
        return (time.perf_counter() - began) * 1e6

    alone = statistics.median(micros("lonely:1") for _ in range(100))
    took = micros("many:all")
    before = cache.stats().hits
    for number in range(0, entries, 100):
        one(number)
    hits = cache.stats().hits - before
    cache.close()
    store = "memory" if to == "memory://" else "Redis"
    return {"store": store, "entries": entries, "micros": took, "ratio": took / alone, "hits_afterwards": hits}


def _hits(engine: Engine, url: str | None, rounds: int) -> list[Figure]:
    store: dict[str, dict[str, int | str]] = {"stats:7": VALUE}
    ours = _perfkit("memory://", engine)
    session = Session(engine)
    floor = "dict look-up"
    contenders = [
        Contender(name=floor, floor=floor, once=lambda: store["stats:7"], calls=20_000),
        Contender(name="perfkit memory", floor=floor, once=lambda: ours[1](7), calls=3_000),
        Contender(name="perfkit memory, with a session", floor=floor, once=lambda: ours[2](session, 7), calls=3_000),
        Contender(name="perfkit memory, async", floor=floor, once=lambda: ours[3](7), calls=3_000, suspends=True),
        *_memory_peers(),
    ]
    if url is not None:
        contenders += _redis_contenders(url, engine)
    try:
        return measure(contenders, rounds=rounds)
    finally:
        session.close()
        ours[0].close()


def _perfkit(url: str, engine: Engine) -> tuple[Cache, Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    cache = Cache("bench", Policy(ttl=900))

    @cache.query(tags="many:all")
    def plain(organization_id: int) -> dict[str, int | str]:
        return dict(VALUE)

    @cache.query(tags="many:all")
    def with_session(session: Session, organization_id: int) -> dict[str, int | str]:
        return dict(VALUE)

    @cache.query(tags="many:all")
    async def suspending(organization_id: int) -> dict[str, int | str]:
        return dict(VALUE)

    cache.connect(url)
    cache.watch(engine, Base.metadata)
    return cache, plain, with_session, suspending


def _memory_peers() -> list[Contender]:
    region = make_region().configure("dogpile.cache.memory")

    @region.cache_on_arguments()
    def dogpile(organization_id: int) -> dict[str, int | str]:
        return dict(VALUE)

    krukov = cashews.Cache()
    krukov.setup("mem://")

    @krukov(ttl="15m", key="stats:{organization_id}")
    async def cashew(organization_id: int) -> dict[str, int | str]:
        return dict(VALUE)

    @aiocache.cached(ttl=900, key_builder=lambda f, organization_id: f"stats:{organization_id}")  # type: ignore[untyped-decorator]
    async def aio(organization_id: int) -> dict[str, int | str]:
        return dict(VALUE)

    return [
        Contender(name="dogpile memory", floor="dict look-up", once=lambda: dogpile(7), calls=3_000),
        Contender(
            name="cashews memory, async", floor="dict look-up", once=lambda: cashew(7), calls=2_000, suspends=True
        ),
        Contender(name="aiocache memory, async", floor="dict look-up", once=lambda: aio(7), calls=2_000, suspends=True),
    ]


def _redis_contenders(url: str, engine: Engine) -> list[Contender]:
    host, port = url.removeprefix("redis://").partition("/")[0].split(":")
    blocking = redis.Redis.from_url(url)
    suspending = redis.asyncio.Redis.from_url(url)
    blocking.set("floor", cast(bytes, msgpack.packb(VALUE)))

    def floor() -> Any:
        return msgpack.unpackb(blocking.get("floor"))

    async def async_floor() -> Any:
        return msgpack.unpackb(await suspending.get("floor"))

    ours = _perfkit(url, engine)
    without = _perfkit("redis://127.0.0.1:1/0", engine)
    region = make_region().configure("dogpile.cache.redis", arguments={"url": url})

    @region.cache_on_arguments()
    def dogpile(organization_id: int) -> dict[str, int | str]:
        return dict(VALUE)

    krukov = cashews.Cache()
    krukov.setup(url)

    @krukov(ttl="15m", key="stats:{organization_id}")
    async def cashew(organization_id: int) -> dict[str, int | str]:
        return dict(VALUE)

    @aiocache.cached(  # type: ignore[untyped-decorator]
        ttl=900,
        key_builder=lambda f, organization_id: f"stats:{organization_id}",
        cache=aiocache.RedisCache,
        endpoint=host,
        port=int(port),
        serializer=PickleSerializer(),
    )
    async def aio(organization_id: int) -> dict[str, int | str]:
        return dict(VALUE)

    cacheops, cacheops_rows = django_peer.hits(url, VALUE)
    name, async_name = "GET and unpackb", "GET and unpackb, async"
    return [
        Contender(name=name, floor=name, once=floor, calls=1_000),
        Contender(name="perfkit Redis", floor=name, once=lambda: ours[1](7), calls=1_000),
        Contender(name="perfkit, no Redis there", floor=name, once=lambda: without[1](7), calls=1_000),
        Contender(name="dogpile Redis", floor=name, once=lambda: dogpile(7), calls=1_000),
        Contender(name="cacheops Redis", floor=name, once=cacheops, calls=1_000),
        Contender(name="cacheops Redis, 22 rows", floor=name, once=cacheops_rows, calls=300),
        Contender(name=async_name, floor=async_name, once=async_floor, calls=700, suspends=True),
        Contender(name="perfkit Redis, async", floor=async_name, once=lambda: ours[3](7), calls=700, suspends=True),
        Contender(name="cashews Redis, async", floor=async_name, once=lambda: cashew(7), calls=700, suspends=True),
        Contender(name="aiocache Redis, async", floor=async_name, once=lambda: aio(7), calls=700, suspends=True),
    ]


def _commits(database: str, url: str | None, rounds: int) -> list[Figure]:
    floor = "commit without a cache"
    contenders = [Contender(name=floor, floor=floor, once=_commit(database, None, "strict"), calls=200)]
    ours: list[tuple[str, str | None, Mode]] = [
        ("perfkit memory, strict", "memory://", "strict"),
        ("perfkit Redis, strict", url, "strict"),
        ("perfkit Redis, committed", url, "committed"),
    ]
    for name, to, mode in ours:
        if to is not None:
            contenders.append(Contender(name=name, floor=floor, once=_commit(database, to, mode), calls=200))
    return measure(contenders, rounds=rounds)


def _commits_of_many(database: str, url: str | None, rounds: int) -> list[Figure]:
    """Each beside the same commit without a cache: whether the price of a commit grows with its rows."""
    contenders: list[Contender] = []
    for count in (10, 50):
        floor = f"{count} rows without a cache"
        calls = 100 if count < 50 else 40
        contenders.append(
            Contender(name=floor, floor=floor, once=_commit(database, None, "strict", rows=count), calls=calls)
        )
        modes: tuple[Mode, ...] = () if url is None else ("strict", "committed")
        for mode in modes:
            once = _commit(database, url, mode, rows=count)
            contenders.append(Contender(name=f"perfkit, {count} rows, {mode}", floor=floor, once=once, calls=calls))
    return measure(contenders, rounds=rounds)


def _misses(engine: Engine, url: str, rounds: int) -> list[Figure]:
    """Each call asks for what is not there and loads nothing to speak of; by hand that is GET, packb and SET."""
    client = redis.Redis.from_url(url)
    cache, plain, _, suspending = _perfkit(url, engine)
    numbers = itertools.count(1_000_000)
    region = make_region().configure("dogpile.cache.redis", arguments={"url": url})

    @region.cache_on_arguments()
    def dogpile(organization_id: int) -> dict[str, int | str]:
        return dict(VALUE)

    def by_hand() -> Any:
        key = f"miss:{next(numbers)}"
        if client.get(key) is None:
            client.set(key, cast(bytes, msgpack.packb(VALUE)), ex=900)

    floor = "GET, packb and SET"
    contenders = [
        Contender(name=floor, floor=floor, once=by_hand, calls=500),
        Contender(name="perfkit Redis, a miss", floor=floor, once=lambda: plain(next(numbers)), calls=500),
        Contender(
            name="perfkit Redis, a miss, async",
            floor=floor,
            once=lambda: suspending(next(numbers)),
            calls=300,
            suspends=True,
        ),
        Contender(name="dogpile Redis, a miss", floor=floor, once=lambda: dogpile(next(numbers)), calls=300),
    ]
    try:
        return measure(contenders, rounds=rounds)
    finally:
        cache.close()
        client.close()


def _commit(database: str, to: str | None, mode: Mode, *, rows: int = 1) -> Callable[[], None]:
    """One transaction; in memory or without fsync: what a disk adds would hide what the cache does."""
    engine = create_engine(database)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for number in range(1, rows + 1):
            session.merge(Bin(id=number, name="glass"))
        session.commit()
    if to is not None:
        cache = Cache("bench", Policy(mode=mode))
        cache.connect(to)
        cache.watch(engine, Base.metadata)

    def once() -> None:
        with Session(engine) as session:
            if rows == 1:
                session.execute(update(Bin).where(Bin.id == 1).values(name=func.upper("glass")))
            else:  # as a flush does
                session.execute(update(Bin), [{"id": number, "name": "paper"} for number in range(1, rows + 1)])
            session.commit()

    return once
