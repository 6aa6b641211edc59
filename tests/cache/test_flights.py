"""One load for all who ask at once, and nobody left behind when it goes wrong."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from perfkit import Cache
from perfkit.cache import Reason, cells, only
from perfkit.cache.arrears import Arrears
from perfkit.cache.flights import Flights, NoLanding
from perfkit.cache.keeping import Keeping
from perfkit.cache.read import Hit, Named, Ports, Question, read
from perfkit.codec import Codec
from perfkit.waiting import Blocking, Suspending, run_now
from tests.protocol.automata import AskedStore, AskedWaiting, Op

CALLERS = 50
PATIENCE_S = 60


async def test_a_hundred_callers_of_a_cold_key_make_one_load(small):
    """Fifty threads and fifty tasks, all of them before the first load is done."""
    cache, loads = Cache("crowd"), []
    asked = threading.Semaphore(0)
    go = threading.Event()

    @cache.query(tags="bins")
    def slow() -> int:
        loads.append("sync")
        go.wait(20)
        return 7

    cache.connect()
    cache.watch(small.engine, small.Base.metadata)
    flights = cache._runtime._flights
    real = flights._follow

    async def follow(*args: Any) -> Any:
        asked.release()
        return await real(*args)

    flights._follow = follow  # counts who waits; the load is let go when all the others do
    with ThreadPoolExecutor(2 * CALLERS) as pool:
        futures = [pool.submit(slow) for _ in range(2 * CALLERS)]
        for _ in range(2 * CALLERS - 1):
            assert asked.acquire(timeout=20)
        go.set()
        answers = [future.result(20) for future in futures]

    assert answers == [7] * (2 * CALLERS)
    assert loads == ["sync"]
    assert (cache.stats().fills, cache.stats().shared) == (1, 2 * CALLERS - 1)
    cache.close()


async def test_a_hundred_tasks_make_one_load(small):
    """The same on one event loop."""
    cache, loads, go = Cache("tasks"), [], asyncio.Event()

    @cache.query(tags="bins")
    async def slow() -> int:
        loads.append("async")
        await go.wait()
        return 7

    cache.connect()
    cache.watch(small.engine, small.Base.metadata)
    tasks = [asyncio.create_task(slow()) for _ in range(100)]
    await asyncio.wait(tasks, timeout=0)  # each has run to where it waits
    go.set()

    assert await asyncio.gather(*tasks) == [7] * 100
    assert loads == ["async"]
    cache.close()


def test_who_looked_before_a_load_ended_and_joins_after_it_looks_again():
    """Between its look and its join there is a wait for the network: the load that it missed is in the store by now."""
    ports = Ports(AskedStore(split=False), AskedWaiting(), Flights(), Arrears())
    question = Question(b"key", Named((b"bins",), (b"bins",)), Keeping(60_000, 1_000))
    first, second = (read(question, lambda: Op("load"), lambda value: None, Codec(()), ports) for _ in range(2))
    cell = (cells.fresh(), b"epoch")

    assert first.send(None) == second.send(None) == ("read", (b"key", b"bins"))
    assert first.send([(None, b""), cell]) == ("load",)
    put = first.send("old")
    assert put[:2] == ("put", (b"key",))
    with pytest.raises(StopIteration):
        first.send([])
    assert second.send([(None, b""), cell]) == ("read", (b"key", b"bins"))
    with pytest.raises(StopIteration) as ended:
        second.send([(put[2], b"epoch"), cell])

    assert isinstance(ended.value.value, Hit)
    assert ended.value.value.value == "old"


async def test_tasks_and_threads_share_a_flight():
    """Whoever waits, and however."""
    flights, go, waiting = Flights(), asyncio.Event(), threading.Event()

    async def lead() -> tuple[int, bytes]:
        await go.wait()
        return 7, b"7"

    async def never() -> tuple[int, bytes]:
        raise AssertionError("a second load")

    def in_a_thread() -> Any:
        waiting.set()
        return run_now(flights.join("key", never, Blocking()))

    leader = asyncio.create_task(flights.join("key", lead, Suspending()))
    await asyncio.wait([leader], timeout=0)
    thread = asyncio.get_running_loop().run_in_executor(None, in_a_thread)
    await asyncio.to_thread(waiting.wait, 10)
    go.set()

    assert await leader == (7, None)
    assert await thread == (None, b"7")


async def test_followers_of_a_cancelled_leader_fly_again():
    """Its cancellation is its own."""
    flights, started, go = Flights(), asyncio.Event(), asyncio.Event()

    async def lead() -> tuple[int, bytes]:
        started.set()
        await go.wait()
        return 7, b"7"

    leader = asyncio.create_task(flights.join("key", lead, Suspending()))
    await started.wait()
    follower = asyncio.create_task(flights.join("key", lead, Suspending()))
    await asyncio.wait([follower], timeout=0)
    leader.cancel()
    go.set()

    assert await follower == (7, None)
    with pytest.raises(asyncio.CancelledError):
        await leader
    assert flights.open() == 0


async def test_a_failed_load_is_not_shared():
    """Each of the others is told to load for itself, and gets its own success or failure."""
    flights, go = Flights(), asyncio.Event()

    async def fail() -> tuple[int, bytes]:
        await go.wait()
        raise LookupError("the leader's")

    leader = asyncio.create_task(flights.join("key", fail, Suspending()))
    await asyncio.wait([leader], timeout=0)
    follower = asyncio.create_task(flights.join("key", fail, Suspending()))
    await asyncio.wait([follower], timeout=0)
    go.set()

    with pytest.raises(LookupError):
        await leader
    assert await follower == (None, NoLanding.FAILED)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_function_that_calls_itself_does_not_wait_for_itself(small, kind):
    """It loads again, inside."""
    cache, depth = Cache("again"), []

    @cache.query(tags="bins")
    def again() -> int:
        depth.append(1)
        return again() + 1 if len(depth) < 3 else 0

    @cache.query(tags="bins")
    async def aagain() -> int:
        depth.append(1)
        return await asyncio.create_task(aagain()) + 1 if len(depth) < 3 else 0

    cache.connect()
    cache.watch(small.engine, small.Base.metadata)

    answer = await asyncio.to_thread(again) if kind == "sync" else await asyncio.wait_for(aagain(), 10)

    assert (answer, len(depth)) == (2, 3)
    cache.close()


async def test_two_loads_that_need_each_other_both_end():
    """The one that would close the circle loads for itself."""
    flights = Flights(patience_s=60)
    both = asyncio.Barrier(2)

    async def load(other: str) -> tuple[str, bytes]:
        await both.wait()

        async def inner() -> tuple[str, bytes]:
            return "inner", b""

        return f"{(await flights.join(other, inner, Suspending()))[1]}", b"done"

    async with asyncio.timeout(20):
        answers = await asyncio.gather(
            flights.join("a", lambda: load("b"), Suspending()), flights.join("b", lambda: load("a"), Suspending())
        )

    assert sorted(answer for answer, _ in answers) == ["NoLanding.GAVE_UP", "b'done'"]
    assert flights.open() == 0


async def test_a_caller_that_would_stop_the_loop_loads_for_itself():
    """Sync code straight on the event loop, while the leader needs that loop."""
    flights, go = Flights(), asyncio.Event()

    async def lead() -> tuple[int, bytes]:
        await go.wait()
        return 7, b"7"

    leader = asyncio.create_task(flights.join("key", lead, Suspending()))
    await asyncio.wait([leader], timeout=0)

    assert run_now(flights.join("key", lead, Blocking())) == (None, NoLanding.GAVE_UP)

    go.set()
    await leader


async def test_who_has_waited_in_vain_lets_the_next_caller_lead():
    """The loop of a leader was closed, or its database hangs: each caller waited for it anew, and kept nothing."""
    flights, never = Flights(patience_s=0.01), asyncio.Event()

    async def lead_for_ever() -> tuple[int, bytes]:
        await never.wait()
        return 7, b"7"

    async def lead() -> tuple[int, bytes]:
        return 8, b"8"

    leader = asyncio.create_task(flights.join("key", lead_for_ever, Suspending()))
    await asyncio.wait([leader], timeout=0)
    assert await flights.join("key", lead, Suspending()) == (None, NoLanding.GAVE_UP)

    assert await flights.join("key", lead, Suspending()) == (8, None)

    assert flights.open() == 0
    never.set()
    assert await leader == (7, None)


async def test_who_must_not_wait_leaves_the_leader_to_others():
    """Sync code that would block its loop gives up at once, which says nothing of the load."""
    flights, go = Flights(patience_s=60), asyncio.Event()

    async def lead() -> tuple[int, bytes]:
        await go.wait()
        return 7, b"7"

    leader = asyncio.create_task(flights.join("key", lead, Suspending()))
    await asyncio.wait([leader], timeout=0)

    assert run_now(flights.join("key", lead, Blocking())) == (None, NoLanding.GAVE_UP)

    assert flights.open() == 1
    follower = asyncio.create_task(flights.join("key", lead, Suspending()))
    await asyncio.wait([follower], timeout=0)
    go.set()
    assert await asyncio.gather(leader, follower) == [(7, None), (None, b"7")]


async def test_nobody_waits_for_ever():
    """A leader may need the connections that its followers hold."""
    flights, go = Flights(patience_s=0.01), asyncio.Event()

    async def lead() -> tuple[int, bytes]:
        await go.wait()
        return 7, b"7"

    leader = asyncio.create_task(flights.join("key", lead, Suspending()))
    await asyncio.wait([leader], timeout=0)

    assert await flights.join("key", lead, Suspending()) == (None, NoLanding.GAVE_UP)

    go.set()
    await leader


async def test_a_load_of_others_that_cannot_be_kept_is_not_shared(small):
    """It may show what only its own session sees."""
    cache, go = Cache("own"), asyncio.Event()

    @cache.query(tags=only("bins"))
    async def one(session: Any) -> int:
        await go.wait()
        return 1

    from sqlalchemy.ext.asyncio import AsyncSession

    cache.connect()
    cache.watch(small.async_engine, small.Base.metadata)
    async with AsyncSession(small.async_engine) as holder, AsyncSession(small.async_engine) as clean:
        held = await holder.get(small.Bin, 1)
        first = asyncio.create_task(one(holder))
        await asyncio.wait([first], timeout=0)
        second = asyncio.create_task(one(clean))
        await asyncio.wait([second], timeout=0)
        go.set()

        assert await asyncio.gather(first, second) == [1, 1]

    assert held is not None
    assert cache.stats().shared == 0
    assert cache.stats().unkept == {Reason.IDENTITY_MAP: 1, Reason.NOT_JOINED: 1}
    cache.close()
    await small.async_engine.dispose()


FORKING = """
import os, signal, sys, threading, time
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session
from perfkit import Cache, forks
from perfkit.cache.near import ATTENTION
from tests.cache.conftest import Base, Bin

