"""Time as an object, so that a test can turn it."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Protocol


class Clock(Protocol):
    """Where perfkit reads the time."""

    def monotonic(self) -> float:
        """Seconds that only grow; for durations and expiry inside this process."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970; only ever compared with a server's clock, as a hint."""
        ...


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000


class FrozenClock:
    """Time that stands still until `tick`."""

    def __init__(self) -> None:
        self._monotonic_s, self._wall_ms = SYSTEM.monotonic(), SYSTEM.wall_ms()

    def tick(self, seconds: float | timedelta) -> None:
        """Let `seconds`, or a timedelta, go by."""
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        self._monotonic_s += seconds
        self._wall_ms += int(seconds * 1000)

    def monotonic(self) -> float:
        return self._monotonic_s

    def wall_ms(self) -> int:
        return self._wall_ms


SYSTEM = SystemClock()
