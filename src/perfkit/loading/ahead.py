"""What has been read ahead for one session, and when it must be forgotten.

A lazy load is answered from rows that were read for a sibling, if nothing can have changed them since:

    the same statement     same relation, same loader options, same load of the parents (`sqla.loads.Batch.belongs`)
    the same values        of the parent's columns, as they are in memory now: they are the key
    no write               by this connection since the rows were read, no end of its transaction, no way back to a
                           savepoint (`sqla.written`); what is waiting to be flushed is flushed first, by the plain load
    not asked before       by the same object: who asks again wants to know what is there now

So what other transactions commit meanwhile is the one difference: siblings are read when the first of them is asked,
as by an eager load. Rows that are dropped unread twice, more than half of them, are read ahead no more for that load.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, cast

from sqlalchemy import Result
from sqlalchemy.orm import InstanceState, Mapper, ORMExecuteState, RelationshipProperty, Session

from perfkit.loading.settings import Settings
from perfkit.sqla import loads, private
from perfkit.sqla.siblings import Runs
from perfkit.sqla.written import tell_of_writes

MAX_BATCHES = 64  # that a session holds; the oldest goes first
MAX_STRIKES = 2
MAX_FUTILE = 3  # looks for siblings that found none, per attribute and load
MAX_NOTES = 4096

State = InstanceState[Any]
_INFO = "perfkit.loading"
_MISSING: Any = loads.Missing.MISSING


def ahead_of(session: Session) -> Ahead:
    """What has been read ahead for `session`."""
    found = session.info.get(_INFO)
    if found is None:
        found = session.info[_INFO] = Ahead()
    return cast(Ahead, found)


def is_there(session: Session) -> bool:
    """Whether anything was ever to be read ahead for it."""
    return _INFO in session.info


def take_away(session: Session) -> None:
    """Forget all of it."""
    session.info.pop(_INFO, None)


def quick(relation: RelationshipProperty[Any], state: State) -> Any:
    """What `state` gets for `relation` without a statement; MISSING if SQLAlchemy is to be asked."""
    session = state.session
    if session is None or (ahead := session.info.get(_INFO)) is None:
        return _MISSING
    return ahead.quick(session, relation, state)


class Ahead:
    """Rows for siblings. Owned by one session, which one thread uses at a time."""

    __slots__ = (
        *("__weakref__", "is_heard", "runs"),
        *("_batches", "_connection", "_left_alone", "_names", "_notes", "_produced"),
    )

    def __init__(self) -> None:
        self.runs = Runs()
        self.is_heard = False  # of a statement, by the listener
        self._batches: OrderedDict[tuple[loads.What, float | None], loads.Batch] = OrderedDict()
        self._produced: dict[float, loads.Batch] = {}
        self._connection: Any = None
        self._left_alone: list[tuple[float, float]] = []
        self._names: dict[Any, tuple[str, ...] | None] = {}
        self._notes: Counter[Any] = Counter()

    # ---- answers

    def answer(self, question: loads.Asked, settings: Settings) -> Result[Any] | None:
        """The result of a lazy load; None if it is to be sent as it is."""
        session, state, what = question.session, question.state, question.what
        if session.autoflush and not private.is_clean(session):
            return None
        if not session.in_transaction():
            self.drop()  # one that joined a connection's transaction ends its own by a savepoint's release
        batch = self._batches.get((what, private.run_of(state)))
        if batch is None or not batch.belongs(state) or not batch.answers(question):
            batch = self._read(question, settings)
        elif (key := self._key(batch, state)) not in batch.rows:
            batch = None if key is None else self._read(question, settings)
        key = None if batch is None else self._key(batch, state)
        if batch is None or key not in batch.rows or batch.replay.is_busy:
            return None
        return self._give(batch, state, key, question.execution)

    def _give(self, batch: loads.Batch, state: State, key: loads.Key, execution: ORMExecuteState) -> Result[Any]:
        run = private.run_of(state)
        try:
            found = batch.give(state, key, None if batch.replay.is_flat and batch.is_relation else execution)
        except BaseException:
            self._forget(batch)
            raise
        if not batch.is_relation:
            private.regroup(state, run)  # it is still one of those that it came with
        return private.result_of(["entity"], None, [True], [(entity,) for entity in found])

    def quick(self, session: Session, relation: RelationshipProperty[Any], state: State) -> Any:
        """The value itself, where nothing but rows is needed for it."""
        batch = self._batches.get((relation, private.run_of(state)))
        if batch is None or not batch.is_quick or batch.replay.is_busy or not batch.is_for(state):
            return _MISSING
        if not session.in_transaction() or (session.autoflush and not private.is_clean(session)):
            return _MISSING
        if batch.is_async and not private.in_greenlet():
            return _MISSING
        names = self._names.get((relation, state.mapper))
        key = _value(state, state.dict, names)
        if key is None or (rows := batch.rows.get(key)) is None or (len(rows) > 1 and not relation.uselist):
            return _MISSING
        if batch.by_identity and _is_held(session, relation, key):
            return _MISSING
        try:
            found = batch.give(state, key, None)
        except BaseException:
            self._forget(batch)
            raise
        if relation.uselist:
            return found
        return found[0] if found else None

    # ---- reading

    def _read(self, question: loads.Asked, settings: Settings) -> loads.Batch | None:
        state, what = question.state, question.what
        mark = (what, private.run_of(state))
        if mark[1] is None or self._notes["strike", mark] >= MAX_STRIKES or self._notes["futile", mark] >= MAX_FUTILE:
            return None
        self._notes["asked", mark] += 1
        if self._notes["asked", mark] < settings.wanted(what):
            return None
        columns = tuple(question.binds.values())
        key = _value(state, state.dict, self._names_of(what, state.mapper, columns))
        if key is None:
            return None
        before = self._batches.get(mark)
        batch = loads.begin(
            question,
            key,
            self._others(question, columns),
            most=settings.max_batch,
        )
        if batch is None:
            self._note("futile", mark)
            return None
        batch.tally = settings.tally
        settings.tally.add("batches")
        settings.tally.add("prefetched", len(batch.rows))
        if before is not None and self._batches.get(mark) is before:
            self._forget(before)
        if isinstance(what, loads.Columns) and state.expired:
            self._forget_relations_of(mark[1])
        self._hold(mark, batch)
        return batch

    def _hold(self, mark: tuple[loads.What, float | None], batch: loads.Batch) -> None:
        self._batches[mark] = batch
        if batch.is_relation:
            self._produced[batch.replay.run] = batch
        while len(self._batches) > MAX_BATCHES:
            self._forget(next(iter(self._batches.values())))
        if batch.connection is not self._connection:
            self._connection = batch.connection
            tell_of_writes(batch.connection, self.drop)

    def _others(self, question: loads.Asked, columns: tuple[Any, ...]) -> Iterator[loads.Key]:
        """The keys of siblings that would load the same, and of those that are still rows."""
        session, state, what = question.session, question.state, question.what
        fetched = what if question.by_identity and isinstance(what, RelationshipProperty) else None
        options, path, session_id = state.load_options, state.load_path, state.session_id
        for each in self.runs.siblings(session, state):
            have = each.dict
            if (
                each.session_id == session_id
                and each.key is not None
                and question.is_unloaded(each, have)
                and (each.load_options is options or each.load_options == options)
                and (each.load_path is path or each.load_path == path)
            ):
                names = self._names_of(what, each.mapper, columns)
                key = _value(each, have, names)
                if key is None and names and not all(name in have for name in names):
                    key = self._value_ahead(each, columns)
                if key is not None and not (fetched is not None and _is_held(session, fetched, key)):
                    yield key
        producer = self._produced.get(private.run_of(state) or 0.0)
        take = None if producer is None else _taking(producer, columns, state)
        if producer is None or take is None:
            return
        for row in producer.unread():
            key = _complete(take(row))
            if key is not None and not (fetched is not None and _is_held(session, fetched, key)):
                yield key

    def _value_ahead(self, state: State, columns: tuple[Any, ...]) -> loads.Key | None:
        """The key of one that has not got its columns yet, from a row that was read for it."""
        for (what, run), batch in self._batches.items():
            if run == private.run_of(state) and isinstance(what, loads.Columns) and what.mapper is state.mapper:
                rows = batch.rows.get(_identity(state))
                take = _taking(batch, columns, state)
                if rows and take is not None and (key := _complete(take(rows[0]))) is not None:
                    return key
        return None

    def _key(self, batch: loads.Batch, state: State) -> loads.Key | None:
        return _value(state, state.dict, self._names_of(batch.what, state.mapper, batch.columns))

    def _names_of(self, what: loads.What, mapper: Mapper[Any], columns: tuple[Any, ...]) -> tuple[str, ...] | None:
        """The attributes that hold the key; none for the identity."""
        try:
            return self._names[what, mapper]
        except KeyError:
            names = () if isinstance(what, loads.Columns) else loads.key_names(mapper, columns)
            self._names[what, mapper] = names
            return names

    # ---- forgetting

    def drop(self) -> None:
        """Forget all rows: they may not be what is there any more."""
        for batch in list(self._batches.values()):
            if 2 * len(batch.used) < len(batch.rows):
                self._note("strike", (batch.what, batch.run))
            self._forget(batch)
        self._produced.clear()

    def _forget_relations_of(self, run: float | None) -> None:
        for batch in [each for each in self._batches.values() if each.run == run and each.is_relation]:
            self._forget(batch)

    def _forget(self, batch: loads.Batch) -> None:
        if self._batches.get((batch.what, batch.run)) is not batch:
            return
        del self._batches[batch.what, batch.run]
        self._produced.pop(batch.replay.run, None)
        if batch.tally is not None:
            batch.tally.add("dropped", len(batch.rows) - len(batch.used))
        Settings.learn(batch.what, len(batch.rows), len(batch.used))

    def _note(self, kind: str, mark: Any) -> None:
        if len(self._notes) > MAX_NOTES:
            self._notes.clear()
        self._notes[kind, mark] += 1

    # ---- what is left alone

    def leave_alone(self, execute: Callable[[], Result[Any]]) -> Result[Any]:
        """What `execute` loads is not batched, nor what is loaded lazily from there."""
        first = private.new_run()
        result = execute()
        last = private.new_run()
        if first is not None and last is not None:
            self._left_alone.append((first, last))
            del self._left_alone[:-MAX_NOTES]
        return result

    def leave_alone_from_now(self) -> None:
        """What the statement that runs now loads is not batched."""
        if (run := private.new_run()) is not None:
            self._left_alone.append((run, math.inf))

    def until_now(self) -> None:
        """That statement is over, or has begun to load eagerly what it will call for itself."""
        self.is_heard = True
        if self._left_alone and self._left_alone[-1][1] == math.inf:
            self._left_alone[-1] = (self._left_alone[-1][0], private.new_run() or math.inf)

    def is_left_alone(self, state: State) -> bool:
        run = private.run_of(state)
        return run is not None and any(first < run < last for first, last in self._left_alone)


def _value(state: State, have: dict[str, Any], names: tuple[str, ...] | None) -> loads.Key | None:
    """The key, if all of it is loaded and none of it is NULL."""
    if names is None:
        return None
    if not names:
        return _identity(state)
    try:
        return _complete((have[names[0]],) if len(names) == 1 else tuple([have[name] for name in names]))
    except KeyError:
        return None


def _identity(state: State) -> loads.Key:
    assert state.key is not None
    return state.key[1]


def _taking(batch: loads.Batch, columns: tuple[Any, ...], state: State) -> Callable[[Any], loads.Key] | None:
    """What takes the same out of a row of `batch` that is no entity yet."""
    return batch.replay.taking(state.mapper.primary_key if columns and columns[0] is None else columns)


def _complete(key: loads.Key) -> loads.Key | None:
    try:
        return None if None in key or hash(key) is None else key
    except TypeError:
        return None


def _is_held(session: Session, relation: RelationshipProperty[Any], key: loads.Key) -> bool:
    return relation.mapper.identity_key_from_primary_key(key) in session.identity_map
