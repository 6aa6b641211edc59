"""What is held in the process when there is room for a part: hits counted beside other libraries, on the same requests.

perfkit has S3-FIFO, theine W-TinyLFU. The counts are the same in every run, but for theine's, which differ by a point
or so. The second table has only those that weigh results. In the third an insert puts out another result; perfkit's
also weighs the result, and finds out whether it can be handed out as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, starmap
from threading import Lock
from typing import Any

import cachebox
import cachetools
from rich.console import Console
from rich.table import Table

from benchmarks.rounds import Contender, measure, show
from benchmarks.traces import Trace, mixed_traces, optimum, traces
from perfkit.cache.near import Near
from perfkit.cache.worth import Tally

TALLY = Tally("function")
ROOM, HOT = 1_000, b"%010d" % 0  # where times are measured

Ask = Callable[[int, int], bool]
"""Whether a key is held with its version; it is held afterwards, if the policy wants it."""


def run(*, quick: bool) -> dict[str, Any]:
    """Print and return the tables."""
    keys, requests, rounds = (5_000, 20_000, 3) if quick else (100_000, 400_000, 21)
    one_size = [_counted(trace, KINDS) for trace in traces(keys=keys, requests=requests)]
    _show(f"Hits, results of one size: {requests:,} requests, {keys:,} keys", one_size)
    mixed = [_counted(t, WEIGHING) for t in mixed_traces(keys=keys, requests=requests, least_bytes=_size_of(0))]
    _show(f"Hits, results of {_size_of(0):,} to {_size_of(64_000):,} bytes: room for 5 % of them all", mixed)
    times = show("Hits and inserts that evict", measure(_timed(), rounds=rounds))
    return {
        "one_size": [{"trace": each.trace} | each.hits for each in one_size],
        "mixed": [{"trace": each.trace} | each.hits for each in mixed],
        "times": times,
    }


# ---- who is asked


def _perfkit(trace: Trace) -> Ask:
    least, sizes = _size_of(0), trace.sizes
    near = Near(max_bytes=trace.room if sizes else trace.room * least)

    def ask(key: int, version: int) -> bool:
        name = b"%010d" % key
        held = near.find(name)
        if held is not None and held.at_ms == version:
            held.asked()
            return True
        _hold(near, name, sizes[key] - least if sizes else 0, version)
        return False

    return ask


def _theine(trace: Trace) -> Ask:
    cache = _tlfu()(trace.room)

    def ask(key: int, version: int) -> bool:
        found, is_there = cache.get(key)
        if is_there and found == version:
            return True
        cache.set(key, version)
        return False

    return ask


def _tlfu() -> Callable[[int], Any]:
    # not above: it starts a thread when it is imported, beside the other benchmarks
    from theine import Cache

    return Cache


def _cachetools(kind: Callable[..., Any]) -> Callable[[Trace], Ask]:
    def made(trace: Trace) -> Ask:
        sizes = trace.sizes
        return _asking(kind(trace.room, None if sizes is None else lambda value: sizes[value[0]]))

    return made


def _cachebox(trace: Trace) -> Ask:
    sizes = trace.sizes
    if sizes is None:
        return _asking(cachebox.LRUCache[int, Any](trace.room))
    return _asking(cachebox.LRUCache[int, Any](trace.room, getsizeof=lambda key, _: sizes[key]))


def _asking(cache: Any) -> Ask:
    def ask(key: int, version: int) -> bool:
        found = cache.get(key)
        if found is not None and found[1] == version:
            return True
        cache[key] = (key, version)
        return False

    return ask


WEIGHING: dict[str, Callable[[Trace], Ask]] = {
    "perfkit": _perfkit,
    "cachetools LRU": _cachetools(cachetools.LRUCache),
    "cachebox LRU": _cachebox,
    "cachetools LFU": _cachetools(cachetools.LFUCache),
}
KINDS = {"perfkit": _perfkit, "theine": _theine} | WEIGHING


def _hold(near: Near, name: bytes, payload_bytes: int, version: int = 0) -> None:
    near.hold(name, bytes(payload_bytes), [[]], bytes, (), (), version, 1e9, TALLY)


def _size_of(payload_bytes: int) -> int:
    """What Near takes a result for."""
    near = Near()
    _hold(near, b"%010d" % 0, payload_bytes)
    return near.size()[1]


# ---- what is counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Parts of all requests that were hits, by contender."""

    trace: str
    hits: dict[str, float]


