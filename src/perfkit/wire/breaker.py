"""Breaker: spares callers the wait for a server that has just failed somebody."""

from __future__ import annotations

import logging

from perfkit.clock import SYSTEM, Clock
from perfkit.errors import StoreDown
from perfkit.forks import lock_of

TIMEOUT_S = 0.5  # for one command, unless told otherwise
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0

_log = logging.getLogger("perfkit.wire")


class Breaker:
    """What one server's last answers, or their absence, allow.

    After a failure nobody asks for a pause that doubles up to 5 s; then one caller tries, and its success opens the
    way for all. The first failure and the recovery are logged, nothing in between. Owns that state.
    """

    def __init__(self, name: str = "the store", clock: Clock = SYSTEM) -> None:
        self._name = name
        self._clock = clock
        self._lock = lock_of(self)
        self._pause_s = 0.0
        self._closed_until = 0.0
        self._why = ""

    def check(self) -> None:
        """Returns when the server may be asked.

        Raises:
            StoreDown: not yet.
        """
        if not self._pause_s:
            return
        with self._lock:
            now = self._clock.monotonic()
            if now < self._closed_until:
                again_s = self._closed_until - now
                raise StoreDown(f"{self._name} failed a moment ago ({self._why}); asking again in {again_s:.1f} s")
            # this caller is the one who tries; the others wait a pause more
            self._closed_until = now + self._pause_s

    def failed(self, trouble: BaseException) -> None:
        with self._lock:
            first, self._why = not self._pause_s, str(trouble) or type(trouble).__name__
            self._pause_s = min(max(FIRST_PAUSE_S, self._pause_s * 2), LONGEST_PAUSE_S)
            self._closed_until = self._clock.monotonic() + self._pause_s
        if first:
            _log.warning("%s does not answer (%s): reads go to the database until it does", self._name, self._why)

    def succeeded(self) -> None:
        if not self._pause_s:
            return
        with self._lock:
            again, self._pause_s = bool(self._pause_s), 0.0
        if again:
            _log.warning("%s answers again", self._name)
