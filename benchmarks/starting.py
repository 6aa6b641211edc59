"""How long a process takes to start that imports perfkit.cache, beside one that imports what it stands on."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

FLOOR = "import sqlalchemy, redis"
OURS = "import perfkit.cache"


def run(rounds: int) -> dict[str, Any]:
    """Print and return the medians in milliseconds, and the median of the ratios."""
    times: dict[str, list[float]] = {FLOOR: [], OURS: []}
    for number in range(rounds + 1):  # the first one warms up
        for code, its in times.items():
            began_s = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            if number:
                its.append((time.perf_counter() - began_s) * 1000)
    ratio = statistics.median(mine / floor for mine, floor in zip(times[OURS], times[FLOOR], strict=True))
    found = {code: round(statistics.median(its), 1) for code, its in times.items()}
    print(f"A process with {OURS!r}: {found[OURS]:.0f} ms, {ratio:.2f} × one with {FLOOR!r}.")
    return {"ms": found, "ratio": round(ratio, 2)}
