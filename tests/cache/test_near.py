"""Results kept in the process: as right as the store, safe from their callers, and within their bytes."""

from __future__ import annotations

import gc
import tracemalloc
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import create_engine, event, func, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from perfkit import Cache, Policy
from perfkit.cache import MemoryStore, Reason, only
from perfkit.cache.arrears import Arrears
from perfkit.cache.frozen import template_of
from perfkit.cache.near import Held, Near
from perfkit.cache.worth import Tally
from perfkit.cache.write import Writer
from perfkit.errors import CacheDeclarationError
from tests.cache.conftest import Base, Bin
from tests.cache.test_dependencies import Counting
from tests.protocol.automata import AskedStore, AskedWaiting, TurnedClock


class Shop:
    """A database, and as many caches on one store as there would be processes."""

    def __init__(self, path: Any, store: Any) -> None:
        self.engine = create_engine(f"sqlite:///{path}")
        Base.metadata.create_all(self.engine)
        self.store = store
        self.caches: list[Cache] = []
        with Session(self.engine) as session:
            session.add_all([Bin(id=1, name="one"), Bin(id=2, name="two")])
            session.commit()

    def process(self, **policy: Any) -> tuple[Cache, Any]:
        """A cache that watches the engine, and a function of it that counts its loads."""
        cache = Cache("near", Policy(**policy))

        @cache.query()
        def count(session: Session, kind: str = "glass") -> int | None:
            return session.scalar(select(func.count()).where(Bin.kind == kind))

        cache.connect(self.store)
        cache.watch(self.engine, Base.metadata)
        self.caches.append(cache)
        return cache, count

    def call(self, function: Any, *args: Any) -> Any:
        with Session(self.engine) as session:
            return function(session, *args)

    def add(self) -> None:
        with Session(self.engine) as session:
            session.add(Bin(name="more"))
            session.commit()

    def close(self) -> None:
        for cache in self.caches:
            cache.close()
        self.engine.dispose()


@pytest.fixture
def alone(tmp_path) -> Iterator[Shop]:
    """In memory: one process."""
    shop = Shop(tmp_path / "near.db", MemoryStore())
    yield shop
    shop.close()


@pytest.fixture
def served(tmp_path) -> Iterator[Shop]:
    """A store that is asked as a server is."""
    shop = Shop(tmp_path / "near.db", Counting())
    yield shop
    shop.close()


# ---- when it is believed


def test_in_memory_a_hit_asks_nobody_and_a_commit_is_seen(alone):
    """Every change is made in this process, so one look stands for all tags."""
    cache, count = alone.process()
    assert [alone.call(count) for _ in range(3)] == [2, 2, 2]
    asked = []
    real, alone.store.read_now = alone.store.read_now, lambda keys: asked.append(keys) or real(keys)
    assert [alone.call(count) for _ in range(3)] == [2, 2, 2]
    assert asked == []
    alone.add()
    assert [alone.call(count) for _ in range(2)] == [3, 3]
    assert (cache.stats().hits, cache.stats().fills) == (6, 2)


def test_what_has_not_changed_is_proven_again_without_its_bytes(alone):
    """A commit elsewhere costs one look at the cells."""
    cache, _ = alone.process()

    @cache.query()
    def name_of(session: Session, bin_id: int) -> str | None:
        return session.scalar(select(Bin.name).where(Bin.id == bin_id))

    alone.call(name_of, 1)
    with Session(alone.engine) as session:
        session.get(Bin, 2).name = "dos"
        session.commit()
    asked = []
    real, alone.store.read_now = alone.store.read_now, lambda keys: asked.append(keys) or real(keys)
    assert alone.call(name_of, 1) == alone.call(name_of, 1) == "one"
    assert len(asked) == 1
    assert not any(key.startswith(b"near:v:") for key in asked[0])


