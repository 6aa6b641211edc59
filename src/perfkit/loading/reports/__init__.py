"""Reports: where findings go.

    detect(report=reports.several(reports.log, reports.to_sarif("findings.sarif")))

Each takes the findings of a window. Those of `perfkit.integrations.opentelemetry` and `.sentry` do too, and so may any
function of yours.
"""

from __future__ import annotations

from perfkit.loading.reports.plain import during, fail, log, several, warn
from perfkit.loading.reports.sarif import to_sarif

__all__ = ["during", "fail", "log", "several", "to_sarif", "warn"]

for _public in (during, fail, log, several, to_sarif, warn):
    _public.__module__ = __name__
del _public
