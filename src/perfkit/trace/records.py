"""What happened, as values that do not change: the queries of a window, and what each of them loaded for whom."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Mapper

from perfkit.sqla.executions import Did
from perfkit.sqla.origin import Stack


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Query:
    """One statement that has run. `order` is its place among those of the window.

    `statement` is one of its structure; the values are in `parameters`. `rows` counts those that were fetched, None if
    nobody could; `first` is the first of them and `kept` all, where joined eager loading has filled `joined`. `run` is
    between the runs by which objects are told to be older or newer. `unit` is equal for those of one
    request, where several were made in the window.
    """

    order: int
    run: int
    did: Did
    session: int
    statement: Any
    compiled: Any
    parameters: Any
    sql: str
    dialect: str
    ms: float
    rows: int | None
    first: Any
    joined: tuple[tuple[Any, ...], ...]
    kept: list[Any] | None
    stack: Stack | None
    unit: object = None


@dataclass(frozen=True, slots=True)
class Step:
    """One attribute on a path, and the class that it was reached at."""

    owner: Mapper[Any]
    name: str

    @property
    def is_relationship(self) -> bool:
        return self.name in self.owner.relationships


Path = tuple[Step, ...]


def path_of(parts: Sequence[Any]) -> Path:
    """SQLAlchemy's own form of a path, mapper or alias and attribute in turn, as steps."""
    return tuple(
        Step(owner.mapper, prop.key)
        for owner, prop in zip(parts[::2], parts[1::2], strict=False)
        if hasattr(owner, "mapper") and hasattr(prop, "key")
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Load:
    """A query that loaded attributes of objects which another query had loaded.

    `path` leads from the root's entity to what was loaded; of columns, to the objects that have them. `parent` tells
    the object whose attribute it was, None if it was for several: for all of the query `of`. `group` is equal for loads
    whose parents come from one query: `root`, None if that ran before the window opened.
    """

    query: Query
    path: Path
    parent: Hashable
    group: Hashable
    root: Query | None
    of: Query | None = None
    names: frozenset[str] | None = None
    entity: Mapper[Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """Everything of one window, in the order in which it ran.

    `read` has, for a query, the names of relationships that were read of objects which it loaded; of eagerly loaded
    ones only. `*` means all of them.
    """

    queries: tuple[Query, ...]
    loads: tuple[Load, ...]
    read: Mapping[Query, frozenset[str]]
