"""What 50 rows take: in this process, in Redis, and as the pickle that other libraries keep; counted in bytes.

And whether the results in the process stay within their bound, when each of many is asked for once.
"""

from __future__ import annotations

import gc
import os
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass
from tracemalloc import get_traced_memory, start, stop
from typing import Any, cast

import redis
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from benchmarks.entities import Base, Bin, fill
from perfkit import Cache, Policy
from perfkit.cache import only

ROWS = 50
BOUND = 4 * 1024 * 1024
ASKED = 12_000  # results, several times as many as there is room for


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes of one result."""

    name: str
    in_process: int
    in_redis: int
    pickled: int


KINDS: dict[str, Callable[[Session], Any]] = {
    "tuples": lambda session: [(number, f"bin {number}", 240.0, True) for number in range(ROWS)],
    "rows": lambda session: session.execute(select(Bin.id, Bin.label, Bin.litres).limit(ROWS)).all(),
    "entities of 5 columns": lambda session: list(session.scalars(select(Bin).limit(ROWS))),
}


def run(engine: Engine, url: str) -> dict[str, Any]:
    """Print and return the figures."""
    fill(engine, 20)
    found = [_measured(name, engine, url) for name in KINDS]
    table = Table(title=f"Bytes of {ROWS}", title_justify="left")
    for heading in ("", "in the process", "in Redis", "pickle"):
        table.add_column(heading, justify="right" if heading else "left")
    for each in found:
        table.add_row(each.name, f"{each.in_process:,}", f"{each.in_redis:,}", f"{each.pickled:,}")
    Console(width=100).print(table)
    held, taken = _scan(engine, url)
    print(f"Under a scan, with a bound of {BOUND:,} bytes: {held:,} held by its own count, {taken:,} by tracemalloc's.")
    return {"kinds": [asdict(each) for each in found], "bound": BOUND, "held": held, "taken": taken}


def _measured(name: str, engine: Engine, url: str) -> Memory:
    cache = Cache(f"memory-{os.getpid()}", Policy(l1=60))
    make = KINDS[name]

    @cache.query(tags=only("rows:all"), entities=True, version=name)
    def kept(session: Session) -> Any:
        return make(session)

    cache.connect(url)
    cache.watch(engine, Base.metadata)
    with redis.Redis.from_url(url) as client, Session(engine) as session:
        kept(session)
        key = cache.key_of(kept, session)
        in_redis = cast(int, client.memory_usage(key))
        client.delete(key)
    in_process = cache.stats().l1_bytes
    cache.close()
    with Session(engine) as session:
        pickled = len(pickle.dumps(make(session)))
    return Memory(name=name, in_process=in_process, in_redis=in_redis, pickled=pickled)


def _scan(engine: Engine, url: str) -> tuple[int, int]:
    """What is held by the cache's own count, and by how much the process grew for it."""
    _, without = _grown(engine, url, l1="off")  # what functions and connections take anyway
    held, grown = _grown(engine, url, l1=60)
    return held, grown - without


def _grown(engine: Engine, url: str, *, l1: Any) -> tuple[int, int]:
    cache = Cache(f"scan-{os.getpid()}-{l1}", Policy(l1=l1, l1_bytes=BOUND))

    @cache.query(tags=only("rows:all"))
    def kept(number: int) -> list[str]:
        return [f"{number} {each}" for each in range(ROWS)]

    cache.connect(url)
    cache.watch(engine, Base.metadata)
    kept(-1)
    gc.collect()
    start()
    for number in range(ASKED):
        kept(number)
    gc.collect()
    grown, _ = get_traced_memory()
    stop()
    held = cache.stats().l1_bytes
    cache.close()
    return held, grown
