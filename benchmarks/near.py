"""Hits that ask nobody, beside functools.lru_cache, which is the least that Python can do.

Functions are called without arguments, which have defaults, so that nothing but the call is timed. `lru_cache` hands
out one object to all, does not look at the time, and forgets nothing that anybody changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import aiocache
import cashews
from dogpile.cache import make_region
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from benchmarks.rounds import Contender, Figure, measure
from perfkit import Cache, Policy
from perfkit.cache import only

LEASE_S = 3600
FLOOR = "lru_cache, frozen"


@dataclass(frozen=True)
class Volume:
    """A value that nobody can change."""

    customer: str
    litres: int


ROWS = [(i, f"bin {i}", 240.0, True) for i in range(50)]


def hits_in_the_process(engine: Engine, url: str | None, rounds: int) -> list[Figure]:
    """One figure a contender; `url`: of a server whose versions the leases are for."""
    cache = Cache("near", Policy(ttl=LEASE_S, l1=LEASE_S))
    many = cache.query(tags=only("many:all"))
    frozen = many(_frozen)
    with_session = many(_with_session)
    suspending = many(_suspending)
    small = many(_small)
    rows = many(_rows)
    cache.connect(url or "memory://")
    cache.watch(engine)
    session = Session(engine)
    floor = lru_cache(_frozen)
    ours: list[tuple[str, Callable[[], Any], int, bool]] = [
        ("perfkit, frozen", frozen, 20_000, False),
        ("perfkit, frozen, with a session", lambda: with_session(session), 20_000, False),
        ("perfkit, frozen, async", suspending, 20_000, True),
        ("perfkit, a list of 3", small, 10_000, False),
        ("perfkit, a list of 50 rows", rows, 1_000, False),
    ]
    contenders = [
        Contender(name=FLOOR, floor=FLOOR, once=floor, calls=50_000),
        *(Contender(name=name, floor=FLOOR, once=once, calls=calls, suspends=s) for name, once, calls, s in ours),
        *_peers(),
    ]
    try:
        return measure(contenders, rounds=rounds)
    finally:
        session.close()
        cache.close()


def _peers() -> list[Contender]:
    region = make_region().configure("dogpile.cache.memory")
    cashew_cache = cashews.Cache()
    cashew_cache.setup("mem://")
    dogpile = region.cache_on_arguments()(_frozen)
    cashew = cashew_cache(ttl=900, key="volume:{customer_id}")(_suspending)
    aio = aiocache.cached(ttl=900, cache=aiocache.SimpleMemoryCache)(_suspending)
    return [
        Contender(name="dogpile memory", floor=FLOOR, once=dogpile, calls=3_000),
        Contender(name="aiocache memory, async", floor=FLOOR, once=aio, calls=2_000, suspends=True),
        Contender(name="cashews memory, async", floor=FLOOR, once=cashew, calls=1_000, suspends=True),
    ]


def _frozen(customer_id: int = 7) -> Volume:
    return Volume("Café", customer_id)


def _with_session(session: Session, customer_id: int = 7) -> Volume:
    return Volume("Café", customer_id)


async def _suspending(customer_id: int = 7) -> Volume:
    return Volume("Café", customer_id)


def _small(customer_id: int = 7) -> list[int]:
    return [1, 2, customer_id]


def _rows(customer_id: int = 7) -> list[tuple[int, str, float, bool]]:
    return list(ROWS)
