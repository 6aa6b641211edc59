"""What bumped a tag last, for those who ask why an entry is out of date. Of this process only."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from perfkit.clock import SYSTEM, Clock
from perfkit.forks import lock_of

MAX_REMEMBERED = 2_000


class Bump(NamedTuple):
    """A commit, or a call of `bump()`, that gave a tag a new version: when, in ms since 1970, and the line of it."""

    at_ms: int
    where: str


class Bumps:
    """The most recent bumps: as many as name MAX_REMEMBERED tags between them, and the last one whatever it names."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._lock = lock_of(self)
        self._recent: deque[tuple[Sequence[str], Bump]] = deque()
        self._remembered = 0
        self._clock = clock
        self._lists: tuple[list[str], ...] = ()

    @contextmanager
    def noted(self) -> Iterator[list[str]]:
        """The tags that are noted from now on, of whatever thread."""
        found: list[str] = []
        with self._lock:
            self._lists = (*self._lists, found)
        try:
            yield found
        finally:
            with self._lock:
                self._lists = tuple(each for each in self._lists if each is not found)

    def note(self, tags: Sequence[str], where: str) -> None:
        for found in self._lists:
            found.extend(tags)
        bump = Bump(self._clock.wall_ms(), where)
        with self._lock:
            self._recent.append((tags, bump))
            self._remembered += len(tags)
            while self._remembered > MAX_REMEMBERED and len(self._recent) > 1:
                forgotten, _ = self._recent.popleft()
                self._remembered -= len(forgotten)

    def latest(self, tag: str) -> Bump | None:
        with self._lock:
            return next((bump for tags, bump in reversed(self._recent) if tag in tags), None)
