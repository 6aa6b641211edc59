"""What both middlewares do with a request: a window over it, a header in development, reports when it is over.

A request is answered whatever happens to its window. What detection or a report raises is counted, and the first time
logged; only NPlusOneFound goes on, since that is what `reports.fail` is for.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from perfkit.counters import Counters
from perfkit.errors import NPlusOneFound
from perfkit.loading import Finding, Window, detect, reports
from perfkit.loading.detect import Report
from perfkit.sqla.executions import apart

HEADER = "Perfkit-Findings"
NAMED_IN_HEADER = 3
LONGEST_HEADER = 300  # servers and proxies refuse heads of more than a few thousand bytes in all

Filter = Callable[[Sequence[Finding]], Sequence[Finding]]
_log = logging.getLogger("perfkit.loading")


class Requests:
    """The options of a middleware, and what has become of its requests."""

    def __init__(
        self,
        *,
        report: Report = reports.log,
        left: Filter | None = None,
        header: bool = False,
        sample: float = 1.0,
        min_parents: int = 2,
        draw: Callable[[], float] = random.random,
    ) -> None:
        if not 0.0 <= sample <= 1.0:
            raise ValueError(f"sample={sample!r}: give the part of the requests to watch, from 0.0 to 1.0")
        detect(min_parents=min_parents, report=report)  # refuses what it cannot use
        if left is not None and not callable(left):
            raise TypeError(f"left={left!r}: give a function that says which findings count, such as IGNORED.left")
        self._report, self._left, self.header, self._min_parents = report, left, header, min_parents
        self._sample, self._draw = sample, draw
        self._counters = Counters[str]()
        self._is_told = False

    def are_watched(self) -> bool:
        """Whether the next request is in the sample."""
        return self._sample >= 1.0 or self._draw() < self._sample

    @contextmanager
    def window(self, route: Callable[[], str | None]) -> Iterator[Window | None]:
        """A window over a request; `route` is asked at its end, when it is known. None if none could be opened.

        Windows that are open already, such as that of a test, look at each request by itself.
        """
        with apart():
            yield from self._window(route)

    def _window(self, route: Callable[[], str | None]) -> Iterator[Window | None]:
        detector = detect(min_parents=self._min_parents)
        window = None
        with self.trouble():
            window = detector.__enter__()
        self._counters.add("watched")
        answered = False
        try:
            yield window
            answered = True
        finally:
            if window is not None:
                with suppress(*(() if answered else (NPlusOneFound,))):  # the request has an error of its own
                    self._close(detector, window, route)

    def header_of(self, window: Window) -> str | None:
        """The header's value for what was found so far, `0` for nothing; None if it cannot be told."""
        with self.trouble():
            return summary(self._findings(window))
        return None

    def counts(self) -> dict[str, int]:
        """How many requests were `watched`, how many came `with_findings`, how often any of it failed."""
        return {"watched": 0, "with_findings": 0, "failures": 0} | self._counters.totals()

    @contextmanager
    def trouble(self) -> Iterator[None]:
        """Inside, what is raised is counted, and the first time logged, and goes no further."""
        try:
            yield
        except NPlusOneFound:
            raise
        except Exception:  # noqa: BLE001 - a request must not fail because it was watched
            self._counters.add("failures")
            if not self._is_told:
                self._is_told = True
                _log.exception("looking for N+1 in a request failed; its next failures are counted, and not logged")

    def _close(self, detector: detect, window: Window, route: Callable[[], str | None]) -> None:
        with self.trouble():
            detector.__exit__(None, None, None)
        with self.trouble():
            if found := self._findings(window):
                self._counters.add("with_findings")
                with reports.during(route()):
                    self._report(found)

    def _findings(self, window: Window) -> Sequence[Finding]:
        found = window.findings
        return self._left(found) if self._left is not None and found else found


def summary(findings: Sequence[Finding]) -> str:
    """`2 (lazy_load Bin.customer, repeated bins)`, of printable ASCII: paths may be statements, and hold anything."""
    if not findings:
        return "0"  # so that whoever looks knows that it was looked for
    names = [f"{finding.kind} {finding.path}" for finding in findings[:NAMED_IN_HEADER]]
    rest = "" if len(findings) <= NAMED_IN_HEADER else ", …"
    text = f"{len(findings)} ({', '.join(names)}{rest})".replace("…", "...")
    printable = "".join(letter if " " <= letter <= "~" else "?" for letter in text)
    return printable if len(printable) <= LONGEST_HEADER else f"{printable[: LONGEST_HEADER - 4]}...)"
