"""Findings in OpenTelemetry: an event of the current span for each, and a counter `perfkit.findings`.

    detect(report=opentelemetry.report)

The counter has kind and path as attributes, of which there are as many as the code has places; what differs from
request to request stands in the span only.
"""

from __future__ import annotations

from collections.abc import Sequence

from perfkit.errors import MissingExtra
from perfkit.loading import Finding
from perfkit.loading.reports.plain import facts

try:
    from opentelemetry import metrics, trace
except ModuleNotFoundError as missing:
    raise MissingExtra(__name__, package="opentelemetry-api", extra="otel") from missing

__all__ = ["report"]

# Made before there is a provider: the API passes on to the one that is set later.
_findings = metrics.get_meter("perfkit").create_counter(
    "perfkit.findings", unit="{finding}", description="What was loaded one by one, too often or for nothing."
)


def report(findings: Sequence[Finding]) -> None:
    """Count them, and note each in the current span."""
    span = trace.get_current_span()
    for finding in findings:
        kind_and_path = {"perfkit.kind": str(finding.kind), "perfkit.path": finding.path}
        _findings.add(1, kind_and_path)
        if span.is_recording():
            known = {f"perfkit.{name}": value for name, value in facts(finding).items() if value is not None}
            span.add_event("perfkit.finding", known)
