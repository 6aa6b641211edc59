"""A cached function: what is known when it is declared, and what happens when it is called.

The decorated function stays a plain function of the same type, so that methods, class methods and type
checkers treat it as before. All else one can do with it is a method of `Cache` that takes it.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property, wraps
from math import inf
from time import perf_counter
from types import SimpleNamespace
from typing import Any, TypeVar, cast, get_type_hints

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from perfkit.cache.cells import version_of
from perfkit.cache.fill import concerns, database_of, unfit_to_keep, unfit_to_read, wrote
from perfkit.cache.found import Finder, FoundRows
from perfkit.cache.keys import KeyMaker, closes_over_the_same, is_carried
from perfkit.cache.learned import Expecting, Learner
from perfkit.cache.near import ATTENTION, Held
from perfkit.cache.observe import Observation, Statement, observations
from perfkit.cache.policy import L1, Reason, lease_of
from perfkit.cache.quick import Quick
from perfkit.cache.read import (
    NOTHING,
    Bearing,
    Filled,
    Hit,
    Kept,
    Named,
    Ports,
    Question,
    asked_first,
    judge,
    read,
    refill,
)
from perfkit.cache.relations import Declared as DeclaredReads
from perfkit.cache.runtime import Runtime
from perfkit.cache.tags import Dependencies, TagSource, cell_key, family_of
from perfkit.cache.worth import Tally
from perfkit.clock import SYSTEM
from perfkit.codec import Codec, shape_of, types_in
from perfkit.errors import CacheDeclarationError, NotCached, StoreDown
from perfkit.sqla.changes import Changes, seeing_changes
from perfkit.sqla.private import noticing_held
from perfkit.sqla.sessions import Carrier, carrier_in, reads_uncommitted
from perfkit.sqla.watching import watchers, watching
from perfkit.waiting import blocks_a_loop, run_now

F = TypeVar("F", bound=Callable[..., Any])

_DECLARED = "__perfkit_declared__"
_FOR_GOOD = frozenset({Reason.NOTHING_READ, Reason.UNKNOWN_READS, Reason.VOLATILE})


class Declared:
    """One cached function. Owns what is worked out once: the key's beginning, the tags, the packing."""

    def __init__(
        self,
        function: Callable[..., Any],
        runtime: Runtime,
        *,
        tags: Sequence[TagSource | FoundRows],
        learns: bool,
        reads: DeclaredReads,
        ttl_ms: int,
        version: int | str,
        l1: L1 | None,
    ) -> None:
        """`learns`: its statements say what it depends on, beside `tags`. `reads`: what views and functions read."""
        self.function = function
        self.runtime = runtime
        self.suspends = inspect.iscoroutinefunction(function)
        self.keys = KeyMaker(function)
        known = [tag for tag in tags if not isinstance(tag, FoundRows)]
        found = [tag for tag in tags if isinstance(tag, FoundRows)]
        self.dependencies = Dependencies(known, self.keys.parameters, self.keys.name)
        self.finder = Finder(found, runtime.namespace, self.keys.name) if found else None
        self.learns = learns and runtime.policy.mode != "ttl"
        self.learner = Learner(runtime.namespace, self.keys.name) if self.learns or self.finder else None
        self.reads = reads
        self.ttl_ms = ttl_ms
        self._version = version
        self._fixed: Named | None = None
        self._warned = False
        self._told: set[tuple[Reason, str]] = set()
        self.tally = Tally(self.keys.name)
        self.quick = Quick(function, self.keys.signature)
        self._l1: L1 | None = l1

    def is_twin_of(self, other: Declared) -> bool:
        """Whether both would have the same keys although they close over different things: two of one factory."""
        mine, its = self.function, other.function
        if mine.__code__ is not its.__code__ or self.keys.name != other.keys.name or self._version != other._version:
            return False
        return self.keys.closed_over == other.keys.closed_over and not closes_over_the_same(mine, its)

    @cached_property
    def prefix(self) -> str:
        stamp = self.keys.stamp(shape_of(self._result), self._version, self.function.__code__)
        return f"{self.runtime.namespace}:v:{self.keys.name}:{stamp}@"

    @cached_property
    def codec(self) -> Codec:
        return Codec(types_in(self._result))

    @cached_property
    def families(self) -> frozenset[str]:
        """The tables and names of the tags that were given."""
        return self.dependencies.families().union(self.finder.families if self.finder else ())

    def ask(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, refresh: bool = False, explains: bool = False
    ) -> Hit | Call | Reason:
        """A hit that needed no waiting; or what a protocol run needs; or why the function is called without one.

        Raises:
            UnkeyableArgument: an argument has no text of its own.
            TypeError: the arguments do not fit the function.
        """
        runtime = self.runtime
        if runtime.is_off:
            return Reason.OFF
        ports = runtime.ports(suspending=self.suspends)
        if ports is None:
            return Reason.NOT_CONNECTED
        values = self.keys.bind(*args, **kwargs)
        carriers = carriers_in(values)
        database = self._database(carriers)
        if isinstance(database, Reason):
            return database
        unfit = unfit_to_read(carriers, None if self.learns else self.families)
        if unfit is not None:
            return unfit
        key = self._key(values, database)
        proof = Proof(self, key, values, ports)
        if not refresh and (held := proof.believed()) is not None:
            return held
        question = self._question(key, values)
        if ports.instant is None:
            if not self.suspends and not self._warned and blocks_a_loop():
                self._warn()
        elif not refresh and not ports.arrears:
            found = judge(question, ports.instant.read_now(asked_first(question)), self.codec)
            if isinstance(found, Hit):
                proof.hold(found.kept, found.value)
                return found
        return Call(self, args, kwargs, carriers, question, ports, proof, explains=explains)

    def lease_s(self, ports: Ports) -> float | None:
        """For how long a proof is believed: for ever where every change is seen; None if nothing is held here."""
        l1 = self.runtime.policy.l1 if self._l1 is None else self._l1
        if l1 == "off" or (l1 == "auto" and ports.instant is None):
            return None
        if ports.instant is not None:
            return inf
        return (lease_of("l1", l1) or 0) / 1000

    def key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The key of one call.

        Raises:
            CacheDeclarationError: it has none, because nobody watches the engine that it would read.
        """
        values = self.keys.bind(*args, **kwargs)
        database = self._database(carriers_in(values))
        if isinstance(database, Reason):
            raise CacheDeclarationError(f"{self.keys.name} has no key here: {database.value}. Call watch() first.")
        return self._key(values, database)

    def _database(self, carriers: Sequence[Carrier]) -> str | Reason:
        watched = self.runtime.watched
        if not watched:
            return Reason.NOT_WATCHED
        tables = self.dependencies.tables if self.finder is None else [*self.dependencies.tables, *self.finder.tables]
        return database_of(carriers, tables, watched)

    def _key(self, values: Sequence[Any], database: str) -> bytes:
        return f"{self.prefix}{database}:{self.keys.text_of(values)}".encode(errors="surrogatepass")

    def _question(self, key: bytes, values: Sequence[Any]) -> Question:
        known = self._fixed or self._known(values)
        max_bytes = self.runtime.policy.max_bytes
        if self.learner is None or not known.tags:
            return Question(key, known, self.ttl_ms, max_bytes)

        def arguments() -> dict[str, object]:
            return dict(zip(self.keys.parameters, values, strict=True))

        expected = self.learner.expected(key, known, arguments)
        extra = Expecting(self.learner, key, arguments)
        guards = () if self.finder is None else self.finder.guards
        return Question(key, known, self.ttl_ms, max_bytes, guards, self.finder, expected, extra)

    def _known(self, values: Sequence[Any]) -> Named:
        if self.runtime.policy.mode == "ttl":
            self._fixed = NOTHING
            return NOTHING
        tags = self.dependencies.of(dict(zip(self.keys.parameters, values, strict=True)))
        known = Named(tuple(tag.encode() for tag in tags), tuple(cell_key(self.runtime.namespace, tag) for tag in tags))
        if self.dependencies.are_fixed:
            self._fixed = known
        return known

    @cached_property
    def _result(self) -> object:
        """The return annotation, its names looked up where the function was written."""
        raw = self.function.__annotations__.get("return")
        if not isinstance(raw, str):
            return raw
        try:
            return get_type_hints(SimpleNamespace(__annotations__={"return": raw}), self.function.__globals__)["return"]
        except NameError as missing:
            raise CacheDeclarationError(
                f"{self.keys.name}: its return annotation {raw!r} cannot be looked up ({missing}). Its classes say "
                f"how results are kept: define or import them in the same module, outside TYPE_CHECKING."
            ) from None

    def count(self, answer: Hit | Filled | Reason, call: Call | Hit | Reason) -> None:
        """Add one call, and what it took, to the function's totals."""
        if isinstance(answer, Hit):
            self.tally.add("hit")
        elif isinstance(answer, Reason):
            self.tally.add("bypass", answer)
        else:
            self.tally.add("shared" if answer.shared else "fill")
            if answer.unkept is not None:
                self.tally.add("unkept", answer.unkept)
            if answer.odd is not None:
                self.tally.add("odd", answer.odd)
        if isinstance(call, Call):
            self.tally.time(*call.took())

    def tell(self, reason: Reason, why: str) -> None:
        """Warn, once, that no result will be kept as the function is written."""
        if reason in _FOR_GOOD and (reason, why) not in self._told:
            self._told.add((reason, why))
            warnings.warn(
                f"{self.keys.name} is not cached: {why or reason.value}. tags=only(…) says all that it depends on.",
                NotCached,
                stacklevel=2,
            )

    def _warn(self) -> None:
        self._warned = True
        warnings.warn(
            f"{self.keys.name} is a sync function, called on an event loop: the loop stands still while the store "
            f"is asked. Make it async, or call it through AsyncSession.run_sync.",
            RuntimeWarning,
            stacklevel=4,
        )


