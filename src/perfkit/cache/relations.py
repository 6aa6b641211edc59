"""From what a statement reads to the tags that its result depends on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, MetaData, Table, inspect
from sqlalchemy.orm import Mapper

from perfkit.cache.tags import EVERYTHING, nearest, tables_by_name, whole
from perfkit.errors import UnknownTag
from perfkit.sqla.catalog import SECURED, TEMPORARY, Relations
from perfkit.sqla.changes import Changes
from perfkit.sqla.handwritten import Mention
from perfkit.sqla.private import is_temporary, mapped_classes, variants_of
from perfkit.sqla.reads import Reads, Use
from perfkit.sqla.rows import row_name, value_name
from perfkit.sqla.statements import Rule, cascaded_from, condition_columns, look_anew, outline_of

_RULES: tuple[Rule, ...] = ("ondelete", "onupdate")

Declared = Mapping[str, Sequence[str]]
"""What views and functions read, as their owner says: `{"full_bins": ["bins", "routes"], "my_sum": ["bins"]}`."""


class Unknown(Exception):
    """What a statement reads cannot be known; the message says what of it."""


class Known:
    """The tables of the metadata, and what was declared of other relations."""

    def __init__(self, metadata: Sequence[MetaData] = (), declared: Declared | None = None) -> None:
        self.tables = tables_by_name(metadata)
        self._metadata = frozenset(metadata)
        tables = [(name, table) for name, table in self.tables.items() if table is not None]
        self._temporary = {name: TEMPORARY for name, table in tables if is_temporary(table)}
        self._folded: dict[str, list[str]] = {}
        for name in self.tables:
            self._folded.setdefault(name.casefold(), []).append(name)
        self._declared = {name.casefold(): tuple(reads) for name, reads in (declared or {}).items()}

    def tags_of(
        self, reads: Reads, parameters: Mapping[str, Any], dialect: str, relations: Relations, own: Declared
    ) -> Iterator[str]:
        """The tags of one statement. `own`: what one function's `reads=` says.

        Raises:
            Unknown: a relation or a function of which nobody has said what it reads.
        """
        for name in reads.calls:
            yield from self._tags_behind(name, "the function", relations, own)
        for name in reads.known:
            if name in relations.functions:
                yield from self._tags_behind(name, "the function", relations, own)
        shadowed = [Use(name) for name in reads.shadowed if self._is_relation(name.casefold(), relations, own)]
        for use in (*reads.uses, *shadowed):
            if use.table.casefold() in own or use.table.casefold() in self._declared:
                yield from self._tags_behind(use.table, "", relations, own)
                continue
            names = self._names_of(use.table, relations)
            for name in names:
                hiding = relations.hiding.get(name) or self._temporary.get(name)
                if hiding is not None:
                    raise Unknown(f'{name} is {hiding}; say what it reads: reads={{{name!r}: ["…"]}}')
                if name not in self.tables and name not in relations.tables:
                    raise Unknown(f'{name} is no table that is known; say what it reads: reads={{{name!r}: ["…"]}}')
            if len(names) == 1:
                yield from _tags_of_use(use, names[0], self.tables.get(names[0]), parameters, dialect)
            else:
                yield from names

    def beside(self, changes: Changes, relations: Relations) -> Iterator[str]:
        """Tags for what is written behind the tables that a transaction names."""
        for name in changes.tables() if relations.hiding else ():
            if _leads_elsewhere(name, relations):
                yield from self._written_behind(name, relations)
        for mention in changes.mentions:
            yield from self._written_by_hand(mention, relations)
        yield from self._through_strangers(changes)

    def _written_behind(self, name: str, relations: Relations) -> Iterator[str]:
        """Tags for what an INSERT, UPDATE or DELETE of a view changes."""
        try:
            for table in self._tags_behind(name, "", relations, {}):
                yield from self._all_of(table, relations)
        except Unknown:
            yield EVERYTHING

    def _written_by_hand(self, mention: Mention, relations: Relations) -> Iterator[str]:
        """Tags for what SQL text may change of a relation that it names."""
        for name in self._names_of(mention.relation, relations):
            if _leads_elsewhere(name, relations):
                yield from self._written_behind(name, relations)
            elif self.tables.get(name) is not None:
                yield from self._all_of(name, relations)
            elif not mention.is_defined or name in self.tables or name in relations.tables:
                yield EVERYTHING  # who refers to it, and what follows its rows, is not known

    def _all_of(self, name: str, relations: Relations) -> Iterator[str]:
        """Tags for any change to a table: of what is kin to it, and of what the database itself changes after it."""
        met: set[str] = set()
        ahead = [name]
        while ahead:
            each = ahead.pop()
            if each in met:
                continue
            met.add(each)
            yield from whole(each)
            ahead += relations.kin.get(each, ())
            table = self.tables.get(each)
            if table is not None:
                ahead += [other.name for rule in _RULES for other in cascaded_from(table, rule)]

    def _through_strangers(self, changes: Changes) -> Iterator[str]:
        """Tags for what was written through a Table of a metadata that is not watched.

        A reflected one does not know which columns have tags of their own, or what follows its rows.
        """
        for name, through in changes.through.items():
            known = self.tables.get(name)
            strange = [outline for metadata, outline in through.items() if metadata not in self._metadata]
            if known is not None and strange:
                changed = set[Table]().union(*(cascaded_from(known, rule) for rule in _RULES))
                if any(outline != outline_of(known) for outline in strange):
                    changed.add(known)
                for each in changed:
                    yield from whole(each.name)

    def _names_of(self, relation: str, relations: Relations) -> list[str]:
        """The tables that it may be: a database folds names that stand in no quotes, each in its own way."""
        found = self._folded.get(relation.casefold(), [])
        if relation not in found and (relation in relations.tables or not found):
            return [*found, relation]
        return found

    def _is_relation(self, folded: str, relations: Relations, own: Declared) -> bool:
        """Whether there is a relation of that name, of whatever kind."""
        if folded in own or folded in self._declared or folded in self._folded:
            return True
        return any(name.casefold() == folded for name in (*relations.tables, *relations.hiding))

    def _tags_behind(self, name: str, kind: str, relations: Relations, own: Declared) -> Iterator[str]:
        """What was said of `name`, and of what that names in turn.

        Raises:
            Unknown: nobody has said it, or it names what no write would ever mark.
        """
        met, ahead = {name.casefold()}, [*self._declared_of(name, kind, own)]
        while ahead:
            said = ahead.pop()
            folded = said.casefold()
            if folded not in met and (folded in own or folded in self._declared):
                met.add(folded)
                ahead += self._declared_of(said, "", own)
                continue
            for table in self._names_of(said, relations):
                what = relations.hiding.get(table, "")
                if what.endswith("view"):
                    raise Unknown(f'{table} is {what}, too; say what it reads: reads={{{table!r}: ["…"]}}')
                if ":" not in said and table not in self.tables and table not in relations.tables and not what:
                    raise Unknown(
                        f"reads={{{name.lower()!r}: …}} names {said!r}, which is no table that is known"
                        f"{nearest(said, [*self.tables, *relations.tables])}"
                    )
                yield table

    def _declared_of(self, name: str, kind: str, own: Declared) -> Sequence[str]:
        folded = name.casefold()
        found = own.get(folded, self._declared.get(folded))
        if found is None:
            raise Unknown(f'{kind} {name.lower()} may read any table; say which: reads={{{name.lower()!r}: ["…"]}}')
        return found


def _leads_elsewhere(name: str, relations: Relations) -> bool:
    """Whether what is written to it goes to other tables, as with a view."""
    return relations.hiding.get(name, SECURED) not in (SECURED, TEMPORARY)


def folded(declared: Mapping[str, str | Sequence[str]] | None, owner: str) -> Declared:
    """What `reads=` was given, checked as far as it can be.

    Raises:
        UnknownTag: it is not names to lists of names.
    """
    found: dict[str, Sequence[str]] = {}
    if not isinstance(declared or {}, Mapping):
        raise UnknownTag(f"{owner}: reads={declared!r}: give a dict, with a list of table names for each view.")
    for name, reads in (declared or {}).items():
        is_list = isinstance(reads, Iterable)
        listed = [reads] if isinstance(reads, str) else list(reads) if is_list else []
        if not isinstance(name, str) or not is_list or not all(isinstance(each, str) and each for each in listed):
            raise UnknownTag(f"{owner}: reads={{{name!r}: {reads!r}}}: give a list of table names for each.")
        found[name.casefold()] = tuple(listed)
    return found


def _tags_of_use(
    use: Use, name: str, table: Table | None, parameters: Mapping[str, Any], dialect: str
) -> Iterable[str]:
    if table is None or not use.pins:
        return (name,)
    rows = _rows(use, table, parameters, dialect)
    if rows is not None:
        return (*(f"{name}#{row}" for row in rows), f"{name}#*")
    for column in condition_columns(table):
        values = use.values_of(column.name, parameters)
        names = None if values is None else [value_name(column, value, dialect) for value in values]
        if names is not None and None not in names:
            return (*(f"{name}?{column.name}={each}" for each in names), f"{name}?*")
    return (name,)


def _rows(use: Use, table: Table, parameters: Mapping[str, Any], dialect: str) -> list[str] | None:
    columns = list(table.primary_key.columns)
    pinned = [use.values_of(column.name, parameters) for column in columns]
    if not columns or None in pinned:
        return None
    if len(columns) == 1:
        keys: list[tuple[Any, ...]] = [(value,) for value in pinned[0] or ()]
    elif all(len(values or ()) == 1 for values in pinned):
        keys = [tuple((values or [None])[0] for values in pinned)]
    else:
        return None
    names = [row_name(table, key, dialect=dialect) for key in keys]
    return None if None in names else [name for name in names if name is not None]


def declare_conditions(metadata: Sequence[MetaData]) -> None:
    """Note in each table which of its columns `__cache_tags__` of a mapped class declares.

    Raises:
        UnknownTag: a name that is no column of it, or one whose values have no text that is sure to be one.
    """
    for cls in mapped_classes():
        names = getattr(cls, "__cache_tags__", None)
        table = getattr(cls, "__table__", None)
        if names is None or not isinstance(table, Table) or table.metadata not in metadata:
            continue
        if isinstance(names, str):
            raise UnknownTag(f"{cls.__qualname__}.__cache_tags__ = {names!r}: give a tuple of column names.")
        mapper: Mapper[Any] = inspect(cls)
        found: list[str] = []
        for name in names:
            prop = mapper.columns.get(name)
            column = prop if prop is not None else table.columns.get(name)
            if column is not None and column.table is not table:
                if "__cache_tags__" not in vars(cls):
                    continue  # inherited, together with the table that has it
                column = table.columns.get(name, column)  # where both have a column of that name
            if column is None or column.table is not table:
                known = [each.name for each in table.columns]
                raise UnknownTag(
                    f"{cls.__qualname__}.__cache_tags__: {name!r} is no column of {table.name}{nearest(name, known)}"
                )
            found.append(column.name)
        table.info["cache_tags"] = tuple(dict.fromkeys([*table.info.get("cache_tags", ()), *found]))
    for each in metadata:
        for table in each.tables.values():
            _check(table)
    look_anew()


def _check(table: Table) -> None:
    for name in table.info.get("cache_tags", ()):
        column = table.columns.get(name)
        if column is None:
            raise UnknownTag(f"table {table.name}: info['cache_tags'] names {name!r}, which is none of its columns.")
        if not _can_be_named(column):
            raise UnknownTag(
                f"table {table.name}: {name!r} cannot be a tag, because {column.type!r} has values that are equal and "
                f"look different. Integers, UUIDs and plain strings can."
            )


def _can_be_named(column: Column[Any]) -> bool:
    from uuid import UUID

    dialects = (None, "postgresql", "sqlite", *variants_of(column.type))
    samples = (1, "a", UUID(int=1))
    return any(value_name(column, value, dialect) is not None for value in samples for dialect in dialects)
