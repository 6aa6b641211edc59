"""Counting the statements of a block, and saying which were too many, and which loop ran them.

Statements are the same if their SQL is before values are filled in: lists of any length in an IN, and the names that
savepoints get, make no difference.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perfkit.loading import Finding
from perfkit.sqla.executions import Did, Execution, noting, open_door
from perfkit.sqla.origin import Stack
from perfkit.testing.lines import source_of

_SAVEPOINT = re.compile(r"sa_savepoint_\d+")
_LONGEST_SQL = 300
_MOST_SHOWN = 12


class Counted:
    """How often each statement ran, and where each time."""

    def __init__(self) -> None:
        self.times: Counter[str] = Counter()
        self._sql: dict[str, str] = {}
        self._stacks: defaultdict[str, Counter[Stack | None]] = defaultdict(Counter)

    @property
    def total(self) -> int:
        return self.times.total()

    def grown_from(self, smaller: Counted) -> list[str]:
        """Statements that ran more often than in `smaller`, what grew most first."""
        grown = {each: times - smaller.times[each] for each, times in self.times.items()}
        return [each for each, more in Counter(grown).most_common() if more > 0]

    def sql(self, each: str) -> str:
        """As it was sent the first time, on one line."""
        text = " ".join(self._sql[each].split())
        return text if len(text) <= _LONGEST_SQL else f"{text[:_LONGEST_SQL]} …"

    def places(self, each: str) -> list[str]:
        """The line that ran it most often, and the loop around that."""
        stacks = self._stacks[each]
        stack, _ = stacks.most_common(1)[0]
        if stack is None or not stack.frames:
            return []
        elsewhere = len(stacks) - 1
        also = f", and from {elsewhere} other place{'s' * (elsewhere > 1)}" if elsewhere else ""
        return [f"run by {stack.origin}{also}", *source_of(stack)]

    def _take(self, execution: Execution) -> None:
        if execution.did in (Did.COMMIT, Did.ROLLBACK):
            return
        compiled: Any = execution.compiled
        text = execution.sql if compiled is None else str(compiled.string)
        each = _SAVEPOINT.sub("sa_savepoint", text)
        self.times[each] += 1
        self._sql.setdefault(each, execution.sql)
        self._stacks[each][getattr(execution, "stack", None)] += 1


@contextmanager
def counting() -> Iterator[Counted]:
    """Count the statements of this context and of tasks that it starts, of whatever engine."""
    counted = Counted()
    close = open_door()
    try:
        with noting(counted._take):  # noqa: SLF001 - made here
            yield counted
    finally:
        close()


def too_many(counted: Counted, at_most: int, root: Path) -> str:
    """What a test says that ran more than it may."""
    first = f"max_queries({at_most}): {_statements(counted.total)} ran"
    listed = [(f"{times} ×", each) for each, times in counted.times.most_common()]
    return _text(first, listed, counted, root)


def not_constant(
    smaller: Counted, larger: Counted, scale: tuple[int, int], root: Path, findings: Iterable[Finding] = ()
) -> str | None:
    """What a test says whose statements grow with the number of rows; None if they do not.

    Where one of `findings` is about such a statement, its fix stands below.
    """
    grown = larger.grown_from(smaller)
    if not grown:
        return None
    first = f"constant_queries: with {scale[1]} in place of {scale[0]}, {_statements(len(grown))} ran more often"
    listed = [(f"{smaller.times[each]} → {larger.times[each]} ×", each) for each in grown]
    fixes = {" ".join(finding.sql.split()): finding.fix for finding in findings}
    listing = _text(first, listed, larger, root, fixes)
    return f"{listing}\n\n  in all {smaller.total} → {larger.total}{_hint(larger, grown)}"


def _text(
    first: str, listed: list[tuple[str, str]], counted: Counted, root: Path, fixes: Mapping[str, str] | None = None
) -> str:
    lines = [first]
    width = max(len(times) for times, _ in listed)
    for times, each in listed[:_MOST_SHOWN]:
        lines += ["", f"  {times:>{width}}  {counted.sql(each)}"]
        below = counted.places(each)
        if fix := (fixes or {}).get(counted.sql(each)):
            below += [f"{'fix' if not number else '   '}  {line}" for number, line in enumerate(fix.splitlines())]
        lines += [f"  {'':>{width}}  {line}" for line in below]
    if len(listed) > _MOST_SHOWN:
        lines += ["", f"  and {len(listed) - _MOST_SHOWN} more"]
    return "\n".join(lines).replace(f"{root}/", "")


def _hint(counted: Counted, grown: list[str]) -> str:
    if not all(counted.sql(each).lstrip("( ").upper().startswith("INSERT") for each in grown):
        return ""
    return "\n  Rows are made in a fixture that asks for `scale`: what a fixture runs is not counted."


def _statements(count: int) -> str:
    return f"{count} statement{'s' * (count != 1)}"
