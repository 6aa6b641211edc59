"""The same as `sqla.naming`, of SQL that people wrote: through a real parser, sqlglot, where it is installed.

Of text that writes, every relation that it names counts as changed: which of them are, need not be told apart.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

from perfkit.sqla.functions import VOLATILE, is_known
from perfkit.sqla.naming import Named, named_in

MAX_PARSED = 2_000  # characters of a statement that writes: the parser takes a few milliseconds for each thousand

_DIALECTS = {"postgresql": "postgres", "sqlite": "sqlite", "mysql": "mysql", "mariadb": "mysql"}
# in one pass: what looks like a bind may stand in a literal
_QUOTED_OR_BIND = r"""('(?:[^']|'')*'|"(?:[^"]|"")*")|__\[POSTCOMPILE_\w+\]|(?<![\w:]):\w+|%\(\w+\)s|%s|\$\d+"""
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
    parsed = _parsed(sql, dialect)
    if isinstance(parsed, str):
        return parsed
    from sqlglot import exp

    if not isinstance(parsed, exp.Query):
        return "its SQL text is not one query"
    named = _named(parsed, dialect)
    seen = {mention.relation for mention in _mentions(parsed) if not mention.is_defined}
    if not seen <= {*named.relations, *(name.lower() for name in named.functions)}:
        return f"its SQL text is read in two ways: {sorted(seen)} and {sorted(named.relations)}"
    return named


class Mention(NamedTuple):
    """A relation that a statement names. `is_defined`: its WITH has that name, too, so that it may be no other."""

    relation: str
    is_defined: bool


def changed_by_hand(sql: str, dialect: str) -> frozenset[Mention]:
    """Every relation that `sql` names, if it is one INSERT, UPDATE, DELETE or MERGE: it changes some of them.

    None of them where it is another statement, cannot be parsed, or calls a function that may write itself.
    """
    if len(sql) > MAX_PARSED or isinstance(parsed := _parsed(sql, dialect), str):
        return frozenset()
    from sqlglot import exp

    if not isinstance(parsed, exp.Insert | exp.Update | exp.Delete | exp.Merge) or parsed.find(exp.Command):
        return frozenset()
    mentions = _mentions(parsed)
    relations = {mention.relation for mention in mentions}
    named = _named(parsed, dialect)
    # `INSERT INTO bins (…)` looks like a call
    called = named.functions.keys() - {name.upper() for name in relations}
    if not named.relations.keys() <= relations or not all(is_known(name) or name in VOLATILE for name in called):
        return frozenset()
    return mentions


def _parsed(sql: str, dialect: str) -> Any:
    """The tree of the one statement that `sql` is; or a sentence that says why there is none."""
    try:
        import sqlglot
        from sqlglot.errors import SqlglotError
    except ImportError:
        return "it is SQL text, and only with the extra perfkit[sql] can that be read"
    language = _DIALECTS.get(dialect)
    if language is None:
        return f"it is SQL text of {dialect}, for which there is no parser here"
    try:
        plain = without_disguise(sql) if language == "mysql" else sql
        trees = sqlglot.parse(_BINDS[dialect].sub(lambda found: found[1] or "NULL", plain), read=language)
    except (SqlglotError, RecursionError) as error:
        return f"its SQL text cannot be parsed: {str(error).splitlines()[0]}"
    statements = [tree for tree in trees if tree is not None]
    return statements[0] if len(statements) == 1 else "its SQL text is not one query"


def _mentions(tree: Any) -> frozenset[Mention]:
    """Every relation that a statement names."""
    from sqlglot import exp

    defined = {each.alias for each in tree.find_all(exp.CTE)}
    return frozenset(Mention(each.name, each.name in defined) for each in tree.find_all(exp.Table) if each.name)


def _named(tree: Any, dialect: str) -> Named:
    """What it names, written anew: without comments and quotes of its own kind."""
    return named_in(tree.sql(dialect=_DIALECTS[dialect], comments=False))
