"""Tags: what a cached result depends on, and what a transaction has changed, in the same words.

    bins               any row of the table `bins`
    bins#42            the row whose primary key is 42; several columns are separated by commas
    bins#*             rows of `bins` that a statement changed without saying which (bulk UPDATE, say)
    bins?kind=glass    the rows with this value in a column that `__cache_tags__` of the model declares
    bins?*             rows of `bins` that changed without its being known which values those columns had, or have
    board:7            a name of your own; only `touch` and `bump` change it
    *                  everything in the namespace

A result that depends on a row reads its cell and that of `bins#*`; on a condition, its cell and that of `bins?*`;
every result reads `*`. A transaction that changed row 42 marks `bins` and `bins#42`; one that changed it in bulk,
`bins` and `bins#*`. It marks the values of declared columns too that the row had and has, or `bins?*`.
Tables go by their name without schema: two tables of one name share their tags, which costs hits and no truth.
"""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from sqlalchemy import MetaData, Table
from sqlalchemy import inspect as inspect_mapped
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import Mapper

from perfkit.errors import UnknownTag
from perfkit.sqla.changes import Changes
from perfkit.sqla.rows import row_name, value_name
from perfkit.sqla.statements import outline_of

TagSource = str | type | Table
"""What `tags=` takes: a mapped class, a `Table`, or a string as in the module's docstring."""

EVERYTHING = "*"
_FAMILY = re.compile(r"[^#:?]+")


@dataclass(frozen=True, slots=True)
class TagTemplate:
    """One string tag with `{parameter}` fields, as declared."""

    text: str
    family: str
    kind: str  # "", "#", "?" or ":"
    parts: tuple[tuple[str, str | None], ...]  # literal text, then the parameter that follows it

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(name for _, name in self.parts if name is not None)

    def fill(self, arguments: Mapping[str, object], table: Table | None) -> tuple[str, ...]:
        """The tags for these arguments.

        A row that the arguments do not pin for sure (a string for an integer key, say) becomes
        the table: that depends on more, never on less.
        """
        if not self.kind:
            return (self.family,)
        if self.kind == ":":
            return ("".join(text + ("" if name is None else str(arguments[name])) for text, name in self.parts),)
        if table is None:
            return (self.family,)
        if self.kind == "?":
            column, given = self.condition
            value = given if not self.parameters else arguments[self.parameters[0]]
            found = value_name(table.columns[column], value, None)
            return (self.family,) if found is None else (f"{self.family}?{column}={found}", f"{self.family}?*")
        row = row_name(table, [arguments[name] for name in self.parameters])
        return (self.family,) if row is None else (f"{self.family}#{row}", f"{self.family}#*")

    @property
    def condition(self) -> tuple[str, str]:
        """The column of `bins?kind=glass`, and its value; that is empty if a parameter gives it."""
        column, _, value = self.parts[0][0].partition("?")[2].partition("=")
        return column, value


def template(text: str) -> TagTemplate:
    """The declared string tag, taken apart.

    Raises:
        UnknownTag: it is not one of the forms above.
    """
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as wrong:
        raise UnknownTag(f"tag {text!r}: {wrong}.") from None
    for _, name, spec, conversion in parsed:
        if name is not None and (not name.isidentifier() or spec or conversion):
            raise UnknownTag(f"tag {text!r}: a field may only be the name of a parameter, as in {{bin_id}}.")
    family = _FAMILY.match(text)
    if family is None or "{" in family[0] or family[0] == EVERYTHING or family[0] != family[0].strip():
        raise UnknownTag(f"tag {text!r}: must begin with the name of a table, or with a name of your own and ':'.")
    kind = text[family.end() : family.end() + 1]
    parts = tuple((literal, name) for literal, name, _, _ in parsed)
    if kind == "#":
        literals = [literal for literal, _ in parts]
        if literals[0] != f"{family[0]}#" or any(x != "," for x in literals[1:]) or parts[-1][1] is None:
            raise UnknownTag(f"tag {text!r}: a row is named by its key's columns alone, as in 'bins#{{bin_id}}'.")
    made = TagTemplate(text, family[0], kind, parts)
    if kind == "?" and (not made.condition[0] or len(parts) != 1 or bool(made.condition[1]) == bool(made.parameters)):
        raise UnknownTag(f"tag {text!r}: a condition is one column and its value, as in 'bins?kind={{kind}}'.")
    return made


