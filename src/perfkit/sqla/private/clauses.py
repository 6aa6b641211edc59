"""The parts of a statement that have no public name.

parts_of            Select._order_by_clauses and the like    else: AttributeError; statements are not paged
reference_in        _label_reference, _textual_label_reference    else: labels in ORDER BY are not understood
joins_of, selects_from    Select._setup_joins, ._from_obj    else: none; nothing is said of them
roots_of            Select._raw_columns, ._annotations    else: Select.column_descriptions, at 20 µs
locks_rows, without_locks    Select._for_update_arg    else: False, the same; looped locks are taken for loops
structure_of        ClauseElement._generate_cache_key     else: None; statements are not cached
binds_of, blank_of, where_terms    the same, BindParameter._clone, Select._where_criteria    else: none; pages are
                    planned again for each value of a filter
with_where          Select._where_criteria            else: LookupError; nothing is batched or paged
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Executable, FromClause, Select, inspect


class Parts(NamedTuple):
    """The clauses of a SELECT or a compound of them that SQLAlchemy has no public name for."""

    order_by: tuple[Any, ...]
    group_by: tuple[Any, ...]
    is_distinct: bool
    distinct_on: tuple[Any, ...]
    is_limited: bool
    selects: tuple[Any, ...]
    """Of a compound, what it is of; empty for a SELECT."""
    compound: str
    """Of a compound, `UNION ALL` or the like; empty for a SELECT."""


def parts_of(statement: Any) -> Parts:
    """What a statement is made of, where it is not for SQLAlchemy's own eyes only."""
    keyword = getattr(statement, "keyword", None)
    before_columns = getattr(statement, "_pre_columns_clause", None)  # postgresql.distinct_on()
    return Parts(
        tuple(statement._order_by_clauses),  # noqa: SLF001
        tuple(statement._group_by_clauses),  # noqa: SLF001
        bool(getattr(statement, "_distinct", False)),
        tuple(getattr(statement, "_distinct_on", ())) or (() if before_columns is None else (before_columns,)),
        any(getattr(statement, name, None) is not None for name in _LIMITS),
        tuple(getattr(statement, "selects", ())),
        "" if keyword is None else str(keyword.value),
    )


_LIMITS = ("_limit_clause", "_offset_clause", "_fetch_clause")


def reference_in(clause: Any) -> Any:
    """What a label in ORDER BY stands for: its expression, or its name as a string; any other clause as it is."""
    return clause.element if type(clause).__name__ in ("_label_reference", "_textual_label_reference") else clause


def joins_of(select: Select[Any]) -> tuple[tuple[Any, Any, Any, dict[str, Any]], ...]:
    """What `.join()` was told, each time: the target, ON, the left side if it was named, and how."""
    return tuple(getattr(select, "_setup_joins", ()))


def selects_from(select: Select[Any]) -> tuple[Any, ...]:
    """What `.select_from()` was told."""
    return tuple(getattr(select, "_from_obj", ()))


def roots_of(statement: Any) -> list[Any]:
    """The mappers and inspected aliases whose objects a statement gives, not those of which it gives columns."""
    columns = getattr(statement, "_raw_columns", None)
    if columns is None:
        described = getattr(statement, "column_descriptions", ())
        found = [inspect(each["entity"]) for each in described if each["expr"] is each.get("entity") is not None]
    else:
        entities = [each for each in columns if isinstance(each, FromClause)]
        found = [getattr(each, "_annotations", {}).get("parententity") for each in entities]
    return list(dict.fromkeys(each for each in found if each is not None))


def locks_rows(statement: Any) -> bool:
    """Whether it says FOR UPDATE or the like, also where the dialect leaves that out."""
    return getattr(statement, "_for_update_arg", None) is not None


def without_locks(statement: Any) -> Any:
    """`statement` without FOR UPDATE or the like."""
    if not locks_rows(statement):
        return statement
    changed = statement.where()
    changed._for_update_arg = None  # noqa: SLF001
    return changed


def structure_of(statement: Executable) -> tuple[tuple[Any, ...], tuple[Any, ...]] | None:
    """What tells a statement from others of another structure, and its values; None if that cannot be known."""
    found = _structured(statement)
    if found is None:
        return None
    return found.key, tuple(_value(bind, found.params) for bind in found.bindparams)


def binds_of(statement: Executable) -> list[Any]:
    """The binds whose values `structure_of` gives; none if it gives none."""
    found = _structured(statement)
    return [] if found is None else list(found.bindparams)


def blank_of(bind: Any, name: str) -> Any:
    """A bind of this name that is as another one, and has no value."""
    blank = bind._clone(maintain_key=True)  # noqa: SLF001
    blank.key = blank._orig_key = name  # noqa: SLF001
    blank.value, blank.callable, blank.unique, blank.required = None, None, False, True
    return blank


def where_terms(statement: Select[Any]) -> tuple[Any, ...]:
    """The conditions of a SELECT, all of which hold."""
    return tuple(getattr(statement, "_where_criteria", ()))


def _structured(statement: Executable) -> Any:
    make: Any = getattr(statement, "_generate_cache_key", None)
    return None if make is None else make()


def _value(bind: Any, given: Mapping[str, Any] | None) -> Any:
    """Of a bind, what `statement.params(…)` was given for it, or its own value."""
    return given[bind.key] if given and bind.key in given else bind.effective_value


def with_where(statement: Select[Any], terms: Sequence[Any]) -> Select[Any]:
    """`statement` with other conditions in place of its own."""
    if not hasattr(statement, "_where_criteria"):
        raise LookupError("_where_criteria")
    changed = statement.where(*terms[:1])
    changed._where_criteria = tuple(terms)  # noqa: SLF001
    return changed
