"""What the instructions of a frame say of a statement: which attribute was touched, what is done with the result.

Code objects are read, not files: source may be missing, and lines say less.
"""

from __future__ import annotations

import dis
from collections.abc import Collection, Iterator
from functools import lru_cache
from inspect import CO_COROUTINE
from types import CodeType

from perfkit.sqla.origin import Stack

_LOADS = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_ENDS = frozenset({"POP_TOP", "RETURN_VALUE", "FOR_ITER", "JUMP_BACKWARD", "YIELD_VALUE_OF_GENERATOR"})
_LOOK_AHEAD = 24  # instructions; enough for `(await session.execute(…)).unique().scalar_one()`

ONE = frozenset(
    {"one", "one_or_none", "first", "scalar", "scalar_one", "scalar_one_or_none", "get", "get_one", "fetchone"}
)
"""Functions that give one object or value, at most."""

_DICTS = frozenset({"vars", "__dict__", "jsonable_encoder"})
_WAITS = frozenset({"sleep", "wait", "wait_for"})


def touched_name(stack: Stack, names: Collection[str] = ()) -> str | None:
    """The attribute that the application's line was about to read; of `names`, where it was asked by `getattr`."""
    if not stack.frames:
        return None
    code, instruction = stack.frames[stack.application]
    for offset, name, argument in _instructions(code):
        if offset == instruction and name in _LOADS:
            return argument
    written = [each for each in code.co_consts if isinstance(each, str) and each in names]
    return written[0] if len(written) == 1 and "getattr" in code.co_names else None


def takes_one(stack: Stack) -> bool:
    """Whether the application asks for one object: by the function it calls, or by what it does with the result."""
    if stack.entry in ONE:
        return True
    if not stack.frames:
        return False
    code, instruction = stack.frames[stack.application]
    return any(argument in ONE for argument in _called_next(code, instruction))


def is_of_a_task(stack: Stack) -> bool:
    """Whether a coroutine is the outermost that can be seen, and nothing from there on stands in a loop.

    So who has run it several times stands outside: with tasks of its own for each.
    """
    if not stack.frames or not stack.frames[-1][0].co_flags & CO_COROUTINE:
        return False
    return not any(_is_in_a_loop(code, instruction) for code, instruction in stack.frames)


def _is_in_a_loop(code: CodeType, instruction: int) -> bool:
    return any(target <= instruction < offset for offset, target in _jumps_back(code))


@lru_cache(maxsize=512)
def _jumps_back(code: CodeType) -> tuple[tuple[int, int], ...]:
    """From where to where, but for those of an `await`, which only goes on to wait."""
    return tuple(
        (each.offset, each.argval)
        for each in dis.get_instructions(code)
        if "JUMP_BACKWARD" in each.opname and each.opname != "JUMP_BACKWARD_NO_INTERRUPT"
    )


def waits_between(stack: Stack) -> bool:
    """Whether the code around the statement sleeps: it waits for something to change, and has to ask again."""
    return any(_WAITS & {*code.co_names} for code, _ in stack.frames[stack.application : stack.application + 3])


def names_dicts(stack: Stack | None) -> bool:
    """Whether code on the stack reads objects by their own dictionary."""
    return stack is not None and any(_DICTS & _names_in(code) for code, _ in stack.frames)


@lru_cache(maxsize=512)
def _names_in(code: CodeType) -> frozenset[str]:
    """Of a function, and of those that are written inside it."""
    inner = (_names_in(each) for each in code.co_consts if isinstance(each, CodeType))
    return frozenset(code.co_names).union(*inner)


def _called_next(code: CodeType, instruction: int) -> Iterator[str]:
    left = _LOOK_AHEAD
    for offset, name, argument in _instructions(code):
        if offset <= instruction:
            continue
        left -= 1
        if not left or name in _ENDS:
            return
        if name in _LOADS and argument is not None:
            yield argument


@lru_cache(maxsize=512)
def _instructions(code: CodeType) -> tuple[tuple[int, str, str | None], ...]:
    return tuple(
        (each.offset, each.opname, each.argval if isinstance(each.argval, str) else None)
        for each in dis.get_instructions(code)
    )