def tables_of(source: type | Table) -> tuple[str, ...]:
    """The names of the tables behind a mapped class, those of its subclasses included, or of a `Table`.

    Raises:
        UnknownTag: it is neither.
    """
    return tuple(sorted({table.name for table in mapped_tables(source)}))


def mapped_tables(source: type | Table) -> tuple[Table, ...]:
    """The tables of `tables_of` themselves.

    Raises:
        UnknownTag: it is neither a mapped class nor a `Table`.
    """
    if isinstance(source, Table):
        return (source,)
    try:
        mapper: Mapper[Any] = inspect_mapped(source).mapper
    except (NoInspectionAvailable, AttributeError):
        raise UnknownTag(f"tag {source!r}: give a mapped class, a Table or a string.") from None
    return tuple(dict.fromkeys(t for m in mapper.self_and_descendants for t in m.tables if isinstance(t, Table)))


@dataclass(frozen=True, slots=True)
class Only:
    """What `only(…)` was given."""

    sources: tuple[Any, ...]


def only(*sources: Any) -> Only:
    """Say that a result depends on these tags and on nothing else: its statements are not looked at.

    For results that depend on less than their statements show, or on what no statement shows.

    >>> from perfkit.cache import only
    >>> tags = only("board:{organization_id}")
    """
    return Only(sources)


class Dependencies:
    """The declared tags of one function, checked, and turned into tags for each call.

    Raises:
        UnknownTag: a tag that no write could ever reach.
    """

    def __init__(self, sources: Iterable[TagSource], parameters: Collection[str], owner: str) -> None:
        self._owner = owner
        self._classes: list[type | Table] = []
        self._templates: list[TagTemplate] = []
        self._tables: dict[str, Table] = {}
        self._known: tuple[Table, ...] = ()
        for source in sources:
            if isinstance(source, str):
                self._templates.append(self._checked(template(source), parameters))
            else:
                tables_of(source)
                self._classes.append(source)

    def check(self, metadata: Sequence[MetaData]) -> None:
        """Look up every table that a string names.

        Raises:
            UnknownTag: a table that is in none of `metadata`, or a row tag of a table without such a key.
        """
        known = tables_by_name(metadata)
        for tag in self._templates:
            if tag.kind == ":":
                continue
            table = known.get(tag.family)
            if tag.family not in known:
                where = (
                    " of the metadata given to watch()" if known else ": watch() was given no metadata to look it up in"
                )
                raise UnknownTag(
                    f"{self._owner}: tag {tag.text!r} names no table{where}{nearest(tag.family, known)} A name of "
                    f"your own, which only touch() and bump() change, has a colon: '{tag.family}:all'."
                )
            if table is None:
                continue  # two of one name
            wanted = len(table.primary_key.columns)
            if tag.kind == "?" and tag.condition[0] not in table.info.get("cache_tags", ()):
                raise UnknownTag(
                    f"{self._owner}: tag {tag.text!r}: {tag.condition[0]!r} has no tags of its own; "
                    f"__cache_tags__ of the model of {tag.family}, or info['cache_tags'] of the table, declares it."
                )
            if tag.kind == "#" and len(tag.parameters) != wanted:
                raise UnknownTag(
                    f"{self._owner}: tag {tag.text!r} gives {len(tag.parameters)} value(s), but the primary key of "
                    f"{tag.family} has {wanted}: {', '.join(c.name for c in table.primary_key.columns)}."
                )
            self._tables[tag.family] = table
        self._known = tuple(
            table
            for name in sorted(self.families())
            for each in metadata
            for table in each.tables.values()
            if table.name == name
        )

    def of(self, arguments: Mapping[str, object]) -> tuple[str, ...]:
        """The tags of one call, `*` first, each once."""
        tags = [EVERYTHING, *(name for source in self._classes for name in tables_of(source))]
        for each in self._templates:
            tags += each.fill(arguments, self._tables.get(each.family))
        return tuple(dict.fromkeys(tags))

    @property
    def tables(self) -> Sequence[Table]:
        """The tables among them, as far as they are known: after `check`."""
        return self._known

    @property
    def are_fixed(self) -> bool:
        """Whether they are the same for every call."""
        return not any(tag.parameters for tag in self._templates)

    def families(self) -> frozenset[str]:
        """The tables and names that the tags belong to."""
        return frozenset(
            [*(name for source in self._classes for name in tables_of(source)), *(t.family for t in self._templates)]
        )

    def _checked(self, tag: TagTemplate, parameters: Collection[str]) -> TagTemplate:
        for name in tag.parameters:
            if name not in parameters:
                raise UnknownTag(
                    f"{self._owner}: tag {tag.text!r} names the parameter {name!r}, which the function does not have"
                    f"{nearest(name, parameters)}"
                )
        return tag


