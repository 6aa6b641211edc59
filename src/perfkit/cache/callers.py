"""The line of the application that called: for what is told of it, and for warnings that point at it."""

from __future__ import annotations

import inspect
import sys
import warnings

_OURS = frozenset({"perfkit", "sqlalchemy", "contextlib", "asyncio", "greenlet", "threading"})


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at that line; without one, here."""
    file, _, line = line_of_caller().rpartition(":")
    warnings.warn_explicit(message, category, file or __file__, int(line or 1))


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
