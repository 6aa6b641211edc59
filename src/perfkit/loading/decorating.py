"""What a block needs to know of a function that it decorates."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def refuse_without_brackets(name: str, given: tuple[object, ...]) -> None:
    """Say what to write in place of `@name`, or of an argument that has lost its name."""
    if given:
        what = getattr(given[0], "__qualname__", None) or repr(given[0])
        raise TypeError(
            f"{name}({what}): write `@{name}()` above a function, or `with {name}():` around a block; "
            f"options are given by name"
        )


def refuse_unfit(name: str, instead: str, function: object) -> None:
    """A body that does not run when it is called cannot be watched by its call."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        what = "a generator, whose body runs after the call"
    elif isinstance(function, type):
        what = "a class"
    elif not callable(function):
        what = "nothing that can be called"
    else:
        return
    of = getattr(function, "__qualname__", repr(function))
    raise TypeError(f"{name} on {of}: this is {what}; write `{instead}` where statements run")


def is_awaited(function: Callable[..., Any]) -> bool:
    """Whether what it returns is to be awaited."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
