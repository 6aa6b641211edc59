"""What a statement asks for, as text that is the same in every process: its structure, its options, its values.

SQLAlchemy describes a statement by a tuple, by which it finds what it has compiled. Options that decide what of an
entity is loaded are part of it, and its SQL alone would not tell. The tuple holds objects of the process; each is
replaced by what tells it from others of its kind.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import singledispatch
from hashlib import blake2b
from types import BuiltinFunctionType, CodeType, FunctionType, NoneType
from typing import Any, NamedTuple

from sqlalchemy import Executable, Table
from sqlalchemy.orm import Mapper

from perfkit.sqla.entities import layout_of
from perfkit.sqla.private import structure_of


class Fingerprint(NamedTuple):
    """A statement, told from all others: a digest of its structure, and its values in the order of the binds."""

    digest: str
    values: tuple[Any, ...]


class NoFingerprint(Exception):
    """The argument says what of it has no text."""


def fingerprint_of(statement: Executable) -> Fingerprint:
    """What tells `statement` from others.

    Raises:
        NoFingerprint: nothing does.
    """
    found = structure_of(statement)
    if found is None:
        raise NoFingerprint("SQLAlchemy has no cache key for a part of it")
    structure, values = found
    digest = blake2b(digest_size=16)
    _add(structure, digest.update)
    return Fingerprint(digest.hexdigest(), values)


def _add(part: object, update: Callable[[bytes], None]) -> None:
    """Depth first; a list of what is ahead in place of calls, since statements may be deep."""
    ahead: list[object] = [part]
    while ahead:
        each = ahead.pop()
        if isinstance(each, tuple | list):
            update(b"(%d" % len(each))
            ahead.extend(reversed(each))
        else:
            update(_text(each).encode(errors="surrogatepass") + b"\0")


@singledispatch
def _text(part: object) -> str:
    raise NoFingerprint(f"a {type(part).__module__}.{type(part).__qualname__} in it has no text of its own")


@_text.register(NoneType)
@_text.register(bool)
@_text.register(int)
@_text.register(float)
@_text.register(str)
@_text.register(bytes)
def _(part: Any) -> str:
    return f"{type(part).__name__} {part!r}"


@_text.register(Enum)
def _(part: Enum) -> str:
    return f"{_name(type(part))} {part.name}"


@_text.register(type)
def _(part: type) -> str:
    return f"type {_name(part)}"


@_text.register(Mapper)
def _(part: Mapper[Any]) -> str:
    return f"mapper {layout_of(part.class_)}"


@_text.register(Table)
def _(part: Table) -> str:
    return f"table {part.fullname}({','.join(f'{each.name}:{type(each.type).__qualname__}' for each in part.columns)})"


@_text.register(FunctionType)
@_text.register(BuiltinFunctionType)
def _(part: Any) -> str:
    if "<" in part.__qualname__:
        raise NoFingerprint(f"the function {part.__qualname__} in it has no name of its own")
    return f"function {part.__module__}.{part.__qualname__}"


@_text.register(CodeType)
def _(part: CodeType) -> str:
    inner = [_text(each) if isinstance(each, CodeType) else repr(each) for each in part.co_consts]
    return f"code {part.co_code.hex()} {part.co_names} {inner}"


@_text.register(frozenset)
def _(part: frozenset[Any]) -> str:
    return f"set {sorted(map(_text, part))}"


@_text.register(dict)
def _(part: dict[Any, Any]) -> str:
    return f"dict {[(_text(key), _texts(value)) for key, value in part.items()]}"


def _texts(part: object) -> str:
    return f"({','.join(map(_texts, part))})" if isinstance(part, tuple | list) else _text(part)


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
