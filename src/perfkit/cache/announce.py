"""Tell the store of what a transaction changed, at the commit door."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from perfkit.cache.callers import line_of_caller
from perfkit.cache.explain import brief
from perfkit.cache.runtime import Commits, Runtime
from perfkit.cache.tags import cell_key, tags_of
from perfkit.cache.write import Announced, Writer
from perfkit.errors import CommitRefused
from perfkit.sqla.catalog import Catalog
from perfkit.sqla.changes import Changes
from perfkit.sqla.commits import Outcome
from perfkit.waiting import run_now

MAX_TOLD = 100  # lines

_COMMITS: dict[Announced, Commits] = {
    Announced.MARKED: "marked",
    Announced.UNMARKED: "unmarked",
    Announced.REFUSED: "refused",
}

_log = logging.getLogger("perfkit.cache")


class Announcer:
    """What one cache does at the commits of the engines it watches. Owns which lines it has complained of."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._told: set[str] = set()

    def before(self, catalog: Catalog, changes: Changes) -> Writer | None:
        """Mark. What it returns goes to `after`.

        Raises:
            CommitRefused: see `Writer.mark`.
        """
        if changes.everything:
            catalog.forget()
        relations = catalog.relations
        beside = self._runtime.known.beside(changes, relations)
        tags = sorted(tags_of(changes, relations.kin).union(beside))  # all in one order
        if not tags or self._runtime.policy.mode == "ttl":
            return None
        writer = self.writer(tags, suspending=False)

        def meanwhile() -> None:
            where = line_of_caller()
            self._runtime.bumps.note(tags, where)
            if changes.unread:
                self._tell_unread(changes.unread, where)

        try:
            run_now(writer.mark(meanwhile))
        except CommitRefused:
            self._count(writer, is_bumped=True)
            raise
        return writer

    def after(self, writer: Writer, outcome: Outcome) -> None:
        """Bump, if it is certain what became of the commit."""
        self._count(writer, is_bumped=run_now(writer.end(is_certain=outcome is not Outcome.UNKNOWN)))

    def writer(self, tags: Sequence[str], *, suspending: bool) -> Writer:
        """Who marks and bumps the cells of `tags`.

        Raises:
            StoreDown: not connected.
        """
        runtime, ports = self._runtime, self._runtime.connected(suspending=suspending)
        return Writer(
            [cell_key(runtime.namespace, tag) for tag in tags],
            policy=runtime.policy,
            store=ports.store,
            arrears=runtime.arrears,
            waiting=ports.waiting,
            changed=runtime.near.changed,
        )

    def judge_idle_limit(self, name: str, found_ms: int) -> None:
        """Warn, if a transaction may stand idle for longer than its mark is safe."""
        policy = self._runtime.policy
        if 0 < found_ms <= policy.mark_hold_ms / 2:
            return
        _log.warning(
            "cache %r: %s is %s, so a process that is stopped between its mark and its COMMIT for longer than "
            "mark_hold (%.1f s) would commit unmarked when it goes on. Give Policy(idle_timeout=…), or set it in the "
            "database to at most half of mark_hold.",
            self._runtime.namespace,
            name,
            f"{found_ms / 1000:g} s" if found_ms else "off",
            policy.mark_hold_ms / 1000,
        )

    def _tell_unread(self, sql: str, where: str) -> None:
        """Count it, and say it once for each line."""
        self._runtime.commits.add("unread")
        if where in self._told or len(self._told) >= MAX_TOLD:
            return
        self._told.add(where)
        _log.warning(
            "cache %r: %s commits SQL of which nobody can tell what it writes, so all results are out of date: %s. "
            "Of insert(), update() and delete() it would be known, and of most texts with perfkit[sql].",
            self._runtime.namespace,
            where or "a line that is not known",
            brief(sql),
        )

    def _count(self, writer: Writer, *, is_bumped: bool) -> None:
        self._runtime.commits.add(_COMMITS[writer.announced])
        if not is_bumped:
            self._runtime.commits.add("unbumped")
