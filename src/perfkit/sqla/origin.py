"""The application's line that asked: a stack without SQLAlchemy, perfkit and the standard library in it.

Every statement costs one walk over the frames, so a walk keeps numbers only. What they mean, file and line, is
worked out when somebody wants to read it. Two stacks are equal if each of their frames stands at the same instruction
of the same code: lines do not matter, so a blank line more in a file changes nothing.

Under an async engine the statement runs in a greenlet; its frames go on in those of the greenlet that started it.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import sqlalchemy

from perfkit.sqla.private import frame_outside_greenlet

_FRAMES = range(200)  # of all kinds; what is further out does not tell two statements apart any more

_PERFKIT = str(Path(__file__).parents[1]) + os.sep
_SQLALCHEMY = str(Path(sqlalchemy.__file__).parent) + os.sep
_STANDARD = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib"))
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_OUTERMOST = tuple(
    part.replace("/", os.sep)
    for part in ("/_pytest/", "/pluggy/", "/asyncio/events.py", "/concurrent/futures/thread.py", "/threading.py")
)  # what runs tests, tasks and threads: the same for all
_FLUSHES = frozenset(str(Path(_SQLALCHEMY) / "orm" / f"{name}.py") for name in ("unitofwork", "bulk_persistence"))
_IN_FLUSH = "_flush"  # of a Session: it calls the hooks before and after, which `unitofwork` has no part in
_GENERATED = frozenset({"__init__", "__repr__", "__eq__", "__hash__"})  # by dataclasses, in the name of the application

_APPLICATION, _LIBRARY, _SKIPPED, _OF_SQLALCHEMY, _FLUSH, _END, _ASK = range(7)


@dataclass(frozen=True, slots=True)
class Origin:
    """A place in the application's code. `module` is what its file was imported as; empty if nobody knows."""

    file: str
    line: int
    function: str
    module: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Where a statement comes from; there is one object for all that come from the same place.

    `frames` are code and instruction, innermost first. `entry` is the function of SQLAlchemy that the application
    called, `in_flush` says whether a flush stands in between, or one of its hooks. `collapsed` is equal for stacks that
    differ in the depth of a recursion only.
    """

    frames: tuple[tuple[CodeType, int], ...]
    application: int
    entry: str
    in_flush: bool
    collapsed: tuple[Any, ...]

    @property
    def origin(self) -> Origin | None:
        """The innermost line that is the application's own; of a library if there is none."""
        return next(self.places, None)

    @property
    def places(self) -> Iterator[Origin]:
        """That line, and where its function was called, outwards."""
        for code, instruction in self.frames[self.application :]:
            yield Origin(code.co_filename, _line_of(code, instruction), name_of(code), module_of(code))

    @property
    def innermost(self) -> tuple[int, int] | None:
        """What tells the line of `origin` from others."""
        if not self.frames:
            return None
        code, instruction = self.frames[self.application]
        return id(code), instruction


_kinds: dict[str, int] = {}
_stacks: dict[tuple[Any, ...], Stack] = {}


def stack_here(depth: int = 2, *, skip: int = 0) -> Stack:
    """The stack of the statement that is about to run; `depth` is how many frames up to begin.

    As many as `skip` more are passed over at once, if they end in SQLAlchemy. 0.2 µs for every other frame: numbers
    and names only, since this runs for every statement.
    """
    known = _kinds.get
    frame: FrameType | None = _frame(depth + 1, skip)
    key: list[int] = [0, 0]
    add = key.append
    entry: CodeType | None = None
    has_hopped, is_inside = False, True
    for _ in _FRAMES:
        if frame is None:
            if has_hopped or (frame := frame_outside_greenlet()) is None:
                break
            has_hopped = True
        code = frame.f_code
        kind = known(code.co_filename, _ASK)
        if kind == _ASK:
            kind = _kind_of(frame)
        if kind == _OF_SQLALCHEMY:
            if is_inside:
                entry = code
        elif kind <= _LIBRARY:
            is_inside = False
            add(id(code))
            add(frame.f_lasti)
        elif kind == _FLUSH:
            key[0] = 1
        elif kind == _END:
            break
        frame = frame.f_back
    key[1] = id(entry)
    found = _stacks.get(tuple(key))
    return found if found is not None else _remember(tuple(key), sys._getframe(depth), entry)  # noqa: SLF001


