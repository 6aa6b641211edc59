"""Results that stand for those of a session.

wants_unique, require_unique    Result._unique_filter_state    else: a cached result does not ask for `unique()`
result_of           SimpleResultMetaData(_create_unique_filters=)    else: `unique()` hashes entities
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import IteratorResult, Result
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.exc import InvalidRequestError


def wants_unique(result: Result[Any]) -> bool:
    """Whether it refuses to be read before `unique()`, because joined eager loads repeat its entities."""
    return getattr(result, "_unique_filter_state", None) is not None


def result_of(
    keys: Sequence[str], expressions: Sequence[Any] | None, by_identity: Sequence[bool], rows: Sequence[Any]
) -> Result[Any]:
    """Rows as a result, whose columns are found by name and by expression."""
    extra = None if expressions is None else [(each,) for each in expressions]
    if any(by_identity):
        filters = [id if each else None for each in by_identity]
        with suppress(TypeError):
            metadata = SimpleResultMetaData(keys, extra, _create_unique_filters=lambda given: filters)
            return IteratorResult(metadata, iter(rows))
    return IteratorResult(SimpleResultMetaData(keys, extra), iter(rows))


def require_unique(result: Result[Any]) -> None:
    """Let it refuse to be read before `unique()`, as what it stands for does."""

    def refuse(row: Any) -> None:
        raise InvalidRequestError(
            "The unique() method must be invoked on this Result, as it contains results that include joined eager "
            "loads against collections"
        )

    if hasattr(result, "_unique_filter_state"):
        result._unique_filter_state = (set(), refuse)  # noqa: SLF001
