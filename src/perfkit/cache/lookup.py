"""Entities by their primary keys: one as any cached function, many in one round trip and one statement.

The entry of each depends on its own row, whose cells are captured before the load, and on all else that the statement
reads. Only a use of the table that the statement itself restricts to these rows is covered by their tags.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from inspect import isawaitable
from itertools import islice
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, Select, Table, inspect, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper, Session

from perfkit.cache.call import Call, ask, took_by
from perfkit.cache.cells import Version, version_of
from perfkit.cache.declared import Declared
from perfkit.cache.observe import Observation, tell_outer
from perfkit.cache.read import (
    Bearing,
    Filled,
    Hit,
    Kept,
    Question,
    Versions,
    asked_first,
    judge,
    reason_of,
    sealed,
    settle,
)
from perfkit.cache.reasons import Reason
from perfkit.cache.store import Sealed, Seen, Store, put_all
from perfkit.errors import CacheDeclarationError, StoreDown, Unreadable
from perfkit.sqla.reads import Reads, Use, given
from perfkit.sqla.sessions import carrier_in
from perfkit.sqla.watching import watchers

Key = tuple[Any, ...]
Declare = Callable[[Callable[..., Any], Sequence[str]], tuple[Callable[..., Any], Declared]]

_GET = "{prefix}def get(session, {names}): return {wait}session.get(model, ({names},))"


class _Missing(NamedTuple):
    """One that has to be loaded, and what was captured of it before."""

    question: Question
    versions: Versions


class Lookup:
    """Looks up entities of one mapped class, for sync or for async sessions."""

    def __init__(self, model: type, declare: Declare, *, suspends: bool) -> None:
        """`declare` makes a cached function, with tags.

        Raises:
            CacheDeclarationError: `model` is not mapped.
        """
        mapper: Mapper[Any] | None = inspect(model, raiseerr=False)
        if not isinstance(mapper, Mapper):
            raise CacheDeclarationError(f"{model!r} is not mapped: give the class of the entities.")
        self._model, self._mapper = model, mapper
        self._columns: Sequence[ColumnElement[Any]] = mapper.primary_key
        self._tables = [table for table in mapper.tables if isinstance(table, Table)]
        names = [f"key{number}" for number in range(len(self._columns))]
        fields = ",".join(f"{{{name}}}" for name in names)
        tags = [f"{table.name}#{fields}" for table in self._tables if len(table.primary_key.columns) == len(names)]
        scope: dict[str, Any] = {"model": model, "__name__": __name__}  # else it is taken for the application's line
        source = _GET.format(
            prefix="async " if suspends else "", wait="await " if suspends else "", names=", ".join(names)
        )
        exec(source, scope)  # noqa: S102 - numbers
        self.get, self._declared = declare(_called(scope["get"], model, suspends=suspends), tags)
        # never asked for by a key: only its loads are watched
        self._loading = Declared(
            _load_later if suspends else _load_now,
            self._declared.runtime,
            tags=(),
            learns=True,
            reads=self._declared.reads,
            policy=self._declared.policy,
            version=0,
            entities=True,
        )

    def key_of(self, identity: object) -> Key:
        """The primary key as a tuple.

        Raises:
            CacheDeclarationError: it has more or fewer parts than the class's.
        """
        names = [self._mapper.get_property_by_column(column).key for column in self._columns]
        if isinstance(identity, Mapping):
            key: Key = tuple(identity[name] for name in names if name in identity)
        else:
            key = identity if isinstance(identity, tuple) else (identity,)
        if len(key) != len(names):
            raise CacheDeclarationError(
                f"{identity!r} is no primary key of {self._model.__qualname__}, which has {len(names)} "
                f"column(s): {', '.join(names)}."
            )
        return key

    def held(self, session: Any, key: Key) -> Any | None:
        """The entity, if the session has it and would give it without asking the database."""
        sync = carrier_in(session)
        if not isinstance(sync, Session):
            return None
        entity = sync.identity_map.get(self._mapper.identity_key_from_primary_key(key))
        if entity is None or not isinstance(entity, self._model) or inspect(entity).expired:
            return None
        return entity

    async def many(self, session: Any, keys: Iterable[Key]) -> dict[Key, Any]:
        """The entities that there are."""
        found: dict[Key, Any] = {}
        calls: dict[Key, Call] = {}
        unasked: list[Key] = []
        is_part = bool(watchers())  # of a load around it
        for key in dict.fromkeys(keys):
            entity = self.held(session, key)
            if entity is not None:
                found[key] = entity
                continue
            asked = ask(self._declared, (session, *key), {})
            if isinstance(asked, Call):
                calls[key] = asked
                continue
            self._declared.count(asked, took_by(asked))
            if is_part:
                tell_outer(self._declared.runtime, asked, self._declared.keys.name)
            if isinstance(asked, Reason) or not self._take(session, key, asked, found):
                unasked.append(key)
        missing, failed = await self._look(session, calls, found, is_part=is_part) if calls else ({}, [])
        if missing or failed or unasked:
            await self._load(session, calls, missing, [*failed, *unasked], found)
        return {key: entity for key, entity in found.items() if entity is not None}

    def _take(self, session: Any, key: Key, hit: Hit, found: dict[Key, Any]) -> bool:
        try:
            found[key] = self._declared.handed_out(hit.value, (session, *key), {})
        except Unreadable:
            return False
        return True

    async def _look(
        self, session: Any, calls: Mapping[Key, Call], found: dict[Key, Any], *, is_part: bool
    ) -> tuple[dict[Key, _Missing], list[Key]]:
        """What has to be loaded and can be kept, and what has to be loaded."""
        ports, codec = next(iter(calls.values())).ports, self._declared.codec
        missing: dict[Key, _Missing] = {}
        open_: dict[Key, Question] = {}
        failed: dict[Key, Reason] = {}
        try:
            await settle(ports)
            asked = {key: asked_first(call.question) for key, call in calls.items()}
            seen = await ports.store.read([name for names in asked.values() for name in names])
            values, epochs = iter(seen.values), iter(seen.epochs)
            for key, names in asked.items():
                part = Seen(list(islice(values, len(names))), list(islice(epochs, len(names))))
                judged = judge(calls[key].question, part, codec)
                if isinstance(judged, Hit):
                    calls[key].proof.hold(judged.kept, judged.value)
                    self._declared.count(judged, calls[key].took())
                    if is_part:
                        tell_outer(self._declared.runtime, judged, self._declared.keys.name)
                    if not self._take(session, key, judged, found):
                        failed[key] = Reason.UNREADABLE
                elif judged.is_marked:
                    failed[key] = Reason.MARKED
                elif judged.versions is None or judged.looks_elsewhere:
                    open_[key] = judged.question
                else:
                    missing[key] = _Missing(judged.question, judged.versions)
            captured = await _captured([question.before_load for question in open_.values()], ports.store)
            for key, question in open_.items():
                versions = tuple(captured[cell] for cell in question.before_load)
                if None in versions:
                    failed[key] = Reason.MARKED
                else:
                    missing[key] = _Missing(question, cast(Versions, versions))
        except StoreDown as down:
            failed |= dict.fromkeys([key for key in calls if key not in found], reason_of(down))
            missing = {}
        for key, reason in failed.items():
            self._declared.count(Filled(None, reason), calls[key].took())
        return missing, list(failed)

    async def _load(
        self,
        session: Any,
        calls: Mapping[Key, Call],
        missing: Mapping[Key, _Missing],
        others: Sequence[Key],
        found: dict[Key, Any],
    ) -> None:
        """Load all of these by one statement, and keep those that are `missing`."""
        keys = [*missing, *others]
        if not missing:
            loaded = self._loading.function(session, self._statement(keys))
            await self._add(session, await loaded if isawaitable(loaded) else loaded, keys, found)
            return
        one = calls[next(iter(missing))]
        captured = {
            tag: version
            for each in missing.values()
            for tag, version in zip(each.question.tags, each.versions, strict=False)
        }
        carriers = [carrier for carrier in [carrier_in(session)] if carrier is not None]
        observation = _RowsObserved(self._declared.runtime, self._declared.reads, carriers)
        observation.keys = missing.keys()
        observation.tables = {
            table.name: table.primary_key.columns[0].name
            for table in self._tables
            if len(table.primary_key.columns) == 1
        }
        observation.begin(captured)
        call = Call(
            self._loading,
            (session, self._statement(keys)),
            {},
            carriers,
            one.question,
            one.ports,
            one.proof,
            observation=observation,
        )
        clock = one.ports.clock
        at_ms, began_s = clock.wall_ms(), clock.monotonic()
        loaded = await one.ports.waiting.call(call.load)
        took_us = int((clock.monotonic() - began_s) * 1_000_000) // len(keys)
        unkept = call.may_keep(loaded)
        if not await self._add(session, loaded, keys, found) and unkept is None:
            unkept = Reason.UNKNOWN_READS
        await self._keep(calls, missing, found, _Load(observation, unkept, at_ms, took_us))

    async def _add(self, session: Any, loaded: Sequence[Any], keys: Sequence[Key], found: dict[Key, Any]) -> bool:
        """Whether each that was loaded is one of those that were asked for, by the same key."""
        entities = {tuple(self._mapper.primary_key_from_instance(entity)): entity for entity in loaded}
        found.update({key: entities.get(key) for key in keys})
        absent = [key for key in keys if key not in entities]
        if entities.keys() <= set(keys) and not (absent and _are_alike(keys)):
            return True
        for key in absent:  # for the database "7" may be 7, and "a" may be "A": it says which is which
            one = self._declared.function(session, *key)
            found[key] = await one if isawaitable(one) else one
        return False

    async def _keep(
        self, calls: Mapping[Key, Call], missing: Mapping[Key, _Missing], found: Mapping[Key, Any], load: _Load
    ) -> None:
        declared, ports = self._declared, calls[next(iter(missing))].ports
        entries: list[Sealed] = []
        kept: dict[Key, Kept] = {}
        reasons: dict[Key, Reason | None] = dict.fromkeys(missing, load.unkept)
        for key, (question, versions) in missing.items() if load.unkept is None else ():
            payload = declared.pack(found[key])
            if len(payload) > question.keeping.max_bytes:
                reasons[key] = Reason.TOO_LARGE
                continue
            known = question.known.tags
            bearing = load.observation.bearing(known) if declared.learns else Bearing(known, versions[: len(known)])
            life_ms = question.keeping.life_ms(found[key], ports.chance)
            kept[key] = Kept(payload, bearing, load.at_ms, load.took_us, life_ms)
            entries.append(sealed(question, kept[key]))
        try:
            await put_all(entries, ports.store)
        except StoreDown:
            reasons |= dict.fromkeys(kept, Reason.STORE_DOWN)
            kept = {}
        for key, each in kept.items():
            extra = missing[key].question.extra
            if extra is not None:
                extra.remember(each.bearing.tags[len(missing[key].question.known.tags) :])
            calls[key].proof.hold(each, found[key])
        for key, reason in reasons.items():
            own_s = calls[key].took()[0] / len(missing)
            declared.count(Filled(found[key], reason, kept=kept.get(key)), (own_s, load.took_us / 1e6))

    def _statement(self, keys: Sequence[Key]) -> Select[Any]:
        if len(self._columns) == 1:
            return select(self._model).where(self._columns[0].in_([key[0] for key in keys]))
        return select(self._model).where(tuple_(*self._columns).in_(keys))


class _Load(NamedTuple):
    """One statement that loaded several, and why they cannot be kept."""

    observation: Observation
    unkept: Reason | None
    at_ms: int
    took_us: int


class _RowsObserved(Observation):
    """A load of rows whose own tags were captured before."""

    keys: Collection[Key] = ()
    tables: Mapping[str, str] = {}

    def concerned(self, reads: Reads, parameters: Mapping[str, Any]) -> Reads:
        return replace(reads, uses=tuple(use for use in reads.uses if not self._is_captured(use, parameters)))

    def _is_captured(self, use: Use, parameters: Mapping[str, Any]) -> bool:
        column = self.tables.get(use.table)
        values = [each for name, bind in use.pins if name == column for each in given(parameters, bind)]
        return bool(values) and all((value,) in self.keys for value in values)


def _are_alike(keys: Sequence[Key]) -> bool:
    """Whether two of them may be one and the same for the database."""
    return len({tuple(str(part).strip().casefold() for part in key) for key in keys}) < len(keys)


async def _captured(groups: Iterable[Sequence[bytes]], store: Store) -> dict[bytes, Version | None]:
    cells = list(dict.fromkeys(cell for group in groups for cell in group))
    if not cells:
        return {}
    seen = await store.ensure(cells)
    return dict(zip(cells, map(version_of, seen.values, seen.epochs), strict=True))


def _load_now(session: Session, statement: Select[Any]) -> list[Any]:
    return list(session.scalars(statement).unique())


async def _load_later(session: AsyncSession, statement: Select[Any]) -> list[Any]:
    return list((await session.scalars(statement)).unique())


def _called(function: Callable[..., Any], model: type, *, suspends: bool) -> Callable[..., Any]:
    """The function, named so that its keys and its statistics say what it is for."""
    function.__module__, function.__qualname__ = model.__module__, f"{model.__qualname__}.get"
    function.__annotations__ = {"session": AsyncSession if suspends else Session, "return": model}
    return function
