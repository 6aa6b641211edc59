"""SQLAlchemy rows: a tuple and the names of its columns, without the result they came from.

What comes back is a `Row`, equal and with its columns by name, as attributes and in `_mapping`. `row._mapping[Bin.id]`
is gone: a column object belongs to a statement, and that is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import result_tuple

from perfkit.codec.records import Form
from perfkit.codec.scalars import Unfit


def row_form(names: tuple[str, ...]) -> Form:
    """How rows with these columns are written.

    Raises:
        Unfit: two columns share a name, so `row.name` would be an error before and an answer after.
    """
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise Unfit(f"two of its columns are named {', '.join(twice)}; label them apart")
    return Form(name=tuple(map(str, names)), take=list, make=row_maker(tuple(map(str, names))), fields=names)


@lru_cache(maxsize=256)  # 2.3 µs to make one, 0.1 µs to use it
def row_maker(names: tuple[str, ...]) -> Callable[[Sequence[Any]], object]:
    """What turns values into a Row with these names."""
    if not all(type(name) is str for name in names):
        raise ValueError("columns without names")
    make = result_tuple(names)
    width = len(names)

    def checked(values: Sequence[Any]) -> object:
        if len(values) != width:
            raise ValueError(f"a row of {width} columns with {len(values)} values")
        return make(values)

    return checked
