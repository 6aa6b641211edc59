"""The same as `sqla.naming`, of SQL that people wrote: through a real parser, sqlglot, where it is installed."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from perfkit.sqla.naming import Named, named_in

_DIALECTS = {"postgresql": "postgres", "sqlite": "sqlite", "mysql": "mysql", "mariadb": "mysql"}
# in one pass: what looks like a bind may stand in a literal
_QUOTED_OR_BIND = r"""('(?:[^']|'')*'|"(?:[^"]|"")*")|(?<![\w:]):\w+|%\(\w+\)s|%s|\$\d+"""
_BINDS = {
    "postgresql": re.compile(_QUOTED_OR_BIND),  # where ? is an operator of jsonb
    "sqlite": re.compile(_QUOTED_OR_BIND + r"|\?\d*"),
    "mysql": re.compile(_QUOTED_OR_BIND + r"|\?"),
    "mariadb": re.compile(_QUOTED_OR_BIND + r"|\?"),
}


# MariaDB and MySQL execute what stands in such comments
_EXECUTED = re.compile(r"/\*M?!\d*(.*?)\*/", re.DOTALL)


def without_disguise(sql: str) -> str:
    """`sql` with what stands in comments that a server executes as if it stood there by itself."""
    return _EXECUTED.sub(r" \1 ", sql) if "/*" in sql else sql


@lru_cache(maxsize=512)
def named_by_hand(sql: str, dialect: str) -> Named | str:
    """What `sql` names; or a sentence that says why nobody knows."""
    try:
        import sqlglot
        from sqlglot import exp
        from sqlglot.errors import SqlglotError
    except ImportError:
        return "it is SQL text, and only with the extra perfkit[sql] can that be read"
    language = _DIALECTS.get(dialect)
    if language is None:
        return f"it is SQL text of {dialect}, for which there is no parser here"
    try:
        plain = without_disguise(sql) if language == "mysql" else sql
        trees: list[Any] = sqlglot.parse(_BINDS[dialect].sub(lambda found: found[1] or "NULL", plain), read=language)
    except (SqlglotError, RecursionError) as error:
        return f"its SQL text cannot be parsed: {str(error).splitlines()[0]}"
    if len(trees) != 1 or not isinstance(trees[0], exp.Query):
        return "its SQL text is not one query"
    # written anew, it has no comments and no quotes of its own kind any more
    named = named_in(trees[0].sql(dialect=language, comments=False))
    defined = {each.alias for each in trees[0].find_all(exp.CTE)}
    seen = {each.name for each in trees[0].find_all(exp.Table) if each.name and each.name not in defined}
    if not seen <= {*named.relations, *(name.lower() for name in named.functions)}:
        return f"its SQL text is read in two ways: {sorted(seen)} and {sorted(named.relations)}"
    return named