def _frame(depth: int, skip: int) -> FrameType:
    """The frame `skip` further out if that is SQLAlchemy's; a greenlet may not have as many."""
    if skip:
        try:
            ahead = sys._getframe(depth + skip)  # noqa: SLF001 - the documented way to walk cheaply
        except ValueError:
            pass
        else:
            if _kinds.get(ahead.f_code.co_filename) == _OF_SQLALCHEMY:
                return ahead
    return sys._getframe(depth)  # noqa: SLF001


def _remember(key: tuple[Any, ...], frame: FrameType | None, entry: CodeType | None) -> Stack:
    frames: list[tuple[CodeType, int]] = []
    kinds: list[int] = []
    in_flush, has_hopped = bool(key[0]), False
    for _ in _FRAMES:
        if frame is None:
            if has_hopped or (frame := frame_outside_greenlet()) is None:
                break
            has_hopped = True
        kind = _kind_of(frame)
        if kind <= _LIBRARY:
            frames.append((frame.f_code, frame.f_lasti))
            kinds.append(kind)
        elif kind == _OF_SQLALCHEMY:
            in_flush = in_flush or frame.f_code.co_name == _IN_FLUSH
        elif kind == _END:
            break
        frame = frame.f_back
    own = next((place for place, kind in enumerate(kinds) if kind == _APPLICATION), 0)
    made = Stack(
        frames=tuple(frames),
        application=own,
        entry="" if entry is None else entry.co_name,
        in_flush=in_flush,
        collapsed=(*key[:2], *dict.fromkeys(zip(key[2::2], key[3::2], strict=True))),
    )
    if len(_stacks) > 20_000:  # as of a process that compiles its templates anew, again and again
        _stacks.clear()
    _stacks[key] = made
    return made


def name_of(code: CodeType) -> str:
    """Its function, with class and outer functions; a comprehension, a frame of its own until Python 3.12, has none."""
    return re.sub(r"(\.<locals>)?(^|\.)<(listcomp|setcomp|dictcomp|genexpr)>", "", code.co_qualname) or "<module>"


_modules: dict[str, str] = {}


def module_of(code: CodeType) -> str:
    """The module that a file was imported as; its name, if it was run."""
    found = _modules.get(code.co_filename)
    if found is None:
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__dict__", {}).get("__file__")  # a lazy module must not begin to load
            if isinstance(file, str):
                _modules.setdefault(file, name)
        found = _modules.setdefault(code.co_filename, re.sub(r"\W", "_", Path(code.co_filename).stem) or "_")
    return found


def is_application(code: CodeType) -> bool:
    """Whether it is of the application's own, and not of an installed library."""
    return _kinds.get(code.co_filename, _LIBRARY) == _APPLICATION


def _kind_of(frame: FrameType) -> int:
    name = frame.f_code.co_filename
    kind = _kinds.get(name)
    if kind is None:
        kind = _kinds[name] = _kind_of_file(name)
    if kind != _ASK:
        return kind
    module = str(frame.f_globals.get("__name__", ""))  # generated code: SQLAlchemy's decorators, dataclasses
    if module.partition(".")[0] in ("sqlalchemy", "perfkit", "importlib"):
        return _SKIPPED
    # in the name of a module that has a file of its own: wrappers that keep a signature
    return _LIBRARY if "__file__" in frame.f_globals or frame.f_code.co_name in _GENERATED else _APPLICATION


def _kind_of_file(name: str) -> int:
    if name.startswith("<"):
        return _SKIPPED if name.startswith("<frozen") else _ASK
    if name in _FLUSHES:
        return _FLUSH
    if name.startswith(_SQLALCHEMY):
        return _OF_SQLALCHEMY
    if name.startswith(_PERFKIT):
        return _SKIPPED
    if any(part in name for part in _OUTERMOST):
        return _END
    if any(part in name for part in _INSTALLED):
        return _LIBRARY
    return _SKIPPED if name.startswith(_STANDARD) else _APPLICATION


def _line_of(code: CodeType, instruction: int) -> int:
    for begin, end, line in code.co_lines():
        if begin <= instruction < end and line is not None:
            return line
    return code.co_firstlineno
