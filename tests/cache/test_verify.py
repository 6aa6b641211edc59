"""Stages and sampling: what the cache would answer is compared with what the database does."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from perfkit import Policy
from perfkit.cache import MemoryStore, Reason, only
from perfkit.cache.call import Call, ask
from perfkit.cache.decorator import declared_by
from perfkit.cache.verify import _judge
from perfkit.clock import SYSTEM
from perfkit.errors import CacheDeclarationError
from perfkit.waiting import run_now
from tests.cache.conftest import Bin
from tests.cache.test_dependencies import Counting
from tests.cache.test_policy import Depot, Gate


@pytest.fixture(params=["memory", "served"])
def depot(request, tmp_path) -> Iterator[Depot]:
    """In the process, and with a store that is asked as a server is."""
    depot = Depot(tmp_path / "verify.db", MemoryStore() if request.param == "memory" else Counting())
    depot.cache._runtime.near.now = SYSTEM.monotonic
    yield depot
    depot.close()


def behind(depot: Depot, sql: str) -> None:
    """A write that perfkit does not see."""
    raw = depot.engine.raw_connection()
    raw.cursor().execute(sql)
    raw.commit()
    raw.close()


def elsewhere(step: Any) -> None:
    """In another thread, as somebody else would."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(step).result(30)


# ---- stages


def test_off_is_as_if_it_were_not_cached(depot):
    """And says why."""
    count = depot.function(stage="off")
    depot.call(count)
    depot.call(count)
    assert depot.loads == 2
    assert depot.cache.stats().bypasses == {Reason.STAGE: 2}
    with Session(depot.engine) as session:
        assert depot.cache.refresh(count, session) == 2
        assert depot.cache.explain(count, session).reason is Reason.STAGE
        assert depot.cache.peek(count, session) is None


def test_of_the_canaries_some_keys_are_on_in_each_process(depot, tmp_path):
    """The same ones, and about as many as said."""
    count = depot.function(stage=0.25)
    other = Depot(tmp_path / "verify.db", depot.store)
    its = other.function(stage=0.25)
    kinds = [f"kind {i}" for i in range(200)]
    for kind in kinds:
        depot.call(count, kind)
        other.call(its, kind)
    off = depot.cache.stats().bypasses[Reason.STAGE]
    assert 110 < off < 190
    stats = other.cache.stats()
    assert stats.bypasses == {Reason.STAGE: off}
    assert stats.hits == 200 - off
    other.close()


def test_in_shadow_the_database_answers_and_the_cache_is_compared(depot, caplog):
    """It is filled, too, so that it is warm when it is turned on."""
    stage: list[Any] = ["shadow"]
    count = depot.function(stage=lambda: stage[0])
    assert [depot.call(count) for _ in range(3)] == [2, 2, 2]
    assert depot.loads == 3
    stats = depot.cache.stats()
    assert (stats.verified, stats.violations, stats.hits) == (2, 0, 0)
    assert stats.bypasses == {Reason.SHADOW: 3}
    behind(depot, "INSERT INTO bins (name, kind) VALUES ('behind', 'glass')")
    assert depot.call(count) == 3
    assert depot.cache.stats().violations == 1
    assert "is not what the database says" in caplog.text
    stage[0] = "on"
    assert depot.call(count) == 3
    assert depot.loads == 4
    stage[0] = "off"
    depot.call(count)
    assert depot.loads == 5


def test_a_write_that_is_seen_is_no_violation(depot):
    """Before the comparison, or in the middle of it."""
    count = depot.function(stage="shadow")
    depot.call(count)
    depot.add()
    assert depot.call(count) == 3

    def write_meanwhile() -> None:
        depot.before_load = lambda: None
        elsewhere(depot.add)

    depot.before_load = write_meanwhile
    assert depot.call(count) == 4
    assert depot.cache.stats().violations == 0
    assert depot.cache.stats().unkept == {}, "it was kept, under versions that no longer hold"


