"""Which values can be handed to everybody, because nobody can change them, and which a shallow copy of is enough."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from sys import getsizeof
from types import NoneType
from typing import Any, NamedTuple
from uuid import UUID

MAX_PARTS = 2_000  # a value of more parts is unpacked each time: looking at all of them costs more than it saves

MAX_TEMPLATE_BYTES = 1024  # a larger one takes several times the memory of its packed form

_COPIES: dict[type, Callable[[Any], Any]] = {list: list.copy, set: set.copy, dict: dict.copy}
_PLAIN = frozenset({NoneType, bool, int, float, str, bytes, Decimal, date, datetime, time, timedelta, UUID})
_frozen_classes: dict[type, tuple[str, ...] | None] = {}


def size_if_immutable(value: Any) -> int | None:
    """The bytes that `value` takes in this process, with all that it holds; None if any part of it can be changed.

    Plain values, enums, tuples, named tuples, frozensets, and frozen dataclasses of such; of at most MAX_PARTS parts.

    >>> size_if_immutable([1]) is None
    True
    >>> size_if_immutable((1, "a", None)) > 0
    True
    """
    total = parts = 0
    ahead: list[Any] = [value]
    while ahead:
        each = ahead.pop()
        parts += 1
        if parts > MAX_PARTS:
            return None
        kind = type(each)
        if kind in _PLAIN:
            if kind is UUID:
                total += 80
            total += getsizeof(each)
            continue
        if isinstance(each, Enum):
            continue  # its class holds it
        if (
            isinstance(each, tuple) and (kind is tuple or (hasattr(kind, "_fields") and not hasattr(each, "__dict__")))
        ) or kind is frozenset:
            ahead.extend(each)
        else:
            names = _fields_if_frozen(kind)
            if names is None:
                return None
            values = getattr(each, "__dict__", None)
            if values is not None:
                if len(values) != len(names):
                    return None  # somebody has given it more than its fields
                total += getsizeof(values)
            ahead.extend([getattr(each, name) for name in names])
        total += getsizeof(each)
    return total


class Template(NamedTuple):
    """A value that nobody else has, what makes another one of it, and the bytes that it takes."""

    value: Any
    copy: Callable[[Any], Any]
    size: int


def template_of(value: Any) -> Template | None:
    """A copy of `value` from which more can be made, each as good as one that was loaded.

    Of small lists, sets and dicts whose parts are immutable: what changes one copy changes no other.

    >>> template = template_of([1, 2])
    >>> template.copy(template.value)
    [1, 2]
    >>> template_of([[1], 2]) is None
    True
    """
    copy = _COPIES.get(type(value))
    if copy is None or getsizeof(value) > MAX_TEMPLATE_BYTES:
        return None
    parts = (*value, *value.values()) if type(value) is dict else tuple(value)
    inner = size_if_immutable(parts)
    if inner is None:
        return None
    size = inner - getsizeof(parts) + getsizeof(value)
    return Template(copy(value), copy, size) if size <= MAX_TEMPLATE_BYTES else None


def _fields_if_frozen(kind: type) -> tuple[str, ...] | None:
    if kind not in _frozen_classes:
        parameters = vars(kind).get("__dataclass_params__")
        is_frozen = parameters is not None and parameters.frozen
        _frozen_classes[kind] = tuple(field.name for field in dataclasses.fields(kind)) if is_frozen else None
    return _frozen_classes[kind]
