"""A stampede: 100 callers in 4 processes ask for the same thing at the same moment, and loading it takes 100 ms."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Barrier
from typing import Any

import redis
from dogpile.cache import make_region
from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine

from perfkit import Cache, Policy
from perfkit.cache import only

PROCESSES, THREADS, LOAD_S = 4, 25, 0.1
SUSPENDING = "perfkit, one load in the cluster, async"
_context = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stampede:
    """What became of one, the median of the rounds: how often it was loaded, and how long the slowest waited."""

    name: str
    loads: float
    slowest_ms: float
    median_ms: float


def run(url: str, rounds: int) -> list[Stampede]:
    """One figure a contender."""
    return [_stampede(name, url, rounds) for name in (*WAYS, SUSPENDING)]


def show(figures: list[Stampede]) -> list[dict[str, Any]]:
    """Print the table; the same as plain data."""
    title = f"{PROCESSES * THREADS} callers in {PROCESSES} processes, {LOAD_S * 1000:.0f} ms to load"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for heading in ("loads", "slowest, ms", "median, ms"):
        table.add_column(heading, justify="right")
    for each in figures:
        table.add_row(each.name, f"{each.loads:g}", f"{each.slowest_ms:.0f}", f"{each.median_ms:.0f}")
    Console(width=100).print(table)
    return [asdict(each) for each in figures]


def _stampede(name: str, url: str, rounds: int) -> Stampede:
    found: list[tuple[int, list[float]]] = []
    for number in range(rounds + 1):  # the first warms up
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        gate = _context.Barrier(PROCESSES if name == SUSPENDING else PROCESSES * THREADS)
        results = _context.Queue()
        work = [_context.Process(target=_process, args=(name, url, gate, results)) for _ in range(PROCESSES)]
        for process in work:
            process.start()
        loads, times = 0, []
        for _ in work:
            mine, waited = results.get(timeout=120)
            loads += mine
            times += waited
        for process in work:
            process.join()
        if number:
            found.append((loads, times))
    return Stampede(
        name=name,
        loads=statistics.median(loads for loads, _ in found),
        slowest_ms=statistics.median(max(times) for _, times in found) * 1000,
        median_ms=statistics.median(statistics.median(times) for _, times in found) * 1000,
    )


def _process(name: str, url: str, gate: Barrier, results: Any) -> None:
    if name == SUSPENDING:
        results.put(asyncio.run(_suspending(url, gate)))
        return
    loads: list[int] = []
    ask, ready = WAYS[name](url, loads)
    ready()
    times: list[float] = []

    def caller() -> None:
        gate.wait(60)
        began_s = time.perf_counter()
        assert ask() == 7
        times.append(time.perf_counter() - began_s)

    threads = [threading.Thread(target=caller) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put((len(loads), times))


async def _suspending(url: str, gate: Barrier) -> tuple[int, list[float]]:
    """As many tasks on one event loop as there are threads elsewhere; the loop waits at the gate for them all."""
    loads: list[int] = []
    cache = Cache("stampede", Policy(ttl=60, single_flight="cluster"))

    @cache.query(tags=only("crowd:all"))
    async def slow() -> int:
        loads.append(1)
        await asyncio.sleep(LOAD_S)
        return 7

    cache.connect(url)
    cache.watch(create_engine("sqlite://"))
    await cache.aping()
    begin = asyncio.Event()

    async def caller() -> float:
        await begin.wait()
        began_s = time.perf_counter()
        assert await slow() == 7
        return time.perf_counter() - began_s

    callers = [asyncio.create_task(caller()) for _ in range(THREADS)]
    await asyncio.to_thread(gate.wait, 60)
    begin.set()
    times = list(await asyncio.gather(*callers))
    await cache.aclose()
    return len(loads), times


Way = Callable[[str, list[int]], tuple[Callable[[], int], Callable[[], object]]]


def _load(loads: list[int]) -> int:
    loads.append(1)
    time.sleep(LOAD_S)
    return 7


def _perfkit(url: str, loads: list[int], *, single_flight: Any) -> tuple[Callable[[], int], Callable[[], object]]:
    cache = Cache("stampede", Policy(ttl=60, single_flight=single_flight))

    @cache.query(tags=only("crowd:all"))
    def slow() -> int:
        return _load(loads)

    cache.connect(url)
    cache.watch(create_engine("sqlite://"))
    return slow, cache.ping


def _dogpile(url: str, loads: list[int]) -> tuple[Callable[[], int], Callable[[], object]]:
    region = make_region().configure(
        "dogpile.cache.redis",
        expiration_time=60,
        arguments={"url": url, "distributed_lock": True, "thread_local_lock": False, "lock_timeout": 30},
    )
    return (lambda: region.get_or_create("slow", lambda: _load(loads))), lambda: region.get("other")


WAYS: dict[str, Way] = {
    "perfkit, one load in the cluster": lambda url, loads: _perfkit(url, loads, single_flight="cluster"),
    "perfkit, one load in a process": lambda url, loads: _perfkit(url, loads, single_flight="process"),
    "dogpile.cache, distributed lock": _dogpile,
}
