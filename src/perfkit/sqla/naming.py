"""Which relations and functions SQL text names, as far as SQLAlchemy's compilers write it.

What a compiler has rendered is well formed, has no comments and no dollar quotes, and its values are binds. So a
tokenizer is enough to find what stands after FROM and JOIN and what is called, wherever it came from: ORM joins,
loader criteria, literal SQL inside an expression. SQL that people wrote by hand may hide more, and is not for this
module (`sqla.handwritten`).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache

_TOKEN = re.compile(
    r"""
      (?P<nothing>\s+ | __\[SCHEMA_[^\]]*\]\.)
    | (?P<value>'(?:[^']|'')*' | (?<![\w:]):\w+ | %\(\w+\)s | %s | \$\d+ | \? | __\[POSTCOMPILE_[^\]]*\] | \d[\w.]*)
    | (?P<quoted>"(?:[^"]|"")*" | `(?:[^`]|``)*`)
    | (?P<word>[^\W\d][\w$]*)
    | (?P<mark>:: | .)
    """,
    re.VERBOSE | re.DOTALL,
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# words that may stand before a parenthesis and call nothing
_NOT_CALLED = _words(
    """
    ALL AND ANY ARRAY AS ASC BETWEEN BY CASE CAST CHECK COLLATE CONFLICT CROSS CUBE DESC DISTINCT DO ELSE END ESCAPE
    EXCEPT EXISTS FILTER FOLLOWING FOR FROM FULL GROUP GROUPING HAVING ILIKE IN INNER INTERSECT INTERVAL INTO IS
    ISNULL JOIN KEY LATERAL LEFT LIKE LIMIT MATERIALIZED NATURAL NOT NOTNULL NULLS OF OFFSET ON ONLY OR ORDER OUTER
    OVER PARTITION PRECEDING RANGE RECURSIVE RETURNING RIGHT ROLLUP ROW ROWS SELECT SETS SIMILAR SOME THEN TO UNION
    UNIQUE USING VALUES WHEN WHERE WINDOW WITH WITHIN
    """
)
# the FROM of these is no list of relations
_OWN_FROM = frozenset({"EXTRACT", "SUBSTRING", "TRIM", "OVERLAY", "POSITION"})
_ENDS_FROM = _words(
    """
    WHERE GROUP HAVING ORDER LIMIT OFFSET FETCH FOR UNION INTERSECT EXCEPT WINDOW RETURNING SET SELECT VALUES ON
    USING
    """
)
_BETWEEN = frozenset({"LATERAL", "ONLY"})
_MODES = frozenset({"BOOLEAN", "NATURAL", "SHARE"})  # IN BOOLEAN MODE, and the like
_LOCKING = frozenset({"UPDATE", "SHARE", "NO", "KEY"})


@dataclass(slots=True)
class Named:
    """What a statement names: relations and how often each, functions, other words; and whether it locks rows."""

    relations: Counter[str] = field(default_factory=Counter)
    shadowed: set[str] = field(default_factory=set)  # read, and defined by WITH: inside of that it may be a table
    functions: dict[str, int] = field(default_factory=dict)  # with the fewest arguments that one is called with
    words: set[str] = field(default_factory=set)
    locks: bool = False


class _Scope:
    """What stands between one pair of parentheses."""

    __slots__ = ("has_own_from", "in_from", "is_next_relation")

    def __init__(self, has_own_from: bool = False, is_next_relation: bool = False) -> None:
        self.has_own_from = has_own_from
        self.in_from = is_next_relation
        self.is_next_relation = is_next_relation


@lru_cache(maxsize=512)
def named_in(sql: str) -> Named:
    """What `sql`, as a compiler renders it, names. Functions and bare words in upper case, relations as they are."""
    return _named(_tokens(sql))


def _tokens(sql: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup or ""
        if kind == "quoted":
            found.append(("name", match[0][1:-1].replace('""', '"').replace("``", "`")))
        elif kind == "word":
            found.append(("word", match[0]))
        elif kind == "mark":
            found.append(("mark", match[0]))
        elif kind == "value":
            found.append(("value", ""))
    return found


def _named(tokens: list[tuple[str, str]]) -> Named:
    named = Named()
    own = _ctes(tokens)
    scopes = [_Scope()]
    at = 0
    while at < len(tokens):
        kind, text = tokens[at]
        upper = text.upper() if kind == "word" else text
        scope = scopes[-1]
        if kind == "mark":
            if text == "(":
                scopes.append(_Scope(_before(tokens, at) in _OWN_FROM, scope.is_next_relation))
                scope.is_next_relation = False
            elif text == ")" and len(scopes) > 1:
                scopes.pop()
            elif text == "," and scope.in_from:
                scope.is_next_relation = True
        elif kind == "word" and upper in ("FROM", "JOIN") and not scope.has_own_from:
            if upper == "JOIN" or _before(tokens, at) != "DISTINCT" or _before(tokens, at - 1) not in ("IS", "NOT"):
                scope.in_from = scope.is_next_relation = True
        elif upper == "IN" and kind == "word" and not scope.has_own_from and _is_name(tokens, at + 1):
            scope.is_next_relation = _after(tokens, at) not in _MODES  # SQLite reads all of `x IN bins`
        elif kind == "word" and upper in _ENDS_FROM:
            named.locks = named.locks or (upper == "FOR" and _after(tokens, at) in _LOCKING)
            scope.is_next_relation = False
            scope.in_from = scope.in_from and upper in ("ON", "USING")
        elif scope.is_next_relation and not (kind == "word" and upper in _BETWEEN):
            if kind in ("word", "name"):
                first = at
                at, name = _whole_name(tokens, at)
                if _after(tokens, at) == "(":
                    _called(named, name.upper(), tokens, at)
                elif name in own and at == first:
                    named.shadowed.add(name)
                else:
                    named.relations[name] += 1
            scope.is_next_relation = False
        elif kind in ("word", "name"):
            _note(named, tokens, at, upper, is_word=kind == "word", own=own)
        at += 1
    return named


def _note(named: Named, tokens: list[tuple[str, str]], at: int, text: str, *, is_word: bool, own: set[str]) -> None:
    before = _before(tokens, at)
    if _after(tokens, at) == "(":
        # the name of an alias or a type is followed by its columns or its size
        if (
            before not in ("AS", "::", "WITH", "RECURSIVE")
            and text not in own
            and not (is_word and text in _NOT_CALLED)
        ):
            _called(named, text.upper(), tokens, at)
    elif is_word and before not in (".", "AS") and _after(tokens, at) != ".":
        named.words.add(text)


def _called(named: Named, name: str, tokens: list[tuple[str, str]], at: int) -> None:
    depth, given = 0, 0 if _text(tokens, at + 2) == ")" else 1
    for kind, text in tokens[at + 1 : _closing(tokens, at + 1)]:
        depth += {"(": 1, ")": -1}.get(text, 0) if kind == "mark" else 0
        given += kind == "mark" and text == "," and depth == 1
    named.functions[name] = min(given, named.functions.get(name, given))


def _ctes(tokens: list[tuple[str, str]]) -> set[str]:
    """Names that are given with AS ( to what follows: common table expressions."""
    found: set[str] = set()
    for at, (kind, text) in enumerate(tokens):
        if kind not in ("word", "name"):
            continue
        follows = at + 1
        if _after(tokens, at) == "(":
            follows = _closing(tokens, at + 1) + 1
        if _text(tokens, follows) != "AS":
            continue
        follows += 1
        while _text(tokens, follows) in ("NOT", "MATERIALIZED"):
            follows += 1
        if _text(tokens, follows) == "(":
            found.add(text)
    return found


def _whole_name(tokens: list[tuple[str, str]], at: int) -> tuple[int, str]:
    """The last part of `schema.name`, and where it stands."""
    while _text(tokens, at + 1) == "." and at + 2 < len(tokens):
        at += 2
    return at, tokens[at][1]


def _closing(tokens: list[tuple[str, str]], at: int) -> int:
    depth = 0
    for place in range(at, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[place][1], 0) if tokens[place][0] == "mark" else 0
        if depth == 0:
            return place
    return len(tokens)


def _is_name(tokens: list[tuple[str, str]], at: int) -> bool:
    return at < len(tokens) and tokens[at][0] in ("word", "name")


def _text(tokens: list[tuple[str, str]], at: int) -> str:
    if not 0 <= at < len(tokens):
        return ""
    kind, text = tokens[at]
    return text.upper() if kind == "word" else text if kind == "mark" else ""


def _before(tokens: list[tuple[str, str]], at: int) -> str:
    return _text(tokens, at - 1)


def _after(tokens: list[tuple[str, str]], at: int) -> str:
    return _text(tokens, at + 1)
