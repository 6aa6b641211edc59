"""What a cache must do in a test: answer a call, or renew what a change concerns."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, overload

from sqlalchemy import Engine, MetaData, Table
from sqlalchemy.ext.asyncio import AsyncEngine

from perfkit.cache import Cache, FunctionStats, MemoryStore, TagSource
from perfkit.cache.tags import EVERYTHING, tables_of
from perfkit.errors import CacheDeclarationError

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def in_memory(cache: Cache, engine: Engine | AsyncEngine, *metadata: MetaData) -> Iterator[Cache]:
    """Inside, `cache` keeps its entries in this process and watches `engine`; afterwards it is as before `connect`.

    Raises:
        CacheDeclarationError: it is connected already.
    """
    cache.connect(MemoryStore())
    try:
        cache.watch(engine, *metadata)
        yield cache
    finally:
        cache.close()


@overload
def assert_cached(
    cache: Cache, function: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs
) -> Awaitable[R]: ...
@overload
def assert_cached(cache: Cache, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
def assert_cached(cache: Cache, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call the function twice: the second call must be answered by the cache, with what the first one gave.

    Returns that; await it if the function is async.

    Raises:
        AssertionError: it was not, and why.
    """
    __tracebackhide__ = True  # the line of the test is what is wanted
    if inspect.iscoroutinefunction(getattr(function, "__func__", function)):
        return _assert_cached_later(cache, function, args, kwargs)
    first = function(*args, **kwargs)
    before = cache.stats_of(function)
    second = function(*args, **kwargs)
    after = cache.stats_of(function)
    if after.hits == before.hits:
        _fail(before, after, str(cache.explain(function, *args, **kwargs)))
    _compare(before, first, second)
    return second


async def _assert_cached_later(
    cache: Cache, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    __tracebackhide__ = True
    first = await function(*args, **kwargs)
    before = cache.stats_of(function)
    second = await function(*args, **kwargs)
    after = cache.stats_of(function)
    if after.hits == before.hits:
        _fail(before, after, str(await cache.explain(function, *args, **kwargs)))
    _compare(before, first, second)
    return second


@contextmanager
def assert_invalidates(cache: Cache, *sources: TagSource) -> Iterator[None]:
    """Inside, something must be committed that concerns each of these: mapped classes, tables, rows (`"bins#7"`).

    A change of a table concerns a row of it if it says which rows it changed and this is one, or if it does not say.

    Raises:
        AssertionError: nothing that was committed concerns one of them.
        CacheDeclarationError: there is nothing to concern.
    """
    if not sources:
        raise CacheDeclarationError("assert_invalidates() of nothing: name what the block must change, such as Bin.")
    wanted = {source: (source,) if isinstance(source, str) else tables_of(source) for source in sources}
    with cache.noting_changes() as changed:
        yield
    __tracebackhide__ = True
    missing = [source for source, tags in wanted.items() if not any(_concerns(changed, tag) for tag in tags)]
    if missing:
        names, found = ", ".join(map(_name, missing)), ", ".join(sorted(set(changed))) or "nothing"
        raise AssertionError(f"no commit concerned {names}; what was changed: {found}")


def _concerns(changed: Collection[str], tag: str) -> bool:
    if tag in changed or EVERYTHING in changed:
        return True
    for fine in "#?":
        table, is_fine, _ = tag.partition(fine)
        if is_fine:
            return f"{table}{fine}*" in changed
    return False


def _fail(before: FunctionStats, after: FunctionStats, explanation: str) -> None:
    __tracebackhide__ = True
    reasons = [
        f"{reason.name}: {reason.value}"
        for ours, its in ((after.bypasses, before.bypasses), (after.unkept, before.unkept))
        for reason, times in ours.items()
        if times > its.get(reason, 0)
    ]
    why = "; ".join(reasons) or "there was no entry, or it was out of date"
    raise AssertionError(f"{after.name} was not answered by the cache: {why}\n{explanation}")


def _compare(stats: FunctionStats, first: Any, second: Any) -> None:
    __tracebackhide__ = True
    if first != second:
        raise AssertionError(f"{stats.name} was answered {second!r} by the cache, after {first!r} had been loaded")


def _name(source: TagSource) -> str:
    return source if isinstance(source, str) else source.name if isinstance(source, Table) else source.__name__
