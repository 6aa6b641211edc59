"""Findings: what was loaded one by one, too often or for nothing, what it cost, and the code that ends it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from perfkit.sqla.origin import Origin


class Kind(StrEnum):
    """What is wrong."""

    LAZY_LOAD = "lazy_load"
    LOOPED_FETCH = "looped_fetch"
    COLUMN_LOAD = "column_load"
    REPEATED = "repeated"
    DUPLICATE = "duplicate"
    COUNT_IN_LOOP = "count_in_loop"
    CARTESIAN = "cartesian"
    UNUSED_EAGER = "unused_eager"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that costs statements or rows without need.

    `path` begins at the entity of the query that loaded the parents, `Bin.customer.organization`; without the ORM it is
    the table, or the statement. `parents` is how many different ones there were, `statements` what it cost. `origin`
    is the application's line that ran the parents' query, None if that was not seen; `site` the line that touched the
    attribute or ran the statement. `sql` is one of the statements, without its values. `fix` is code to paste in, and
    `key` what the finding is called by lists of known ones: nothing in it changes with a line number.
    """

    kind: Kind
    path: str
    parents: int
    statements: int
    wasted_ms: float
    origin: Origin | None
    site: Origin | None
    sql: str
    fix: str
    confidence: float = 1.0
    detail: str = ""

    @property
    def key(self) -> str:
        """What a baseline calls it: kind, path, module and function.

            lazy_load:Bin.customer@app.bins:list_bins

        The same whatever is written above it in its file, and wherever the file lies.
        """
        place = "" if self.site is None else ":".join(filter(None, (self.site.module, self.site.function)))
        return f"{self.kind}:{self.path}@{place}"

    def __str__(self) -> str:
        lines = [f"{_TITLES[self.kind]}: {on_one_line(self.path)} – {cost_of(self)}"]
        if self.wasted_ms >= 0.05:
            lines[0] += f", {self.wasted_ms:.1f} ms of them without need"
        if self.detail:
            lines.append(f"    {on_one_line(self.detail)}")
        if self.origin is not None and (self.origin != self.site or self.kind in _TOUCHED):
            lines.append(f"    loaded by  {on_one_line(str(self.origin))}")
        if self.site is not None:
            lines.append(f"    {_VERBS[self.kind]:<11}{on_one_line(str(self.site))}")
        lines.append(f"    each ran   {on_one_line(' '.join(self.sql.split())[:160])}")
        fix = map(on_one_line, self.fix.splitlines())
        lines += [f"    {'fix' if not number else '':<11}{line}" for number, line in enumerate(fix)]
        return "\n".join(lines)


def cost_of(finding: Finding) -> str:
    """`5 statements for 5 parents`."""
    statements = f"{finding.statements} statement{'s' * (finding.statements != 1)}"
    return f"{statements} for {'one parent' if finding.parents == 1 else f'{finding.parents} parents'}"


def on_one_line(text: str) -> str:
    """`text` with what ends a line or moves a terminal's cursor written as Python writes it."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


_TITLES = {
    Kind.LAZY_LOAD: "N+1, an attribute loaded for one object at a time",
    Kind.LOOPED_FETCH: "N+1, objects fetched one at a time",
    Kind.COLUMN_LOAD: "N+1, columns loaded for one object at a time",
    Kind.REPEATED: "N+1, one statement run for one value at a time",
    Kind.DUPLICATE: "The same statement with the same values, again and again",
    Kind.COUNT_IN_LOOP: "N+1, rows counted for one parent at a time",
    Kind.CARTESIAN: "Joined collections multiply each other's rows",
    Kind.UNUSED_EAGER: "Loaded eagerly, and never read",
}
_TOUCHED = (Kind.LAZY_LOAD, Kind.COLUMN_LOAD)
_VERBS = dict.fromkeys(Kind, "run by") | dict.fromkeys(_TOUCHED, "touched by")
