"""Results kept in this process, in front of the store: what they cost, when they are believed, who goes first.

A held result is believed at once while two things hold: `until` has not come, and the *generation* is the one under
which it was last proven. The generation is a new object whenever this process marks or bumps anything, so that a
look at one attribute stands for a look at every tag.

    memory://    every change is made in this process, so the generation alone proves that a result is current
    a server     other processes change things, too: `until` is at most a lease after the moment *before* the cells
                 were asked for. A result is never older than the lease; and where writers wait for as long between
                 MARK and COMMIT, every lease granted before a mark is over before the change is visible.

Only the rate of the local clock is trusted, and no message needs to arrive. When either has changed, the cells are
asked again; if the versions are the same, the result is proven again, and its bytes were not sent.

What goes first when there is no room: S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP
2023). New results stand in a small queue, and are moved to the main one if they are asked for again while there; so a
scan passes through the small one. What takes the place of a result that was asked for is not new. A hit writes one
number and takes no lock. Beside W-TinyLFU, LRU, LFU and the optimum: docs/explanation/eviction.md.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from threading import get_ident
from typing import Any

from perfkit.cache.cells import Version
from perfkit.cache.frozen import size_if_immutable, template_of
from perfkit.cache.worth import Tally
from perfkit.clock import SYSTEM
from perfkit.forks import begin_anew_after_a_fork, lock_of

MAX_BYTES = 64 * 1024 * 1024
SMALL_PART = 0.1
MAX_FREQUENCY = 3
MAX_ALIASES = 8  # ways to ask for one result that are remembered
_FIXED_BYTES = 620  # of one held result in CPython 3.11: the object, its places in dicts and queues, its key's own
_ALIAS_BYTES = 330
_BYTES_OBJECT = 33


class Attention:
    """How many blocks of code there are, in all contexts, in which a hit must not be answered at once.

    `with ATTENTION:` is one more. Either a load is watched, and wants to know what it is answered from, or a cache is
    off.
    """

    __slots__ = ("__weakref__", "_inside", "_lock", "count")

    def __init__(self) -> None:
        self.count = 0
        self._inside: dict[int, int] = {}  # how many blocks each thread is in
        self._lock = lock_of(self)
        begin_anew_after_a_fork(self._begin_anew)

    def __enter__(self) -> None:
        me = get_ident()
        with self._lock:
            self.count += 1
            self._inside[me] = self._inside.get(me, 0) + 1

    def __exit__(self, *_: object) -> None:
        me = get_ident()
        with self._lock:
            self.count -= 1
            self._inside[me] = self._inside.get(me, 0) - 1
            if not self._inside[me]:
                del self._inside[me]

    def _begin_anew(self) -> None:
        # the other threads' blocks will not end in a child, which would never answer at once
        me = get_ident()
        self.count = max(self._inside.get(me, 0), 0)
        self._inside = {me: self.count} if self.count else {}


ATTENTION = Attention()


class Generation:
    """What is true between two changes that this process makes. `ended_s` is when the second of them came."""

    __slots__ = ("ended_s",)

    def __init__(self) -> None:
        self.ended_s: float | None = None


Alias = tuple[dict[Any, Any], Any]


class Held:
    """One result. `renew` is None where `value` is immutable and handed out itself; else it makes a new one of it."""

    __slots__ = (
        "aliases",
        "at_ms",
        "cells",
        "counted",
        "expires_s",
        "generation",
        "hits",
        "is_claimed",
        "is_main",
        "key",
        "proven_s",
        "renew",
        "retry_s",
        "seen",
        "size",
        "tags",
        "tally",
        "until",
        "value",
        "versions",
    )

    def __init__(
        self,
        key: bytes,
        value: Any,
        renew: Callable[[Any], Any] | None,
        size: int,
        tags: tuple[bytes, ...],
        versions: tuple[Version, ...],
        at_ms: int,
        expires_s: float,
        tally: Tally,
    ) -> None:
        self.tally, self.counted = tally, 0
        self.key, self.value, self.renew, self.size = key, value, renew, size
        self.tags, self.versions = tags, versions
        self.at_ms, self.expires_s = at_ms, expires_s
        self.cells: tuple[bytes, ...] | None = None  # of its tags, once they were asked for again
        self.until = self.proven_s = self.retry_s = 0.0
        self.generation: Generation | None = None
        self.is_claimed = False
        self.hits = self.seen = 0
        self.is_main = False
        self.aliases: list[Alias] = []

    def read(self) -> Any:
        """What a caller gets."""
        return self.value if self.renew is None else self.renew(self.value)

    def asked(self) -> None:
        """It was found, and is counted elsewhere."""
        self.hits += 1
        self.counted += 1

    def count(self) -> None:
        """Add the hits that were not counted yet to the totals of its function."""
        hits = self.hits
        self.tally.add("hit", None, hits - self.counted)
        self.counted = hits

    def frequency(self) -> int:
        """How often it was asked for since it was last looked at; at most MAX_FREQUENCY."""
        return min(self.hits - self.seen, MAX_FREQUENCY)

    def follow(self, before: Held) -> None:
        """Stand in the place of one that is no longer current, if that was asked for there; and not be new."""
        frequency = before.frequency()
        self.seen = -frequency
        self.is_main = before.is_main and frequency > 0


class Near:
    """Held results, bounded in bytes. Reading takes no lock; adding and dropping do."""

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self.generation = Generation()
        self.now: Callable[[], float] = SYSTEM.monotonic
        self._max_bytes = max_bytes
        self._small_bytes_max = max_bytes * SMALL_PART
        self._lock = lock_of(self)
        begin_anew_after_a_fork(self._begin_anew)
        self._held: dict[bytes, Held] = {}
        self._small: deque[Held] = deque()
        self._main: deque[Held] = deque()
        self._ghosts: OrderedDict[int, None] = OrderedDict()
        self._small_bytes = self._main_bytes = 0
        self._evicted = 0

    def changed(self) -> None:
        """Nothing is proven any more: this process has changed something."""
        # an object, not a number: one that two threads add to could come back to what it was
        ended, self.generation = self.generation, Generation()
        if ended.ended_s is None:
            ended.ended_s = self.now()

    def find(self, key: bytes) -> Held | None:
        """What is held under `key`, proven or not."""
        return self._held.get(key)

    def hold(
        self,
        key: bytes,
        payload: bytes,
        value: Any,
        unpack: Callable[[bytes], Any],
        tags: tuple[bytes, ...],
        versions: tuple[Version, ...],
        at_ms: int,
        expires_s: float,
        tally: Tally,
    ) -> Held:
        """Keep a result in place of what was kept under `key`. `value` is handed out itself if it is immutable."""
        size = _FIXED_BYTES + len(key) + sum(len(each) + _BYTES_OBJECT for each in versions)
        inner = size_if_immutable(value)
        made: tuple[Any, Callable[[Any], Any] | None, int]
        if inner is not None:
            made = value, None, inner
        else:
            made = template_of(value) or (payload, unpack, len(payload) + _BYTES_OBJECT)
        kept, renew, inner = made
        held = Held(key, kept, renew, size + inner, tags, versions, at_ms, expires_s, tally)
        with self._lock:
            if (before := self._held.get(key)) is not None:
                held.follow(before)
                self._remove(key)
            if held.size <= self._small_bytes_max:
                self._add(held)
        return held

    def alias(self, held: Held, table: dict[Any, Any], name: Any) -> None:
        """Let `table[name]` lead to it, for as long as it is held."""
        with self._lock:
            if len(held.aliases) < MAX_ALIASES and self._held.get(held.key) is held:
                held.aliases.append((table, name))
                table[name] = held
                held.size += _ALIAS_BYTES
                self._weigh(held, _ALIAS_BYTES)
                self._shrink()

    def claim(self, held: Held) -> bool:
        """Whether the caller is the first to claim it; who is takes the claim back."""
        with self._lock:
            is_first = not held.is_claimed
            held.is_claimed = True
            return is_first

    def drop(self, key: bytes) -> None:
        with self._lock:
            self._remove(key)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            for key in list(self._held):
                self._remove(key)
            self._small.clear()
            self._main.clear()
            self._ghosts.clear()
            self.changed()

    def _begin_anew(self) -> None:
        for held in self._held.values():
            held.counted = held.hits  # those were the parent's, which counts them

    def count(self) -> None:
        """Bring the totals of the functions up to date."""
        with self._lock:
            for held in self._held.values():
                held.count()

    def size(self) -> tuple[int, int, int]:
        """How many results, their bytes, and how many had to go because there was no room."""
        return len(self._held), self._small_bytes + self._main_bytes, self._evicted

    def _add(self, held: Held) -> None:
        ghost = hash(held.key)
        if ghost in self._ghosts:
            del self._ghosts[ghost]
            held.is_main = True
        (self._main if held.is_main else self._small).append(held)
        self._held[held.key] = held
        self._weigh(held, held.size)
        self._shrink()

    def _remove(self, key: bytes) -> None:
        held = self._held.pop(key, None)
        if held is None:
            return
        self._weigh(held, -held.size)
        held.count()
        held.generation = None  # who has it in hand asks again
        for table, name in held.aliases:
            if name in table and table[name] is held:
                del table[name]
        held.aliases = []
        if len(self._main if held.is_main else self._small) > 2 * len(self._held) + 16:
            for queue in (self._small, self._main):  # what was removed still stands in them
                alive = [one for one in queue if self._held.get(one.key) is one]
                queue.clear()
                queue.extend(alive)

    def _weigh(self, held: Held, size: int) -> None:
        if held.is_main:
            self._main_bytes += size
        else:
            self._small_bytes += size

    def _shrink(self) -> None:
        while self._small_bytes + self._main_bytes > self._max_bytes:
            if self._small_bytes > self._small_bytes_max or not self._main:
                self._pass_on(self._small.popleft())
            else:
                self._judge(self._main.popleft())

    def _pass_on(self, held: Held) -> None:
        if self._held.get(held.key) is not held:
            return
        if held.frequency() > 0:  # the paper asks for two hits, which serves nothing but loops better
            self._weigh(held, -held.size)
            held.is_main, held.seen = True, held.hits
            self._weigh(held, held.size)
            self._main.append(held)
            return
        self._remove(held.key)
        self._evicted += 1
        self._ghosts[hash(held.key)] = None
        while len(self._ghosts) > max(64, len(self._held)):
            self._ghosts.popitem(last=False)

    def _judge(self, held: Held) -> None:
        if self._held.get(held.key) is not held:
            return
        if (frequency := held.frequency()) > 0:
            held.seen = held.hits - frequency + 1
            self._main.append(held)
            return
        self._remove(held.key)
        self._evicted += 1
