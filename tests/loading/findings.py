"""Findings made by hand, for what is done with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perfkit.loading import Finding, Kind, Origin

ROOT = Path("/srv/shop")


def at(line: int, function: str = "nightly", file: str = "app/jobs/clean.py") -> Origin:
    return Origin(str(ROOT / file), line, function)


def finding(path: str = "Bin.customer", **others: Any) -> Finding:
    facts: dict[str, Any] = {
        "kind": Kind.LAZY_LOAD,
        "path": path,
        "parents": 5,
        "statements": 5,
        "wasted_ms": 12.5,
        "origin": at(10),
        "site": at(12),
        "sql": "SELECT customers.id FROM customers WHERE customers.id = ?",
        "fix": f".options(selectinload({path}))",
    }
    return Finding(**facts | others)
