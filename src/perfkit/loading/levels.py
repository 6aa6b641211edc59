"""Levels: what is loaded of the objects at one place of a graph, as values that know nothing of SQLAlchemy.

A level says which columns and which relationships, and each relationship leads to a level of its own. Profiles are
made of them: one level and a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum


class How(Enum):
    """When and by how many statements."""

    ONE = "one()"
    JOINED = "joined()"
    MANY = "many()"
    LAZY = "lazy()"
    NEVER = "never()"

    @property
    def is_eager(self) -> bool:
        return self in (How.ONE, How.JOINED, How.MANY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What is loaded of one entity. `fields` of None are all columns; `subclasses` add what only some objects have.

    `entity` is what the level was declared for, None if it is for whatever it is used on.
    """

    entity: type | None = None
    fields: tuple[str, ...] | None = None
    paths: Mapping[str, Path] = field(default_factory=dict)
    subclasses: tuple[Level, ...] = ()

    def with_more(self, fields: tuple[str, ...] | None, paths: Mapping[str, Path]) -> Level:
        """The same with other fields, if there are any, and with paths added or replaced."""
        return replace(self, fields=self.fields if fields is None else fields, paths={**self.paths, **paths})


@dataclass(frozen=True, slots=True)
class Path:
    """How one relationship or column is loaded; made by `one`, `joined`, `many`, `lazy` and `never`."""

    how: How
    level: Level = field(default_factory=Level)
