"""A cached function: what is known of it when it is declared, worked out once."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from hashlib import blake2b
from math import inf
from types import SimpleNamespace
from typing import Any, Literal, get_type_hints

from sqlalchemy import Table
from sqlalchemy.orm import Session

from perfkit.cache.callers import warn_caller
from perfkit.cache.events import CacheEvent, Outcome
from perfkit.cache.fill import database_of
from perfkit.cache.found import Finder, FoundRows
from perfkit.cache.keeping import NO_LIMITS
from perfkit.cache.keys import KeyMaker, closes_over_the_same, is_carried, tenant_text, told_all
from perfkit.cache.learned import Expecting, Learner
from perfkit.cache.policy import Policy, checked_stage, lease_of
from perfkit.cache.quick import Quick
from perfkit.cache.raised import ErrorCodec, Raised, outcome
from perfkit.cache.read import (
    NOTHING,
    Filled,
    Hit,
    Named,
    Older,
    Ports,
    Question,
    Shadowed,
)
from perfkit.cache.reasons import Reason
from perfkit.cache.relations import Declared as DeclaredReads
from perfkit.cache.runtime import Runtime
from perfkit.cache.tags import Dependencies, TagSource, cell_key
from perfkit.cache.worth import Tally
from perfkit.codec import Codec, Graph, is_listed, shape_of, types_in
from perfkit.errors import CacheDeclarationError, NotCached, Unpackable
from perfkit.sqla.entities import is_mapped, reached_from, types_in_columns
from perfkit.sqla.private import mapped_classes
from perfkit.sqla.sessions import Carrier, carrier_in, engine_behind

_TAGS = " tags=only(…) says all that it depends on."
_FOR_GOOD = {  # as the function is written, and what to do
    Reason.NOTHING_READ: _TAGS,
    Reason.UNKNOWN_READS: _TAGS,
    Reason.VOLATILE: _TAGS,
    Reason.CRITERIA: "",
    Reason.LOADER_WROTE: " Write where it is called.",
}


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
        policy: Policy,
        version: int | str,
        when: Callable[..., bool] | None = None,
        keep_if: Callable[[Any], bool] | None = None,
        entities: bool | None = None,
    ) -> None:
        """`learns`: its statements say what it depends on, beside `tags`. `reads`: what views and functions read.

        `entities`: results may hold them; None: if the return annotation says so.
        """
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
        self.policy, self.keeping, self.limits = policy, policy.keeping, policy.limits
        self.when = None if when is None else told_all(when, self.keys.signature, self.keys.name)
        self.keep_if = keep_if
        self._entities = entities
        self.stays = False  # whether its loads can only be made in the session of the caller
        self._version = version
        self._fixed: Named | None = None
        self.warned = self._told_timeless = self._told_stranger = False
        self._told: set[tuple[Reason, str]] = set()
        self.tally = Tally(self.keys.name)
        # what is asked or drawn at each call cannot be passed by
        is_each_looked_at = when is not None or self.is_staged or self.keeping.verify > 0
        self.quick = Quick(function, self.keys.signature, is_wanted=not is_each_looked_at)

    def is_twin_of(self, other: Declared) -> bool:
        """Whether both would have the same keys although they close over different things: two of one factory."""
        mine, its = self.function, other.function
        if mine.__code__ is not its.__code__ or self.keys.name != other.keys.name or self._version != other._version:
            return False
        return self.keys.closed_over == other.keys.closed_over and not closes_over_the_same(mine, its)

    @cached_property
    def prefix(self) -> str:
        # what is kept of a function that keeps errors has another form
        errors = [f"{error.__module__}.{error.__qualname__}" for error in self.policy.keep_errors]
        version = f"{self._version!r} {errors}" if errors else self._version
        if not self.learns:  # and has fewer tags than one that does, which must not take it for its own
            version = f"{version!r} only"
        stamp = self.keys.stamp(shape_of(self._result), version, self.function.__code__)
        return f"{self.keys.name}:{stamp}@"

    @cached_property
    def codec(self) -> Codec | ErrorCodec:
        types = types_in(self._result)
        if self.has_entities:
            types = types.union(filter(is_listed, types_in_columns(reached_from(types) or mapped_classes())))
        codec = Codec(types, entities=self.has_entities)
        return ErrorCodec(codec, self.policy.keep_errors) if self.policy.keep_errors else codec

    def pack(self, value: object) -> bytes:
        """A result as bytes.

        Raises:
            Unpackable: it cannot be kept; the message begins with the function.
        """
        try:
            return self.codec.pack(value)
        except Unpackable as wrong:
            raise Unpackable(f"{self.keys.name}: {wrong}", path=wrong.path, found=wrong.found) from None

    def unpack(self, raw: bytes) -> object:
        """What `pack` was given.

        Raises:
            Unreadable: bytes that it did not make.
        """
        return self.codec.unpack(raw)

    @cached_property
    def has_entities(self) -> bool:
        """Whether results may hold ORM entities, which belong to the session of each caller."""
        if self._entities is None:
            return any(map(is_mapped, types_in(self._result)))
        return self._entities

    def handed_out(self, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a caller with these arguments gets of a result.

        Raises:
            Unreadable: it holds entities that cannot be put together.
            the exception that the result stands for
        """
        value = outcome(value)
        if type(value) is Graph:
            session = session_in(carriers_in(self.keys.bind(*args, **kwargs)))
            assert session is not None
            return value.into(session)
        return value

    @cached_property
    def families(self) -> frozenset[str]:
        """The tables and names of the tags that were given."""
        return self.dependencies.families().union(self.finder.families if self.finder else ())

    def lease_s(self, ports: Ports) -> float | None:
        """For how long a proof is believed: for ever where every change is seen; None if nothing is held here."""
        if ports.instant is None:
            return self._server_lease_s
        return None if self.policy.l1 == "off" else inf

    @cached_property
    def _server_lease_s(self) -> float | None:
        l1 = self.policy.l1
        if l1 == "auto" and (self.limits.stale_s or self.limits.fail_safe_s):
            l1 = "validate"
        return None if l1 in ("off", "auto") else (lease_of("l1", l1) or 0) / 1000

    def key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The key of one call.

        Raises:
            CacheDeclarationError: it has none, because nobody watches the engine that it would read.
        """
        values = self.keys.bind(*args, **kwargs)
        database = self.database(carriers_in(values)) if self.runtime.is_connected else Reason.NOT_CONNECTED
        if isinstance(database, Reason):
            raise CacheDeclarationError(f"{self.keys.name} has no key here: {database.value}.")
        return self.key(values, database, self.tenant())

    def database(self, carriers: Sequence[Carrier]) -> str | Reason:
        watched = self.runtime.watched
        if not watched:
            return Reason.NOT_WATCHED
        return database_of(carriers, self.tables, watched)

    @property
    def tables(self) -> Sequence[Table]:
        """What it reads, as far as that decides which engine a session takes; empty where it may be any table."""
        if self.learns:
            return ()
        return self.dependencies.tables if self.finder is None else [*self.dependencies.tables, *self.finder.tables]

    def tenant(self) -> object:
        """Whose call this is; asked once a call, so that all of it is of one tenant."""
        return None if self.policy.tenant is None else self.policy.tenant()

    @cached_property
    def has_policies(self) -> bool:
        """Whether its calls need more than the read protocol."""
        return self.limits != NO_LIMITS or bool(self.keeping.early or self.keeping.verify) or self.is_staged

    @property
    def is_staged(self) -> bool:
        """Whether not all of its calls are answered by the cache."""
        return self.policy.stage != "on"

    def stage_of(self, key: bytes) -> Literal["on", "off", "shadow"]:
        """How a call with this key is treated.

        Raises:
            CacheDeclarationError: the policy's function gave no stage.
        """
        stage = self.policy.stage
        if callable(stage):
            stage = checked_stage(stage())
        if isinstance(stage, str):
            return stage
        place = int.from_bytes(blake2b(key, digest_size=8).digest(), "big") / 2**64
        return "on" if place < stage else "off"

    def key(self, values: Sequence[Any], database: str, tenant: object) -> bytes:
        """Under what its result is kept.

        Raises:
            UnkeyableArgument: the tenant or an argument has no text of its own.
        """
        text, guard, kind = self.keys.text_of(values), self.runtime.guard, "v"
        if guard is not None:
            kind = guard.kind
            if guard.encrypts:
                text = guard.hidden(text)
        return f"{self.runtime.namespace}:{kind}:{self.prefix}{database}{tenant_text(tenant)}:{text}".encode(
            errors="surrogatepass"
        )

    def question(self, key: bytes, values: Sequence[Any]) -> Question:
        known = self._fixed or self._known(values)
        if self.learner is None or not known.tags:
            return Question(key, known, self.keeping, guard=self.runtime.guard)

        def arguments() -> dict[str, object]:
            return dict(zip(self.keys.parameters, values, strict=True))

        extra = Expecting(self.learner, key, known, arguments)
        guards = () if self.finder is None else self.finder.guards
        guard = self.runtime.guard
        return Question(key, known, self.keeping, guards, self.finder, extra.expected, extra, guard=guard)

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

    def count(self, answer: Hit | Filled | Older | Shadowed | Reason, took: tuple[float, float | None] | None) -> None:
        """Add one call, and what it took, to the function's totals; and tell who listens."""
        kind: Outcome
        reason: Reason | None = None
        if isinstance(answer, Hit):
            kind = "hit"
        elif isinstance(answer, Shadowed):
            kind, reason = "bypass", Reason.SHADOW
        elif isinstance(answer, Older):
            kind = answer.why
        elif isinstance(answer, Reason):
            kind, reason = "bypass", answer
        else:
            kind, reason = "shared" if answer.shared else "fill", answer.unkept
            if answer.odd is not None:
                self.tally.add("odd", answer.odd)
        if kind == "bypass":
            self.tally.add(kind, reason)
        else:
            self.tally.add(kind)
            if reason is not None:
                self.tally.add("unkept", reason)
        self.happened(kind, reason, took)
        if took is not None and reason is not Reason.SHADOW:
            # what it costs to look in shadow is not to be weighed against what it would save
            self.tally.time(*took)

    def count_refresh(self, answer: Filled, took: tuple[float, float | None]) -> None:
        """Add a load that was no call, but for calls to come."""
        self.tally.add("refreshed")
        if answer.unkept is not None:
            self.tally.add("unkept", answer.unkept)
        self.happened("refreshed", answer.unkept, took)
        self.tally.time(*took)

    def happened(
        self, outcome: Outcome, reason: Reason | None = None, took: tuple[float, float | None] | None = None
    ) -> None:
        """Tell who listens."""
        if self.runtime.listeners:
            own_s, load_s = took or (None, None)
            event = CacheEvent(function=self.keys.name, outcome=outcome, reason=reason, own_s=own_s, load_s=load_s)
            self.runtime.listeners.tell(event)

    def tell(self, reason: Reason, why: str) -> None:
        """Warn, once, that no result will be kept as the function is written."""
        if reason in _FOR_GOOD and (reason, why) not in self._told:
            self._told.add((reason, why))
            text = (why or reason.value).removesuffix(".")
            end = "" if text.endswith("?") else "."
            message = f"{self.keys.name} is not cached: {text}{end}"
            if self.stays:  # a statement: its function is ours
                warn_caller(message, NotCached)
            else:
                self._warn(message + _FOR_GOOD[reason])

    def unwatched(self, carriers: Sequence[Carrier]) -> str:
        """The engines that nobody watches, as far as their sessions say."""
        engines = [engine_behind(each) for each in carriers]
        missing = [repr(each) for each in engines if each is not None and each.dialect not in self.runtime.watched]
        return ", ".join(dict.fromkeys(missing))

    def warn_unwatched(self, carriers: Sequence[Carrier]) -> None:
        """Say that `watch` was forgotten: once for the cache, or for an engine beside those that it watches."""
        runtime = self.runtime
        if not runtime.watched:
            if not runtime.is_known_unwatched:
                runtime.is_known_unwatched = True
                self._warn(
                    f"{self.keys.name} is not cached: cache {runtime.namespace!r} is connected and watches no engine. "
                    f"Call cache.watch(engine, Base.metadata) after connect()."
                )
            return
        missing = self.unwatched(carriers)
        if missing and missing not in runtime.known_unwatched:
            runtime.known_unwatched.add(missing)
            self._warn(
                f"{self.keys.name} is not cached here: nobody watches {missing}. Call cache.watch(…) for it, too."
            )

    def _warn(self, message: str, category: type[Warning] = NotCached) -> None:
        # where the function stands: that of the call is often a frame of SQLAlchemy's or a loop's
        code = self.function.__code__
        warnings.warn_explicit(
            message, category, code.co_filename, code.co_firstlineno, module=self.function.__module__
        )

    def warn_stranger(self) -> None:
        """Say, once, that its session cannot be asked what it has written."""
        if not self._told_stranger:
            self._told_stranger = True
            self._warn(
                f"{self.keys.name} uses a session that is not among its arguments, so that a call may be answered "
                f"by the cache although that session has written: pass it as an argument.",
                RuntimeWarning,
            )

    def warn_timeless(self) -> None:
        """Say, once, that a load cannot be left to itself."""
        if not self._told_timeless:
            self._told_timeless = True
            warnings.warn(
                f"{self.keys.name} has a timeout, and no session can be made for a load that goes on without its "
                f"caller: it waits. Pass a Session or AsyncSession that is bound to one engine.",
                RuntimeWarning,
                stacklevel=2,
            )

    def raised(self, error: Exception) -> Raised:
        """The result that stands for an exception which is kept. Raises `error` if it is not one of those."""
        if isinstance(self.codec, ErrorCodec) and self.codec.can_keep(error):
            return Raised(error)
        raise error

    def bypass(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function itself, and count that."""
        self.tally.add("bypass", Reason.OFF)
        return self.function(*args, **kwargs)


def session_in(carriers: Sequence[Carrier]) -> Session | None:
    """The one session among them; None if there is none, or if there are several."""
    sessions = {id(each): each for each in carriers if isinstance(each, Session)}
    return next(iter(sessions.values())) if len(sessions) == 1 else None


def carriers_in(values: Sequence[Any]) -> list[Carrier]:
    """The sessions and connections among the arguments."""
    return [carrier for value in values if is_carried(value) and (carrier := carrier_in(value)) is not None]