def carriers_in(values: Sequence[Any]) -> list[Carrier]:
    """The sessions and connections among the arguments."""
    return [carrier for value in values if is_carried(value) and (carrier := carrier_in(value)) is not None]


class Proof:
    """One call's part of what is held in this process: what it finds there, and what it leaves.

    Made before the store is asked: only what was so then counts as proven.
    """

    __slots__ = ("_asked_s", "_declared", "_generation", "_key", "_lease_s", "_ports", "_values", "held")

    def __init__(self, declared: Declared, key: bytes, values: Sequence[Any], ports: Ports) -> None:
        near = declared.runtime.near
        self._declared, self._key, self._values, self._ports = declared, key, values, ports
        self._lease_s = declared.lease_s(ports)
        self._generation, self._asked_s = near.generation, near.now()
        self.held = None if self._lease_s is None else near.find(key)

    def believed(self) -> Hit | None:
        """What is held, if that asks nobody."""
        held = self.held
        if held is None:
            return None
        if held.generation is not self._generation or self._asked_s >= held.until:
            instant = self._ports.instant
            if instant is None or self._ports.arrears or self._asked_s >= held.expires_s:
                return None
            seen = instant.read_now(self.cells())
            if tuple(map(version_of, seen.values, seen.epochs)) != held.versions:
                return None
            self._prove(held)
        return self._hit(held)

    async def renewed(self) -> Hit | None:
        """What is held, if the store says that its versions are still the same: a round trip without the result.

        Raises:
            StoreDown
        """
        held = self.held
        if held is None or not held.tags or self._asked_s >= held.expires_s:
            return None
        seen = await self._ports.store.read(self.cells())
        if tuple(map(version_of, seen.values, seen.epochs)) != held.versions:
            return None
        self._prove(held)
        return self._hit(held)

    def cells(self) -> tuple[bytes, ...]:
        """Where the versions are that prove what is held."""
        assert self.held is not None
        if self.held.cells is None:
            self.held.cells = self._declared.runtime.cells(self.held.tags)
        return self.held.cells

    def hold(self, kept: Kept, value: Any) -> None:
        """Hold a result that is as current as the store was when this was made."""
        if self._lease_s is None:
            return
        policy_ms = self._declared.ttl_ms
        age_ms = max(0, self._ports.clock.wall_ms() - kept.at_ms)
        self.held = self._declared.runtime.near.hold(
            self._key,
            kept.payload,
            value,
            self._declared.codec.unpack,
            kept.bearing.tags,
            kept.bearing.versions,
            kept.at_ms,
            self._asked_s + (policy_ms - age_ms) / 1000,
            self._declared.tally,
        )
        self._prove(self.held)
        self._name(self.held)

    def _prove(self, held: Held) -> None:
        # the generation last: who reads it sees the rest
        held.until = min(held.expires_s, self._asked_s + (self._lease_s or 0.0))
        held.generation = self._generation

    def _hit(self, held: Held) -> Hit:
        held.asked()
        self._name(held)
        return Hit(held.read(), Kept(b"", Bearing(held.tags, held.versions), held.at_ms))

    def _name(self, held: Held) -> None:
        """Let the next call with these arguments find it the quick way."""
        if not self._lease_s or self._ports.clock is not SYSTEM:  # the quick way looks at no other clock
            return
        quick, runtime = self._declared.quick, self._declared.runtime
        name = quick.name_of(self._values)
        if name is not None and quick.table.get(name) is not held:
            for each in name:
                if isinstance(each, Engine):
                    runtime.mind(each)
            runtime.near.alias(held, quick.table, name)


