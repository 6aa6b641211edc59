"""Reports that need nothing but the standard library: a log line, an exception, a warning."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from perfkit.errors import NPlusOneFound, NPlusOneWarning
from perfkit.loading.detect import Report
from perfkit.loading.findings import Finding, cost_of, on_one_line
from perfkit.sqla.origin import Origin

_log = logging.getLogger("perfkit.loading")
_during: ContextVar[str | None] = ContextVar("perfkit_during", default=None)


@contextmanager
def during(what: str | None) -> Iterator[None]:
    """Inside, reports say that findings are of `what`: a route, a job, a test."""
    before = _during.set(what)
    try:
        yield
    finally:
        _during.reset(before)


def subject() -> str | None:
    """What the innermost `during` named."""
    return _during.get()


def log(findings: Sequence[Finding]) -> None:
    """A warning of the logger `perfkit.loading` for each finding; its facts are fields of the record, `perfkit_…`."""
    for finding in findings:
        place = finding.site or finding.origin
        _log.warning(
            "%s %s: %s%s",
            finding.kind,
            on_one_line(finding.path),
            cost_of(finding),
            "" if place is None else f", at {on_one_line(str(place))}",
            extra={f"perfkit_{name}": value for name, value in facts(finding).items() if value is not None},
        )


def fail(findings: Sequence[Finding]) -> None:
    """Raise NPlusOneFound with all of them."""
    raise NPlusOneFound(findings)


def warn(findings: Sequence[Finding]) -> None:
    """An NPlusOneWarning for each finding, on the line that it is about: a filter may name its module."""
    for finding in findings:
        place = finding.site or finding.origin or Origin("<unknown>", 1, "")
        warnings.warn_explicit(str(finding), NPlusOneWarning, place.file, place.line)


def several(*reports: Report) -> Report:
    """One that runs all of `reports` in order, also after one that raised; the first error is raised at the end."""
    for each in reports:
        if not callable(each):
            raise TypeError(f"several({each!r}): give functions that take a list of findings, such as reports.log")

    def report_to_all(findings: Sequence[Finding]) -> None:
        wrong: list[Exception] = []
        for report in reports:
            try:
                report(findings)
            except Exception as error:  # noqa: BLE001 - raised below, when the others have been told
                wrong.append(error)
        if wrong:
            raise wrong[0]

    return report_to_all


def facts(finding: Finding) -> dict[str, str | int | float | None]:
    """What there is to say of a finding, by names that logs and traces share."""
    return {
        "during": subject(),
        "key": finding.key,
        "kind": str(finding.kind),
        "path": finding.path,
        "parents": finding.parents,
        "statements": finding.statements,
        "wasted_ms": round(finding.wasted_ms, 3),
        "site": None if finding.site is None else str(finding.site),
        "origin": None if finding.origin is None else str(finding.origin),
        "sql": finding.sql,
        "fix": finding.fix,
    }