engine = create_engine(sys.argv[1])
Base.metadata.create_all(engine)
cache = Cache("forks")
parent, begun, goes_on = os.getpid(), threading.Event(), threading.Event()

@cache.query(tags=Bin, {options})
def names(session: Session, which: str) -> list[str]:
    if which == "slow" and os.getpid() == parent:
        begun.set()
        goes_on.wait()
    return list(session.scalars(select(Bin.name)))

def call(which):
    with Session(engine) as session:
        return names(session, which)

cache.connect()
cache.watch(engine, Base.metadata)
call("quick")
slow = threading.Thread(target=call, args=("slow",))
slow.start()
begun.wait()
held = [each._lock for each in forks._locking if {holds} and each._lock.acquire()]
child = os.fork()
if not child:
    engine.dispose(close=False)
    signal.alarm(20)
    began_s = time.monotonic()
    call("slow"), call("another"), cache.bump("bins"), call("another"), cache.stats(), cache.close()
    os._exit(0 if time.monotonic() - began_s < 4 and not ATTENTION.count else 1)
ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
for each in held:
    each.release()
goes_on.set()
slow.join()
sys.exit(ended)
"""


def forks(tmp_path: Path, *, options: str = "", holds: bool = False) -> int:
    """What the child ended with. `holds`: as if another thread were in each lock in the moment of the fork."""
    script = FORKING.replace("{options}", options).replace("{holds}", str(holds))
    return subprocess.run(
        [sys.executable, "-c", script, f"sqlite:///{tmp_path}/forks.db"],
        env={"PYTHONPATH": ":".join(sys.path)},
        timeout=PATIENCE_S,
        check=False,
    ).returncode


@pytest.mark.parametrize("options", ["", "hard_timeout=30"], ids=["in the thread of a caller", "in the background"])
def test_a_child_waits_for_no_load_of_its_parent(tmp_path, options):
    """Its threads are not there, and whoever waits for them does so for 5 s, or until a time-out, at each call."""
    assert forks(tmp_path, options=options) == 0


def test_a_child_waits_for_no_lock_of_its_parent(tmp_path):
    """Of a process whose threads were at work, one child in eight stood still for ever."""
    assert forks(tmp_path, holds=True) == 0