class Call:
    """One call of a cached function: its question, and the function itself for when the answer is not there."""

    __slots__ = (
        "_args",
        "_began_s",
        "_carriers",
        "_declared",
        "_kwargs",
        "_load_s",
        "_observation",
        "_proof",
        "_seen",
        "_unfit",
        "ports",
        "question",
    )

    def __init__(
        self,
        declared: Declared,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        carriers: Sequence[Carrier],
        question: Question,
        ports: Ports,
        proof: Proof,
        *,
        explains: bool = False,
    ) -> None:
        self._proof = proof
        self._declared, self._args, self._kwargs, self._carriers = declared, args, kwargs, carriers
        self._began_s = perf_counter()
        self._load_s: float | None = None
        self._unfit: Reason | None = None
        self._seen: list[Changes] = []
        self._observation: Observation | None = None
        if declared.learns or explains:
            self._observation = Observation(declared.runtime, declared.reads, carriers, explains=explains)
        if declared.learns:
            question = question._replace(observing=self._observation)
        self.question, self.ports = question, ports

    def took(self) -> tuple[float, float | None]:
        """Seconds since it was made that were the cache's own; and those of the function, None if it did not run."""
        return perf_counter() - self._began_s - (self._load_s or 0.0), self._load_s

    async def read(self) -> Hit | Filled:
        """The read protocol of this call."""
        if self._proof.held is not None and not self.ports.arrears:
            with suppress(StoreDown):
                found = await self._proof.renewed()
                if found is not None:
                    return found
        answer = await read(self.question, self.load, self._may_keep, self._declared.codec, self.ports)
        if answer.kept is not None:
            self._proof.hold(answer.kept, answer.value)
        return answer

    async def refill(self) -> Filled:
        """The same without looking for an entry."""
        answer = await refill(self.question, self.load, self._may_keep, self._declared.codec, self.ports)
        if answer.kept is not None:
            self._proof.hold(answer.kept, answer.value)
        return answer

    def load(self) -> Any:
        """Call the function, watched; a coroutine of it if it is async."""
        if not self._declared.learns:
            self._unfit = unfit_to_keep(self._carriers, self._declared.families)
        if self._declared.suspends:
            return self._load_later()
        with self._watched():
            return self._declared.function(*self._args, **self._kwargs)

    async def _load_later(self) -> Any:
        with self._watched():
            return await self._declared.function(*self._args, **self._kwargs)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        with ExitStack() as stack:
            self._seen = stack.enter_context(seeing_changes())
            if self._observation is not None:
                stack.enter_context(watching(self._observation))
                stack.enter_context(ATTENTION.asked_for())
                for carrier in self._carriers:
                    if isinstance(carrier, Session):
                        stack.enter_context(noticing_held(carrier, self._observation.held))
            began_s = perf_counter()
            try:
                yield
            finally:
                self._load_s = (self._load_s or 0.0) + perf_counter() - began_s

    @property
    def codec(self) -> Codec:
        return self._declared.codec

    @property
    def learns(self) -> bool:
        return self._declared.learns

    def statements(self) -> list[Statement]:
        """What its load ran, if it was made to explain."""
        return list(self._observation.statements or ()) if self._observation is not None else []

    def verdict(self) -> tuple[Reason | None, str]:
        """After a load: why its result must not be kept, and more of that for people."""
        reason = self._unfit_to_keep()
        why = self._observation.why if self._observation is not None and reason is self._observation.unfit else ""
        return reason, why

    def _may_keep(self) -> Reason | None:
        reason = self._unfit_to_keep()
        observation = self.question.observing
        if reason is not None and isinstance(observation, Observation) and reason is observation.unfit:
            self._declared.tell(reason, observation.why)
        return reason

    def _unfit_to_keep(self) -> Reason | None:
        if self._unfit is not None:
            return self._unfit
        if any(reads_uncommitted(each) for each in self._carriers):
            return Reason.DIRTY_READS
        observation = self._observation if self._declared.learns else None
        families = self._families()
        uncommitted = any(concerns(changes, families) for changes in self._seen)
        if uncommitted or any(wrote(each, families) for each in self._carriers):
            return Reason.LOADER_WROTE
        if observation is None:
            return None
        if not observation.has_read and not self._declared.families:
            observation.refuse(Reason.NOTHING_READ)
        if observation.unfit is Reason.SNAPSHOT and self.question.extra is not None:
            known = self.question.known.tags
            self.question.extra.remember(tuple(tag for tag in observation.seen if tag not in known))
        return observation.unfit

    def _families(self) -> frozenset[str] | None:
        """The tables and names on which the result depends; None if they are not all known."""
        given, observation = self._declared.families, self._observation
        if observation is None or not self._declared.learns:
            return given
        if observation.unfit is not None:
            return None
        return given.union(family_of(tag.decode(errors="replace")) for tag in observation.observed)


