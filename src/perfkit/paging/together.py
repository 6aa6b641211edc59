"""The branches of a page as one statement: all of them see the database at one moment.

    WITH b0 AS (SELECT … WHERE <first branch> ORDER BY … LIMIT n),
         b1 AS (SELECT … WHERE <second branch> AND (SELECT count(*) FROM b0) < n ORDER BY … LIMIT n)
    SELECT … FROM (SELECT … FROM (SELECT * FROM b0 UNION ALL SELECT * FROM b1) ORDER BY … LIMIT n) JOIN bins …

Each branch is one range of an index and cut off by itself. A branch asks whether those before it have filled the page,
and is not read if they have: PostgreSQL makes that a One-Time Filter. Without it, a merge of the branches reads a row
of each, and the first row of a branch may be far away where a filter leaves few, or none.

MariaDB works a CTE out anew wherever it is named, so there the branches ask for nothing, and each is read as far as a
page goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Dialect, Integer, bindparam, func, select, union_all
from sqlalchemy import types as kinds

from perfkit.paging.joining import Inside, joined_back, keys_inside, ordering_of
from perfkit.paging.keys import Key

LIMIT = "perfkit_limit"
_KEEPING = frozenset({"postgresql", "sqlite"})  # what a CTE has found, for all who name it
_WITHOUT_ENUM = frozenset({"mysql", "mariadb"})  # a UNION makes text of it, which has another order


def limit_bound() -> Any:
    """Where the number of rows is put in."""
    return bindparam(LIMIT, type_=Integer)


def can_be_together(keys: Sequence[Key], dialect: Dialect) -> bool:
    """Whether a UNION of rows with these keys has the order of the rows."""
    if dialect.name in _WITHOUT_ENUM:
        return not any(isinstance(key.term.expression.type, kinds.Enum) for key in keys)
    return dialect.name in _KEEPING


def together(statement: Any, branches: Sequence[Any], inside: Inside, keys: Sequence[Key], dialect: Dialect) -> Any:
    """What `statement` selects, of as many rows of its branches as LIMIT is bound to, with their keys behind it.

    Args:
        statement: what entities and options are taken from.
        branches: a SELECT of the rows of each, with the columns of `inside`, in order.
        inside: its columns.
        keys: in the direction in which the page is read.
        dialect: of the database.
    """
    read: list[Any] = []
    for number, branch in enumerate(branches):
        if dialect.name in _KEEPING:
            read.append(_unless_full(branch, read).limit(limit_bound()).cte(f"perfkit_branch_{number}"))
        else:
            read.append(branch.limit(limit_bound()).subquery(f"perfkit_branch_{number}"))
    rows = union_all(*(select(*each.c) for each in read)).subquery("perfkit_branches")
    first = select(*rows.c).order_by(*ordering_of(keys_inside(keys, rows, inside, dialect))).limit(limit_bound())
    page = first.subquery("perfkit_page")
    outer = joined_back(statement, page, inside)
    made = keys_inside(keys, page, inside, dialect)
    return outer.add_columns(*(key.read.label(key.name) for key in made)).order_by(*ordering_of(made))


def _unless_full(branch: Any, before: Sequence[Any]) -> Any:
    """The branch, of which nothing is read when those before it have as many rows as the page."""
    counts = [select(func.count()).select_from(each).scalar_subquery() for each in before]
    if not counts:
        return branch
    found: Any = counts[0]
    for each in counts[1:]:
        found = found + each
    return branch.where(found < limit_bound())
