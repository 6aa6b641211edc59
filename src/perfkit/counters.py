"""Counters: named totals that many threads add to and one reader copies."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from perfkit.forks import begin_anew_after_a_fork, lock_of

Name = TypeVar("Name", bound=Hashable)


class Counters(Generic[Name]):
    """Totals by name, of one process. Owns a lock: `dict[name] += 1` alone loses counts between threads.

    >>> made = Counters[str]()
    >>> made.add("hit"); made.add("hit", 2)
    >>> made.totals()
    {'hit': 3}
    """

    def __init__(self) -> None:
        self._lock = lock_of(self)
        self._begin_anew()
        begin_anew_after_a_fork(self._begin_anew)

    def _begin_anew(self) -> None:
        self._totals: dict[Name, int] = {}

    def add(self, name: Name, count: int = 1) -> None:
        with self._lock:
            self._totals[name] = self._totals.get(name, 0) + count

    def totals(self) -> dict[Name, int]:
        """A copy; names that were never counted are missing."""
        with self._lock:
            return dict(self._totals)
