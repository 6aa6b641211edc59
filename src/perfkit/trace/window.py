"""Collect executions for a while: of a block, a request, a test.

The doors are opened with the first window and closed with the last. A window belongs to a context: tasks that are
started inside it are seen, other threads and other tasks are not. Windows nest; each sees what runs inside it.
"""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from functools import cache

import sqlalchemy

from perfkit.sqla.executions import BeforeLoad, Execution, noting, open_door
from perfkit.sqla.private import run_number, unseen
from perfkit.sqla.reading import forget_reads, reads, untrack
from perfkit.trace.recorder import trace_of
from perfkit.trace.records import Trace

_open: set[Window] = set()

MAX_EXECUTIONS = 50_000  # 0.6 KB each, 4 KB if each is a text of its own; what runs after them is not looked at
MAX_ROWS = 100_000  # of statements with joined eager loads, all together; those of later ones are not kept

_FULL = (
    f"A window has seen {MAX_EXECUTIONS} statements, and does not look at later ones. "
    f"Open one for each request or job, not for the life of a process."
)


class Window:
    """The executions of one context, from `open` to `close`. `before_load` is for `sqla.executions.noting`."""

    def __init__(self, before_load: BeforeLoad | None = None) -> None:
        self._before_load = before_load
        self._executions: list[Execution] = []
        self._exits = ExitStack()
        self._reads: frozenset[tuple[str, int | None]] | None = None
        self._is_closed = False
        self._joined: Execution | None = None  # the last one whose rows are kept, and how many those before it kept
        self._rows = 0
        self._since = 0

    def open(self) -> None:
        """Begin."""
        _tell_what_is_not_seen()
        self._since = run_number()
        _open.add(self)
        self._exits.callback(open_door())
        self._exits.enter_context(noting(self._take, self._before_load))

    def close(self) -> None:
        """End; what has been seen stays, and tasks that go on add nothing to it."""
        self._is_closed = True
        self._reads = reads()
        _open.discard(self)
        if _open:
            forget_reads(before=min(each._since for each in tuple(_open)))  # noqa: SLF001 - of its own class
        else:
            untrack()
        self._exits.close()

    def trace(self) -> Trace:
        """What has happened so far, as records."""
        if len(self._executions) == MAX_EXECUTIONS:
            warnings.warn(_FULL, RuntimeWarning, stacklevel=4)
        return trace_of(tuple(self._executions), reads() if self._reads is None else self._reads)

    def _take(self, execution: Execution) -> None:
        if self._is_closed or len(self._executions) == MAX_EXECUTIONS:
            return
        self._executions.append(execution)
        if execution.keeps:
            self._rows += 0 if self._joined is None else len(self._joined.kept or ())
            self._joined = execution
            if self._rows >= MAX_ROWS:
                execution.keeps = 0


@cache
def _tell_what_is_not_seen() -> None:
    """Once in a process."""
    if lacking := unseen():
        text = f"SQLAlchemy {sqlalchemy.__version__} is not one that perfkit knows. Not seen: {'; '.join(lacking)}."
        warnings.warn(text, RuntimeWarning, stacklevel=4)
