"""Dependencies found by themselves: whatever is written, and however, the cached answer is the database's own.

Functions without tags read through joins, subqueries, lazy loads and SQL text; transactions write through the ORM, in
bulk, by Core and by SQL. After every commit each function is asked twice through the cache, and once without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Engine,
    ForeignKey,
    and_,
    create_engine,
    delete,
    event,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    union,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, mapped_column, relationship, selectinload

from perfkit import Cache

ORGS, BINS = (1, 2), range(1, 7)


class Base(DeclarativeBase):
    pass


class Org(Base):
    __tablename__ = "orgs"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    customers: Mapped[list[Customer]] = relationship(passive_deletes=True, order_by="Customer.id")


class Customer(Base):
    __tablename__ = "customers"
    __cache_tags__ = ("org_id",)
    id: Mapped[int] = mapped_column(primary_key=True)
    org_id: Mapped[int] = mapped_column(ForeignKey("orgs.id", ondelete="CASCADE"))
    bins: Mapped[list[Bin]] = relationship(passive_deletes=True, order_by="Bin.id", back_populates="customer")


class Bin(Base):
    __tablename__ = "bins"
    __cache_tags__ = ("org_id", "kind")
    id: Mapped[int] = mapped_column(primary_key=True)
    org_id: Mapped[int]
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(default="glass")
    litres: Mapped[int] = mapped_column(default=100)
    customer: Mapped[Customer | None] = relationship(back_populates="bins")


Other = aliased(Bin)


def of_org(session: Session, org_id: int) -> list[Any]:
    found = session.scalars(select(Bin).where(Bin.org_id == org_id).order_by(Bin.id))
    return [(each.id, each.kind, each.litres) for each in found]


def count_of_kind(session: Session, org_id: int) -> int | None:
    kind = "glass" if org_id == 1 else "paper"
    return session.scalar(select(func.count()).select_from(Bin).where(Bin.kind == kind))


def by_key(session: Session, org_id: int) -> list[Any]:
    found = [session.get(Bin, bin_id) for bin_id in (org_id, org_id + 3)]
    return [(each.org_id, each.litres) if each else None for each in found]


def lazily(session: Session, org_id: int) -> list[Any]:
    org = session.get(Org, org_id)
    return [] if org is None else [[b.litres for b in c.bins] for c in org.customers]


def eagerly(session: Session, org_id: int) -> list[Any]:
    loads = selectinload(Customer.bins)
    found = session.scalars(select(Customer).where(Customer.org_id == org_id).options(loads).order_by(Customer.id))
    return [[b.kind for b in c.bins] for c in found]


def joined(session: Session, org_id: int) -> list[Any]:
    found = session.execute(
        select(Org.name, func.sum(Bin.litres))
        .join(Customer, Customer.org_id == Org.id)
        .join(Bin, Bin.customer_id == Customer.id)
        .where(Org.id == org_id)
        .group_by(Org.name)
    )
    return [tuple(row) for row in found]


def outer(session: Session, org_id: int) -> list[Any]:
    found = session.execute(
        select(Customer.id, func.count(Bin.id))
        .outerjoin(Bin, Bin.customer_id == Customer.id)
        .where(Customer.org_id == org_id)
        .group_by(Customer.id)
        .order_by(Customer.id)
    )
    return [tuple(row) for row in found]


def outer_by_its_condition(session: Session, org_id: int) -> list[Any]:
    only_there = and_(Bin.customer_id == Customer.id, Customer.org_id == org_id)
    found = select(Customer.id, Customer.org_id, Bin.id).outerjoin(Bin, only_there).order_by(Customer.id, Bin.id)
    return [tuple(row) for row in session.execute(found)]


def with_exists(session: Session, org_id: int) -> list[int]:
    full = exists().where(Bin.customer_id == Customer.id, Bin.litres > 150, Bin.org_id == org_id)
    return list(session.scalars(select(Customer.id).where(full).order_by(Customer.id)))


def by_relationship(session: Session, org_id: int) -> list[int]:
    return list(session.scalars(select(Org.id).where(Org.customers.any(Customer.bins.any(Bin.litres > 150)))))


def of_union(session: Session, org_id: int) -> list[int]:
    both = union(select(Bin.id).where(Bin.org_id == org_id), select(Bin.id).where(Bin.kind == "paper"))
    return sorted(session.scalars(both))


def of_cte(session: Session, org_id: int) -> int | None:
    heavy = select(Bin.id, Bin.litres).where(Bin.org_id == org_id).cte("heavy")
    return session.scalar(select(func.max(heavy.c.litres)))


def either(session: Session, org_id: int) -> list[int]:
    found = select(Bin.id).where(or_(Bin.org_id == org_id, Bin.litres > 150)).order_by(Bin.id)
    return list(session.scalars(found))


def self_joined(session: Session, org_id: int) -> list[Any]:
    pairs = select(Bin.id, Other.id).join(Other, Other.litres == Bin.litres).where(Bin.org_id == org_id, Other.id == 2)
    return [tuple(row) for row in session.execute(pairs.order_by(Bin.id))]


def scalar_of_another(session: Session, org_id: int) -> list[Any]:
    biggest = select(func.max(Bin.litres)).where(Bin.customer_id == Customer.id).scalar_subquery()
    found = select(Customer.id, biggest).where(Customer.org_id == org_id).order_by(Customer.id)
    return [tuple(row) for row in session.execute(found)]


def several(session: Session, org_id: int) -> list[int]:
    return list(session.scalars(select(Bin.litres).where(Bin.id.in_([org_id, 4, 5])).order_by(Bin.id)))


def by_text(session: Session, org_id: int) -> int | None:
    return session.scalar(text("SELECT sum(litres) FROM bins b WHERE b.org_id = :org"), {"org": org_id})


def depends_on_what_it_reads(session: Session, org_id: int) -> int | None:
    if session.scalar(select(func.count()).select_from(Customer)) == 0:
        return session.scalar(select(func.count()).select_from(Org))
    return session.scalar(select(func.min(Bin.litres)).where(Bin.org_id == org_id))


READS: list[Callable[[Session, int], Any]] = [
    of_org,
    count_of_kind,
    by_key,
    lazily,
    eagerly,
    joined,
    outer,
    outer_by_its_condition,
    with_exists,
    by_relationship,
    of_union,
    of_cte,
    either,
    self_joined,
    scalar_of_another,
    several,
    by_text,
    depends_on_what_it_reads,
]


class Shop:
    """One database, its cached functions, and sessions that remember what they have loaded."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = ON"))
        self.cache = Cache("found")
        self.cached = [self.cache.query()(self._nested(i, read)) for i, read in enumerate(READS)]
        self.cache.connect()
        self.cache.watch(engine, Base.metadata)
        Base.metadata.drop_all(engine)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(Org(id=org, name=f"org {org}") for org in ORGS)
            session.flush()
            session.add_all(Customer(id=i, org_id=1 + i % 2) for i in range(1, 5))
            session.flush()
            session.add_all(Bin(id=i, org_id=1 + i % 2, customer_id=1 + i % 4) for i in BINS)
            session.commit()
        # remembers what it loads here, whatever others do to it
        self.old = Session(engine, expire_on_commit=False)
        self.remembered = {each.id: each for each in self.old.scalars(select(Bin))}
        self.old.commit()

    def _nested(self, number: int, read: Callable[[Session, int], Any]) -> Callable[[Session, int], Any]:
        """Every third function asks the one before it, which is cached, too."""

        def function(session: Session, org_id: int) -> Any:
            if number % 3 == 2:
                return [read(session, org_id), self.cached[number - 1](session, org_id)]
            return read(session, org_id)

        function.__qualname__ = function.__name__ = read.__name__
        return function

    def check(self, story: list[Any]) -> None:
        for read in self.cached:
            for org_id in ORGS:
                with Session(self.engine) as session, self.cache.off():
                    right = read(session, org_id)
                for _ in range(2):
                    with Session(self.engine) as session:
                        assert read(session, org_id) == right, (read.__name__, org_id, story)

    def close(self) -> None:
        self.old.close()
        self.cache.close()
        self.engine.dispose()


