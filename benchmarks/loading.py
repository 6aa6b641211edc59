"""What the ORM loads: what it costs to look for N+1, and what batching lazy loads costs and saves."""

from __future__ import annotations

from typing import Any

from benchmarks import batching, detecting


def run(*, quick: bool) -> dict[str, Any]:
    """Print and return the tables of both."""
    return {"detecting": detecting.run(quick=quick), "batching": batching.run(quick=quick)}
