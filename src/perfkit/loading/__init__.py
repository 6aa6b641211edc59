"""What the ORM loads, when, and for how many at once.

    with detect() as window:
        handler()
    for finding in window.findings:
        print(finding)

`ignore` and `Baseline` leave out what is known, and `reports` has where the rest can go.
"""

from __future__ import annotations

from perfkit.loading import reports
from perfkit.loading.baseline import Baseline
from perfkit.loading.detect import Window, detect
from perfkit.loading.findings import Finding, Kind
from perfkit.loading.ignore import Ignore, Ignores, ignore
from perfkit.sqla.origin import Origin

__all__ = [
    "Baseline",
    "Finding",
    "Ignore",
    "Ignores",
    "Kind",
    "Origin",
    "Window",
    "detect",
    "ignore",
    "reports",
]

for _public in (Baseline, Finding, Ignore, Ignores, Kind, Origin, Window, detect, ignore):
    _public.__module__ = __name__
del _public
