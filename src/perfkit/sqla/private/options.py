"""The loader options of a statement.

strategies_of       Select._with_options, Load.context     else: none; a fix is written as if there were none
wildcards_of        Select._with_options, _WildcardLoad    else: none; profiles then see no `lazyload("*")`
reads_own_joins     Load.context, local_opts           else: False; contains_eager fails on numbered pages
options_of          Select._with_options              else: none; a wrapped page has no loader options
"""

from __future__ import annotations

from typing import Any


def options_of(statement: Any) -> tuple[Any, ...]:
    """The loader options of a statement."""
    return tuple(getattr(statement, "_with_options", ()))


def reads_own_joins(statement: Any) -> bool:
    """Whether an option says that related objects are in the statement's own joins: `contains_eager`."""
    elements = (each for option in options_of(statement) for each in getattr(option, "context", ()))
    return any("eager_from_alias" in (getattr(each, "local_opts", None) or {}) for each in elements)


def strategies_of(statement: Any) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The loader options of a statement: for each path, mapper and attribute in turn, what they say of it."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for option in getattr(statement, "_with_options", ()):
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
