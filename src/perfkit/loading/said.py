"""What the loader options of a statement say, in the statement's own words: what a fix keeps, and what it replaces."""

from __future__ import annotations

from perfkit.loading import fixes
from perfkit.loading.shapes import alias_of
from perfkit.sqla.private import strategies_of
from perfkit.trace.records import Path, Query, path_of

_WORDS = {
    "joined": "joinedload",
    False: "joinedload",
    "selectin": "selectinload",
    "subquery": "subqueryload",
    "immediate": "immediateload",
    "select": "lazyload",
    True: "lazyload",
}
_EAGER = frozenset({"joinedload", "selectinload", "subqueryload"})


class Said:
    """The options of one query. `alias` is how it calls its root, None if that is the class itself."""

    def __init__(self, query: Query | None, root: Path) -> None:
        statement = None if query is None else query.statement
        self.alias = None if query is None or not root else alias_of(query, root[0].owner)
        self._strategies = {
            path_of(parts): strategy
            for parts, strategy in strategies_of(statement).items()
            if not any(isinstance(part, str) for part in parts)  # what `load_only` says of all other columns
        }

    @property
    def eager(self) -> list[Path]:
        """What it loads with its objects, as far as it says so."""
        return [path for path in self._strategies if self.word(path) in _EAGER]

    def word(self, path: Path) -> str:
        """What is said of the end of `path`: `lazyload`, `defer`; empty if nothing is, or nothing that matters here."""
        strategy = self._strategies.get(path, {})
        return "defer" if strategy.get("deferred") else _WORDS.get(strategy.get("lazy"), "")

    def steps(self, path: Path, otherwise: str) -> list[str]:
        """The options along `path`, each as it is said, or else `otherwise`."""
        return [
            f"{self.word(path[: place + 1]) or otherwise}({fixes.attribute_of(path, place, self.alias)})"
            for place in range(len(path))
        ]

    def replaced(self, path: Path, by: str, line: int | None = None) -> str:
        """The statement with `by` for the end of `path`, or without anything, in place of what is said there."""
        *outer, last = self.steps(path, "defaultload")
        kept = [*outer, *([f"{by}({fixes.attribute_of(path, len(path) - 1, self.alias)})"] if by else [])]
        options = f".options({'.'.join(kept)})" if kept else ""
        return fixes.instead(path, options, ".".join([*outer, last]), root=self.alias, line=line)
