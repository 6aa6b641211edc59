"""Time as an object, so that a test can turn it."""

from __future__ import annotations

import time
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


SYSTEM = SystemClock()
