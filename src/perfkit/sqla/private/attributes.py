"""What loads an attribute when it is touched.

identity_binds      Mapper._get_clause                else: None; neither are columns batched
lazy_binds          RelationshipProperty._get_strategy, _LazyLoader.use_get, ._equated_columns,
._simple_lazy_clause, Mapper._get_clause    else: None; relations are not batched
put_before          AttributeImpl.callable_           else: batched values take the way of a statement
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy.orm import InstanceState, Mapper, RelationshipProperty
from sqlalchemy.orm.attributes import manager_of_class
from sqlalchemy.orm.base import PassiveFlag

from perfkit.sqla.private.mapped import mapped_classes

PASSIVE_OFF = PassiveFlag.PASSIVE_OFF  # how an attribute is read that may load whatever it takes


def identity_binds(mapper: Mapper[Any]) -> tuple[str, ...] | None:
    """The names of the binds by which a row of `mapper` is fetched, in the order of its primary key."""
    clause: Any = getattr(mapper, "_get_clause", None)
    return None if clause is None else tuple(clause[1][column].key for column in mapper.primary_key)


def lazy_binds(relation: RelationshipProperty[Any]) -> tuple[dict[str, Any], bool] | None:
    """The binds of a relation's lazy SELECT that differ by parent, each with the parent's column whose value it is.

    And whether it fetches by primary key, so that it sends nothing for what the session has. None if not known.
    """
    with suppress(AttributeError, KeyError, TypeError, ValueError):
        strategy: Any = relation._get_strategy((("lazy", "select"),))  # noqa: SLF001
        if strategy.use_get:
            names = identity_binds(relation.mapper)
            if names is None:
                return None
            equated = strategy._equated_columns  # noqa: SLF001
            return {name: equated[key] for name, key in zip(names, relation.mapper.primary_key, strict=True)}, True
        _, binds = strategy._simple_lazy_clause  # noqa: SLF001
        return {name: column for name, column, _ in binds if column is not None}, False
    return None


def put_before(state: InstanceState[Any], name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put `make(callable)` in place of what loads `name` lazily for objects of this class."""
    impl: Any = state.manager[name].impl
    original = getattr(impl, "callable_", None)
    if original is not None:
        impl.callable_ = make(original)


def take_away(kind: type[Any]) -> None:
    """Undo `put_before` wherever a `kind` was put, whose `original` comes back."""
    for cls in mapped_classes():
        for name in manager_of_class(cls):
            impl: Any = getattr(manager_of_class(cls)[name], "impl", None)
            if isinstance(getattr(impl, "callable_", None), kind):
                impl.callable_ = impl.callable_.original
