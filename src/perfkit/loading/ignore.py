"""Ignore rules: findings that somebody has looked at and left, each with a reason and, if it is to end, a day.

    ignored = Ignores(
        ignore("Bin.customer", at="app.jobs.*", until="2027-01-01", reason="nightly, 20 rows"),
        models=Base,
    )
    with detect(report=ignored.then(reports.log)): ...

Lists of ignores go stale in three ways, and each is told: a path that names nothing is an error where the list is made,
a rule whose day has come lets the finding through again, and one that met nothing is in `unused`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import PurePath
from typing import Any

from sqlalchemy import Table
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import DeclarativeBase, Mapper, RelationshipProperty, class_mapper, registry
from sqlalchemy.orm.exc import UnmappedClassError

from perfkit.clock import SYSTEM, Clock
from perfkit.errors import LoadingDeclarationError, UnknownPath
from perfkit.loading.detect import Report
from perfkit.loading.findings import Finding
from perfkit.sqla.origin import Origin

Models = type[DeclarativeBase] | registry | Iterable[type]

_WILD = frozenset("*?[")
_log = logging.getLogger("perfkit.loading")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignore:
    """One rule; `ignore` makes it."""

    path: str
    at: str
    until: date | None
    reason: str

    def __str__(self) -> str:
        where = "" if self.at == "*" else f" at {self.at}"
        end = "" if self.until is None else f" until {self.until}"
        return f"{self.path}{where}{end} ({self.reason})"

    def concerns(self, finding: Finding) -> bool:
        """Whether it is about `finding`, whatever the day."""
        return fnmatchcase(finding.path, self.path) and _stands_at(finding.site or finding.origin, self.at)

    def is_over(self, today: date) -> bool:
        return self.until is not None and today >= self.until


def ignore(path: str, *, reason: str, at: str = "*", until: str | date | None = None) -> Ignore:
    """A rule that leaves out the findings of `path`, as they give it; `*` stands for anything.

    `at` is where the attribute was touched or the statement run: modules and function with dots, `app.jobs.*`, or a
    path of files, `app/jobs/*.py`; both may begin anywhere in the whole. `until` is the first day, in UTC, on which the
    finding counts again.

    Raises:
        LoadingDeclarationError: there is no reason, or `until` is no date.
    """
    if not reason.strip():
        raise LoadingDeclarationError(f"ignore({path!r}): give a reason, for those who find it in a year")
    try:
        day = date.fromisoformat(until) if isinstance(until, str) else until
    except ValueError:
        raise LoadingDeclarationError(f"ignore({path!r}, until={until!r}): give a date as 2027-01-31") from None
    return Ignore(path=path, at=at, until=day, reason=reason)


class Ignores:
    """Rules, and what has become of them: which are over and would still be needed, which met nothing.

    `models` are what the paths are checked against: the declarative base, a registry, or mapped classes.

    Raises:
        UnknownPath: a rule names what is not there.
    """

    def __init__(self, *rules: Ignore, models: Models, clock: Clock = SYSTEM) -> None:
        for rule in rules:
            if not isinstance(rule, Ignore):
                raise LoadingDeclarationError(f"Ignores({rule!r}): give rules as ignore('Bin.customer', reason=…)")
            check_path(rule.path, models)
        self.rules, self._clock = rules, clock
        self._met: dict[Ignore, None] = {}
        self._over: dict[Ignore, None] = {}

    def left(self, findings: Sequence[Finding]) -> list[Finding]:
        """Those of `findings` that no rule leaves out."""
        today = datetime.fromtimestamp(self._clock.wall_ms() / 1000, UTC).date()
        return [finding for finding in findings if not self._leaves_out(finding, today)]

    def then(self, report: Report) -> Report:
        """A report that passes on to `report` what is left, if anything is."""

        def report_what_is_left(findings: Sequence[Finding]) -> None:
            if left := self.left(findings):
                report(left)

        return report_what_is_left

    @property
    def over(self) -> list[Ignore]:
        """Rules whose day has come although what they left out is still found."""
        return list(self._over)

    @property
    def unused(self) -> list[Ignore]:
        """Rules that have met nothing so far."""
        return [rule for rule in self.rules if rule not in self._met]

    def _leaves_out(self, finding: Finding, today: date) -> bool:
        concerning = [rule for rule in self.rules if rule.concerns(finding)]
        self._met.update(dict.fromkeys(concerning))
        valid = [rule for rule in concerning if not rule.is_over(today)]
        if concerning and not valid:
            for rule in concerning:
                if rule not in self._over:
                    self._over[rule] = None
                    _log.warning("an ignore rule is over, and what it left out is still found: %s", rule)
        return bool(valid)


def _stands_at(origin: Origin | None, at: str) -> bool:
    if at == "*":
        return True
    if origin is None:
        return False
    file = PurePath(origin.file)
    if "/" in at or at.endswith(".py"):
        return _ends_with(file.as_posix(), at, "/")
    parts = [*file.with_suffix("").parts, origin.function.replace(".<locals>", "")]
    return _ends_with(".".join(part for part in parts if part not in ("/", "__init__")), at, ".")


def _ends_with(whole: str, pattern: str, separator: str) -> bool:
    return fnmatchcase(whole, pattern) or fnmatchcase(whole, f"*{separator}{pattern}")


# ---- paths that name something


def check_path(path: str, models: Models) -> None:
    """Raise UnknownPath if a part of `path` is neither a wildcard nor something that `models` have at its place.

    A part with a wildcard may stand for several, so what follows it may be an attribute of any class. A statement, as
    findings give it where they know of no table, names nothing that could be checked.
    """
    if any(letter.isspace() for letter in path):
        return
    every = _mappers(models)
    known: dict[str, list[Mapper[Any]]] = {name: [] for name in _tables(every)}
    for mapper in every:
        known.setdefault(mapper.class_.__name__, []).append(mapper)
    parts = path.split(".")
    for place, part in enumerate(parts):
        if not _is_one_of(part, known):
            raise _unknown(parts, place, known)
        here = every if _WILD & set(part) else known[part]
        known = _attributes(here)


def _is_one_of(part: str, known: Iterable[str]) -> bool:
    """By all of it, or by what stands before its first wildcard: the rest of the path may be in that."""
    fixed = "".join(takewhile(lambda letter: letter not in _WILD, part))
    return part in known if fixed == part else any(name.startswith(fixed) for name in known)


def _attributes(mappers: Iterable[Mapper[Any]]) -> dict[str, list[Mapper[Any]]]:
    """Names of attributes, those of subclasses too, and to which classes each leads."""
    found: dict[str, list[Mapper[Any]]] = {}
    for each in (one for mapper in mappers for one in mapper.self_and_descendants):
        for key, attribute in each.attrs.items():
            targets = [attribute.mapper] if isinstance(attribute, RelationshipProperty) else []
            found.setdefault(key, []).extend(targets)
    return found


def _unknown(parts: list[str], place: int, known: Iterable[str]) -> UnknownPath:
    part, before = parts[place], parts[:place]
    wrong = f"{part!r} is no attribute of {'.'.join(before)}" if before else f"no class and no table is called {part!r}"
    close = get_close_matches(part, sorted(known), n=1)
    nearest = ".".join([*before, close[0], *parts[place + 1 :]]) if close else None
    return UnknownPath(".".join(parts), wrong, nearest)


def _mappers(models: Models) -> list[Mapper[Any]]:
    if isinstance(models, registry):
        return list(models.mappers)
    if isinstance(models, type):
        return list(models.registry.mappers)
    try:
        return [class_mapper(each) for each in models]
    except (TypeError, ArgumentError, UnmappedClassError):
        given = f"models={models!r}: give the declarative base, its registry, or a list of mapped classes"
        raise LoadingDeclarationError(given) from None


def _tables(mappers: Iterable[Mapper[Any]]) -> set[str]:
    mapped = (table for mapper in mappers for table in mapper.tables if isinstance(table, Table))
    return {name for metadata in {table.metadata for table in mapped} for name in metadata.tables}