def test_a_result_of_other_versions_says_nothing(depot):
    """Both were right, each at its time; and what stands there now is neither."""
    count = depot.function()
    depot.call(count)
    with Session(depot.engine) as session:
        call = ask(declared_by(count, ())[0], (session,), {}, refresh=True)
        assert isinstance(call, Call)
        hit = run_now(call.looked_up())
        assert hit is not None
        depot.add()
        answer = run_now(call.refill())
        now = run_now(call.looked_up())
        _judge(call, hit.kept, answer, now)
        _judge(call, hit.kept, answer, None)
        _judge(call, hit.kept, answer._replace(kept=hit.kept._replace(payload=b"x")), now)
    stats = depot.cache.stats()
    assert (stats.verified, stats.violations) == (0, 0)


def test_rows_in_another_order_are_no_violation(depot):
    """Without ORDER BY they come as they like."""
    order = ["ASC"]

    @depot.cache.query(stage="shadow", tags=only(Bin))
    def names(session: Session) -> list[str]:
        return list(session.scalars(select(Bin.name).order_by(text(f"id {order[0]}"))))

    with Session(depot.engine) as session:
        session.add(Bin(name="other"))
        session.commit()
    depot.call(names)
    order[0] = "DESC"
    assert depot.call(names)[0] == "other"
    stats = depot.cache.stats()
    assert (stats.verified, stats.violations) == (1, 0)


# ---- sampling


def test_sampled_hits_are_answered_at_once_and_compared_in_the_background(depot, caplog):
    """What differs is renewed by that."""
    count = depot.function(verify=1.0)
    depot.call(count)
    gate = depot.before_load = Gate()
    assert depot.call(count) == 2
    assert gate.reached.wait(30)
    assert depot.cache.stats().hits == 1
    gate.opened.set()
    depot.settle()
    assert (depot.cache.stats().verified, depot.cache.stats().violations) == (1, 0)
    behind(depot, "UPDATE bins SET kind = 'paper' WHERE id = 1")
    assert depot.call(count) == 2
    depot.settle()
    assert depot.cache.stats().violations == 1
    assert "count" in caplog.text
    assert depot.call(count) == 1


def test_a_write_while_it_is_compared_is_no_violation(depot):
    """Its load may see more than the hit did, and rightly so."""
    count = depot.function(verify=1.0)
    depot.call(count)
    gate = depot.before_load = Gate()
    depot.call(count)
    assert gate.reached.wait(30)
    depot.add()
    gate.opened.set()
    depot.settle()
    assert depot.cache.stats().violations == 0


def test_the_part_of_hits_that_is_sampled(depot):
    """By chance; none at 0."""
    chances = iter([0.4, 0.6, 0.4])
    runtime = depot.cache._runtime
    count = depot.function(verify=0.5)
    depot.call(count)
    runtime._ports = tuple(each._replace(chance=lambda: next(chances)) for each in runtime._ports)
    for _ in range(3):
        depot.call(count)
        depot.settle()
    assert depot.cache.stats().verified == 2
    assert depot.cache.stats().hits == 3


async def test_async_functions_are_sampled_and_shadowed(tmp_path):
    """By the same rules."""
    depot = Depot(tmp_path / "verify.db", MemoryStore())
    depot.cache._runtime.near.now = SYSTEM.monotonic

    @depot.cache.query(verify=1.0)
    async def names(session: AsyncSession) -> list[str]:
        return list(await session.scalars(select(Bin.name)))

    shadowed = depot.async_function(stage="shadow")
    for _ in range(2):
        await depot.acall(names)
        await depot.acall(shadowed)
    await depot.asettle()
    assert depot.cache.stats().verified == 2
    assert depot.cache.stats().violations == 0
    await depot.async_engine.dispose()
    depot.close()


@pytest.mark.parametrize(
    ("own", "message"),
    [({"stage": "canary"}, "stage='canary'"), ({"stage": 5}, "stage=5"), ({"verify": 2}, "verify=2")],
)
def test_a_stage_that_is_none_is_refused(own, message):
    """Where it is declared."""
    with pytest.raises(CacheDeclarationError, match=message):
        Policy(**own)


def test_a_stage_that_a_function_gives_is_checked(depot):
    """At the call."""
    count = depot.function(stage=lambda: "sometimes")
    with pytest.raises(CacheDeclarationError, match="stage='sometimes'"):
        depot.call(count)
