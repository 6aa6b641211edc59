"""Detect what is loaded one by one, too often or for nothing, in the statements of a while.

Nothing has to be installed: the listeners are put on when the first window opens, and taken off when the last closes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from types import TracebackType
from typing import Any, Never, ParamSpec, TypeVar, cast

from perfkit.errors import NPlusOneFound
from perfkit.loading.decorating import is_awaited, refuse_unfit, refuse_without_brackets
from perfkit.loading.eager import eager_findings
from perfkit.loading.findings import Finding
from perfkit.loading.impossible import answered_or_refused
from perfkit.loading.lazy import lazy_findings
from perfkit.loading.loops import loop_findings
from perfkit.trace import window as trace
from perfkit.trace.records import Trace

P = ParamSpec("P")
R = TypeVar("R")

_entered: ContextVar[tuple[Window, ...]] = ContextVar("perfkit_detect_entered", default=())

Report = Callable[[Sequence[Finding]], None]


class Window:
    """The statements of one `with detect()`. Findings can be read while it is open, and afterwards."""

    def __init__(self, min_parents: int) -> None:
        self._min_parents = min_parents
        self._window = trace.Window(before_load=answered_or_refused)
        self._known: list[Finding] | None = None
        self._is_open = True

    @property
    def findings(self) -> list[Finding]:
        """Most wasted time first."""
        if self._is_open or self._known is None:
            self._known = findings_in(self._window.trace(), self._min_parents)
        return list(self._known)

    def _open(self) -> None:
        self._window.open()

    def _close(self) -> None:
        self._window.close()
        self._is_open, self._known = False, None


def findings_in(seen: Trace, min_parents: int = 2) -> list[Finding]:
    """What is wrong in a trace, most wasted time first."""
    found = [
        *lazy_findings(seen, min_parents),
        *loop_findings(seen, min_parents),
        *eager_findings(seen, min_parents),
    ]
    return sorted(_merged(found), key=lambda each: each.wasted_ms, reverse=True)


def _merged(found: Iterable[Finding]) -> list[Finding]:
    """One finding for each line, whoever called the function it is in."""
    lines: dict[Hashable, Finding] = {}
    for each in found:
        key = (each.kind, each.path, each.site, each.sql, each.fix)
        if (other := lines.get(key)) is not None:
            each = replace(
                other,
                parents=other.parents + each.parents,
                statements=other.statements + each.statements,
                wasted_ms=other.wasted_ms + each.wasted_ms,
            )
        lines[key] = each
    return list(lines.values())


class detect:  # noqa: N801 - used as a function is
    """A window over the statements of a block, or of each call of a function it decorates.

    Windows are seen by the tasks that they start and by no other threads; they nest. `min_parents` is from how many
    objects on something is an N+1. `report` gets the findings of each window that has some, when it closes.
    """

    def __init__(self, *given: Never, min_parents: int = 2, report: Report | None = None) -> None:
        refuse_without_brackets("detect", given)
        if not isinstance(min_parents, int):
            raise TypeError(f"min_parents={min_parents!r}: must be a whole number")
        if min_parents < 2:
            raise ValueError(f"min_parents={min_parents}: one object alone is never an N+1, so 2 is the least")
        if report is not None and not callable(report):
            raise TypeError(f"report={report!r}: give a function that takes a list of findings, such as reports.log")
        self._min_parents, self._report = min_parents, report
        self._open: list[Window] = []

    def __enter__(self) -> Window:
        window = Window(self._min_parents)
        window._open()  # noqa: SLF001 - its own
        self._open.append(window)
        _entered.set((*_entered.get(), window))
        return window

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # one object may be entered by several tasks or threads: each leaves the window that it has entered itself
        own = [each for each in _entered.get() if each in self._open]
        window = own[-1] if own else self._open[-1]
        self._open.remove(window)
        _entered.set(tuple(each for each in _entered.get() if each is not window))
        window._close()  # noqa: SLF001 - its own
        if self._report is not None and (findings := window.findings):
            with suppress(*(() if error is None else (NPlusOneFound,))):  # the block has an error of its own
                self._report(findings)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """The function, with a window of its own for each call.

        Raises:
            TypeError: it is a class or a generator function, whose body does not run when it is called.
        """
        refuse_unfit("detect()", "with detect() as window:", function)
        if is_awaited(function):
            waiting = cast(Callable[..., Any], function)

            @functools.wraps(function)
            async def watched_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self:
                    return await waiting(*args, **kwargs)

            return cast(Callable[P, R], watched_async)

        @functools.wraps(function)
        def watched(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        return watched
