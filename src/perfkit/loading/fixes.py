"""The code that ends a finding, as text to paste.

Classes are written by their names, attributes by theirs, so the text means the same wherever the models are imported.
Only the root of a statement may have another name, that of the variable which holds its alias: `root`.
What loads a relationship is always `selectinload`: it costs one statement for each relationship, and never multiplies
rows. Where the query loads a part of the path eagerly already, that part is left as it is, by `defaultload`.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Column
from sqlalchemy.orm import Mapper

from perfkit.sqla.binds import mapper_of
from perfkit.sqla.phrases import Phrases
from perfkit.sqla.wording import with_list
from perfkit.trace.records import Path, Step


def dotted(path: Path, root: Mapper[Any] | None = None, leaf: str = "") -> str:
    """`Bin.customer.organization`."""
    first = path[0].owner if path else root
    names = [] if first is None else [first.class_.__name__]
    return ".".join([*names, *(step.name for step in path), *([leaf] if leaf else [])])


ALIAS = "alias"  # where the variable is not known


def eager(
    path: Path,
    already: Collection[Path] = (),
    *,
    recursive: bool = False,
    asked: Mapper[Any] | None = None,
    root: str | None = None,
) -> str:
    """`.options(selectinload(Bin.customer).selectinload(Customer.organization))`.

    Where the query asked for a base of the class that has the attribute, the class's own columns come along, too.
    """
    chain = _chain(path, already, recursive=recursive, root=root)
    owner = path[0].owner
    if asked is not None and owner is not asked and owner.isa(asked) and path[0].name not in asked.relationships:
        chain = f"selectin_polymorphic({asked.class_.__name__}, [{owner.class_.__name__}]), {chain}"
    return f".options({chain})"


def instead(path: Path, options: str, said: str, *, root: str | None, line: int | None = None) -> str:
    """A statement with these options in place of those that say the contrary, and on which line they do."""
    where = "" if line is None else f" on line {line}"
    return f"select({root_of(path, root)}){options}  # in place of .options({said}){where}"


def of_an_alias(fix: str, root: str | None, path: Path) -> str:
    """`fix`, with a word on what it calls `alias`, if that is no variable of the application's."""
    separator = ";" if "  # " in fix else "  #"
    return fix if root != ALIAS else f"{fix}{separator} {ALIAS}: the aliased({root_of(path, None)}) that it selects"


def undeferred(
    path: Path, already: Collection[Path], owner: Mapper[Any], names: Sequence[str], *, root: str | None = None
) -> str:
    """`.options(undefer(Bin.note))`, at the end of a path."""
    by = owner.class_.__name__ if path or root is None else root
    columns = [f"undefer({by}.{name})" for name in names]
    if not path:
        return f".options({', '.join(columns)})"
    chain = _chain(path, already, goes_on=True, root=root)
    return f".options({', '.join(f'{chain}.{column}' for column in columns)})"


def with_subclass(path: Path, already: Collection[Path], base: Mapper[Any], sub: Mapper[Any]) -> str:
    """The columns of a subclass together with those of its base."""
    names = f"{base.class_.__name__}, [{sub.class_.__name__}]"
    if not path:
        return f".options(selectin_polymorphic({names}))"
    return f".options({_chain(path, already, goes_on=True)}.selectin_polymorphic([{sub.class_.__name__}]))"


def root_of(path: Path, root: str | None) -> str:
    """`Bin`, or the variable that holds its alias."""
    return path[0].owner.class_.__name__ if root is None else root


def attribute_of(path: Path, place: int, root: str | None) -> str:
    """`Bin.customer`, of the step at a place of a path."""
    return f"{path[place].owner.class_.__name__ if place else root_of(path, root)}.{path[place].name}"


def _chain(
    path: Path,
    already: Collection[Path],
    *,
    recursive: bool = False,
    goes_on: bool = False,
    root: str | None = None,
) -> str:
    parts: list[str] = []
    for place, step in enumerate(path):
        ahead = path[place + 1] if place + 1 < len(path) else None
        name = "defaultload" if path[: place + 1] in already and (goes_on or ahead is not None) else "selectinload"
        depth = ", recursion_depth=-1" if recursive and ahead is None else ""
        parts.append(f"{name}({attribute_of(path, place, root)}{_narrowed(step, ahead)}{depth})")
    return ".".join(parts)


def _narrowed(step: Step, ahead: Step | None) -> str:
    """`.of_type(Dog)` where the path goes on from a subclass only."""
    if ahead is None or not step.is_relationship:
        return ""
    target = step.owner.relationships[step.name].mapper
    if ahead.owner is target or not ahead.owner.isa(target) or ahead.name in target.relationships:
        return ""
    return f".of_type({ahead.owner.class_.__name__})"


def in_one_go(selected: Iterable[str], keys: Sequence[str], others: Phrases) -> str:
    """`select(Bin).where(Bin.customer_id.in_(ids))`, with the other conditions of the statement."""
    return f"select({', '.join(selected)}){_where(keys, others)}{_rest(others)}"


def counted(selected: Iterable[str], keys: Sequence[str], others: Phrases) -> str:
    """`select(Bin.customer_id, func.count()).where(Bin.customer_id.in_(ids)).group_by(Bin.customer_id)`."""
    return f"select({', '.join([*keys, *selected])}){_where(keys, others)}.group_by({', '.join(keys)}){_rest(others)}"


def _where(keys: Sequence[str], others: Phrases) -> str:
    listed = f"{keys[0]}.in_(ids)" if len(keys) == 1 else f"tuple_({', '.join(keys)}).in_(keys)"
    return f"{others.joins}.where({', '.join([listed, *others.conditions])})"


def _rest(others: Phrases) -> str:
    return "" if others.is_all else "  # and what else the statement has: joins, conditions, expressions"


def text_in_one_go(sql: str, column: str, *, grouped: bool) -> str:
    """The text itself, with a list in place of one value."""
    return f'text({with_list(sql, column, grouped=grouped)!r}).bindparams(bindparam("ids", ids, expanding=True))'


def cached(function: str, table: str) -> str:
    """The function that asks, under perfkit's decorator."""
    name = function.rpartition(".")[2]
    if not name.isidentifier() or keyword.iskeyword(name) or name == "":
        name = "read_" + (re.sub(r"\W", "_", table.lower()) or "it")
    return f"@cache.query()\ndef {name}(*args, **kwargs): ...  # the function that asks, under the decorator"


def column_name(column: Column[Any] | str, *, by_class: bool) -> str:
    """`Bin.customer_id`, or `bins.c.customer_id`."""
    if isinstance(column, str):
        return column
    table = getattr(column, "table", None)
    mapper = mapper_of(_real(table)) if by_class else None
    if mapper is not None:
        for prop in mapper.column_attrs:
            if any(each.name == column.name for each in prop.columns if isinstance(each, Column)):
                return f"{mapper.class_.__name__}.{prop.key}"
    return f"{getattr(table, 'name', 'table')}.c.{column.key}"


def _real(table: Any) -> Any:
    """The table behind an alias."""
    while (element := getattr(table, "element", None)) is not None:
        table = element
    deannotated = getattr(table, "metadata", None)
    return deannotated.tables.get(getattr(table, "key", ""), table) if deannotated is not None else table
