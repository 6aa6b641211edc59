"""What bumped a tag last, for those who ask why an entry is out of date. Of this process only."""

from __future__ import annotations

import inspect
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

from perfkit.clock import SYSTEM, Clock

MAX_REMEMBERED = 2_000

_OURS = frozenset({"perfkit", "sqlalchemy", "contextlib", "asyncio", "greenlet", "threading"})


class Bump(NamedTuple):
    """A commit, or a call of `bump()`, that gave a tag a new version: when, in ms since 1970, and the line of it."""

    at_ms: int
    where: str


class Bumps:
    """The latest bump of each tag, of the most recent tags."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._lock = threading.Lock()
        self._latest: OrderedDict[str, Bump] = OrderedDict()
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

    def note(self, tags: Iterable[str], where: str) -> None:
        tags, bump = tuple(tags), Bump(self._clock.wall_ms(), where)
        for found in self._lists:
            found.extend(tags)
        with self._lock:
            for tag in tags:
                self._latest[tag] = bump
                self._latest.move_to_end(tag)
            while len(self._latest) > MAX_REMEMBERED:
                self._latest.popitem(last=False)

    def latest(self, tag: str) -> Bump | None:
        with self._lock:
            return self._latest.get(tag)


def line_of_caller() -> str:
    """The innermost line that is neither perfkit's nor SQLAlchemy's; empty if there is none."""
    for frame in _frames():
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] not in _OURS:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return ""


def _frames() -> Iterator[FrameType]:
    """Of the caller outwards, also out of the greenlet in which SQLAlchemy runs what an async session was asked."""
    frame = inspect.currentframe()
    greenlets = sys.modules.get("greenlet")  # not there, or not imported: nobody is in one
    running = None if greenlets is None else greenlets.getcurrent()
    while frame is not None:
        yield frame
        frame = frame.f_back
        while frame is None and running is not None:
            running = running.parent
            frame = None if running is None else running.gr_frame
