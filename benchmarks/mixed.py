"""Reads beside writes: one process reads by Zipf what another one changes, and how many reads that makes in a second.

Without a cache the writer commits once for every 19 reads; the commits that this makes in a second are then what every
other contender has to bear. A read that starts after a commit() has returned, and gets less than that, is stale.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine

from benchmarks.contenders import CONTENDERS, Contender, Uncached
from benchmarks.stale import PROCESSES, ROWS, connected, empty, picker
from tools import services

READS_FOR_A_WRITE = 19
WARM_UP_S = 1.0
NO_CACHE = "no cache"
NAMES = (
    "perfkit, strict",
    "perfkit, strict, validated",
    "perfkit, strict, 20 ms lease, writers wait",
    "perfkit, 20 ms lease",
    "perfkit, committed",
    "dogpile.cache, distributed lock",
    "delete after commit, by hand",
)
WAYS: dict[str, Callable[[Engine, str], Contender]] = {NO_CACHE: Uncached} | {name: CONTENDERS[name] for name in NAMES}


@dataclass(frozen=True, slots=True)
class Turn:
    """What one contender did in one round."""

    reads_per_s: float
    writes_per_s: float
    hits: float
    stale: int


@dataclass(frozen=True, slots=True)
class Mixed:
    """The medians of its rounds; `ratio` is to the reads without a cache in the same round. `stale` is the sum."""

    name: str
    reads_per_s: float
    writes_per_s: float
    hits: float
    ratio: float
    stale: int


class Shared:
    """What reader and writer tell each other; each number has one who writes it."""

    def __init__(self) -> None:
        self.acknowledged = PROCESSES.RawArray("q", ROWS)
        self.reads, self.writes, self.stop = (PROCESSES.RawValue("q", 0) for _ in range(3))


def run(*, quick: bool) -> dict[str, Any]:
    """Print and return the table; end the program with 1 if strict had a stale read."""
    rounds, seconds = (1, 2.0) if quick else (4, 5.0)
    with services.running() as up:
        if up.postgres_url is None or up.redis_url is None:
            print("No PostgreSQL or no Redis to be had: nothing is measured.", file=sys.stderr)
            return {}
        database = up.postgres_url.replace("postgresql:", "postgresql+psycopg:")
        figures = _compare(database, up.redis_url, rounds, seconds)
    _show(figures)
    if any(each.stale for each in figures if each.name.startswith("perfkit, strict")):
        sys.exit("strict had a stale read")
    return {"mixed": [asdict(each) for each in figures]}


def _compare(database: str, store: str, rounds: int, seconds: float) -> list[Mixed]:
    turns: dict[str, list[Turn]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        pace = None
        for name in WAYS:
            turns[name].append(_turn(database, store, name, seconds, pace))
            pace = pace or turns[name][-1].writes_per_s
    return [
        Mixed(
            name=name,
            reads_per_s=round(statistics.median(turn.reads_per_s for turn in its)),
            writes_per_s=round(statistics.median(turn.writes_per_s for turn in its), 1),
            hits=round(statistics.median(turn.hits for turn in its), 3),
            ratio=round(
                statistics.median(
                    turn.reads_per_s / floor.reads_per_s for turn, floor in zip(its, turns[NO_CACHE], strict=True)
                ),
                2,
            ),
            stale=sum(turn.stale for turn in its),
        )
        for name, its in turns.items()
    ]


def _turn(database: str, store: str, name: str, seconds: float, pace: float | None) -> Turn:
    """`pace`: commits a second; None for one to so many reads."""
    empty(database, store)
    shared, results = Shared(), PROCESSES.SimpleQueue()
    reader = PROCESSES.Process(target=_reads, args=(database, store, name, seconds, shared, results), daemon=True)
    writer = PROCESSES.Process(target=_writes, args=(database, store, name, pace, shared), daemon=True)
    reader.start()
    writer.start()
    turn: Turn = results.get()
    reader.join(30)
    writer.join(30)
    return turn


def _reads(database: str, store: str, name: str, seconds: float, shared: Any, results: Any) -> None:
    with connected(database) as engine:
        contender, pick, stale = WAYS[name](engine, store), picker(ROWS), 0
        begins_s = time.perf_counter() + WARM_UP_S
        ends_s = begins_s + seconds
        reads = writes = loads = 0
        while (now_s := time.perf_counter()) < ends_s:
            if not reads and now_s >= begins_s:
                reads, writes, loads, begins_s = shared.reads.value, shared.writes.value, contender.loads, now_s
            row_id = pick()
            acknowledged = shared.acknowledged[row_id]
            stale += contender.read(row_id) < acknowledged
            shared.reads.value += 1
        reads, writes = shared.reads.value - reads, shared.writes.value - writes
        shared.stop.value = 1
        took_s = time.perf_counter() - begins_s
        results.put(Turn(reads / took_s, writes / took_s, 1 - (contender.loads - loads) / reads, stale))


def _writes(database: str, store: str, name: str, pace: float | None, shared: Any) -> None:
    with connected(database) as engine:
        contender, pick = WAYS[name](engine, store), picker(ROWS)
        due_s = time.perf_counter()
        while not shared.stop.value:
            if pace is None:
                if shared.writes.value * READS_FOR_A_WRITE > shared.reads.value:
                    time.sleep(0.0002)
                    continue
            else:
                due_s += 1 / pace
                time.sleep(max(0.0, due_s - time.perf_counter()))
            row_id = pick()
            shared.acknowledged[row_id] = contender.write(row_id)
            shared.writes.value += 1


def _show(figures: list[Mixed]) -> None:
    title = f"One reader, Zipf over {ROWS:,} rows, beside a writer with the commits of 5 % without a cache"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for heading in ("reads/s", "commits/s", "hits", "× no cache", "stale"):
        table.add_column(heading, justify="right")
    for each in figures:
        table.add_row(
            f"[bold]{each.name}[/]" if each.name.startswith("perfkit") else each.name,
            f"{each.reads_per_s:,.0f}",
            f"{each.writes_per_s:.0f}",
            f"{each.hits:.0%}",
            f"{each.ratio:.2f}",
            f"{each.stale:,}",
        )
    Console(width=100).print(table)
