"""Findings as SARIF 2.1.0, which code review tools show beside the lines.

Files are named from a root on, never by where the clone happens to lie, and each result has a fingerprint that does not
change with the number of its line.

Source: OASIS, Static Analysis Results Interchange Format (SARIF) Version 2.1.0, sections 3.13 to 3.30.
"""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from perfkit.files import write_whole
from perfkit.loading.detect import Report
from perfkit.loading.findings import Finding, Kind
from perfkit.sqla.origin import Origin

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
ROOT = "ROOT"
RULES = {
    Kind.LAZY_LOAD: "An attribute is loaded for one object at a time",
    Kind.LOOPED_FETCH: "Objects are fetched one at a time",
    Kind.COLUMN_LOAD: "Columns are loaded for one object at a time",
    Kind.REPEATED: "A statement is run for one value at a time",
    Kind.DUPLICATE: "A statement is run with the same values again and again",
    Kind.COUNT_IN_LOOP: "Rows are counted for one parent at a time",
    Kind.CARTESIAN: "Joined collections multiply each other's rows",
    Kind.UNUSED_EAGER: "Something is loaded eagerly and never read",
}


def to_sarif(file: str | os.PathLike[str], *, root: str | os.PathLike[str] = ".") -> Report:
    """A report that keeps `file` up to date with all findings it has been given, each key once.

    For one process; it writes the file anew each time, which is for tests and jobs. Files are named from `root` on.
    """
    found: dict[str, Finding] = {}

    def write_all(findings: Sequence[Finding]) -> None:
        found.update({finding.key: finding for finding in findings})
        write_sarif(Path(file), list(found.values()), root=Path(root))

    return write_all


def write_sarif(file: Path, findings: Iterable[Finding], *, root: Path, known: Container[str] | None = None) -> None:
    """`findings` in `file`, all of it or nothing."""
    document = sarif_of(findings, root=root, known=known)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def sarif_of(findings: Iterable[Finding], *, root: Path, known: Container[str] | None = None) -> dict[str, Any]:
    """The document, sorted by key. With the keys of a baseline, each result says whether it is one of them."""
    kinds = list(Kind)
    rules = [{"id": str(kind), "shortDescription": {"text": RULES[kind]}} for kind in kinds]
    driver = {"name": "perfkit", "version": version("perfkit"), "rules": rules}
    results = [
        _result(finding, kinds.index(finding.kind), root.resolve()) | _state(finding, known)
        for finding in sorted(findings, key=lambda one: one.key)
    ]
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "originalUriBaseIds": {ROOT: {"description": {"text": "Where the project's files are."}}},
                "results": results,
            }
        ],
    }


def _result(finding: Finding, rule: int, root: Path) -> dict[str, Any]:
    place = finding.site or finding.origin
    result: dict[str, Any] = {
        "ruleId": str(finding.kind),
        "ruleIndex": rule,
        "level": "warning",
        "message": {"text": str(finding).replace(f"{root}{os.sep}", "")},
        "locations": [] if place is None else [_location(place, root)],
        "partialFingerprints": {"perfkitKey/v1": finding.key},
        "properties": {
            "path": finding.path,
            "parents": finding.parents,
            "statements": finding.statements,
            "wastedMs": round(finding.wasted_ms, 3),
            "confidence": finding.confidence,
            "sql": finding.sql,
            "fix": finding.fix,
        },
    }
    if finding.origin is not None and place != finding.origin:
        result["relatedLocations"] = [_location(finding.origin, root, "The query that loaded the parents.")]
    return result


def _state(finding: Finding, known: Container[str] | None) -> dict[str, str]:
    return {} if known is None else {"baselineState": "unchanged" if finding.key in known else "new"}


def _location(origin: Origin, root: Path, message: str = "") -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": _artifact(Path(origin.file), root),
            "region": {"startLine": max(origin.line, 1)},
        },
        "logicalLocations": [{"fullyQualifiedName": origin.function, "kind": "function"}],
    }
    return location | ({"message": {"text": message}} if message else {})


def _artifact(file: Path, root: Path) -> dict[str, str]:
    path = (root / file).resolve()  # an absolute one stays what it is
    if path.is_relative_to(root):
        return {"uri": quote(path.relative_to(root).as_posix()), "uriBaseId": ROOT}
    return {"uri": path.as_uri()}
