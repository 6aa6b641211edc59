"""The loader options of a statement.

strategies_of,
strategies_in       Select._with_options, Load.context     else: none; a fix is written as if there were none
wildcards_of        Select._with_options, _WildcardLoad    else: none; profiles then see no `lazyload("*")`
reads_own_joins, collection_of_joins    Load.context, .path, local_opts    else: False, None; contains_eager fails on
                    numbered pages
options_of, criteria_of    Select._with_options       else: none; a wrapped page has no loader options
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy.orm import LoaderCriteriaOption


def options_of(statement: Any) -> tuple[Any, ...]:
    """The loader options of a statement."""
    return tuple(getattr(statement, "_with_options", ()))


def criteria_of(statement: Any) -> tuple[LoaderCriteriaOption, ...]:
    """What `with_loader_criteria` says of a statement, which holds for its subqueries if it stands around them."""
    return tuple(option for option in options_of(statement) if isinstance(option, LoaderCriteriaOption))


def reads_own_joins(statement: Any) -> bool:
    """Whether an option says that related objects are in the statement's own joins: `contains_eager`."""
    return any(True for _ in _filled_by_joins(statement))


def collection_of_joins(statement: Any) -> str | None:
    """The collection that `contains_eager` fills from the statement's own joins; None if it fills none."""
    for element in _filled_by_joins(statement):
        for each in getattr(getattr(element, "path", None), "path", ()):
            if getattr(each, "uselist", False):
                return str(each)
    return None


def _filled_by_joins(statement: Any) -> Iterator[Any]:
    elements = (each for option in options_of(statement) for each in getattr(option, "context", ()))
    return (each for each in elements if "eager_from_alias" in (getattr(each, "local_opts", None) or {}))


def strategies_of(statement: Any) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The loader options of a statement: for each path, mapper and attribute in turn, what they say of it."""
    return strategies_in(options_of(statement))


def strategies_in(options: Iterable[Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The same of options that an object was loaded with."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for option in options:
        for element in getattr(option, "context", ()):
            path, strategy = getattr(element, "path", None), getattr(element, "strategy", None)
            if path is not None and strategy:
                parts = path.path[: len(path.path) // 2 * 2]
                found[tuple(parts)] = dict(strategy)
    return found


def wildcards_of(statement: Any) -> dict[str, Any]:
    """What options such as `lazyload("*")`, which name no class, say of all `relationship`s and all `column`s."""
    found: dict[str, Any] = {}
    for option in getattr(statement, "_with_options", ()):
        path, strategy = getattr(option, "path", None), getattr(option, "strategy", None)
        if strategy and isinstance(path, tuple) and len(path) == 1 and isinstance(path[0], str):
            found[path[0].partition(":")[0]] = dict(strategy)
    return found
