"""Statements of every kind that people write, each with the name of what is special about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import case, desc, func, literal, or_, select, text, union, union_all
from sqlalchemy.orm import Bundle, aliased, defer, joinedload, load_only, selectinload, with_polymorphic

from tests.paging.models import Cat, Item, Mark, Owner, Pet, Tag


def cases() -> Iterator[tuple[str, Any]]:
    """Names and statements; none has an order that is unique by itself, unless the name says so."""
    yield "pk", select(Item)
    yield "rank", select(Item).order_by(Item.rank)
    yield "mixed", select(Item).order_by(Item.rank, Item.name.desc(), Item.id)
    yield "null", select(Item).order_by(Item.price, Item.id.desc())
    yield "nulldesc", select(Item).order_by(Item.price.desc(), Item.note)
    yield "explicit NULLS", select(Item).order_by(Item.price.desc().nulls_last(), Item.note.nulls_first())
    yield "bool", select(Item).order_by(Item.active.desc())
    yield "strlabel", select(Item.id, func.lower(Item.name).label("n")).order_by("n")
    yield "desc strlabel", select(Item.id, func.lower(Item.name).label("n")).order_by(desc("n"))
    score = (Item.rank * 2 + Item.id % 3).label("q")
    yield "label", select(Item, score).order_by(score.desc())
    yield "text", select(Item).order_by(text("name DESC, rank"))
    yield "expr", select(Item).order_by(case((Item.rank == 1, 0), else_=1), func.coalesce(Item.note, "z"))
    yield "col", select(Item.name).order_by(Item.name)
    yield "joined", select(Item).options(joinedload(Item.tags)).order_by(Item.rank)
    yield "selectin", select(Item).options(selectinload(Item.tags), joinedload(Item.owner)).order_by(Item.rank)
    yield "nested", select(Owner).options(joinedload(Owner.items).joinedload(Item.tags)).order_by(Owner.name)
    yield "load_only", select(Item).options(load_only(Item.note)).order_by(Item.rank)
    yield "defer", select(Item).options(defer(Item.rank, raiseload=True)).order_by(Item.rank)
    yield "outer", select(Item, Owner).outerjoin(Item.owner).order_by(Owner.name, Item.id)
    yield "outer2", select(Owner, Item).outerjoin(Owner.items).order_by(Item.rank.desc())
    yield "join many", select(Item).join(Item.tags).order_by(Item.rank)
    yield "join rows", select(Item.name, Tag.label).join(Item.tags).order_by(Tag.weight)
    yield "composite", select(Tag).order_by(Tag.weight)
    yield (
        "group",
        select(Item.rank, func.count().label("c"), func.sum(Item.price)).group_by(Item.rank).order_by(desc("c")),
    )
    yield (
        "group ent",
        select(Owner, func.count(Item.id))
        .outerjoin(Owner.items)
        .group_by(Owner.id)
        .order_by(func.count(Item.id).desc()),
    )
    yield (
        "having",
        select(Item.name, func.max(Item.price).label("m")).group_by(Item.name).having(func.count() > 1).order_by("m"),
    )
    yield (
        "group2",
        select(Item.rank, Item.active, func.count()).group_by(Item.rank, Item.active).order_by(func.avg(Item.id)),
    )
    yield "agg", select(func.count()).select_from(Item)
    yield (
        "window",
        select(Item, func.row_number().over(partition_by=Item.rank, order_by=Item.id).label("rn")).order_by("rn"),
    )
    yield (
        "window col",
        select(Item.id, Item.name, func.rank().over(order_by=Item.rank).label("rk")).order_by(desc("rk")),
    )
    yield "window joined", select(Item).options(joinedload(Item.tags)).order_by(func.rank().over(order_by=Item.rank))
    yield (
        "window outer",
        select(Item, Owner, func.rank().over(order_by=Item.rank).label("r")).outerjoin(Item.owner).order_by("r"),
    )
    yield "distinct", select(Item.rank, Item.name).distinct().order_by(Item.rank.desc())
    yield "distinct null", select(Item.note).distinct().order_by(Item.note)
    yield "distinct ent", select(Item).join(Item.tags).distinct().order_by(Item.rank)
    yield "union", union(select(Item.id, Item.name), select(Owner.id, Owner.name)).order_by("name")
    yield "union all", union_all(select(Item.rank, Item.note), select(Item.rank, Item.note)).order_by("rank")
    c = select(Item.id, Item.rank.label("r")).where(Item.active).cte()
    yield "cte", select(c).order_by(c.c.r)
    yield "cte join", select(Item, c.c.r).join(c, c.c.id == Item.id).order_by(c.c.r.desc())
    c2 = select(Item.owner_id, func.count().label("n")).group_by(Item.owner_id).cte()
    yield "cte agg", select(Owner, c2.c.n).outerjoin(c2, c2.c.owner_id == Owner.id).order_by(c2.c.n.desc())
    t = select(literal(1).label("n")).cte("t", recursive=True)
    t = t.union_all(select(t.c.n + 1).where(t.c.n < 15))
    yield "recursive", select(t.c.n).order_by(t.c.n.desc())
    a = aliased(Item)
    yield "alias", select(a).order_by(a.rank.desc())
    sub = select(Item).where(Item.rank > 1).subquery()
    b = aliased(Item, sub)
    yield "alias sub", select(b).order_by(b.rank)
    u = union(select(Item).where(Item.rank > 1), select(Item).where(Item.active)).subquery()
    b2 = aliased(Item, u)
    yield "alias union", select(b2).order_by(b2.rank)
    yield "inherit", select(Pet).order_by(Pet.name)
    yield "sub", select(Cat).order_by(Cat.lives.desc(), Cat.name)
    wp = with_polymorphic(Pet, "*")
    yield "wp", select(wp).order_by(wp.Cat.lives)
    yield (
        "scalar sub",
        select(
            Owner, select(func.count(Item.id)).where(Item.owner_id == Owner.id).scalar_subquery().label("k")
        ).order_by(desc("k")),
    )
    yield "or", select(Item).where(or_(Item.rank == 1, Item.rank == 2)).order_by(Item.active, Item.note.desc())
    yield (
        "having joined",
        select(Item, func.count(Tag.label).label("k"))
        .join(Item.tags)
        .options(selectinload(Item.tags))
        .group_by(Item.id)
        .order_by("k", Item.rank),
    )
    yield (
        "two ents",
        select(Item, Tag).join(Item.tags).options(joinedload(Item.owner)).order_by(Tag.weight.desc(), Item.rank),
    )
    yield "bundle", select(Bundle("b", Item.id, Item.name)).order_by(Item.rank)
    yield "entity of one column", select(Mark).order_by(Mark.number.desc())
    yield "entities of one column", select(Mark, Owner.name).join(Owner, Owner.id == Mark.number).order_by(Owner.name)
    yield "bundle of one", select(Bundle("b", Item.id), Item.name).order_by(Item.id)
    yield "core", select(Item.__table__).order_by(Item.__table__.c.rank)
    yield "exists", select(Item).where(Item.tags.any(Tag.weight == 1)).order_by(Item.rank)
    yield "from_self alias", select(a, Item).join(Item, Item.id == a.owner_id).order_by(a.rank, Item.note)
