"""Findings as breadcrumbs of Sentry, `detect(report=sentry.report)`: they stand beside the error of their request."""

from __future__ import annotations

from collections.abc import Sequence

from perfkit.errors import MissingExtra
from perfkit.loading import Finding
from perfkit.loading.findings import cost_of
from perfkit.loading.reports.plain import facts

try:
    import sentry_sdk
except ModuleNotFoundError as missing:
    raise MissingExtra(__name__, package="sentry-sdk", extra="sentry") from missing

__all__ = ["report"]


def report(findings: Sequence[Finding]) -> None:
    """A breadcrumb for each, in the current scope."""
    for finding in findings:
        sentry_sdk.add_breadcrumb(
            category="perfkit",
            level="warning",
            message=f"{finding.kind} {finding.path}: {cost_of(finding)}",
            data={name: value for name, value in facts(finding).items() if value is not None},
        )
