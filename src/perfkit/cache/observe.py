"""One load, watched: what it reads, and the versions that this had just before it was read.

What was expected is captured before the load. A statement that reads anything else has its cells captured here, just
before it runs: from then on the argument of cache/read.py holds for what it reads. So the first load of a function
costs one round trip for each statement, and later ones none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from perfkit.cache.callers import line_of_caller
from perfkit.cache.cells import Version, is_dirty, version_of
from perfkit.cache.read import Bearing, Filled, Hit, Older
from perfkit.cache.reasons import Reason
from perfkit.cache.relations import Declared, Unknown
from perfkit.cache.runtime import Runtime
from perfkit.errors import StoreDown
from perfkit.sqla.reads import Reads, reads_of
from perfkit.sqla.sessions import Carrier, connections_of, is_snapshot, reads_uncommitted
from perfkit.sqla.statements import writes_of
from perfkit.sqla.watching import watchers
from perfkit.waiting import run_now

MAX_FINE = 64  # rows and conditions of one table; beyond, the table itself is one cell


class Statement(NamedTuple):
    """One statement that a load ran, for those who ask why; or a cached function that it called, in parentheses."""

    sql: str
    tags: tuple[str, ...]
    where: str


class Observation:
    """What one load has read so far. `unfit` says why its result must not be kept, `why` more of it for people."""

    def __init__(
        self, runtime: Runtime, own: Declared, carriers: Sequence[Carrier] = (), *, explains: bool = False
    ) -> None:
        self.unfit: Reason | None = None
        self.why = ""
        self.runtime = runtime
        self.statements: list[Statement] | None = [] if explains else None
        self._own, self._carriers = own, carriers
        self._seen: dict[bytes, None] = {}
        self._snapshots: dict[Connection, frozenset[bytes]] = {}  # what was captured before each began
        self._captured: dict[bytes, Version] = {}
        self._before: frozenset[bytes] = frozenset()
        self._observed: dict[bytes, None] = {}
        self._fine: dict[str, int] = {}
        self.has_read = False
        self.fills_anew = False  # whether what the session held already was filled anew, too
        self._is_open = explains

    def begin(self, captured: Mapping[bytes, Version]) -> None:
        """The versions of tags that were captured before the load."""
        self._captured = dict(captured)
        self._before = frozenset(captured)
        self._is_open = True

    def refuse(self, reason: Reason, why: str = "") -> None:
        """Its result is not one for others. The first reason counts."""
        if self.unfit is None:
            self.unfit, self.why = reason, why

    def held(self) -> None:
        """The session has handed out an entity that it had before."""
        self.refuse(Reason.IDENTITY_MAP)

    @property
    def observed(self) -> tuple[bytes, ...]:
        return tuple(self._observed)

    @property
    def seen(self) -> tuple[bytes, ...]:
        """What it read, captured in time or not: what the next load will most likely read."""
        return tuple(self._seen)

    @property
    def was_foreseen(self) -> bool:
        """Whether all that it read had been captured before it began."""
        return self._observed.keys() <= self._before

    def bearing(self, known: Sequence[bytes]) -> Bearing:
        """The tags of its entry, those `known` first, and their versions."""
        tags = tuple(dict.fromkeys([*known, *self._observed]))
        return Bearing(tags, tuple(self._captured[tag] for tag in tags))

    def before_statement(self, connection: Connection, context: Any, sql: str) -> None:
        """See `sqla.watching`."""
        if not self._is_open or (self.unfit not in (None, Reason.SNAPSHOT) and self.statements is None):
            return
        self.has_read = True
        self.fills_anew = self.fills_anew or bool(context.execution_options.get("populate_existing"))
        tags = self._coarse(self._tags(connection, context, sql))
        self._seen.update(dict.fromkeys(tags))
        if self.statements is not None:
            names = tuple(tag.decode(errors="replace") for tag in tags)
            self.statements.append(Statement(sql, names, line_of_caller()))
        if is_snapshot(connection):
            self._observe_snapshot(connection, tags)
        else:
            self._observe(tags)

    def took(self, runtime: Runtime, bearing: Bearing | None, name: str) -> None:
        """The load was given what the cached function `name` has kept, or would have kept, under this bearing."""
        self.has_read = True
        if self.statements is not None and bearing is not None:
            names = tuple(tag.decode(errors="replace") for tag in bearing.tags)
            self.statements.append(Statement(f"(kept by {name})", names, line_of_caller()))
        if runtime is not self.runtime or bearing is None:
            self.refuse(Reason.UNKNOWN_READS, "it calls a function that another cache, or one without tags, answered")
            return
        for tag, version in zip(*bearing, strict=True):
            if self._captured.setdefault(tag, version) != version:
                self.refuse(Reason.OVERTAKEN)
            self._observed[tag] = None

    def concerned(self, reads: Reads, parameters: Mapping[str, Any]) -> Reads:
        """What of a statement's reads is to be observed."""
        return reads

    def _tags(self, connection: Connection, context: Any, sql: str) -> list[bytes]:
        name = self.runtime.watched.get(connection.dialect)
        if name is None:
            self.refuse(Reason.NOT_WATCHED)
            return []
        if reads_uncommitted(connection):
            self.refuse(Reason.DIRTY_READS)
        writes = writes_of(context.compiled, sql, connection.dialect.name)
        written = [*(each.table.name for each in writes.tables), *sorted(each.relation for each in writes.mentions)]
        if written:
            names = ", ".join(dict.fromkeys(written))
            self.refuse(Reason.LOADER_WROTE, f"a call of it writes {names}, and a hit would not")
        given = _given(context)
        reads = self.concerned(reads_of(context.compiled, sql, connection.dialect.name), given[0])
        if reads.unreadable:
            self.refuse(Reason.UNKNOWN_READS, reads.unreadable)
            return []
        if reads.locks:
            self.refuse(Reason.VOLATILE, "it locks rows, which a kept result would not")
        elif reads.volatile or reads.is_of_now(given):
            names = ", ".join(reads.volatile) or "now"
            self.refuse(Reason.VOLATILE, f"the value of {names} changes by itself: pass it as an argument")
        relations = self.runtime.relations(connection.dialect)
        try:
            tags = self.runtime.known.tags_of(reads, given[0], connection.dialect.name, relations, self._own)
            return [tag.encode(errors="surrogateescape") for tag in dict.fromkeys(tags)]
        except Unknown as unknown:
            self.refuse(Reason.UNKNOWN_READS, str(unknown))
            return []

    def _observe_snapshot(self, connection: Connection, tags: Sequence[bytes]) -> None:
        """The first statement of such a transaction decides what all of them see: capture before it, or not at all.

        Of sessions that were passed it is known that the transaction began after the load did.
        """
        captured = self._snapshots.get(connection)
        if captured is None and any(connection in connections_of(carrier) for carrier in self._carriers):
            self._observe(tags)
            self._snapshots[connection] = frozenset(self._captured)
        elif captured is not None and captured.issuperset(tags):
            self._observe(tags)
        else:
            self.refuse(Reason.SNAPSHOT)

    def _observe(self, tags: Sequence[bytes]) -> None:
        missing = [tag for tag in tags if tag not in self._captured]
        if missing and self.unfit is None:
            self._capture(missing)
        if self.unfit is None:
            self._observed.update(dict.fromkeys(tags))

    def _coarse(self, tags: Sequence[bytes]) -> list[bytes]:
        found: dict[bytes, None] = {}
        for tag in tags:
            family, fine, _ = tag.decode(errors="surrogateescape").replace("?", "#").partition("#")
            if fine and tag not in self._observed:
                self._fine[family] = self._fine.get(family, 0) + 1
                if self._fine[family] > MAX_FINE:
                    tag = family.encode(errors="surrogateescape")
            found[tag] = None
        return list(found)

    def _capture(self, tags: Sequence[bytes]) -> None:
        ports = self.runtime.ports(suspending=False)
        if ports is None:
            self.refuse(Reason.NOT_CONNECTED)
            return
        try:
            seen = run_now(ports.store.ensure(self.runtime.cells(tags)))
        except StoreDown:
            self.refuse(Reason.STORE_DOWN)
            return
        for tag, cell, epoch in zip(tags, seen.values, seen.epochs, strict=True):
            version = version_of(cell, epoch)
            if version is None:
                self.refuse(Reason.MARKED if is_dirty(cell) else Reason.STORE_DOWN)
            else:
                self._captured[tag] = version


def _given(context: Any) -> Sequence[Mapping[str, Any]]:
    """The parameters of an execution, of which SQL for the driver may have no names."""
    if context.compiled is not None:
        return getattr(context, "compiled_parameters", None) or [{}]
    several: Sequence[Any] = context.parameters or [{}]
    return [each if isinstance(each, Mapping) else {str(i): one for i, one in enumerate(each)} for each in several]


def tell_outer(runtime: Runtime, answer: object, name: str) -> None:
    """Let the loads that a call of `name` is part of know what answered it, if they have not seen it loaded."""
    observations = [each for each in watchers() if isinstance(each, Observation)]
    if isinstance(answer, Older):
        for observation in observations:
            observation.refuse(Reason.OLDER)
    elif isinstance(answer, Hit) or (isinstance(answer, Filled) and (answer.shared or answer.is_apart)):
        bearing = answer.kept.bearing if answer.kept is not None and answer.kept.bearing.tags else None
        for observation in observations:
            observation.took(runtime, bearing, name)
