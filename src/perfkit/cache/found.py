"""Rows that only a result can name: `tags=rows(Bin, lambda route: [stop.bin_id for stop in route.stops])`.

They are captured after the load, under the guard of their table's own cell (cache/read.py). Which they will be is
learned like all that is not known before (cache/learned.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table

from perfkit.cache.read import Named
from perfkit.cache.tags import cell_key, mapped_tables
from perfkit.sqla.rows import row_name

MAX_FOUND = 256  # rows of one result; more are the table, whose cell is one

Keys = Callable[[Any], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class FoundRows:
    """Rows of one mapped class or table, which `keys` names when it is given a result."""

    source: type | Table
    keys: Keys


def rows(source: type | Table, keys: Keys) -> FoundRows:
    """A tag for rows that are known only from the result: `keys` takes it and gives their primary keys.

    A key of several columns is a tuple. The result must depend on these rows of `source` and on no others: which rows
    there are, such as the members of a list, is another tag. Costs two round trips more when a result is kept, and
    none on a hit.

    >>> from perfkit.cache import rows
    >>> from sqlalchemy import Column, Integer, MetaData, Table
    >>> bins = Table("bins", MetaData(), Column("id", Integer, primary_key=True))
    >>> tag = rows(bins, lambda route: [stop["bin_id"] for stop in route["stops"]])
    """
    mapped_tables(source)
    return FoundRows(source, keys)


class Finder:
    """Finds in the results of one function on which rows they depend."""

    def __init__(self, sources: Sequence[FoundRows], namespace: str, owner: str) -> None:
        self._sources = [(mapped_tables(found.source), found.keys) for found in sources]
        self._namespace, self._owner = namespace, owner
        self.tables = tuple(dict.fromkeys(table for tables, _ in self._sources for table in tables))
        self.families = tuple(dict.fromkeys(table.name for table in self.tables))
        self.guards = tuple(cell_key(namespace, family) for family in self.families)

    def found_in(self, value: Any) -> Named:
        tags: dict[str, None] = {}
        for tables, keys in self._sources:
            try:
                found = [key if isinstance(key, tuple) else (key,) for key in keys(value)]
            except Exception as error:
                error.add_note(f"while rows(…) of {self._owner} named the rows that its result depends on")
                raise
            for table in tables:
                tags.update(dict.fromkeys(_tags(table, found)))
        return self._named([tag.encode() for tag in tags])

    def _named(self, tags: Sequence[bytes]) -> Named:
        return Named(tuple(tags), tuple(cell_key(self._namespace, tag.decode()) for tag in tags))


def _tags(table: Table, keys: Sequence[tuple[Any, ...]]) -> list[str]:
    names = [row_name(table, key) for key in keys]
    if None in names or len(names) > MAX_FOUND:
        return [table.name]
    return [f"{table.name}#*", *(f"{table.name}#{name}" for name in names)] if names else []
