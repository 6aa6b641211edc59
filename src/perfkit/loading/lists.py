"""The fix of a loop: its statement, run once for a list of what it was run for one by one.

What the statement selects, joins and asks besides stays as it was, and is joined by the columns that tell whose an
answer is. Text stays text.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import Column

from perfkit.loading import fixes
from perfkit.loading.shapes import entity_of, text_of
from perfkit.sqla.phrases import phrases_of
from perfkit.trace.records import Query


def for_a_list(query: Query, columns: Sequence[Column[Any] | str], varying: Sequence[str], *, counts: bool) -> str:
    """The code of it; `columns` are those that the values named `varying` were compared with."""
    names = [each for each in columns if not isinstance(each, str)]
    if query.compiled is None or not names or len(names) < len(columns):
        column = next((each for each in columns if isinstance(each, str)), "") or "id"
        return fixes.text_in_one_go(text_of(query), column, grouped=counts)
    by_class = entity_of(query) is not None
    name_of = partial(fixes.column_name, by_class=by_class)
    others = phrases_of(query.compiled, query.parameters[0] if query.parameters else {}, varying, name_of)
    keys = list(others.keys) or list(dict.fromkeys(map(name_of, names)))
    if not counts:
        return fixes.in_one_go(_selected(query, keys, by_class=by_class), keys, others)
    if not others.selected:
        others = others._replace(is_all=False)
    return fixes.counted(others.selected or ["func.count()"], keys, others)


def _selected(query: Query, keys: Sequence[str], *, by_class: bool) -> Sequence[str]:
    """What is selected, with the columns by which the answers are told apart."""
    described = getattr(query.statement, "column_descriptions", [])
    if not by_class and (whole := _whole_table(query)):
        return [whole]
    entities = [each for each in described if each.get("entity") is not None and each["expr"] is each["entity"]]
    if by_class and entities:
        return [str(entities[0]["entity"].__name__)]
    names = [_described(each, by_class=by_class) for each in described]
    return list(dict.fromkeys([*keys, *filter(None, names)]))


def _described(described: dict[str, Any], *, by_class: bool) -> str:
    expression = described["expr"]
    if by_class and described.get("entity") is not None:
        key = getattr(expression, "key", None)
        return f"{described['entity'].__name__}.{key}" if key else ""
    column = expression if isinstance(expression, Column) else None
    name = "" if column is None else fixes.column_name(column, by_class=by_class)
    return name if name.replace(".", "").isidentifier() else ""  # a subquery's or an alias's has none that is known


def _whole_table(query: Query) -> str:
    selected = [each["expr"] for each in getattr(query.compiled.statement, "column_descriptions", [])]
    tables = {getattr(each, "table", None) for each in selected}
    table = tables.pop() if len(tables) == 1 else None
    return table.name if table is not None and len(selected) == len(table.columns) else ""