def cached(function: F, make: Callable[[Callable[..., Any]], Declared]) -> tuple[F, Declared]:
    """`function`, remembered, and what is known of it. A classmethod or staticmethod is cached inside."""
    if isinstance(function, classmethod | staticmethod):
        inner, declared = cached(function.__func__, make)
        return cast(F, type(function)(inner)), declared
    declared = make(function)
    runtime = declared.runtime

    def blocking(*args: Any, **kwargs: Any) -> Any:
        asked = declared.ask(args, kwargs)
        answer = run_now(asked.read()) if isinstance(asked, Call) else asked
        declared.count(answer, asked)
        if watchers():
            _tell_outer(runtime, answer)
        return function(*args, **kwargs) if isinstance(answer, Reason) else answer.value

    async def suspending(*args: Any, **kwargs: Any) -> Any:
        asked = declared.ask(args, kwargs)
        answer = await asked.read() if isinstance(asked, Call) else asked
        declared.count(answer, asked)
        if watchers():
            _tell_outer(runtime, answer)
        return await function(*args, **kwargs) if isinstance(answer, Reason) else answer.value

    slow = suspending if declared.suspends else blocking
    slow.__qualname__ = f"{function.__qualname__}, cached"
    wrapper = wraps(function)(declared.quick.wrapper(slow, runtime.near))
    setattr(wrapper, _DECLARED, declared)
    return cast(F, wrapper), declared


