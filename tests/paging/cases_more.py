"""More kinds of statements: what a mapper adds by itself, what wants parentheses, what one database alone knows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Float,
    ForeignKey,
    Interval,
    String,
    and_,
    case,
    cast,
    collate,
    desc,
    func,
    intersect,
    literal_column,
    select,
    text,
    true,
    union,
    union_all,
)
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    column_property,
    immediateload,
    joinedload,
    mapped_column,
    raiseload,
    relationship,
    selectin_polymorphic,
    subqueryload,
    with_loader_criteria,
)

from tests.paging.models import Cat, Item, Owner, Pet, Tag, Thing

START = datetime(2020, 1, 1)  # noqa: DTZ001 - as the column


class Extra(DeclarativeBase):
    pass


class Place(Extra):
    __tablename__ = "p2"
    code: Mapped[str] = mapped_column(String(20), primary_key=True)
    v: Mapped[int | None]
    kind: Mapped[str] = mapped_column(String(5))
    pid: Mapped[str | None] = mapped_column(ForeignKey("p2.code"))
    parent: Mapped[Place | None] = relationship(remote_side="Place.code", lazy="joined", join_depth=1)
    kids: Mapped[list[Key]] = relationship(lazy="joined")

    @hybrid_property
    def twice(self):
        return self.v * 2

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "p"}  # noqa: RUF012


class Quay(Place):
    __mapper_args__ = {"polymorphic_identity": "q"}  # noqa: RUF012


class Key(Extra):
    __tablename__ = "k2"
    a: Mapped[int] = mapped_column(primary_key=True)
    b: Mapped[str] = mapped_column(String(9), primary_key=True)
    pc: Mapped[str] = mapped_column(ForeignKey("p2.code"))
    d: Mapped[datetime]


Place.nk = column_property(
    select(func.count(Key.a)).where(Key.pc == Place.code).correlate_except(Key).scalar_subquery()
)


def fill_more(session: Session) -> None:
    """Places in a row, with keys to some."""
    for number in range(20):
        parent = f"c{number - 1:02}" if number % 4 else None
        kind = Place if number % 3 else Quay
        session.add(kind(code=f"c{number:02}", v=[None, 1, 2][number % 3], pid=parent))
        session.flush()
        for part in range(number % 3):
            session.add(Key(a=number, b=f"b{part}", pc=f"c{number:02}", d=START.replace(month=1 + number % 5)))
    session.flush()


def more_cases(dialect: str) -> Iterator[tuple[str, Any]]:
    """Names and statements, of those that a database knows."""
    yield "hybrid", select(Place).order_by(Place.twice.desc())
    yield "colprop", select(Place).order_by(Place.nk.desc())
    yield "sti", select(Quay).order_by(Quay.v)
    yield "lazyjoined", select(Place).order_by(Place.v.desc().nulls_last())
    yield "subqueryload", select(Item).options(subqueryload(Item.tags)).order_by(Item.rank)
    yield (
        "subqueryload chain",
        select(Owner).options(subqueryload(Owner.items).joinedload(Item.tags)).order_by(Owner.name),
    )
    yield "immediate", select(Item).options(immediateload(Item.owner)).order_by(Item.rank)
    yield "raiseload", select(Item).options(raiseload("*")).order_by(Item.rank)
    yield (
        "criteria",
        select(Item).options(joinedload(Item.tags), with_loader_criteria(Tag, Tag.weight == 1)).order_by(Item.rank),
    )
    yield "nulls_last(desc(str))", select(Item.id, Item.price.label("pr")).order_by(desc("pr"))
    yield (
        "group label",
        select(func.coalesce(Item.note, "?").label("g"), func.count().label("n")).group_by("g").order_by("n"),
    )
    yield (
        "group label2",
        select(case((Item.rank > 1, "hi"), else_="lo").label("g"), func.sum(Item.id).label("n"))
        .group_by("g")
        .order_by(desc("g")),
    )
    yield "union colobj", union(select(Item.id.label("x")), select(Owner.id)).order_by(desc("x"))
    u = union_all(select(Item.id, Item.name), select(Owner.id, Owner.name)).subquery()
    yield "sub union all", select(u).order_by(u.c.name)
    yield "sub union all ent", select(Owner, u.c.name).join(u, u.c.id == Owner.id).order_by(Owner.name)
    yield "intersect", intersect(select(Item.rank), select(Item.owner_id)).order_by("rank")
    yield "self", select(Item).join(Owner, Owner.id == Item.owner_id).order_by(Owner.name.desc(), Item.rank)
    yield "in", select(Item).where(Item.id.in_([1, 2, 3, 5, 8, 13, 21])).order_by(Item.rank)
    yield "in empty", select(Item).where(Item.id.in_([])).order_by(Item.rank)
    yield "window in where entity", select(Item, func.sum(Item.rank).over(order_by=Item.id)).order_by(Item.name)
    yield (
        "agg over group",
        select(Item.rank, func.count().label("c"), func.rank().over(order_by=func.count()).label("r"))
        .group_by(Item.rank)
        .order_by("r"),
    )
    yield "exists label", select(Item, Item.tags.any(Tag.weight == 1).label("e")).order_by(desc("e"))
    yield "lower dup names", select(Item.id, Owner.id, Item.name, Owner.name).join(Item.owner).order_by(Owner.name)
    yield (
        "wrap dup names",
        select(Item.id, Owner.id, func.rank().over(order_by=Item.rank).label("id"))
        .join(Item.owner)
        .order_by(Owner.name),
    )
    yield "full star table", select(Tag.__table__).order_by(Tag.__table__.c.weight.desc())
    yield "distinct join cols", select(Owner.name, Item.rank).join(Owner.items).distinct().order_by(Item.rank)
    yield (
        "nested sub",
        select(select(Item.id, Item.rank, Item.name).where(Item.rank > 0).subquery()).order_by(text("rank")),
    )
    yield "text pos", select(Item.id, Item.name).order_by(text("2"))
    yield (
        "literal_column",
        select(Item.id, Item.name).order_by(literal_column("items.name"), literal_column("items.rank").desc()),
    )
    yield "cast", select(Item).order_by(cast(Item.price, Float).desc())
    yield "concat", select(Item).order_by((Item.name + "x").desc())
    yield (
        "collate",
        select(Item).order_by(
            collate(
                Item.name,
                {"sqlite": "NOCASE", "postgresql": "C", "mysql": "utf8mb4_bin", "mariadb": "utf8mb4_bin"}[dialect],
            )
        ),
    )
    yield "avg", select(Item.rank, func.avg(Item.price).label("a")).group_by(Item.rank).order_by("a")
    yield "division", select(Item).order_by(Item.id / 3)
    yield "mod", select(Item).order_by((Item.id % 7).desc(), Item.note)
    yield "min date", select(Key.pc, func.max(Key.d).label("m")).group_by(Key.pc).order_by("m")
    yield "order two ents", select(Place, Key).join(Key).order_by(Key.d.desc(), Place.v)
    yield "polymorphic join", select(Pet).order_by(Pet.kind.desc(), Pet.name)
    yield "selectin_poly", select(Pet).options(selectin_polymorphic(Pet, [Cat])).order_by(Pet.name)
    yield "with_for", select(Item).order_by(Item.rank).with_for_update() if dialect != "sqlite" else select(Item)
    a = aliased(Item, name="a")
    b = aliased(Item, name="b")
    yield "self join", select(a, b).join(b, and_(a.rank == b.rank, b.id < 5)).order_by(b.note, a.id)
    yield "cross", select(Owner, Tag.label).where(Tag.item_id == 1).order_by(Tag.label.desc())
    yield "full where", select(Item.id, Owner.name).where(Item.owner_id == Owner.id).order_by(Owner.name)
    yield "only scalar", select(func.max(Item.id))
    yield "func nulltype", select(Item).order_by(func.abs(Item.rank - 2), func.length(Item.note))
    yield "bool expr", select(Item).order_by((Item.rank > 1).desc(), Item.note.is_(None))
    yield "not", select(Item).order_by(~Item.active)
    yield "no order alias name", select(Item.id.label("name"), Item.name.label("id")).order_by("name")
    if dialect == "postgresql":
        yield "distinct on", select(Item).ext(pg.distinct_on(Item.rank)).order_by(Item.rank, Item.id)
        yield (
            "date_trunc",
            select(func.date_trunc("month", Key.d).label("mo"), func.count().label("c"))
            .group_by("mo")
            .order_by(desc("mo")),
        )
        yield (
            "array",
            select(Item.owner_id, func.array_agg(Item.id).label("x"))
            .group_by(Item.owner_id)
            .order_by(func.array_agg(Item.rank)),
        )
        yield (
            "lateral",
            (lambda side: select(Owner, side.c.id).join(side, true()).order_by(side.c.id.desc()))(
                select(Item.id).where(Item.owner_id == Owner.id).limit(2).lateral()
            ),
        )
        yield "set", select(Owner.name, func.unnest(pg.array([3, 1, 3])).label("u")).order_by("u")
        yield (
            "rollup",
            select(Item.rank, Item.active, func.count())
            .group_by(func.rollup(Item.rank, Item.active))
            .order_by(Item.rank),
        )
        g = func.generate_series(1, 12).column_valued("n")
        yield "series", select(g).order_by(g.desc())
        yield "jsonb", select(Item.id, cast(func.to_jsonb(Item.price), pg.JSONB).label("j")).order_by("j")
        yield "range", select(Item.id).order_by(cast(func.int4range(Item.rank, Item.rank + 2), pg.INT4RANGE))
        yield "inet", select(Item.id).order_by(cast(func.concat("10.0.0.", Item.rank), pg.INET).desc())
        yield "interval", select(Key).order_by(func.age(Key.d, START, type_=Interval))
        yield "realabs", select(Thing).order_by(func.abs(Thing.real))
        yield (
            "percentile",
            select(Item.rank, func.percentile_cont(0.5).within_group(Item.price).label("m"))
            .group_by(Item.rank)
            .order_by("m"),
        )
        yield (
            "filter",
            select(Item.rank, func.count().filter(Item.active).label("m")).group_by(Item.rank).order_by(desc("m")),
        )
