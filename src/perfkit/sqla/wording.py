"""SQL text with its values taken out: what statements of one structure have in common, and the role of each value.

A scanner, not a parser: it knows names, numbers, literals, binds of every style and the word before them. That tells
an equality from a range, a page and a list, which is all that is asked. Statements that SQLAlchemy built are asked by
their tree (`sqla.binds`).
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import NamedTuple


class Role(Enum):
    """What a value is for."""

    EQUAL = "column = value"
    MEMBER = "column IN (value, …)"
    RANGE = "column > value, BETWEEN, LIKE"
    OTHER = "LIMIT, OFFSET, and whatever else"


class Value(NamedTuple):
    """A value in a text: its role, the column it is compared with, and the name, the place, or the text of it."""

    role: Role
    column: str
    name: str | None
    place: int | None
    literal: str | None


class Wording(NamedTuple):
    """A text without its values."""

    shape: str
    values: tuple[Value, ...]


_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)
    |(?P<literal>[eEnN]?'(?:[^']|'')*'|(?<![\w$])\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    |(?P<expanding>__\[POSTCOMPILE_(?P<expanded>[^\]]+)\])
    |(?P<name>"(?:[^"]|"")*"|`[^`]*`|\[\w+\]|[A-Za-z_][\w$]*(?:\.(?:[A-Za-z_][\w$]*|"(?:[^"]|"")*"))*)
    |%\((?P<percent>\w+)\)s
    |(?P<cast>::)
    |:(?P<colon>\w+)
    |(?P<place>%s|\?\d*|\$\d+)
    |(?P<operator><=>|<=|>=|<>|!=|==|=|<|>)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_RANGES = frozenset({"<", ">", "<=", ">=", "LIKE", "ILIKE", "BETWEEN", "SIMILAR", "REGEXP", "GLOB", "MATCH"})
_CONNECTING = frozenset({"AND", "OR", "WHERE", "ON", "HAVING", "NOT", "WHEN", "THEN", "ELSE", "SELECT", ","})
_PAGING = frozenset({"LIMIT", "OFFSET", "FETCH", "FIRST", "NEXT", "TOP"})


@lru_cache(maxsize=4096)
def wording_of(sql: str) -> Wording:
    """`sql` with `?` for every value, and what the values are for."""
    shape: list[str] = []
    values: list[Value] = []
    outer: list[tuple[str, str]] = []
    operator, column, is_between, places = "", "", False, 0
    for found in _TOKEN.finditer(sql):
        kind, text = found.lastgroup or "", found[0]
        if kind == "expanded":
            kind = "expanding"
        if kind == "space":
            continue
        if kind == "name":
            upper = text.upper()
            if upper == "IN":
                operator = "IN"
            elif upper in _RANGES:
                operator, is_between = upper, upper == "BETWEEN"
            elif upper == "AND" and is_between:
                is_between = False
            elif upper in _CONNECTING or upper in _PAGING:
                operator = upper if upper in _PAGING else ""
            elif upper == "IS":
                operator = "="
            elif operator in ("", *_PAGING):
                operator, column = "", text.rpartition(".")[2].strip('"`[]')
        elif kind == "operator":
            operator = "=" if text in ("=", "==", "<=>") else text
        elif kind == "other" and text == "(":
            outer.append((operator, column))
        elif kind == "other" and text == ")":
            operator, column = outer.pop() if outer else ("", "")
        elif kind == "other" and text == "," and operator != "IN" and not outer:
            operator = ""
        elif kind in ("literal", "expanding", "percent", "colon", "place"):
            name = found["expanded"] or found["percent"] or found["colon"]
            place = None
            if kind == "place":
                place = int(text[1:]) - 1 if text[1:].isdigit() else places
                places += 1
            role = _role(operator) if operator else _role_before(sql, found.end())
            if not (kind == "literal" and _counts_columns(sql, found.end(), operator)):
                literal = text if kind == "literal" else None
                values.append(Value(role, column, name.partition("~")[0] if name else None, place, literal))
            text = "?"
        if text == "?" and len(shape) > 1 and shape[-1] == "," and shape[-2] == "?" and operator == "IN":
            shape.pop()
        else:
            shape.append(text)
    return Wording(" ".join(shape), tuple(values))


def _role(operator: str) -> Role:
    if operator == "=":
        return Role.EQUAL
    if operator == "IN":
        return Role.MEMBER
    return Role.RANGE if operator in _RANGES else Role.OTHER


def _role_before(sql: str, end: int) -> Role:
    """Of a value that stands before its operator: `:parent = bins.customer_id`."""
    return Role.EQUAL if re.match(r"\s*=\s*[A-Za-z_\"`]", sql[end : end + 80]) else Role.OTHER


def _counts_columns(sql: str, end: int, operator: str) -> bool:
    """Whether a number is no value at all, such as the 1 of SELECT 1."""
    return operator == "" and re.match(r"\s*(?:FROM\b|\)|$)", sql[end : end + 20], re.IGNORECASE) is not None


_READS = re.compile(r"[\s(]*(?:SELECT|WITH|VALUES|TABLE)\b", re.IGNORECASE)
_LOCKS = re.compile(r"\bFOR\s+(?:NO\s+KEY\s+)?(?:UPDATE|SHARE|KEY\s+SHARE)\b|\bLOCK\s+IN\s+SHARE\b", re.IGNORECASE)
_CATALOG = re.compile(
    r"\b(?:pg_catalog|information_schema|sqlite_(?:temp_)?(?:master|schema)|pg_\w+|pragma_\w+"
    r"|geometry_columns|geography_columns|raster_columns|spatial_ref_sys)\b"
    r"|^\s*SELECT\s+(?:@@|\w*version\s*\(|current_|nextval\b)",
    re.IGNORECASE,
)
_MODIFIES = re.compile(r"\b(?:INSERT\s+INTO|DELETE\s+FROM|UPDATE\s+\S+\s+SET)\b", re.IGNORECASE)
_FROM = re.compile(r'\bFROM\s+(?:"?\w+"?\.)?["`\[]?(\w+)', re.IGNORECASE)
_AGGREGATE = re.compile(r"\b(?:COUNT|SUM|MIN|MAX|AVG)\s*\(", re.IGNORECASE)
_BARE_ITEM = re.compile(r"\s*\w+\s*(?:(?:AS\s+)?[\w\"]+)?\s*", re.IGNORECASE)


@lru_cache(maxsize=4096)
def is_plain_read(sql: str) -> bool:
    """Whether it reads the application's own tables, changes nothing and locks nothing."""
    return bool(_READS.match(sql)) and not any(each.search(sql) for each in (_LOCKS, _CATALOG, _MODIFIES))


