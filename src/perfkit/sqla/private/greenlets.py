"""Greenlets: whether this is one in which an async engine can wait, and where it was started from.

await_in_greenlet   sqlalchemy.util.await_                else: await_only, its name before 2.1
in_greenlet         sqlalchemy.util.concurrency           else: False; sync code under `run_sync` blocks
frame_outside_greenlet    greenlet.getcurrent().parent     else: None; lines under an async engine are not found
"""

from __future__ import annotations

from collections.abc import Awaitable
from types import FrameType
from typing import Any, TypeVar

from sqlalchemy import util

try:
    from sqlalchemy.util.concurrency import in_greenlet as _in_greenlet
except ImportError:  # pragma: no cover - a SQLAlchemy that has moved it
    _in_greenlet = None  # type: ignore[assignment]

try:
    from greenlet import getcurrent as _getcurrent  # type: ignore[import-untyped]
except ImportError:  # pragma: no cover - then there is no async engine either
    _getcurrent = None

T = TypeVar("T")

_await: Any = getattr(util, "await_", None) or getattr(util, "await_only", None)


def in_greenlet() -> bool:
    """True under `AsyncSession.run_sync` and inside the events of an async engine."""
    return _in_greenlet is not None and _in_greenlet()


def frame_outside_greenlet() -> FrameType | None:
    """Where the greenlet that this code runs in was started from; None outside of one."""
    current: Any = None if _getcurrent is None else _getcurrent()
    outer = None if current is None else current.parent
    frame: FrameType | None = None if outer is None else outer.gr_frame
    return frame


def await_in_greenlet(awaitable: Awaitable[T]) -> T:
    """Wait for `awaitable` from sync code that an async engine is running."""
    answer: T = _await(awaitable)
    return answer