Write = Callable[[Shop, Session, int, int, int], None]


def _insert(shop: Shop, session: Session, bin_id: int, org_id: int, litres: int) -> None:
    if session.get(Bin, bin_id) is None:
        session.add(Bin(id=bin_id, org_id=org_id, litres=litres))


def _change(shop: Shop, session: Session, bin_id: int, org_id: int, litres: int) -> None:
    if found := session.get(Bin, bin_id):
        found.litres = litres


def _move(shop: Shop, session: Session, bin_id: int, org_id: int, litres: int) -> None:
    if found := session.get(Bin, bin_id):
        found.org_id = org_id


def _remove(shop: Shop, session: Session, bin_id: int, org_id: int, litres: int) -> None:
    if found := session.get(Bin, bin_id):
        session.delete(found)


def _change_what_it_remembers(shop: Shop, session: Session, bin_id: int, org_id: int, litres: int) -> None:
    there = session.scalar(select(func.count()).select_from(Bin).where(Bin.id == bin_id))
    session.commit()
    if there and bin_id in shop.remembered:
        shop.remembered[bin_id].litres = litres
        shop.old.commit()


def _change_many(shop: Shop, session: Session, bin_id: int, org_id: int, litres: int) -> None:
    session.execute(update(Bin).where(Bin.org_id == org_id).values(litres=litres))