@lru_cache(maxsize=4096)
def is_aggregate(sql: str) -> bool:
    """Whether all that it selects are counts, sums and the like over its rows."""
    found = re.match(r"[\s(]*SELECT\s+(.*)", sql, re.IGNORECASE | re.DOTALL)
    if found is None or " GROUP BY " in sql.upper():
        return False
    selected = re.split(r"\bFROM\b", _without_brackets(found[1]), maxsplit=1, flags=re.IGNORECASE)[0]
    items = selected.split(",")
    calls = [item for item in items if "\0" in item]
    return (
        len(calls) == len(items)
        and not any(re.match(r"\s*(?:NOT\s+)?EXISTS\b", item, re.IGNORECASE) for item in items)
        and _AGGREGATE.search(found[1][: found[1].upper().find("FROM")]) is not None
        and all(_BARE_ITEM.fullmatch(item.replace("\0", " ")) for item in items)
    )


def _without_brackets(sql: str) -> str:
    """What stands in round brackets is left out, with a mark in its place."""
    depth, found = 0, []
    for each in sql:
        depth += (each == "(") - (each == ")")
        if each == "(" and depth == 1:
            found.append("\0")
        elif depth == 0 and each != ")":
            found.append(each)
    return "".join(found)


def first_table(sql: str) -> str:
    """The name after the first FROM that is followed by one; empty if there is none."""
    found = _FROM.search(sql)
    return "" if found is None else found[1]


def with_list(sql: str, column: str, *, name: str = "ids", grouped: bool = False) -> str:
    """`sql` for all values of `column` in one go: `column = value` becomes `column IN :ids`, other values get names."""
    parts: list[str] = []
    operator, seen, number, qualified = "", "", 0, column
    for found in _TOKEN.finditer(sql):
        kind, text = found.lastgroup or "", found[0]
        if kind in ("literal", "expanding", "expanded", "percent", "colon", "place"):
            if operator == "=" and seen.rpartition(".")[2].strip('"`[]') == column:
                while parts.pop() != "=":
                    pass
                qualified = seen
                parts += [" " * (not parts[-1].isspace()), "IN", " ", f":{name}"]
                operator = ""
                continue
            if kind != "literal":
                number += 1
                text = f":{found['expanded'] or found['percent'] or found['colon'] or f'value_{number}'}"
        elif kind == "name" and text.upper() not in ("AND", "OR", "WHERE"):
            seen = text
        elif kind == "operator":
            operator = text
        parts.append(text)
    whole = "".join(parts).strip().rstrip(";")
    listed = re.search(rf'([\w."`\[\]]*\b{re.escape(column)}["`\]]?)\s+IN\s*\([^()]*\)', whole, re.IGNORECASE)
    if listed is not None:
        qualified = listed[1]
        whole = f"{whole[: listed.start()]}{qualified} IN :{name}{whole[listed.end() :]}"
    if grouped:
        whole = re.sub(r"^([\s(]*SELECT\s+)", rf"\g<1>{qualified}, ", whole, count=1, flags=re.IGNORECASE)
        whole += f" GROUP BY {qualified}"
    return " ".join(whole.split())
