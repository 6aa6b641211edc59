"""Which values can be handed to everybody, because nobody can change them; and the memory that they take."""

from __future__ import annotations

import dataclasses
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from sys import getsizeof
from types import NoneType
from typing import Any
from uuid import UUID

MAX_PARTS = 2_000  # a value of more parts is unpacked each time: looking at all of them costs more than it saves

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


def _fields_if_frozen(kind: type) -> tuple[str, ...] | None:
    if kind not in _frozen_classes:
        parameters = vars(kind).get("__dataclass_params__")
        is_frozen = parameters is not None and parameters.frozen
        _frozen_classes[kind] = tuple(field.name for field in dataclasses.fields(kind)) if is_frozen else None
    return _frozen_classes[kind]
