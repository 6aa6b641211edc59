"""What each process has counted, left in the store for who looks from outside: `perfkit cache stats`.

One key for each process, written anew by a call that asks the store anyway, once in EVERY_S; a day after the last time
it is gone. It is JSON, names and numbers: who reads it has no code of the service, and anybody may have written it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from math import inf
from time import perf_counter
from typing import Any

from perfkit.cache.reasons import Reason
from perfkit.cache.store import Store
from perfkit.cache.worth import FunctionStats, all_of
from perfkit.errors import StoreDown, Unreadable

EVERY_S = 15.0
KEPT_MS = 86_400_000
LETTER = "w"  # what stands after the namespace, as the kinds of entries do
MAX_BYTES = 4 * 1024 * 1024
_MAX_NUMBER = 2**63  # so that sums are numbers, too

_REASONS = ("bypasses", "unkept", "odd")
_COUNTS = ("hits", "fills", "shared", "stale", "rescued", "refreshed", "verified", "violations")


class Reports:
    """Owns what this process is called, and when it reports next; never, unless it is connected to a server."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._functions: Callable[[], Iterable[FunctionStats]] = tuple
        self._name, self._pid = "", 0
        self.due_s = inf  # by `perf_counter`

    def begin(self, functions: Callable[[], Iterable[FunctionStats]]) -> None:
        """Report from now on what `functions` gives."""
        self._functions = functions
        self.due_s = perf_counter() + EVERY_S

    def leave(self) -> None:
        """Report no more."""
        self.due_s = inf

    async def send(self, store: Store) -> None:
        """Say what was counted so far. That a store does not take it is for the next call to find out."""
        self.due_s = perf_counter() + EVERY_S
        if self._pid != os.getpid():  # the first time, or in the child of a process that had a name
            self._name, self._pid = os.urandom(8).hex(), os.getpid()
        said = packed(each for each in self._functions() if each.calls)
        with suppress(StoreDown):
            await store.put(f"{self._namespace}:{LETTER}:{self._name}".encode(), said, KEPT_MS)


def packed(functions: Iterable[FunctionStats]) -> bytes:
    """A report as it lies in the store."""
    told = [
        {name: getattr(each, name) for name in ("name", "load_ms", "saved_s", *_COUNTS)}
        | {kind: {why.name: times for why, times in getattr(each, kind).items()} for kind in _REASONS}
        for each in functions
    ]
    return json.dumps(told).encode()


def unpacked(raw: bytes) -> list[FunctionStats]:
    """What a report says.

    Raises:
        Unreadable: it is none.
    """
    try:
        if len(raw) > MAX_BYTES:
            raise ValueError(f"it has {len(raw):,} bytes")
        return [_function(each) for each in json.loads(raw)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as wrong:
        raise Unreadable(f"no report: {wrong}") from None


def added_up(reports: Iterable[FunctionStats]) -> dict[str, FunctionStats]:
    """The functions of several processes by their names, each once."""
    of_name: dict[str, list[FunctionStats]] = {}
    for each in reports:
        of_name.setdefault(each.name, []).append(each)
    return {name: _sum(name, several) for name, several in of_name.items()}


def _sum(name: str, several: list[FunctionStats]) -> FunctionStats:
    loads = [(each.fills + each.refreshed, each.load_ms) for each in several if each.load_ms is not None]
    number = sum(times for times, _ in loads)
    load_ms = sum(times * load_ms for times, load_ms in loads) / number if number else None
    # who has not loaded does not know what that would have taken
    unknown = sum(each.hits + each.shared + each.stale + each.rescued for each in several if each.load_ms is None)
    counts: dict[str, Any] = {kind: sum(getattr(each, kind) for each in several) for kind in _COUNTS}
    reasons: dict[str, Any] = {kind: all_of(getattr(each, kind) for each in several) for kind in _REASONS}
    return FunctionStats(
        name=name,
        load_ms=load_ms,
        saved_s=sum(each.saved_s for each in several) + unknown * (load_ms or 0.0) / 1000,
        **counts | reasons,
    )


def _function(told: Any) -> FunctionStats:
    name, load_ms = told["name"], told["load_ms"]
    if not isinstance(name, str):
        raise TypeError("a name is text")
    counts: dict[str, Any] = {kind: _count(told[kind]) for kind in _COUNTS}
    # a process of another version may have reasons that are not known here
    reasons: dict[str, Any] = {
        kind: {Reason[why]: _count(times) for why, times in told[kind].items() if why in Reason.__members__}
        for kind in _REASONS
    }
    return FunctionStats(
        name=name,
        load_ms=None if load_ms is None else _number(load_ms),
        saved_s=_number(told["saved_s"]),
        **counts | reasons,
    )


def _count(told: Any) -> int:
    if type(told) is not int or not 0 <= told < _MAX_NUMBER:
        raise ValueError("a count is a whole number")
    return told


def _number(told: Any) -> float:
    if type(told) not in (int, float) or not -_MAX_NUMBER < told < _MAX_NUMBER:  # NaN is neither
        raise ValueError("seconds are a number")
    return float(told)
