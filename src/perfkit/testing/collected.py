"""What the tests of a run found, in one process or in several: merged, and said at the end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from perfkit.loading import Finding, Kind, Origin

_RULES = ("over", "met", "idle")


class Collected:
    """Findings by key; and ignore rules as they read: those that are over, have met something, or nothing so far."""

    def __init__(self) -> None:
        self._findings: dict[str, Finding] = {}
        self.over: set[str] = set()
        self.met: set[str] = set()
        self.idle: set[str] = set()

    @property
    def unused(self) -> list[str]:
        """Rules that met nothing in any of the tests, or examples of a parametrized one, that they stand for."""
        return sorted(self.idle - self.met)

    @property
    def findings(self) -> list[Finding]:
        """One of each key, sorted by it."""
        return [self._findings[key] for key in sorted(self._findings)]

    def add(self, findings: Iterable[Finding]) -> None:
        """Of those with one key, keep the one that costs most: which test came first is chance."""
        for finding in findings:
            known = self._findings.get(finding.key)
            if known is None or _weight(finding) > _weight(known):
                self._findings[finding.key] = finding

    def to_text(self) -> str:
        """For `merge`, in another process."""
        rules = {name: sorted(getattr(self, name)) for name in _RULES}
        return json.dumps({"findings": [asdict(each) for each in self.findings]} | rules)

    def merge(self, text: str) -> None:
        """Add what another process has found."""
        found = json.loads(text)
        self.add(map(_finding, found["findings"]))
        for name in _RULES:
            getattr(self, name).update(found[name])


def _weight(finding: Finding) -> tuple[Any, ...]:
    place = finding.site or finding.origin
    return finding.statements, finding.parents, "" if place is None else str(place), finding.sql


def _finding(fields: dict[str, Any]) -> Finding:
    made: dict[str, Any] = {**fields, "kind": Kind(fields["kind"])}
    for name in ("origin", "site"):
        made[name] = None if fields[name] is None else Origin(**fields[name])
    return Finding(**made)
