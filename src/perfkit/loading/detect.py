"""Detect what is loaded one by one, too often or for nothing, in the statements of a while.

Nothing has to be installed: the listeners are put on when the first window opens, and taken off when the last closes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from perfkit.loading.findings import Finding

P = ParamSpec("P")
R = TypeVar("R")

Report = Callable[[Sequence[Finding]], None]


class Window:
    """The statements of one `with detect()`. Findings can be read while it is open, and afterwards."""

    def __init__(self, min_parents: int) -> None:
        self._min_parents = min_parents

    @property
    def findings(self) -> list[Finding]:
        """Most wasted time first."""
        return []

    def _close(self) -> None: ...


class detect:  # noqa: N801 - used as a function is
    """A window over the statements of a block, or of each call of a function it decorates.

    Windows are seen by the tasks that they start and by no other threads; they nest. `min_parents` is from how many
    objects on something is an N+1. `report` gets the findings of each window that has some, when it closes.
    """

    def __init__(self, *, min_parents: int = 2, report: Report | None = None) -> None:
        if min_parents < 2:
            raise ValueError(f"min_parents={min_parents}: one object alone is never an N+1, so 2 is the least")
        self._min_parents, self._report = min_parents, report
        self._open: list[Window] = []

    def __enter__(self) -> Window:
        window = Window(self._min_parents)
        self._open.append(window)
        return window

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        window = self._open.pop()
        window._close()  # noqa: SLF001 - its own
        if self._report is not None and (findings := window.findings):
            self._report(findings)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """The function, with a window of its own for each call."""
        if inspect.iscoroutinefunction(function):
            waiting = cast(Callable[..., Any], function)

            @functools.wraps(function)
            async def watched_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with detect(min_parents=self._min_parents, report=self._report):
                    return await waiting(*args, **kwargs)

            return cast(Callable[P, R], watched_async)

        @functools.wraps(function)
        def watched(*args: P.args, **kwargs: P.kwargs) -> R:
            with detect(min_parents=self._min_parents, report=self._report):
                return function(*args, **kwargs)

        return watched