def test_validate_asks_for_versions_only_and_is_strict(served):
    """Another process's commit is seen by the next call."""
    _, count = served.process(l1="validate")
    _, _ = served.process()
    served.call(count)
    served.store.spent()
    assert served.call(count) == 2
    assert served.store.spent() == ["read"]
    served.add()
    served.store.spent()
    assert served.call(count) == 3
    assert served.store.spent() == ["read", "read", "put"]


def test_a_lease_asks_nobody_until_it_is_over(served):
    """What this process commits is seen at once all the same; and so is what it is told by hand."""
    cache, count = served.process(l1=3600)
    served.call(count)
    served.store.spent()
    assert [served.call(count) for _ in range(5)] == [2] * 5
    assert served.store.spent() == []
    served.add()
    assert served.call(count) == 3
    cache.bump("bins")
    before = cache.stats().fills
    assert served.call(count) == 3
    assert cache.stats().fills == before + 1


def test_another_process_sees_a_commit_when_its_lease_is_over(served):
    """Not before it need, and not later."""
    other = create_engine(served.engine.url)
    lease = Cache("near", Policy(l1=3600))

    @lease.query()
    def count(session: Session, kind: str = "glass") -> int | None:
        return session.scalar(select(func.count()).where(Bin.kind == kind))

    lease.connect(served.store)
    lease.watch(other, Base.metadata, database="one")
    writer = Cache("near")
    writer.connect(served.store)
    writer.watch(served.engine, Base.metadata, database="one")
    with Session(other) as session:
        count(session)
    served.add()
    with Session(other) as session:
        assert count(session) == 2, "within the lease"
    for held in lease._runtime.near._held.values():
        held.until = 0.0
    with Session(other) as session:
        assert count(session) == 3
    lease.close()
    writer.close()
    other.dispose()


def test_a_lease_begins_before_the_cells_are_asked_for(served):
    """A mark that comes while the answer is under way is not outlived by it."""
    cache, count = served.process(l1=3600, ttl=36_000)
    clock = TurnedClock()
    cache._runtime.near.now = clock.monotonic
    real = served.store._real.read

    async def slow(keys):
        clock.now_s += 10
        return await real(keys)

    served.store._real.read = slow
    served.call(count)
    (held,) = cache._runtime.near._held.values()
    assert held.until <= 1000.0 + 3600


@pytest.mark.parametrize("l1", ["auto", "off"])
def test_with_a_server_nothing_is_kept_unless_asked_for(served, l1):
    """Strict is the default."""
    cache, count = served.process(l1=l1)
    served.call(count)
    served.store.spent()
    served.call(count)
    assert served.store.spent() == ["read"]
    assert cache._runtime.near.size()[0] == 0


def test_it_expires_with_its_entry(tmp_path):
    """By the clock of the store."""
    clock = TurnedClock()
    shop = Shop(tmp_path / "near.db", MemoryStore(clock=clock))
    cache, count = shop.process(ttl=60)
    shop.call(count)
    clock.now_s += 59
    shop.call(count)
    assert cache.stats().fills == 1
    clock.now_s += 2
    shop.call(count)
    assert cache.stats().fills == 2
    shop.close()


# ---- which call it is


def test_arguments_that_are_equal_and_differ_are_different_calls(small):
    """1, True and 1.0 are one key of a dict."""

    @small.cache.query(tags=only("bins"))
    def shown(value: object) -> str:
        return repr(value)

    values = [1, True, 1.0, 0.0, -0.0, "1", b"1", None, UUID(int=1)]
    for _ in range(3):
        assert [shown(value) for value in values] == [repr(value) for value in values]


def test_parameters_may_have_any_name_and_kind(small):
    """Also those that the compiled way in might use itself."""

    @small.cache.query(tags=only("bins"))
    def odd(near: int, /, held: int, *, table: int = 3, slow: int = 4) -> tuple[int, ...]:
        return near, held, table, slow

    for _ in range(3):
        assert odd(1, 2) == (1, 2, 3, 4)
        assert odd(1, held=5, slow=6) == (1, 5, 3, 6)
    with pytest.raises(TypeError, match=r"odd\(\) missing 1 required positional argument: 'held'"):
        odd(1)
    assert odd.__name__ == "odd"


