"""A cached function: what is known when it is declared, and what happens when it is called.

The decorated function stays a plain function of the same type, so that methods, class methods and type
checkers treat it as before. All else one can do with it is a method of `Cache` that takes it.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Coroutine, Sequence
from functools import cached_property, wraps
from types import SimpleNamespace
from typing import Any, TypeVar, cast, get_type_hints

from perfkit.cache.fill import concerns, database_of, unfit_to_keep, unfit_to_read, wrote
from perfkit.cache.found import Finder, FoundRows
from perfkit.cache.keys import KeyMaker, closes_over_the_same, is_carried
from perfkit.cache.policy import Reason
from perfkit.cache.read import (
    NOTHING,
    Filled,
    Hit,
    Named,
    Ports,
    Question,
    asked_first,
    expected_by,
    judge,
    read,
    refill,
)
from perfkit.cache.runtime import Runtime
from perfkit.cache.tags import Dependencies, TagSource, cell_key
from perfkit.codec import Codec, shape_of, types_in
from perfkit.errors import CacheDeclarationError
from perfkit.sqla.changes import Changes, seeing_changes
from perfkit.sqla.sessions import Carrier, carrier_in, reads_uncommitted
from perfkit.waiting import blocks_a_loop, run_now

F = TypeVar("F", bound=Callable[..., Any])

_DECLARED = "__perfkit_declared__"


class Declared:
    """One cached function. Owns what is worked out once: the key's beginning, the tags, the packing."""

    def __init__(
        self,
        function: Callable[..., Any],
        runtime: Runtime,
        *,
        tags: Sequence[TagSource | FoundRows],
        ttl_ms: int,
        version: int | str,
    ) -> None:
        self.function = function
        self.runtime = runtime
        self.suspends = inspect.iscoroutinefunction(function)
        self.keys = KeyMaker(function)
        known = [tag for tag in tags if not isinstance(tag, FoundRows)]
        found = [tag for tag in tags if isinstance(tag, FoundRows)]
        self.dependencies = Dependencies(known, self.keys.parameters, self.keys.name)
        self.finder = Finder(found, runtime.namespace, self.keys.name) if found else None
        self.ttl_ms = ttl_ms
        self._version = version
        self._fixed: Named | None = None
        self._warned = False

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
        return self.dependencies.families().union(self.finder.families if self.finder else ())

    def ask(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, refresh: bool = False) -> Hit | Call | Reason:
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
        unfit = unfit_to_read(carriers, self.families)
        if unfit is not None:
            return unfit
        question = self._question(values, database)
        if ports.instant is None:
            if not self.suspends and not self._warned and blocks_a_loop():
                self._warn()
        elif not refresh and not ports.arrears:
            expected = expected_by(question)
            found = judge(question, expected, ports.instant.read_now(asked_first(question, expected)), self.codec)
            if isinstance(found, Hit):
                return found
        return Call(self, args, kwargs, carriers, question, ports)

    def key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The key of one call.

        Raises:
            CacheDeclarationError: it has none, because nobody watches the engine that it would read.
        """
        values = self.keys.bind(*args, **kwargs)
        database = self._database(carriers_in(values))
        if isinstance(database, Reason):
            raise CacheDeclarationError(f"{self.keys.name} has no key here: {database.value}. Call watch() first.")
        return self._question(values, database).key

    def _database(self, carriers: Sequence[Carrier]) -> str | Reason:
        watched = self.runtime.watched
        if not watched:
            return Reason.NOT_WATCHED
        tables = self.dependencies.tables if self.finder is None else [*self.dependencies.tables, *self.finder.tables]
        return database_of(carriers, tables, watched)

    def _question(self, values: Sequence[Any], database: str) -> Question:
        key = f"{self.prefix}{database}:{self.keys.text_of(values)}".encode(errors="surrogatepass")
        known = self._fixed or self._known(values)
        max_bytes = self.runtime.policy.max_bytes
        if self.finder is None or not known.tags:
            return Question(key, known, self.ttl_ms, max_bytes)
        return Question(key, known, self.ttl_ms, max_bytes, self.finder.guards, self.finder)

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


class Call:
    """One call of a cached function: its question, and the function itself for when the answer is not there."""

    __slots__ = ("_args", "_carriers", "_declared", "_kwargs", "_ports", "_question", "_seen", "_unfit")

    def __init__(
        self,
        declared: Declared,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        carriers: Sequence[Carrier],
        question: Question,
        ports: Ports,
    ) -> None:
        self._declared, self._args, self._kwargs, self._carriers = declared, args, kwargs, carriers
        self._unfit: Reason | None = None
        self._seen: list[Changes] = []
        self._question, self._ports = question, ports

    def read(self) -> Coroutine[Any, Any, Hit | Filled]:
        """The read protocol of this call, yet to be run."""
        return read(self._question, self._load, self._may_keep, self._declared.codec, self._ports)

    def refill(self) -> Coroutine[Any, Any, Filled]:
        """The same without looking for an entry."""
        return refill(self._question, self._load, self._may_keep, self._declared.codec, self._ports)

    def _load(self) -> Any:
        self._unfit = unfit_to_keep(self._carriers, self._declared.families)
        if self._declared.suspends:
            return self._load_later()
        with seeing_changes() as self._seen:
            return self._declared.function(*self._args, **self._kwargs)

    async def _load_later(self) -> Any:
        with seeing_changes() as self._seen:
            return await self._declared.function(*self._args, **self._kwargs)

    def _may_keep(self) -> Reason | None:
        families = self._declared.families
        if self._unfit is not None:
            return self._unfit
        if any(reads_uncommitted(each) for each in self._carriers):
            return Reason.DIRTY_READS
        uncommitted = any(concerns(changes, families) for changes in self._seen)
        return Reason.LOADER_WROTE if uncommitted or any(wrote(each, families) for each in self._carriers) else None


def cached(
    function: F, runtime: Runtime, *, tags: Sequence[TagSource | FoundRows], ttl_ms: int, version: int | str
) -> tuple[F, Declared]:
    """`function`, remembered, and what is known of it. A classmethod or staticmethod is cached inside."""
    if isinstance(function, classmethod | staticmethod):
        inner, declared = cached(function.__func__, runtime, tags=tags, ttl_ms=ttl_ms, version=version)
        return cast(F, type(function)(inner)), declared
    declared = Declared(function, runtime, tags=tags, ttl_ms=ttl_ms, version=version)

    @wraps(function)
    def blocking(*args: Any, **kwargs: Any) -> Any:
        asked = declared.ask(args, kwargs)
        answer = run_now(asked.read()) if isinstance(asked, Call) else asked
        runtime.count(answer)
        return function(*args, **kwargs) if isinstance(answer, Reason) else answer.value

    @wraps(function)
    async def suspending(*args: Any, **kwargs: Any) -> Any:
        asked = declared.ask(args, kwargs)
        answer = await asked.read() if isinstance(asked, Call) else asked
        runtime.count(answer)
        return await function(*args, **kwargs) if isinstance(answer, Reason) else answer.value

    wrapper = suspending if declared.suspends else blocking
    setattr(wrapper, _DECLARED, declared)
    return cast(F, wrapper), declared


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
    declared.runtime.count(answer)
    return declared.function(*args, **kwargs) if isinstance(answer, Reason) else answer.value


async def refresh_later(declared: Declared, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`refresh_now` for async functions."""
    asked = declared.ask(args, kwargs, refresh=True)
    answer = await asked.refill() if isinstance(asked, Call) else asked
    declared.runtime.count(answer)
    return await declared.function(*args, **kwargs) if isinstance(answer, Reason) else answer.value
