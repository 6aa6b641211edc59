"""What calls of cached functions came to, one by one, for those who watch over a service."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from perfkit.cache.reasons import Reason

Outcome = Literal["hit", "fill", "shared", "stale", "rescued", "bypass", "refreshed", "violation"]

_log = logging.getLogger("perfkit.cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEvent:
    """What became of one call; the outcomes are those that `CacheStats` counts.

    `reason` is why it was answered by the database, or why what was loaded is not kept. `own_s` is the time that the
    cache itself took, `load_s` that of the function, if it ran.
    """

    function: str
    outcome: Outcome
    reason: Reason | None = None
    own_s: float | None = None
    load_s: float | None = None


Listener = Callable[[CacheEvent], object]


class Listeners:
    """Who wants to be told. What a listener raises is logged, once for each, and reaches no caller."""

    def __init__(self) -> None:
        self._all: tuple[Listener, ...] = ()
        self._failed: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._all)

    def add(self, listener: Listener) -> Callable[[], None]:
        """Tell `listener`. Returns what ends that."""
        self._all = (*self._all, listener)

        def remove() -> None:
            self._all = tuple(each for each in self._all if each is not listener)

        return remove

    def tell(self, event: CacheEvent) -> None:
        for listener in self._all:
            try:
                listener(event)
            except Exception:  # noqa: BLE001 - it is the user's, and no caller's concern
                if id(listener) not in self._failed:
                    self._failed.add(id(listener))
                    _log.exception("a listener to cache events failed; its next failures are not logged")
