"""What bumped a tag last, for those who ask why an entry is out of date. Of this process only."""

from __future__ import annotations

import inspect
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from perfkit.clock import SYSTEM, Clock

MAX_REMEMBERED = 2_000

_OURS = frozenset({"perfkit", "sqlalchemy", "contextlib", "asyncio", "greenlet", "threading"})


class Bump(NamedTuple):
    """A commit, or a call of `bump()`, that gave a tag a new version: when, in ms since 1970, and the line of it."""

    at_ms: int
    where: str


class Bumps:
    """The most recent bumps: as many as name MAX_REMEMBERED tags between them, and the last one whatever it names."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._lock = threading.Lock()
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


def line_of_caller() -> str:
    """The innermost line that is neither perfkit's nor SQLAlchemy's; empty if there is none."""
    frame = inspect.currentframe()
    greenlets = sys.modules.get("greenlet")  # not there, or not imported: nobody is in one
    running = None if greenlets is None else greenlets.getcurrent()
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module not in _seen_to_be_ours and not _is_ours(module):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
        while frame is None and running is not None:
            # out of the greenlet in which SQLAlchemy runs what an async session was asked
            running = running.parent
            frame = None if running is None else running.gr_frame
    return ""


_seen_to_be_ours: set[str] = set()  # each commit passes a dozen frames of them


def _is_ours(module: str) -> bool:
    is_ours = module.partition(".")[0] in _OURS
    if is_ours:
        _seen_to_be_ours.add(module)
    return is_ours
