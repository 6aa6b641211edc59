"""The decorator: a function of the same type that asks the cache first.

It stays a plain function, so that methods, class methods and type checkers treat it as before. All else one can do
with it is a method of `Cache` that takes it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from perfkit.cache.answer import answer_with_policies
from perfkit.cache.call import Call, ask, took_by
from perfkit.cache.declared import Declared
from perfkit.cache.observe import tell_outer
from perfkit.cache.reasons import Reason
from perfkit.errors import CacheDeclarationError, Unreadable
from perfkit.sqla.watching import watchers
from perfkit.waiting import run_now

F = TypeVar("F", bound=Callable[..., Any])

_DECLARED = "__perfkit_declared__"


def decorated(function: F, make: Callable[[Callable[..., Any]], Declared]) -> tuple[F, Declared]:
    """`function`, remembered, and what is known of it. A classmethod or staticmethod is cached inside."""
    if isinstance(function, classmethod | staticmethod):
        inner, declared = decorated(function.__func__, make)
        return cast(F, type(function)(inner)), declared
    declared = make(function)
    runtime, reports = declared.runtime, declared.runtime.reports

    def blocking(*args: Any, **kwargs: Any) -> Any:
        asked = ask(declared, args, kwargs)
        if isinstance(asked, Call):
            answer = run_now(answer_to(asked))
            if asked.began_s > reports.due_s:
                run_now(asked.report(answer))
        else:
            answer = asked
        declared.count(answer, took_by(asked))
        if watchers():
            tell_outer(runtime, answer, declared.keys.name)
        if isinstance(answer, Reason):
            return function(*args, **kwargs)
        try:
            return declared.handed_out(answer.value, args, kwargs)
        except Unreadable:
            return refresh_now(declared, args, kwargs)

    async def suspending(*args: Any, **kwargs: Any) -> Any:
        asked = ask(declared, args, kwargs)
        if isinstance(asked, Call):
            answer = await answer_to(asked)
            if asked.began_s > reports.due_s:
                await asked.report(answer)
        else:
            answer = asked
        declared.count(answer, took_by(asked))
        if watchers():
            tell_outer(runtime, answer, declared.keys.name)
        if isinstance(answer, Reason):
            return await function(*args, **kwargs)
        try:
            return declared.handed_out(answer.value, args, kwargs)
        except Unreadable:
            return await refresh_later(declared, args, kwargs)

    answer_to = answer_with_policies if declared.has_policies else Call.read
    slow = suspending if declared.suspends else blocking
    slow.__qualname__ = f"{function.__qualname__}, cached"
    wrapper = wraps(function)(declared.quick.wrapper(slow, runtime.near, declared.policy.tenant))
    setattr(wrapper, _DECLARED, declared)
    return cast(F, wrapper), declared


def declared_by(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Declared, tuple[Any, ...]]:
    """What `decorated` made of a function, and its arguments with the object it is bound to in front.

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
    asked = ask(declared, args, kwargs, refresh=True)
    answer = run_now(asked.refill()) if isinstance(asked, Call) else asked
    declared.count(answer, took_by(asked))
    return (
        declared.function(*args, **kwargs)
        if isinstance(answer, Reason)
        else declared.handed_out(answer.value, args, kwargs)
    )


async def refresh_later(declared: Declared, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`refresh_now` for async functions."""
    asked = ask(declared, args, kwargs, refresh=True)
    answer = await asked.refill() if isinstance(asked, Call) else asked
    declared.count(answer, took_by(asked))
    return (
        await declared.function(*args, **kwargs)
        if isinstance(answer, Reason)
        else declared.handed_out(answer.value, args, kwargs)
    )
