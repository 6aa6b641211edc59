"""What the ORM loads: what it costs to look for N+1, and what batching lazy loads costs and saves."""

from __future__ import annotations

from typing import Any

from benchmarks import batching, detecting


def run(*, quick: bool) -> dict[str, Any]:
    """Print and return the tables of both."""
    # first: the listeners that peers leave behind keep sessions from being batched
    batched = batching.run(quick=quick)
    return {"batching": batched, "detecting": detecting.run(quick=quick)}
