"""Kinds of statements, each with what it can be ordered by: a case is a kind and an ordering that a seed decides."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    Float,
    asc,
    case,
    cast,
    column,
    desc,
    distinct,
    exists,
    func,
    intersect,
    literal,
    null,
    or_,
    select,
    union,
    union_all,
    values,
)
from sqlalchemy import types as kinds_of
from sqlalchemy.orm import (
    Bundle,
    aliased,
    contains_eager,
    defer,
    joinedload,
    lazyload,
    load_only,
    raiseload,
    selectin_polymorphic,
    selectinload,
    subqueryload,
    undefer,
    with_loader_criteria,
    with_polymorphic,
)

from tests.paging.harbour import BigCrane, Clerk, Crane, Crate, Driver, Heavy, Port, Racer, Ship, ShipAndPort, Worker


@dataclass(frozen=True)
class Kind:
    """A statement without order, and expressions to order it by. `by_column`: these are its columns, in their order."""

    statement: Any
    keys: dict[str, Any]
    by_column: bool = False


SHIP: dict[str, Any] = {
    "order": Ship.order,
    "select": Ship.select,
    "share": Ship.share,
    "name": Ship.name,
    "title": Ship.title,
    "halved": Ship.halved,
    "upper": Ship.upper,
    "x": Ship.x,
    "log": Ship.log,
    "twice": Ship.twice,
    "built": Ship.built,
    "code": Ship.code,
    "reach": Ship.reach,
    "mark": Ship.mark,
    "cargo": Ship.cargo,
    "label": Ship.label,
    "number": Ship.number,
    "sum": Ship.x + Ship.select,
    "minus": -Ship.x,
    "bool": Ship.order == 1,
    "null bool": Ship.select > 1,
    "is null": Ship.log.is_(None),
    "case": case((Ship.order == 1, Ship.select), else_=0),
    "coalesce": func.coalesce(Ship.select, Ship.order),
    "nullif": func.nullif(Ship.order, 1),
    "cast": cast(Ship.share, Float),
    "lower": func.lower(Ship.name),
    "exists": Ship.crates.any(),
    "between": Ship.x.between(1, 2),
    "in": Ship.order.in_([1, 2]),
    "literal": Ship.order * literal(2),
}
PORT: dict[str, Any] = {"country": Port.country, "depth": Port.depth, "port": Port.code}
CRATE: dict[str, Any] = {"weight": Crate.weight, "kind": Crate.kind, "place": Crate.place, "ship": Crate.ship}


def _of(source: Any, names: str) -> dict[str, Any]:
    return {name: getattr(source, name) for name in names.split()}


@cache
def kinds(dialect: str) -> dict[str, Kind]:
    """By their names, those that a database knows."""
    return dict(_kinds(dialect))


def _kinds(dialect: str) -> Iterator[tuple[str, Kind]]:
    yield "entity", Kind(select(Ship), SHIP)
    yield "where", Kind(select(Ship).where(or_(Ship.x == 1, Ship.order > 0)), SHIP)
    yield "joined", Kind(select(Ship).options(joinedload(Ship.crates)), SHIP)
    yield "joined inner", Kind(select(Ship).options(joinedload(Ship.home), joinedload(Ship.leader)), SHIP)
    yield "selectin", Kind(select(Port).options(selectinload(Port.ships)), PORT)
    yield "subquery load", Kind(select(Port).options(subqueryload(Port.ships)), PORT)
    yield "nested", Kind(select(Port).options(joinedload(Port.ships).joinedload(Ship.crates)), PORT)
    yield "nested mixed", Kind(select(Port).options(selectinload(Port.ships).joinedload(Ship.crates)), PORT)
    yield "load only", Kind(select(Ship).options(load_only(Ship.name)), SHIP)
    yield "defer", Kind(select(Ship).options(defer(Ship.order, raiseload=True), defer(Ship.select)), SHIP)
    yield "undefer", Kind(select(Ship).options(undefer(Ship.log), lazyload(Ship.crates), raiseload("*")), SHIP)
    yield (
        "criteria",
        Kind(select(Ship).options(with_loader_criteria(Ship, Ship.x == 1), joinedload(Ship.crates)), SHIP),
    )
    yield "columns", Kind(select(Ship.number, Ship.name, Ship.order), SHIP)
    yield "one column", Kind(select(Ship.name), SHIP)
    yield "mixed", Kind(select(Ship, Ship.name, (Ship.x + 1).label("more")), SHIP)
    yield "bundle", Kind(select(Bundle("b", Ship.name, Ship.x), Ship.order), SHIP)
    yield "core", Kind(select(Ship.__table__), {c.key: c for c in Ship.__table__.c})
    yield "twice", Kind(select(Ship.name, Ship.name, Ship), SHIP)
    yield "constants", Kind(select(literal(1).label("one"), null().label("none"), Ship.name), SHIP)
    yield "outer", Kind(select(Ship, Port).outerjoin(Ship.home), {**SHIP, **PORT})
    yield "outer other", Kind(select(Port, Ship).outerjoin(Port.ships), {**SHIP, **PORT})
    yield "outer columns", Kind(select(Ship.name, Port.country).outerjoin(Ship.home), {**SHIP, **PORT})
    if dialect not in ("mysql", "mariadb"):
        yield "full", Kind(select(Ship, Port).outerjoin(Port, Ship.code == Port.code, full=True), {**SHIP, **PORT})
    yield "many", Kind(select(Ship).join(Ship.crates), {**SHIP, **CRATE})
    yield "many rows", Kind(select(Ship.name, Crate.kind).join(Ship.crates), {**SHIP, **CRATE})
    yield "two outer", Kind(select(Port, Crate).outerjoin(Port.ships).outerjoin(Ship.crates), {**PORT, **CRATE})
    yield "eager of join", Kind(select(Ship).join(Ship.home).options(contains_eager(Ship.home)), {**SHIP, **PORT})
    yield "composite key", Kind(select(Crate), CRATE)
    yield "cross", Kind(select(Port, Crane.lift).where(Crane.lift == 1), {**PORT, "lift": Crane.lift})
    leader = aliased(Ship)
    yield (
        "self join",
        Kind(
            select(Ship, leader).outerjoin(leader, Ship.captain == leader.number),
            {**SHIP, **_of(leader, "order name built reach")},
        ),
    )
    yield "alias", Kind(select(leader), _of(leader, "order select name log halved cargo label reach mark upper"))
    inner = select(Ship).where(Ship.order > 0).subquery()
    within = aliased(Ship, inner)
    yield "alias of subquery", Kind(select(within), _of(within, "order select name log halved upper"))
    yield "subquery", Kind(select(inner), {key: inner.c[key] for key in ("order", "SELECT", "fullName")})
    some = select(Ship.number, Ship.order.label("o"), Ship.select).where(Ship.x == 1).cte("some")
    yield "cte", Kind(select(some), {"o": some.c.o, "number": some.c.number})
    yield (
        "cte join",
        Kind(select(Ship, some.c.o).outerjoin(some, some.c.number == Ship.number), {**SHIP, "o": some.c.o}),
    )
    counts = select(Crate.ship, func.count().label("n")).group_by(Crate.ship).subquery()
    yield "join of groups", Kind(select(Ship, counts.c.n).outerjoin(counts), {**SHIP, "n": counts.c.n})
    steps = select(literal(1).label("n")).cte("steps", recursive=True)
    steps = steps.union_all(select(steps.c.n + 1).where(steps.c.n < 11))
    yield "recursive", Kind(select(steps.c.n), {"n": steps.c.n, "mod": steps.c.n % 3})
    yield "exists", Kind(select(Ship).where(exists().where(Crate.ship == Ship.number)), SHIP)
    yield "in subquery", Kind(select(Ship).where(Ship.code.in_(select(Port.code).where(Port.country == "fin"))), SHIP)
    yield (
        "lateral free",
        Kind(
            select(Port, select(func.count(Ship.number)).where(Ship.code == Port.code).scalar_subquery().label("k")),
            PORT,
        ),
    )

    yield (
        "grouped",
        Kind(
            select(Ship.order, func.count().label("n"), func.sum(Ship.select)).group_by(Ship.order),
            {
                "order": Ship.order,
                "n": func.count(),
                "sum": func.sum(Ship.select),
                "avg": func.avg(Ship.x),
                "max": func.max(Ship.log),
                "distinct": func.count(distinct(Ship.name)),
            },
        ),
    )
    yield (
        "grouped by nullable",
        Kind(
            select(Ship.select, Ship.log, func.count()).group_by(Ship.select, Ship.log),
            {"select": Ship.select, "log": Ship.log, "n": func.count(), "min": func.min(Ship.halved)},
        ),
    )
    yield (
        "grouped by expression",
        Kind(
            select((Ship.x + Ship.y).label("g"), func.count()).group_by(Ship.x + Ship.y),
            {"g": Ship.x + Ship.y, "n": func.count(), "case": case((func.count() > 2, 1), else_=0)},
        ),
    )
    yield (
        "having",
        Kind(
            select(Ship.order, Ship.x, func.max(Ship.built)).group_by(Ship.order, Ship.x).having(func.count() > 1),
            {"order": Ship.order, "built": func.max(Ship.built), "n": func.count()},
        ),
    )
    yield (
        "grouped entity",
        Kind(
            select(Port, func.count(Ship.number)).outerjoin(Port.ships).group_by(Port.code),
            {**PORT, "n": func.count(Ship.number), "sum": func.sum(Ship.select)},
        ),
    )
    yield (
        "window",
        Kind(
            select(Ship, func.row_number().over(partition_by=Ship.order, order_by=Ship.number).label("w")),
            {**SHIP, "w": func.row_number().over(partition_by=Ship.order, order_by=Ship.number)},
        ),
    )
    yield (
        "window only in order",
        Kind(
            select(Ship.name, Ship.number),
            {
                "lag": func.lag(Ship.select).over(order_by=Ship.number),
                "sum": func.sum(Ship.select).over(partition_by=Ship.order),
                "name": Ship.name,
            },
        ),
    )
    yield (
        "window of outer",
        Kind(
            select(Ship, Port, func.dense_rank().over(order_by=Ship.x)).outerjoin(Ship.home),
            {**PORT, "x": Ship.x, "rank": func.dense_rank().over(order_by=Ship.x)},
        ),
    )
    yield (
        "window of groups",
        Kind(
            select(Ship.order, func.count(), func.rank().over(order_by=func.count())).group_by(Ship.order),
            {"order": Ship.order, "rank": func.rank().over(order_by=func.count())},
        ),
    )
    yield (
        "window, joined",
        Kind(
            select(Ship).options(joinedload(Ship.crates)),
            {"w": func.rank().over(order_by=Ship.x), "log": Ship.log},
        ),
    )
    yield "distinct", Kind(select(Ship.order, Ship.log).distinct(), {"order": Ship.order, "log": Ship.log}, True)
    yield (
        "distinct many",
        Kind(
            select(Port).join(Port.ships).distinct(), {"country": Port.country, "depth": Port.depth, "code": Port.code}
        ),
    )
    doubled, lowered = (Ship.x * 2).label("a"), func.lower(Ship.name).label("b")
    yield (
        "distinct expression",
        Kind(
            select(doubled, lowered).distinct(),
            {"a": doubled, "b": lowered},
            True,
        ),
    )
    for name, made in (
        ("union", union(select(Ship.name, Ship.select), select(Port.country, Port.depth))),
        ("union all", union_all(select(Ship.name, Ship.select), select(Port.country, Port.depth))),
        ("intersect", intersect(select(Ship.order, Ship.x), select(Ship.x, Ship.order))),
        ("union of three", union(select(Ship.order, Ship.x), select(Ship.x, Ship.y), select(Crane.id, Crane.lift))),
    ):
        yield name, Kind(made, dict(zip(["first", "second"], made.selected_columns, strict=True)), True)
    both = union_all(select(Ship.name.label("n"), Ship.x.label("v")), select(Port.code, Port.depth)).subquery()
    yield "from union all", Kind(select(both), {"n": both.c.n, "v": both.c.v})
    listed = values(column("k", kinds_of.Integer), column("t", kinds_of.String), name="v").data(
        [(1, "a"), (2, "b"), (2, "b"), (3, "a")]
    )
    if dialect == "postgresql":  # the others have no names for columns of VALUES
        yield "values", Kind(select(listed), {"k": listed.c.k, "t": listed.c.t})
        yield (
            "values join",
            Kind(select(Ship, listed.c.t).join(listed, listed.c.k == Ship.order), {**SHIP, "t": listed.c.t}),
        )

    yield "concrete", Kind(select(BigCrane), _of(BigCrane, "lift rail"))
    yield "concrete base", Kind(select(Crane), _of(Crane, "lift"))
    yield "worker", Kind(select(Worker), _of(Worker, "kind name grade"))
    yield "driver", Kind(select(Driver), _of(Driver, "name grade licence worker_id"))
    yield "racer", Kind(select(Racer), _of(Racer, "name grade licence wins"))
    yield "clerk", Kind(select(Clerk), _of(Clerk, "name grade desk"))
    every = with_polymorphic(Worker, [Driver, Racer, Clerk])
    yield (
        "polymorphic",
        Kind(select(every), {"name": every.name, "licence": every.Driver.licence, "wins": every.Racer.wins}),
    )
    yield (
        "selectin polymorphic",
        Kind(select(Worker).options(selectin_polymorphic(Worker, [Driver, Racer])), _of(Worker, "kind name grade")),
    )
    yield "mapped to join", Kind(select(ShipAndPort), _of(ShipAndPort, "country depth x log"))
    yield "mapped to select", Kind(select(Heavy), _of(Heavy, "total"))
    yield "one row", Kind(select(func.count(Ship.number), func.max(Ship.x)), {"n": func.count(Ship.number)})


SPELLINGS: tuple[Callable[[Any, bool], Any], ...] = (
    lambda key, down: key.desc() if down else key,
    lambda key, down: key.desc() if down else key.asc(),
    lambda key, down: desc(key) if down else asc(key),
)


@dataclass(frozen=True)
class Case:
    """A kind, ordered."""

    kind: str
    name: str
    statement: Any
    terms: Sequence[Any]
    places: Sequence[int] | None
    """Of the terms among the columns, where these are all that it can be ordered by."""


def case_of(seed: int, dialect: str) -> Case:
    """The case of a number. MariaDB has no words for where NULLs stand."""
    chance = random.Random(seed)
    found = kinds(dialect)
    names = list(found)
    name = names[seed % len(names)]
    kind = found[name]
    few = chance.sample(list(kind.keys), min(len(kind.keys), chance.choice([0, 1, 1, 2, 2, 3, 4, 6])))
    statement, terms, shown = kind.statement, [], []
    for key in few:
        down, where = (
            chance.random() < 0.5,
            chance.choice([None, None, True, False]) if dialect not in ("mysql", "mariadb") else None,
        )
        clause = chance.choice(SPELLINGS)(kind.keys[key], down)
        if where is not None:
            clause = clause.nulls_first() if where else clause.nulls_last()
        statement = statement.order_by(clause)
        terms.append(kind.keys[key])
        shown.append(f"{key}{' desc' if down else ''}{'' if where is None else ' first' if where else ' last'}")
    places = [list(kind.keys).index(key) for key in few] if kind.by_column else None
    return Case(name, f"{seed}: {name} by {', '.join(shown) or 'nothing'}", statement, terms, places)