def _tell_outer(runtime: Runtime, answer: Hit | Filled | Reason) -> None:
    """Let the loads that this call is part of know what it was answered from, if that was no load of its own."""
    if isinstance(answer, Hit) or (isinstance(answer, Filled) and answer.shared):
        bearing = answer.kept.bearing if answer.kept is not None and answer.kept.bearing.tags else None
        for observation in observations():
            observation.took(runtime, bearing)


def declared_by(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Declared, tuple[Any, ...]]:
    """What `cached` made of a function, and its arguments with the object it is bound to in front.

    Raises:
        CacheDeclarationError: the function is not cached.
    """
    bound_to = getattr(function, "__self__", None)
    declared = getattr(getattr(function, "__func__", function), _DECLARED, None)
    if not isinstance(declared, Declared):
        name = getattr(function, "__qualname__", repr(function))
        raise CacheDeclarationError(f"{name} is not cached: decorate it with @cache.query(…), below other decorators.")
    return declared, (args if bound_to is None else (bound_to, *args))


def refresh_now(declared: Declared, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Load in any case and keep the result; for sync functions."""
    asked = declared.ask(args, kwargs, refresh=True)
    answer = run_now(asked.refill()) if isinstance(asked, Call) else asked
    declared.count(answer, asked)
    return declared.function(*args, **kwargs) if isinstance(answer, Reason) else answer.value


async def refresh_later(declared: Declared, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`refresh_now` for async functions."""
    asked = declared.ask(args, kwargs, refresh=True)
    answer = await asked.refill() if isinstance(asked, Call) else asked
    declared.count(answer, asked)
    return await declared.function(*args, **kwargs) if isinstance(answer, Reason) else answer.value
