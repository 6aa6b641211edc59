"""Tell the store of what a transaction changed, at the commit door."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from perfkit.cache.bumps import Bumps
from perfkit.cache.callers import line_of_caller
from perfkit.cache.tags import tags_of
from perfkit.cache.write import Announced, Writer
from perfkit.errors import CommitRefused
from perfkit.sqla.catalog import Catalog, Relations
from perfkit.sqla.changes import Changes
from perfkit.sqla.commits import Outcome
from perfkit.waiting import run_now


class Announcer:
    """What one cache does at the commits of the engines it watches."""

    def __init__(
        self,
        writer: Callable[[list[str]], Writer | None],
        count: Callable[[Announced, bool], None],
        bumps: Bumps,
        beside: Callable[[Changes, Relations], Iterable[str]],
        tell_unread: Callable[[str, str], None],
    ) -> None:
        """`beside`: what the relations of the database add to a transaction's own tags.

        `tell_unread` is told of SQL that makes everything out of date, and of the line that commits it.
        """
        self._beside = beside
        self._tell_unread = tell_unread
        self._writer = writer
        self._count = count
        self._bumps = bumps

    def before(self, catalog: Catalog, changes: Changes) -> Writer | None:
        """Mark. What it returns goes to `after`.

        Raises:
            CommitRefused: see `Writer.mark`.
        """
        if changes.everything:
            catalog.forget()
        relations = catalog.relations
        tags = sorted(tags_of(changes, relations.kin).union(self._beside(changes, relations)))  # all in one order
        writer = self._writer(tags)
        if writer is None:
            return None

        def meanwhile() -> None:
            where = line_of_caller()
            self._bumps.note(tags, where)
            if changes.unread:
                self._tell_unread(changes.unread, where)

        try:
            run_now(writer.mark(meanwhile))
        except CommitRefused:
            self._count(writer.announced, True)
            raise
        return writer

    def after(self, writer: Writer, outcome: Outcome) -> None:
        """Bump, if it is certain what became of the commit."""
        self._count(writer.announced, run_now(writer.end(is_certain=outcome is not Outcome.UNKNOWN)))
