"""What the ORM loads, when, and for how many at once.

with detect() as window:
    handler()
for finding in window.findings:
    print(finding)
"""

from __future__ import annotations

from perfkit.loading.detect import Window, detect
from perfkit.loading.findings import Finding, Kind
from perfkit.sqla.origin import Origin

__all__ = ["Finding", "Kind", "Origin", "Window", "detect"]

for _public in (Finding, Kind, Origin, Window, detect):
    _public.__module__ = __name__
del _public
