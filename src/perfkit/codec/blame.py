"""What to tell whoever returned a value that cannot be kept: where it stands, what it is, what to return in its place.

Packing keeps no path, which would cost every value; it says which object stopped it. The path is looked for afterwards.
"""

from __future__ import annotations

import dataclasses
import enum
from collections import deque
from collections.abc import Awaitable, Iterator, Mapping
from typing import Any

from sqlalchemy import Executable, Result, Row, RowMapping, ScalarResult
from sqlalchemy.orm import Query

from perfkit.codec.forms import Form
from perfkit.codec.shapes import is_namedtuple, is_pydantic
from perfkit.errors import Unpackable
from perfkit.sqla.entities import is_mapped, relation_of

ENTITY = (
    "It belongs to its session and may load more from it: return its values, "
    "as a dataclass, a pydantic model or the rows of select(Route.id, Route.name); "
    "or ask for entities by the return annotation, or by entities=True."
)
_DECLARE = "Name its class in the return annotation, which says what results are made of."
_OTHERWISE = "Return built-in types, dataclasses, pydantic models, NamedTuples, Enums or rows."
_PLACES_LOOKED_AT = 1_000_000


class Stuck(Exception):
    """Packing met `value`; `advice` if more is known than its type."""

    def __init__(self, value: object, advice: str | None = None) -> None:
        self.value = value
        self.advice = advice


class TooDeep(Exception):
    """Packing went down further than it may."""

    def __init__(self, value: object) -> None:
        self.value = value


def explain(root: object, trouble: Stuck | TooDeep, forms: Mapping[type, Form]) -> Unpackable:
    """The error for the caller."""
    if isinstance(trouble, TooDeep):
        return _too_deep(root, trouble, forms)
    found = type(trouble.value)
    path = _path(root, trouble.value, forms)
    kind = found.__qualname__ if found.__module__ == "builtins" else f"{found.__module__}.{found.__qualname__}"
    if trouble.advice is not None:
        return Unpackable(f"{path}, of type {kind}, cannot be kept: {trouble.advice}.", path=path, found=found)
    return Unpackable(f"{path}, of type {kind}, cannot be kept. {advice_for(trouble.value)}", path=path, found=found)


def _too_deep(root: object, trouble: TooDeep, forms: Mapping[type, Form]) -> Unpackable:
    found, path = type(trouble.value), _loop(root, forms)
    if path is None:
        advice = "return its parts flat, with ids for what belongs to what"
        return Unpackable(f"result is more than 100 levels deep: {advice}.", path="result", found=found)
    return Unpackable(f"{path} holds itself: return ids in place of what leads back.", path=path, found=found)


def advice_for(value: object) -> str:
    """What to return in place of `value`."""
    cls = type(value)
    if is_mapped(cls):
        return ENTITY
    relation = relation_of(value)
    if relation is not None:
        return f"It is the relation {relation}, which its entity loads: return list(…) of it, or values."
    if isinstance(value, enum.Enum) or dataclasses.is_dataclass(cls) or is_pydantic(cls) or is_namedtuple(cls):
        return _DECLARE
    for known, advice in _ADVICE.items():
        if isinstance(value, known):
            return advice
    return _OTHERWISE


# in order: the first that fits
_ADVICE: Mapping[type | tuple[type, ...], str] = {
    Awaitable: "It is to be awaited: write async def, and return what await gives.",
    (Executable, Query): "It is a statement that nobody has run: return list(session.scalars(…)), or its rows.",
    (Result, ScalarResult): "It can be read once: return its rows, with .all().",
    RowMapping: "Return dict(mapping).",
    type: "Return its name.",
    dict: "It would come back as a dict: return dict(value).",
    deque: "Return list(value).",
    (list, tuple, set, frozenset): "It would come back as its base: return a list, tuple, set or frozenset.",
    (bytearray, memoryview): "Return bytes(value).",
    (bool, int, float, str, bytes): "It would come back as its base: return that.",
    Iterator: "It can be read once: return list(value).",
}


def _children(value: Any, forms: Mapping[type, Form]) -> Iterator[tuple[str, object]]:
    """The parts of `value`, each with what follows the path of `value` in Python."""
    kind = type(value)
    if kind is list or kind is tuple:
        yield from ((f"[{number}]", part) for number, part in enumerate(value))
    elif kind is dict:
        for key, part in value.items():
            yield f"[{key!r}]", part
            yield f" key {key!r}", key
    elif kind is set or kind is frozenset:
        yield from ((" member", part) for part in value)
    elif kind is Row:
        yield from ((f".{name}", part) for name, part in zip(value._fields, value, strict=True))
    elif kind in forms:
        yield from _fields(value, forms[kind])
    elif is_mapped(kind):
        for name, part in vars(value).items():
            if not name.startswith("_"):
                several = isinstance(part, list | set)
                yield from (
                    [(f".{name}[{number}]", each) for number, each in enumerate(part)]
                    if several
                    else [(f".{name}", part)]
                )


def _fields(value: Any, form: Form) -> Iterator[tuple[str, object]]:
    row = form.take(value)
    if row is not None:
        yield from ((f".{name}", part) for name, part in zip(form.fields, row, strict=True))
    elif form.loose is not None:
        for state in form.loose.take(value) or ():
            if isinstance(state, dict):
                yield from ((f".{name}", part) for name, part in state.items())


def _path(root: object, wanted: object, forms: Mapping[type, Form]) -> str:
    """Where `wanted` stands first, in the order of packing."""
    for path, value, _ in _walk(root, forms):
        if value is wanted:
            return path
    return "something in result"


def _loop(root: object, forms: Mapping[type, Form]) -> str | None:
    """The path of the first container that is its own ancestor's."""
    for path, value, above in _walk(root, forms):
        if id(value) in above:
            return path
    return None


def _walk(root: object, forms: Mapping[type, Form]) -> Iterator[tuple[str, object, frozenset[int]]]:
    """Every part with its path and the ids of what it stands in; stops at loops, and after a million parts."""
    waiting: list[tuple[str, object, frozenset[int]]] = [("result", root, frozenset())]
    entities: set[int] = set()
    for _ in range(_PLACES_LOOKED_AT):
        if not waiting:
            return
        path, value, above = waiting.pop()
        if is_mapped(type(value)):  # may lead in circles, and that is no mistake
            if id(value) in entities:
                continue
            entities.add(id(value))
        yield path, value, above
        if id(value) in above or len(above) > 100:
            continue
        parts = list(_children(value, forms))
        below = above | {id(value)} if parts else above
        waiting.extend((path + step, part, below) for step, part in reversed(parts))