def test_a_session_that_has_written_is_not_answered_from_it(alone):
    """Nor one that is about to."""
    cache, count = alone.process()
    for _ in range(2):
        alone.call(count)
    with Session(alone.engine) as session:
        session.add(Bin(name="mine"))
        assert count(session) == 3
        session.rollback()
        assert count(session) == 2
    assert cache.stats().bypasses == {Reason.OWN_WRITES: 1}


def test_sessions_of_different_engines_have_different_results(tmp_path, alone):
    """The engine is part of the name."""
    _, count = alone.process()
    other = create_engine(f"sqlite:///{tmp_path}/other.db")
    Base.metadata.create_all(other)
    alone.caches[0].watch(other)
    for _ in range(3):
        assert alone.call(count) == 2
        with Session(other) as session:
            assert count(session) == 0
    other.dispose()


def test_an_engine_whose_options_change_is_another_place(alone):
    """A schema map decides which tables are read."""
    _, count = alone.process()
    for _ in range(3):
        alone.call(count)
    alone.engine.update_execution_options(schema_translate_map={None: "main"})
    asked = []
    event.listen(alone.engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    alone.call(count)
    assert asked


def test_a_load_hears_of_what_was_answered_at_once(alone):
    """Or the outer entry would outlive the inner one."""
    cache, count = alone.process()

    @cache.query()
    def twice(session: Session) -> int:
        return 2 * (count(session) or 0)

    for _ in range(3):
        alone.call(count)
    assert alone.call(twice) == 4
    alone.add()
    assert alone.call(twice) == 6


def test_off_drop_refresh_and_unwatch_are_obeyed(alone):
    """As they are by the store."""
    cache, count = alone.process()
    for _ in range(2):
        alone.call(count)
    with cache.off():
        alone.call(count)
    assert cache.stats().bypasses == {Reason.OFF: 1}
    with Session(alone.engine) as session:
        assert cache.drop(count, session)
        assert not cache.drop(count, session)
    alone.call(count)
    with Session(alone.engine) as session:
        cache.refresh(count, session)
    assert cache.stats().fills == 3
    cache.unwatch(alone.engine)
    alone.call(count)
    assert cache.stats().bypasses == {Reason.OFF: 1, Reason.NOT_WATCHED: 1}


async def test_async_functions_have_it_too(tmp_path):
    """And answer from it without a step of the loop."""
    cache = Cache("near")

    @cache.query()
    async def count(session: AsyncSession) -> int:
        return (await session.execute(select(func.count()).select_from(Bin))).scalar_one()

    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/near.db")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    cache.connect()
    cache.watch(engine, Base.metadata)
    for expected in (0, 1):
        for _ in range(2):
            async with AsyncSession(engine) as session:
                assert await count(session) == expected
        async with AsyncSession(engine) as session:
            step = count(session)
            with pytest.raises(StopIteration) as ended:
                step.send(None)
            assert ended.value.value == expected
        async with AsyncSession(engine) as session:
            session.add(Bin(name="one"))
            await session.commit()
    await cache.aclose()
    await engine.dispose()


# ---- what callers do to it


@dataclass(frozen=True)
class Frozen:
    name: str
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class HalfFrozen:
    names: list[str] = field(default_factory=list)


@pytest.mark.parametrize("value", [7, "text", None, (1, ("a", 2.5)), Frozen("one"), frozenset({1}), UUID(int=3)])
def test_what_nobody_can_change_is_handed_out_itself(small, value):
    """No copy, no decoding."""

    @small.cache.query(tags=only("bins"))
    def made() -> int | str | tuple[Any, ...] | Frozen | frozenset[int] | UUID | None:
        return value

    first = made()
    assert made() is first
    assert made() is first
    assert made() == value


def test_what_a_caller_changes_nobody_else_sees(small):
    """Also inside what looks frozen."""

    @small.cache.query(tags=only("bins"))
    def listed() -> tuple[list[int], HalfFrozen]:
        return ([1], HalfFrozen(["a"]))

    for _ in range(4):
        numbers, half = listed()
        assert (numbers, half.names) == ([1], ["a"])
        numbers.append(2)
        half.names.append("b")
    assert small.cache.stats().hits == 3


@pytest.mark.parametrize(
    "value", [[1, "a", None], {1, 2}, {"kind": "glass", "litres": (1, 2)}, [], [(1, "a"), (2, "b")]]
)
def test_what_a_shallow_copy_is_enough_of_is_copied(small, value):
    """Not decoded; and each caller has one of its own, the first one too."""

    @small.cache.query(tags=only("bins"))
    def made() -> list[int | str | tuple[int, str] | None] | set[int] | dict[str, str | tuple[int, ...]]:
        return copy(value)

    for _ in range(4):
        found = made()
        assert found == value
        assert type(found) is type(value)
        found.clear()
    near = small.cache._runtime.near
    (held,) = [near.find(key) for key in near._held]
    assert held.renew == type(value).copy


@pytest.mark.parametrize(
    "value", [[[1]], {"a": [1]}, [HalfFrozen()], ["x" * 2_000], list(range(200)), OrderedDict(a=1)]
)
def test_of_what_is_deep_or_large_the_bytes_are_kept(value):
    """A shallow copy would share its parts, or take several times the memory."""
    assert template_of(value) is None


# ---- how much there is of it


BOUND, TALLY = 2_000_000, Tally("function")


def key_of(i: int) -> bytes:
    return b"near:v:module.function:0123456789ab@01234567:bin_id=%d" % i


def hold(near: Near, i: int, payload_bytes: int = 400) -> Held:
    """One result that is handed out as new bytes each time."""
    return near.hold(key_of(i), bytes(payload_bytes), [[]], bytes, (b"bins",), (b"cell%d" % i,), 0, 1e9, TALLY)


def room_of_one() -> int:
    """Bytes of a result with a key of four digits."""
    near = Near()
    hold(near, 1_000)
    return near.size()[1]


def ask(near: Near, i: int) -> bool:
    """Whether it was held; it is held afterwards."""
    held = near.find(key_of(i))
    if held is None:
        hold(near, i)
        return False
    held.asked()
    return True


def hold_many(near: Near, begin: int) -> None:
    """A few more new ones than there is room for where that is for 40."""
    for i in range(begin, begin + 44):
        hold(near, i)


@pytest.mark.parametrize("payload_bytes", [100, 4_000])
def test_its_bytes_are_what_python_takes(payload_bytes):
    """Within a tenth of the bound, after a scan of many times as much."""
    near, table = Near(max_bytes=BOUND), {}
    gc.collect()
    tracemalloc.start()
    for i in range(4 * BOUND // payload_bytes):
        near.alias(hold(near, i, payload_bytes), table, (i, int))
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert near.size()[1] <= BOUND
    assert 0.6 * BOUND < taken <= 1.1 * BOUND
    assert len(table) == near.size()[0]


def test_what_is_asked_for_survives_a_scan():
    """Ten times the bound goes by, and the hot results are there still."""
    near = Near(max_bytes=200_000)
    for _ in range(3):
        for i in range(50):
            found = near.find(key_of(i))
            if found is None:
                hold(near, i)
            else:
                found.hits += 1
    for i in range(1_000, 3_000):
        hold(near, i)
        hot = near.find(key_of(i % 50))
        if hot is not None:
            hot.hits += 1
    alive = sum(near.find(key_of(i)) is not None for i in range(50))
    assert alive == 50
    assert near.size()[1] <= 200_000


def test_scans_put_out_less_than_they_do_of_an_lru():
    """A seeded trace: 200 requests by Zipf, a scan of 200 of the 400 keys, and so on, with room for 40."""
    near, lru, hits, hits_of_lru = Near(max_bytes=40 * room_of_one()), OrderedDict(), 0, 0
    asked = Random(1).choices(range(400), weights=[1 / (rank + 1) for rank in range(400)], k=8_000)

    for begin in range(0, 8_000, 200):
        for key in (*asked[begin : begin + 200], *(i % 400 for i in range(begin, begin + 200))):
            hits += ask(near, 1_000 + key)
            hits_of_lru += key in lru
            lru[key] = None
            lru.move_to_end(key)
            if len(lru) > 40:
                lru.popitem(last=False)

    assert (hits, hits_of_lru) == (5_185, 4_136)


def test_what_is_asked_for_once_more_while_it_is_new_stays():
    """And what is not goes, when as many new ones have come as there is room for."""
    near = Near(max_bytes=40 * room_of_one())
    hold(near, 1_000)
    assert ask(near, 1_000)

    hold_many(near, 2_000)

    assert near.find(key_of(1_000)) is not None
    assert near.find(key_of(2_000)) is None


@pytest.mark.parametrize("is_new", [True, False])
def test_what_takes_the_place_of_a_result_that_was_asked_for_stays(is_new):
    """A write makes it out of date; what is loaded again stays as the one before would have."""
    near = Near(max_bytes=40 * room_of_one())
    hold(near, 1_000)
    assert ask(near, 1_000)
    if not is_new:
        hold_many(near, 2_000)
        assert ask(near, 1_000)

    hold(near, 1_000)
    hold_many(near, 3_000)

    assert near.find(key_of(1_000)) is not None


def test_what_is_out_of_date_whenever_it_is_asked_for_goes():
    """It is loaded again and again, and never was a hit since it was looked at."""
    near = Near(max_bytes=40 * room_of_one())
    hold(near, 1_000)
    assert ask(near, 1_000)
    hold_many(near, 2_000)

    hold(near, 1_000)
    hold_many(near, 3_000)

    assert near.find(key_of(1_000)) is None


def test_a_result_too_large_for_it_is_left_to_the_store():
    """It would put out everything else."""
    near = Near(max_bytes=100_000)
    hold(near, 1)
    hold(near, 2, payload_bytes=50_000)
    assert near.size()[0] == 1


async def test_who_commits_waits_for_the_leases_of_others():
    """After its mark and before COMMIT; without that policy it does not."""

    def steps(policy: Policy) -> list[str]:
        writer = Writer(
            [b"cell"], policy=policy, store=AskedStore(split=False), arrears=Arrears(), waiting=AskedWaiting()
        )
        step, asked = writer.mark(), []
        with suppress(StopIteration):
            op = step.send(None)
            while True:
                asked.append(op[0] if op[0] != "sleep" else op)
                op = step.send([])
        return asked

    assert steps(Policy(l1=0.02, writer_waits=True)) == ["mark", ("sleep", 0.02)]
    assert steps(Policy(l1=0.02)) == ["mark"]


# ---- what cannot be


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"l1": "fast"}, "must be 'auto', 'off', 'validate', or a lease"),
        ({"l1": 0}, "between 1 millisecond"),
        ({"l1_bytes": 0}, "l1_bytes=0: must be above 0"),
        ({"writer_waits": True}, "nobody has a lease to wait for"),
        ({"writer_waits": True, "l1": 0.02, "mode": "committed"}, "nobody has a lease to wait for"),
        ({"writer_waits": True, "l1": 5}, "more than a quarter of mark_hold"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(policy, message):
    """When it is made."""
    with pytest.raises(CacheDeclarationError, match=message):
        Policy(**policy)


def test_a_function_cannot_have_a_longer_lease_than_writers_wait_for():
    """They would commit while it is believed."""
    cache = Cache("near", Policy(l1=0.02, writer_waits=True))
    with pytest.raises(CacheDeclarationError, match="writers wait for 20 ms only"):
        cache.query(l1=0.05)
