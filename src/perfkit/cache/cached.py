"""A cached function: what is known when it is declared, and what happens when it is called.

The decorated function stays a plain function of the same type, so that methods, class methods and type
checkers treat it as before. All else one can do with it is a method of `Cache` that takes it.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, wraps
from types import SimpleNamespace
from typing import Any, Protocol, TypeVar, cast, get_type_hints

from sqlalchemy import Dialect

from perfkit.cache.fill import unfit_to_keep, unfit_to_read, wrote
from perfkit.cache.keys import KeyMaker
from perfkit.cache.policy import Policy, Reason
from perfkit.cache.read import Filled, Hit, Ports, Question, read, refill
from perfkit.cache.tags import Dependencies, TagSource, cell_key
from perfkit.codec import Codec, shape_of, types_in
from perfkit.errors import CacheDeclarationError
from perfkit.sqla.sessions import CARRIED, Carrier, carrier_in
from perfkit.waiting import blocks_a_loop, run_now

F = TypeVar("F", bound=Callable[..., Any])

_DECLARED = "__perfkit_declared__"


class Runtime(Protocol):
    """What a cached function needs of its cache while it is called."""

    @property
    def namespace(self) -> str: ...
    @property
    def policy(self) -> Policy: ...
    @property
    def watched(self) -> frozenset[Dialect]: ...
    @property
    def is_off(self) -> bool: ...
    @property
    def is_remote(self) -> bool: ...
    def ports(self, *, suspending: bool) -> Ports | None:
        """What a caller of this kind waits on; None while the cache is not connected."""
        ...

    def count(self, answer: Hit | Filled | Reason) -> None: ...


class Declared:
    """One cached function. Owns what is worked out once: the key's beginning, the tags, the packing."""

    def __init__(
        self,
        function: Callable[..., Any],
        runtime: Runtime,
        *,
        tags: Iterable[TagSource],
        ttl_ms: int,
        version: int | str,
    ) -> None:
        self.function = function
        self.runtime = runtime
        self.suspends = inspect.iscoroutinefunction(function)
        self.keys = KeyMaker(function)
        self.dependencies = Dependencies(tags, self.keys.parameters, self.keys.name)
        self.ttl_ms = ttl_ms
        self._version = version
        self._fixed: tuple[tuple[str, ...], tuple[bytes, ...], tuple[bytes, ...]] = ((), (), ())
        self._warned = False

    @cached_property
    def prefix(self) -> str:
        stamp = self.keys.stamp(shape_of(self._result), self._version, self.function.__code__)
        return f"{self.runtime.namespace}:v:{self.keys.name}:{stamp}:"

    @cached_property
    def codec(self) -> Codec:
        return Codec(types_in(self._result))

    @cached_property
    def families(self) -> frozenset[str]:
        return self.dependencies.families()

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | Reason:
        """What a protocol run needs; or why the function is called without one.

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
        carriers = [carrier for value in values if isinstance(value, CARRIED) and (carrier := carrier_in(value))]
        reason = unfit_to_read(carriers, self.families, runtime.watched, runtime.policy.mode)
        if reason is not None:
            return reason
        if not self.suspends and not self._warned and runtime.is_remote and blocks_a_loop():
            self._warn()
        return Call(self, args, kwargs, carriers, self.question(values), ports)

    def question(self, values: Sequence[Any]) -> Question:
        """The key and the cells of one call."""
        key = (self.prefix + self.keys.text_of(values)).encode(errors="surrogatepass")
        policy = self.runtime.policy
        if policy.mode == "ttl":
            return Question(key, (), (), self.ttl_ms, policy.max_bytes)
        tags = self.dependencies.of(lambda: dict(zip(self.keys.parameters, values, strict=True)))
        names, packed, cells = self._fixed
        if names is not tags:
            namespace = self.runtime.namespace
            packed, cells = tuple(t.encode() for t in tags), tuple(cell_key(namespace, t) for t in tags)
            self._fixed = tags, packed, cells
        return Question(key, packed, cells, self.ttl_ms, policy.max_bytes)

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


class Call:
    """One call of a cached function: its question, and the function itself for when the answer is not there."""

    __slots__ = ("_args", "_carriers", "_declared", "_kwargs", "_unfit", "ports", "question")

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
        self.question, self.ports = question, ports

    def load(self) -> Any:
        self._unfit = unfit_to_keep(self._carriers, self._declared.families)
        return self._declared.function(*self._args, **self._kwargs)

    def may_keep(self) -> Reason | None:
        if self._unfit is None and any(wrote(carrier, self._declared.families) for carrier in self._carriers):
            return Reason.LOADER_WROTE
        return self._unfit


def cached(function: F, runtime: Runtime, *, tags: Iterable[TagSource], ttl_ms: int, version: int | str) -> F:
    """`function`, remembered. A classmethod or staticmethod is cached inside and stays what it is."""
    if isinstance(function, classmethod | staticmethod):
        inner = cached(function.__func__, runtime, tags=tags, ttl_ms=ttl_ms, version=version)
        return cast(F, type(function)(inner))
    declared = Declared(function, runtime, tags=tags, ttl_ms=ttl_ms, version=version)

    @wraps(function)
    def blocking(*args: Any, **kwargs: Any) -> Any:
        call = declared.call(args, kwargs)
        if isinstance(call, Reason):
            runtime.count(call)
            return function(*args, **kwargs)
        answer = run_now(read(call.question, call.load, call.may_keep, declared.codec, call.ports))
        runtime.count(answer)
        return answer.value

    @wraps(function)
    async def suspending(*args: Any, **kwargs: Any) -> Any:
        call = declared.call(args, kwargs)
        if isinstance(call, Reason):
            runtime.count(call)
            return await function(*args, **kwargs)
        answer = await read(call.question, call.load, call.may_keep, declared.codec, call.ports)
        runtime.count(answer)
        return answer.value

    wrapper = suspending if declared.suspends else blocking
    setattr(wrapper, _DECLARED, declared)
    return cast(F, wrapper)


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
    call = declared.call(args, kwargs)
    if isinstance(call, Reason):
        declared.runtime.count(call)
        return declared.function(*args, **kwargs)
    answer = run_now(refill(call.question, call.load, call.may_keep, declared.codec, call.ports))
    declared.runtime.count(answer)
    return answer.value


async def refresh_later(declared: Declared, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`refresh_now` for async functions."""
    call = declared.call(args, kwargs)
    if isinstance(call, Reason):
        declared.runtime.count(call)
        return await declared.function(*args, **kwargs)
    answer = await refill(call.question, call.load, call.may_keep, declared.codec, call.ports)
    declared.runtime.count(answer)
    return answer.value
