"""Collect executions for a while: of a block, a request, a test.

The doors are opened with the first window and closed with the last. A window belongs to a context: tasks that are
started inside it are seen, other threads and other tasks are not. Windows nest; each sees what runs inside it.
"""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from functools import cache

import sqlalchemy

from perfkit.sqla.executions import Execution, noting, open_door
from perfkit.sqla.private import unseen
from perfkit.sqla.reading import reads, untrack
from perfkit.trace.recorder import trace_of
from perfkit.trace.records import Trace

_open: set[object] = set()

MAX_EXECUTIONS = 50_000  # about 50 MB; what runs after them is not looked at


class Window:
    """The executions of one context, from `open` to `close`."""

    def __init__(self) -> None:
        self._executions: list[Execution] = []
        self._exits = ExitStack()
        self._reads: frozenset[tuple[str, int | None]] | None = None
        self._is_closed = False

    def open(self) -> None:
        """Begin."""
        _tell_what_is_not_seen()
        _open.add(self)
        self._exits.callback(open_door())
        self._exits.enter_context(noting(self._take))

    def close(self) -> None:
        """End; what has been seen stays, and tasks that go on add nothing to it."""
        self._is_closed = True
        self._reads = reads()
        _open.discard(self)
        if not _open:
            untrack()
        self._exits.close()

    def trace(self) -> Trace:
        """What has happened so far, as records."""
        return trace_of(tuple(self._executions), reads() if self._reads is None else self._reads)

    def _take(self, execution: Execution) -> None:
        if not self._is_closed and len(self._executions) < MAX_EXECUTIONS:
            self._executions.append(execution)


@cache
def _tell_what_is_not_seen() -> None:
    """Once in a process."""
    if lacking := unseen():
        text = f"SQLAlchemy {sqlalchemy.__version__} is not one that perfkit knows. Not seen: {'; '.join(lacking)}."
        warnings.warn(text, RuntimeWarning, stacklevel=4)
