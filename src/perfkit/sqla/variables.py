"""What functions of the application call a thing: read from their instructions, when they have long returned.

A fix that names an alias has to name the variable that holds it. A statement knows the alias and not the variable; the
code that ran it has the name, and often the call that made it.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import Any, NamedTuple

from sqlalchemy import inspect
from sqlalchemy.orm import Mapper

from perfkit.sqla.origin import Stack, module_of


class _Step(NamedTuple):
    """One instruction: what it does, with which name, if any, and on which line."""

    does: str
    name: str
    line: int


class _Made(NamedTuple):
    """What a call is given, as far as it has names; how many calls have ended since it began."""

    names: set[str]
    ended: list[bool]


def alias_of(stack: Stack, mapper: Mapper[Any]) -> str | None:
    """The variable that holds the alias of a class that was selected; None if nobody can tell.

    It is one of a function on the stack, or of its module, and that function gives it to `select`.
    """
    for code, _ in stack.frames[stack.application :]:
        found = {*_made_here(code, mapper), *_of_module(code, mapper)} & _selected(code)
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def line_of(stack: Stack, function: str, argument: str) -> int | None:
    """Where the innermost function that does so calls `function` with something that is called `argument`."""
    for code, _ in stack.frames[stack.application :]:
        steps = _steps(code)
        for place, step in enumerate(steps):
            if step.name == function and argument in _names_until_the_call(steps[place + 1 :]):
                return step.line
    return None


def _made_here(code: CodeType, mapper: Mapper[Any]) -> Iterator[str]:
    """Variables that are given `aliased(Class)` itself: nothing is called between the two."""
    name, making = mapper.class_.__name__, list[_Made]()
    for step in _steps(code):
        if step.does == "load" and step.name == "aliased":
            making.append(_Made(set(), []))
        elif step.does == "load" and making:
            making[-1].names.add(step.name)
        elif step.does == "call" and making:
            making[-1].ended.append(True)
        elif step.does == "store" and making:
            made = making.pop(0)
            if name in made.names and len(made.ended) == 1:
                yield step.name
        elif step.does == "end":
            making.clear()


def _of_module(code: CodeType, mapper: Mapper[Any]) -> Iterator[str]:
    """Aliases that the function takes from its module."""
    module = sys.modules.get(module_of(code))
    for name in code.co_names if module is not None else ():
        seen: Any = inspect(vars(module).get(name), raiseerr=False)
        if getattr(seen, "is_aliased_class", False) and seen.mapper is mapper:
            yield name


def _selected(code: CodeType) -> set[str]:
    """What `select` is given, or `query`."""
    steps = _steps(code)
    return {
        name
        for place, step in enumerate(steps)
        if step.name in ("select", "query")
        for name in _names_until_the_call(steps[place + 1 :])
    }


def _names_until_the_call(steps: tuple[_Step, ...]) -> Iterator[str]:
    for step in steps:
        if step.does != "load":
            return
        yield step.name


@lru_cache(maxsize=512)
def _steps(code: CodeType) -> tuple[_Step, ...]:
    """What matters of a function: names that are loaded or stored, calls, and ends of statements."""
    found: list[_Step] = []
    line = code.co_firstlineno
    for each in dis.get_instructions(code):
        line = line if each.positions is None or each.positions.lineno is None else each.positions.lineno
        kind = _kind(each.opname)
        if kind:
            names = each.argval if isinstance(each.argval, tuple) else (each.argval,)
            found += [_Step(kind, name if isinstance(name, str) else "", line) for name in names]
    return tuple(found)


def _kind(instruction: str) -> str:
    if instruction.startswith("STORE_") and not instruction.startswith(("STORE_SUBSCR", "STORE_SLICE")):
        return "store"
    if instruction.startswith("LOAD_") and instruction != "LOAD_CONST":
        return "load"
    if instruction.startswith("CALL") and not instruction.startswith("CALL_INTRINSIC"):
        return "call"
    return "end" if instruction in ("POP_TOP", "RETURN_VALUE") else ""