def tables_by_name(metadata: Iterable[MetaData]) -> dict[str, Table | None]:
    """The tables, as tags name them; None where two have one name, and other keys or other columns with tags."""
    found: dict[str, Table | None] = {}
    for each in metadata:
        for table in each.tables.values():
            known = found.setdefault(table.name, table)
            if known is not None and outline_of(known) != outline_of(table):
                found[table.name] = None
    return found


def tags_of(changes: Changes, kin: Mapping[str, Iterable[str]] = MappingProxyType({})) -> set[str]:
    """What a transaction must mark. `kin`: which tables hold rows of each other."""
    tags: set[str] = set(changes.by_hand)
    if changes.everything:
        tags.add(EVERYTHING)
    for table, rows in changes.rows.items():
        tags.add(table)
        tags.update([f"{table}#{row}" for row in rows])
    for table in changes.bulk:
        tags.update((table, f"{table}#*"))
    for table, values in changes.conditions.items():
        tags.update(f"{table}?{value}" for value in values)
    tags.update(f"{table}?*" for table in changes.anywhere)
    for table in changes.tables() if kin else ():
        for other in kin.get(table, ()):
            tags.update(whole(other))
    return tags


def whole(table: str) -> tuple[str, str, str]:
    """What marks all that depends on a table: on itself, on rows of it, on values of its declared columns."""
    return table, f"{table}#*", f"{table}?*"


def tags_by_hand(sources: Iterable[TagSource], metadata: Sequence[MetaData]) -> Iterator[str]:
    """What `touch` and `bump` mark for the tags they are given.

    Raises:
        UnknownTag: a string with fields, or one that names no table of `metadata` and has no colon.
    """
    known = {table.name for each in metadata for table in each.tables.values()}
    for source in sources:
        if not isinstance(source, str):
            for table in tables_of(source):
                yield from whole(table)
        elif source == EVERYTHING or ":" in source:
            yield source
        else:
            family = family_of(source)
            found = "#" in source
            if not family:
                raise UnknownTag(
                    f"tag {source!r}: must begin with the name of a table, or with a name of your own and ':'."
                )
            if "{" in source:
                raise UnknownTag(f"tag {source!r}: give the tag itself, without fields.")
            if known and family not in known:
                raise UnknownTag(
                    f"tag {source!r} names no table that is watched{nearest(family, known)} A name of your own has a "
                    f"colon: '{family}:all'."
                )
            yield family
            yield source if found else f"{family}#*"
            yield f"{family}?*"


def family_of(tag: str) -> str:
    """The part of a tag that decides in which hash slot its cell lives."""
    found = _FAMILY.match(tag)
    return found[0] if found else tag


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message: the one of `known` that was most likely meant, if any."""
    from difflib import get_close_matches

    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else "."


@lru_cache(maxsize=4096)
def cell_key(namespace: str, tag: str) -> bytes:
    """Where the cell of `tag` lives. The family stands in braces: a cluster keeps all cells of a table in one slot."""
    return f"{namespace}:t:{{{family_of(tag)}}}:{tag}".encode(errors="surrogatepass")
