"""Requests to compare evictions by: seeded, so that every count of hits is the same in every run.

A request is a key and the version that is current when it is asked for. What is kept of an older version is a miss, as
it is after a write. The optimum is Belady's: of what is kept, that goes which is asked for again last, or never
(L. A. Belady, "A study of replacement algorithms for a virtual-storage computer", 1966). It knows the future.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, count, islice

Request = tuple[int, int]
NEVER = 1 << 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests, and the room for them: results of one size, or bytes where `sizes` has one for each key."""

    name: str
    requests: list[Request]
    room: int
    sizes: list[int] | None = None


def traces(*, keys: int, requests: int) -> Iterator[Trace]:
    """Traces of `requests` requests each, with as much room as 5 % of `keys` take unless their names say otherwise."""
    room = keys // 20
    for alpha in (0.8, 1.0):
        plain = _plain(_zipf(keys, alpha), requests)
        for percent in (1, 5, 10):
            yield Trace(name=f"Zipf {alpha}, room for {percent} %", requests=plain, room=keys * percent // 100)
    yield Trace(name="Zipf 1.0, scans of a fifth of all keys", requests=_scanned(keys, requests), room=room)
    yield Trace(name="Zipf 1.0, every other key only once", requests=_wonders(keys, requests), room=room)
    yield Trace(name="Zipf 1.0, one in twenty a write", requests=_written(keys, requests, 0.05), room=room)
    yield Trace(name="Zipf 1.0, one in five a write", requests=_written(keys, requests, 0.2), room=room)
    yield Trace(name="Zipf 1.0, three in ten never current", requests=_outdated(keys, requests, room // 2), room=room)
    yield Trace(name="hot keys, which are others at times", requests=_moving(keys, requests, hot=room // 2), room=room)
    yield Trace(name="sessions: a key four times, then never", requests=_sessions(room, requests), room=room)
    for tenths in (11, 15):
        loop = [(i % (room * tenths // 10), 0) for i in range(requests)]
        yield Trace(name=f"a loop over {tenths / 10} times the room", requests=loop, room=room)


def mixed_traces(*, keys: int, requests: int, least_bytes: int) -> Iterator[Trace]:
    """The same for results of `least_bytes` and more, with room for 5 % of the bytes of all."""
    dice = random.Random(5)
    sizes = [least_bytes + min(64_000, int(math.exp(dice.gauss(7.0, 1.5)))) for _ in range(keys)]
    room = sum(sizes) // 20
    plain = _plain(_zipf(keys, 1.0), requests)
    yield Trace(name="Zipf 1.0", requests=plain, room=room, sizes=sizes)
    yield Trace(name="Zipf 1.0, scans", requests=_scanned(keys, requests), room=room, sizes=sizes)
    yield Trace(name="Zipf 1.0, one in twenty a write", requests=_written(keys, requests, 0.05), room=room, sizes=sizes)


def optimum(trace: Trace) -> int:
    """How many hits there can be at most, for results of one size."""
    requests, room = trace.requests, trace.room
    following, last = [NEVER] * len(requests), dict[Request, int]()
    for i in range(len(requests) - 1, -1, -1):  # a version that is over is never asked for again: it takes no room
        following[i] = last.get(requests[i], NEVER)
        last[requests[i]] = i
    kept, farthest, hits = dict[Request, int](), list[tuple[int, Request]](), 0
    for request, after in zip(requests, following, strict=True):
        hits += request in kept
        if after == NEVER:
            kept.pop(request, None)
            continue
        kept[request] = after
        heapq.heappush(farthest, (-after, request))
        while len(kept) > room:
            when, which = heapq.heappop(farthest)
            if kept.get(which) == -when:
                del kept[which]
    return hits


def _zipf(keys: int, alpha: float, seed: int = 1) -> Iterator[int]:
    """Keys of which the nth is asked for in proportion to n to the minus `alpha`, numbered at random."""
    dice = random.Random(seed)
    names = list(range(keys))
    dice.shuffle(names)
    weights = list(accumulate((rank + 1) ** -alpha for rank in range(keys)))
    while True:
        yield from dice.choices(names, cum_weights=weights, k=1_000)


def _plain(asked: Iterator[int], requests: int) -> list[Request]:
    return [(key, 0) for key in islice(asked, requests)]


def _scanned(keys: int, requests: int) -> list[Request]:
    """A scan is as long as what comes before it, and goes on where the last one ended, as an export or a crawler."""
    asked, found, part = _zipf(keys, 1.0), list[Request](), keys // 5
    for begin in count(0, part):
        found += _plain(asked, part)
        found += [((begin + i) % keys, 0) for i in range(part)]
        if len(found) >= requests:
            break
    return found[:requests]


def _wonders(keys: int, requests: int) -> list[Request]:
    asked = _zipf(keys, 1.0)
    return [(keys + i if i % 2 else next(asked), 0) for i in range(requests)]


def _written(keys: int, requests: int, part: float) -> list[Request]:
    """What is written is chosen as what is read is."""
    dice, asked, versions, found = random.Random(2), _zipf(keys, 1.0), [0] * keys, list[Request]()
    while len(found) < requests:
        key = next(asked)
        if dice.random() < part:
            versions[key] += 1
        else:
            found.append((key, versions[key]))
    return found


def _outdated(keys: int, requests: int, others: int) -> list[Request]:
    """Besides those by Zipf there are `others`, each of which is written before every request for it."""
    dice, asked = random.Random(6), _zipf(keys, 1.0)
    return [
        (keys + dice.randrange(others), i) if dice.random() < 0.3 else (next(asked), 0) for i in range(1, requests + 1)
    ]


def _moving(keys: int, requests: int, *, hot: int) -> list[Request]:
    """Nine of ten are of the hot ones, which are others each time that each was asked for about ten times."""
    dice = random.Random(3)
    begins = (dice.randrange(keys - hot) for _ in count())
    found, begin = list[Request](), 0
    for i in range(requests):
        if i % (10 * hot) == 0:
            begin = next(begins)
        found.append((begin + dice.randrange(hot) if dice.random() < 0.9 else dice.randrange(keys), 0))
    return found


def _sessions(room: int, requests: int) -> list[Request]:
    """Each key comes four times within about half as many requests as there is room for."""
    dice = random.Random(4)
    times = [
        (begin + at, key)
        for key, begin in enumerate(range(0, requests, 4))
        for at in (0, *(dice.expovariate(6 / room) for _ in range(3)))
    ]
    return [(key, 0) for _, key in sorted(times)[:requests]]
