"""Baseline: the findings that were there when somebody began to look, in a file, so that only new ones count.

    {
      "about": "…",
      "version": 1,
      "known": [
        "lazy_load:Bin.customer@app.bins:list_bins",
        "repeated:users@app.audit:log"
      ]
    }

Each is named by `Finding.key`, which has no number of a line in it; one to a line and sorted, so that a diff shows what
came and what went, and two branches meet only where they touch the same one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from perfkit.errors import BaselineError
from perfkit.files import write_whole
from perfkit.loading.detect import Report
from perfkit.loading.findings import Finding

ABOUT = "Findings that perfkit knew already when this was written; only others count. Remove what has been repaired."
VERSION = 1
MAX_BYTES = 32 * 1024 * 1024


class Baseline:
    """Known findings, and which of them have been seen since. Nothing is written before `write`."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self.known = frozenset(known)
        self._seen: dict[str, None] = {}

    @classmethod
    def read(cls, file: str | os.PathLike[str]) -> Baseline:
        """What `file` has.

        Raises:
            BaselineError: it has something else, or is not there.
        """
        return cls(_known_in(Path(file)))

    def left(self, findings: Sequence[Finding]) -> list[Finding]:
        """Those of `findings` that are new."""
        self._seen.update(dict.fromkeys(finding.key for finding in findings))
        return [finding for finding in findings if finding.key not in self.known]

    def then(self, report: Report) -> Report:
        """A report that passes on to `report` what is new, if anything is."""

        def report_what_is_new(findings: Sequence[Finding]) -> None:
            if left := self.left(findings):
                report(left)

        return report_what_is_new

    @property
    def stale(self) -> list[str]:
        """Known ones that were not seen: repaired, if all that would show them has run."""
        return sorted(self.known - self._seen.keys())

    def write(self, file: str | os.PathLike[str], *, keep_unseen: bool) -> None:
        """Put what was seen into `file`; `keep_unseen` keeps the stale too, as after a run of a part of the tests."""
        keys = self._seen.keys() | (self.known if keep_unseen else frozenset())
        document = {"about": ABOUT, "version": VERSION, "known": sorted(keys)}
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(file), json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _known_in(file: Path) -> list[str]:
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise BaselineError(str(file), "there is no such file") from None
    except OSError as wrong:
        raise BaselineError(str(file), f"cannot be read ({wrong})") from wrong
    if len(raw) > MAX_BYTES:
        raise BaselineError(str(file), f"has more than {MAX_BYTES} bytes")
    try:
        document: Any = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as wrong:
        raise BaselineError(str(file), f"cannot be read ({wrong})") from wrong
    except json.JSONDecodeError as wrong:
        raise BaselineError(str(file), f"is no JSON from line {wrong.lineno} on ({wrong.msg})") from wrong
    except (ValueError, RecursionError) as wrong:  # a number of thousands of digits, brackets in brackets
        raise BaselineError(str(file), f"cannot be read ({wrong})") from wrong
    if not isinstance(document, dict) or "known" not in document:
        raise BaselineError(str(file), 'is no baseline: it has no list "known"')
    if document.get("version") != VERSION:
        raise BaselineError(str(file), f"is of version {document.get('version')!r}, and this perfkit reads {VERSION}")
    known = document["known"]
    if not isinstance(known, list) or not all(isinstance(key, str) for key in known):
        raise BaselineError(str(file), '"known" is no list of texts')
    return known
