"""What pages of a statement cost, and the index that makes them cost what they show.

A page is seekable when it reads no more than itself. That shows at the far end first: what comes after the first row of
the last page is few rows, and a plan that reads many to find them would do so on every page, the deeper the more.
PostgreSQL alone tells what a plan has read, so only it is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, Null

from perfkit.errors import NotSeekable, PagingDeclarationError
from perfkit.paging.count import exact
from perfkit.paging.cursor import Position
from perfkit.paging.kept import planned
from perfkit.paging.keys import Key
from perfkit.paging.keyset import fetch, read_rows
from perfkit.paging.plan import OFFSET, Plan, dialect_of
from perfkit.paging.together import LIMIT
from perfkit.sqla.asked import asked_of

MAX_BUFFERS, MAX_FILTERED = 250, 400  # what every ordering of the measurements stays below, at any depth


@dataclass(frozen=True, slots=True)
class PageCost:
    """What a page read. `plans` are those of its statements, as PostgreSQL's JSON has them.

    `sorted`: more rows than a page of each branch, which are put in order where they meet.
    """

    statements: int
    buffers: int
    filtered: int
    sorted: bool
    plans: tuple[dict[str, Any], ...]


def explain_page(session: Session, statement: Any, *, size: int = 50, assume_unique: bool = False) -> PageCost:
    """The cost of the deepest page of `statement`, by EXPLAIN (ANALYZE, BUFFERS): its statements are executed.

    Raises:
        PagingDeclarationError: not on PostgreSQL, or a statement that no page can be made of.
    """
    _check_database(session, statement)
    made = planned(session, statement, assume_unique=assume_unique)
    return cost_of(session, made, _far_end(session, made, size), size, backward=False)


def _check_database(session: Session, statement: Any) -> None:
    if dialect_of(session, statement).name != "postgresql":
        raise PagingDeclarationError("it asks PostgreSQL what a plan has read; no other database tells it.")


def _far_end(session: Session, made: Plan, size: int) -> Position | None:
    """The first row of the last page."""
    end = fetch(session, made, None, size, backward=True)
    return Position(tuple(end.rows[-1][place] for place in made.places)) if end.rows else None


def _middle(session: Session, made: Plan, statement: Any) -> Position | None:
    """The row that has as many before it as behind it; found by counting them."""
    values = {LIMIT: 1, OFFSET: exact(session, statement).value // 2, **made.values}
    rows = read_rows(session.execute(made.skipping(), values), made).rows
    return Position(tuple(rows[0][place] for place in made.places)) if rows else None


def cost_of(session: Session, made: Plan, start: Position | None, size: int, *, backward: bool) -> PageCost:
    """The cost of a page from a position on, or from an end."""
    connection = session.connection()
    with asked_of(connection) as asked:
        fetch(session, made, start, size + 1, backward=backward)
    plans = []
    for sql, values in list(asked):
        told: Any = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", values).scalar_one()
        plans.append(told[0]["Plan"])
    nodes = [node for plan in plans for node in _nodes(plan)]
    return PageCost(
        statements=len(plans),
        buffers=sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in plans),
        filtered=sum(node.get("Rows Removed by Filter", 0) * node.get("Actual Loops", 1) for node in nodes),
        sorted=any(_sorted_rows(node) > (size + 1) * (2 * len(made.keys) + 1) for node in nodes),
        plans=tuple(plans),
    )


def assert_seekable(
    session: Session,
    statement: Any,
    *,
    size: int = 50,
    max_buffers: int = MAX_BUFFERS,
    max_filtered: int = MAX_FILTERED,
    assume_unique: bool = False,
) -> None:
    """Nothing, if pages of `statement` read little more than themselves; for tests with rows as in production.

    Pages from the start, from the middle and from the far end are read, forward and backward: an index without the
    NULLS FIRST of an ordering serves some of them only. The rows are counted for it.

    Raises:
        NotSeekable: a page reads more than `max_buffers` or filters more than `max_filtered` rows; with the index to
            make.
        PagingDeclarationError: not on PostgreSQL, or a statement that no page can be made of.
    """
    _check_database(session, statement)
    made = planned(session, statement, assume_unique=assume_unique)
    for start in (_far_end(session, made, size), None, _middle(session, made, statement)):
        for backward in (False, True):
            cost = cost_of(session, made, start, size, backward=backward)
            if cost.buffers > max_buffers or cost.filtered > max_filtered:
                advice = suggest_index(session, statement, assume_unique=assume_unique)
                raise NotSeekable(cost.buffers, cost.filtered, advice)


def suggest_index(session: Session, statement: Any, *, assume_unique: bool = False) -> str | None:
    """The CREATE INDEX that serves the pages of `statement`, for PostgreSQL; None where one index of one table cannot.

    Columns that a filter compares for equality come first, then the keys in their directions. `x IS NULL` in the
    filter, as of a soft delete, makes the index partial.
    """
    made = planned(session, statement, assume_unique=assume_unique)
    columns = [key.term.expression for key in made.keys]
    tables = {getattr(each, "table", None) for each in columns}
    table = tables.pop() if len(tables) == 1 else None
    if not isinstance(statement, Select) or not isinstance(table, Table):
        return None
    equal, absent = _filters(statement.whereclause, table)
    quoted: Any = postgresql.dialect().identifier_preparer  # type: ignore[no-untyped-call]
    parts = [quoted.quote(each.name) for each in equal]
    parts += [
        quoted.quote(key.term.expression.name) + way for key, way in _ways(made) if key.term.expression not in equal
    ]
    name = "_".join(["ix", table.name, *(each.name for each in (*equal, *columns))])[:60]
    where = " AND ".join(f"{quoted.quote(each.name)} IS NULL" for each in absent)
    return f"CREATE INDEX CONCURRENTLY {quoted.quote(name)} ON {quoted.format_table(table)} ({', '.join(parts)})" + (
        f" WHERE {where}" if where else ""
    )


def _ways(made: Plan) -> Iterator[tuple[Any, str]]:
    """Each key with what follows its column in an index; one direction alone is read from a plain one, or backward."""
    one_way = len({key.term.descending for key in made.keys}) == 1
    plain = one_way and all(_has_usual_nulls(key) for key in made.keys)
    for key in made.keys:
        way = " DESC" if key.term.descending and not plain else ""
        yield key, way + ("" if _has_usual_nulls(key) else " NULLS FIRST" if key.nulls_first else " NULLS LAST")


def _has_usual_nulls(key: Key) -> bool:
    """Whether an index of PostgreSQL that goes its way has its NULLs where it wants them."""
    return not key.nullable or key.nulls_first is key.term.descending


def _filters(condition: Any, table: Table) -> tuple[Sequence[Any], Sequence[Any]]:
    """The columns of a table that a WHERE compares with a value, and those that it wants to be NULL."""
    parts = list(condition.clauses) if getattr(condition, "operator", None) is operators.and_ else [condition]
    equal: list[Any] = []
    absent: list[Any] = []
    for part in parts:
        if not isinstance(part, BinaryExpression) or getattr(part.left, "table", None) is not table:
            continue
        if part.operator is operators.eq and isinstance(part.right, BindParameter):
            equal.append(part.left)
        elif part.operator is operators.is_ and isinstance(part.right, Null):
            absent.append(part.left)
    return equal, absent


def _sorted_rows(node: dict[str, Any]) -> int:
    """How many rows a node put in order."""
    if "Sort" not in node["Node Type"]:
        return 0
    return sum(each["Actual Rows"] * each["Actual Loops"] for each in node["Plans"])


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from _nodes(each)