def _change_some_of_many(shop: Shop, session: Session, bin_id: int, org_id: int, litres: int) -> None:
    session.execute(update(Bin).where(Bin.org_id == org_id, Bin.kind == "glass").values(litres=litres))


def _move_many(shop: Shop, session: Session, bin_id: int, org_id: int, litres: int) -> None:
    session.execute(update(Bin).where(Bin.litres > litres).values(org_id=org_id, kind="paper"))


def _change_by_core(shop: Shop, session: Session, bin_id: int, org_id: int, litres: int) -> None:
    table = Bin.__table__
    session.connection().execute(update(table).where(table.c.id == bin_id).values(litres=litres))


def _insert_by_core(shop: Shop, session: Session, bin_id: int, org_id: int, litres: int) -> None:
    session.execute(insert(Bin.__table__), [{"id": 10 + bin_id + session.scalar(_last), "org_id": org_id}])


def _insert_from_select(shop: Shop, session: Session, bin_id: int, org_id: int, litres: int) -> None:
    source = select(func.max(Bin.id) + 1, literal(org_id), literal("paper"), literal(litres))
    if session.scalar(select(func.count()).select_from(Bin)):
        session.execute(insert(Bin).from_select(["id", "org_id", "kind", "litres"], source))


def _delete_many(shop: Shop, session: Session, bin_id: int, org_id: int, litres: int) -> None:
    session.execute(delete(Bin).where(Bin.org_id == org_id, Bin.litres > litres))


def _cascade(shop: Shop, session: Session, bin_id: int, org_id: int, litres: int) -> None:
    session.execute(delete(Customer).where(Customer.id == bin_id))


def _by_text(shop: Shop, session: Session, bin_id: int, org_id: int, litres: int) -> None:
    session.execute(text("UPDATE bins SET kind = 'paper', litres = :l WHERE id = :id"), {"l": litres, "id": bin_id})


def _rename(shop: Shop, session: Session, bin_id: int, org_id: int, litres: int) -> None:
    session.execute(update(Org).where(Org.id == org_id).values(name=f"org {litres}"))


def _savepoint(shop: Shop, session: Session, bin_id: int, org_id: int, litres: int) -> None:
    with session.begin_nested():
        _change(shop, session, bin_id, org_id, litres)


def _give_up(shop: Shop, session: Session, bin_id: int, org_id: int, litres: int) -> None:
    _change_many(shop, session, bin_id, org_id, litres)
    session.rollback()


_last = select(func.coalesce(func.max(Bin.id), 0))
WRITES: list[Write] = [
    _insert,
    _change,
    _move,
    _remove,
    _change_what_it_remembers,
    _change_many,
    _change_some_of_many,
    _move_many,
    _change_by_core,
    _insert_by_core,
    _insert_from_select,
    _delete_many,
    _cascade,
    _by_text,
    _rename,
    _savepoint,
    _give_up,
]

step = st.tuples(
    st.sampled_from(WRITES), st.integers(1, 7), st.sampled_from(ORGS), st.integers(1, 3).map(lambda n: n * 75)
)
transaction = st.lists(step, min_size=1, max_size=3)


def run(make: Callable[[], Engine], program: list[list[Any]]) -> None:
    shop = Shop(make())
    try:
        shop.check([])
        for i, steps in enumerate(program):
            with Session(shop.engine) as session:
                for write, *arguments in steps:
                    write(shop, session, *arguments)
                session.commit()
            shop.check(program[: i + 1])
        assert shop.cache.stats().hits > 0
    finally:
        shop.close()


slow = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(slow, max_examples=40)
@given(program=st.lists(transaction, min_size=1, max_size=5))
def test_on_sqlite(program, tmp_path_factory):
    """A file, because a database in memory has one connection for all sessions."""
    folder = tmp_path_factory.mktemp("found")
    run(lambda: create_engine(f"sqlite:///{folder}/found.db"), program)


@settings(slow, max_examples=12)
@given(program=st.lists(transaction, min_size=1, max_size=4))
def test_on_postgresql(program, pg_url):
    """The same programs."""
    run(lambda: create_engine(pg_url.replace("postgresql:", "postgresql+psycopg:")), program)


@pytest.fixture
def shop(tmp_path) -> Iterator[Shop]:
    made = Shop(create_engine(f"sqlite:///{tmp_path}/found.db"))
    yield made
    made.close()


def test_a_write_of_one_organization_leaves_the_entries_of_another(shop):
    """That is what the declared columns are for."""
    shop.check([])
    of_one = shop.cached[READS.index(of_org)]
    with Session(shop.engine) as session:
        session.get(Bin, 2).litres = 1
        session.commit()
    before = shop.cache.stats()

    for org_id in ORGS:
        with Session(shop.engine) as session:
            of_one(session, org_id)

    after = shop.cache.stats()
    assert (after.hits - before.hits, after.fills - before.fills) == (1, 1)