def _counted(trace: Trace, kinds: dict[str, Callable[[Trace], Ask]]) -> Counted:
    hits = {name: sum(starmap(kind(trace), trace.requests)) for name, kind in kinds.items()}
    if trace.sizes is None:
        hits["optimum"] = optimum(trace)
    return Counted(trace=trace.name, hits={name: round(n / len(trace.requests), 4) for name, n in hits.items()})


def _show(title: str, counted: list[Counted]) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in counted[0].hits:
        table.add_column(name, justify="right")
    for each in counted:
        best = max(part for name, part in each.hits.items() if name != "optimum")
        table.add_row(
            each.trace,
            *(f"[bold]{part:.1%}[/]" if part == best else f"{part:.1%}" for part in each.hits.values()),
        )
    Console(width=120).print(table)


# ---- what is timed


def _timed() -> list[Contender]:
    """Each as threads may share it: cachetools behind a lock, the others as they are."""
    pairs = {"lru_cache": _of_lru_cache(), "perfkit": _of_perfkit(), "theine": _of_theine()}
    pairs |= {"cachebox LRU": _of_cachebox(), "cachetools LRU, locked": _of_cachetools()}
    return [
        Contender(name=f"{name}, {what}", floor=f"lru_cache, {what}", once=pair[which], calls=calls)
        for which, (what, calls) in enumerate((("a hit", 20_000), ("an insert", 4_000)))
        for name, pair in pairs.items()
    ]


Pair = tuple[Callable[[], Any], Callable[[], Any]]
"""A hit, and an insert into another one that is full or soon will be."""


def _of_lru_cache() -> Pair:
    hits, inserts, fresh = lru_cache(maxsize=ROOM)(bytes), lru_cache(maxsize=ROOM)(bytes), _fresh()
    return lambda: hits(HOT), lambda: inserts(fresh())


def _of_perfkit() -> Pair:
    room = ROOM * _size_of(0)
    hits, inserts, fresh = Near(max_bytes=room), Near(max_bytes=room), _fresh()
    _hold(hits, HOT, 0)

    def hit() -> Any:
        held = hits.find(HOT)
        if held is None:
            return None
        held.asked()
        return held.value

    return hit, lambda: _hold(inserts, fresh(), 0)


def _of_theine() -> Pair:
    hits, inserts, fresh = _tlfu()(ROOM), _tlfu()(ROOM), _fresh()
    hits.set(HOT, HOT)
    return lambda: hits.get(HOT), lambda: inserts.set(fresh(), HOT)


def _of_cachebox() -> Pair:
    hits, inserts, fresh = cachebox.LRUCache[bytes, bytes](ROOM), cachebox.LRUCache[bytes, bytes](ROOM), _fresh()
    hits[HOT] = HOT
    return lambda: hits.get(HOT), lambda: inserts.insert(fresh(), HOT)


def _of_cachetools() -> Pair:
    hits: Any = cachetools.LRUCache(ROOM)
    inserts: Any = cachetools.LRUCache(ROOM)
    fresh, lock = _fresh(), Lock()
    hits[HOT] = HOT

    def hit() -> Any:
        with lock:
            return hits.get(HOT)

    def insert() -> None:
        key = fresh()
        with lock:
            inserts[key] = HOT

    return hit, insert


def _fresh() -> Callable[[], bytes]:
    numbers = count()
    return lambda: b"%010d" % next(numbers)
