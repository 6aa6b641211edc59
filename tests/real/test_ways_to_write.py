"""Every way to write through SQLAlchemy: what was cached before is never served after it.

Each way is one function of a Session. It runs on sqlite3, psycopg and PyMySQL, and under `run_sync` on aiosqlite,
asyncpg and aiomysql. Before it, every cached function has its entry; after it, each must agree with the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from perfkit import Cache, Policy
from perfkit.cache import Reason

POSTGRES, SQLITE, MARIADB = "postgresql", "sqlite", "mariadb"


class Base(DeclarativeBase):
    type_annotation_map = {str: String(60)}  # noqa: RUF012


class Label(Base):
    __tablename__ = "labels"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(default="x")


bin_labels = Table(
    "bin_labels",
    Base.metadata,
    Column("bin_id", ForeignKey("bins.id"), primary_key=True),
    Column("label_id", ForeignKey("labels.id"), primary_key=True),
)


class Team(Base):
    __tablename__ = "teams"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    bins: Mapped[list[Bin]] = relationship(back_populates="team", cascade="all, delete-orphan", order_by="Bin.id")


class Bin(Base):
    __tablename__ = "bins"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    fill: Mapped[int] = mapped_column(default=0)
    team_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id"))
    team: Mapped[Team | None] = relationship(back_populates="bins")
    labels: Mapped[list[Label]] = relationship(secondary=bin_labels)


class Depot(Base):
    __tablename__ = "depots"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    trucks: Mapped[list[Truck]] = relationship(passive_deletes="all")


class Truck(Base):
    """Goes with its depot, and its drivers' truck becomes nobody's."""

    __tablename__ = "trucks"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    depot_id: Mapped[int] = mapped_column(ForeignKey("depots.id", ondelete="CASCADE", onupdate="CASCADE"))


class Driver(Base):
    __tablename__ = "drivers"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    truck_id: Mapped[int | None] = mapped_column(ForeignKey("trucks.id", ondelete="SET NULL"))


class Place(Base):
    __tablename__ = "places"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    name: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "place"}  # noqa: RUF012


class Yard(Place):
    __tablename__ = "yards"
    id: Mapped[int] = mapped_column(ForeignKey("places.id"), primary_key=True)
    area: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "yard"}  # noqa: RUF012


class Counted(Base):
    """With a version that SQLAlchemy keeps."""

    __tablename__ = "counted"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


def fill(session: Session) -> None:
    session.add_all([Team(id=1, name="one"), Team(id=2, name="two"), Label(id=1), Label(id=2)])
    session.flush()
    session.add_all([Bin(id=i, name=f"bin {i}", team_id=1) for i in (1, 2, 3)])
    session.add_all([Depot(id=1, name="east"), Yard(id=1, name="yard", area=5), Counted(id=1, name="first")])
    session.flush()
    session.add(Truck(id=1, depot_id=1))
    session.flush()
    session.add(Driver(id=1, truck_id=1))
    first = session.get_one(Bin, 1)
    first.labels.append(session.get_one(Label, 1))
    session.commit()


SUSPENDING = ("aiosqlite", "asyncpg", "aiomysql")


class Service:
    """One process: an engine, sync or async, a cache, and a cached function for each table and for rows of `bins`."""

    def __init__(self, url: str, driver: str) -> None:
        self.runner = asyncio.Runner()
        address = url.replace("://", f"+{driver}://", 1)
        self.suspends = driver in SUSPENDING
        self.given: Engine | AsyncEngine = (create_async_engine if self.suspends else create_engine)(address)
        self.engine: Engine = getattr(self.given, "sync_engine", self.given)
        if self.engine.dialect.name == SQLITE:
            event.listen(self.engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys = ON"))
        self.cache = Cache("ways", Policy())
        self.plain: dict[str, Callable[[Session], Any]] = {}
        for table in Base.metadata.sorted_tables:
            self._declare(table)

        def name_of(session: Session, bin_id: int) -> str | None:
            return session.execute(select(Bin.name).where(Bin.id == bin_id)).scalar_one_or_none()

        self.name_of = name_of
        self.cached_name_of = self.cache.query(tags="bins#{bin_id}")(name_of)
        self.run(lambda session: (Base.metadata.create_all(session.connection()), session.commit()))
        self.cache.connect()
        self.cache.watch(self.given, Base.metadata)

    def _declare(self, table: Table) -> None:
        def rows(session: Session) -> list[list[Any]]:
            return [list(row) for row in session.execute(select(table).order_by(*table.primary_key.columns))]

        rows.__qualname__ = f"rows of {table.name}"
        self.plain[table.name] = rows
        setattr(self, f"cached_{table.name}", self.cache.query(tags=table.name)(rows))

    def run(self, work: Callable[[Session], Any], **options: Any) -> Any:
        """`work` in a session of its own, which is closed and not committed."""
        if not self.suspends:
            with Session(self.engine, **options) as session:
                return work(session)

        async def suspending() -> Any:
            async with AsyncSession(self.given, **options) as session:
                return await session.run_sync(work)

        return self.runner.run(suspending())

    def seen(self, *, cached: bool = True) -> dict[str, Any]:
        """All there is, each read in a session of its own."""
        found = {
            name: self.run(getattr(self, f"cached_{name}") if cached else rows) for name, rows in self.plain.items()
        }
        name_of = self.cached_name_of if cached else self.name_of
        found |= {f"bins#{i}": self.run(lambda session, i=i: name_of(session, i)) for i in (1, 2, 3, 4, 10)}
        return found

    def empty(self) -> None:
        def work(session: Session) -> None:
            session.execute(update(Bin).values(team_id=None))
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(delete(table))
            fill(session)

        self.run(work)
        self.cache.bump("*")

    def warm(self) -> None:
        """Every call has an entry."""
        self.seen()
        before = self.cache.stats().hits
        self.seen()
        assert self.cache.stats().hits == before + len(self.plain) + 5

    def close(self) -> None:
        self.cache.close()
        if isinstance(self.given, AsyncEngine):
            self.runner.run(self.given.dispose())
        else:
            self.given.dispose()
        self.runner.close()


DRIVERS = {
    "sqlite3": ("pysqlite", SQLITE),
    "aiosqlite": ("aiosqlite", SQLITE),
    "psycopg": ("psycopg", POSTGRES),
    "asyncpg": ("asyncpg", POSTGRES),
    "pymysql": ("pymysql", MARIADB),
    "aiomysql": ("aiomysql", MARIADB),
}


@pytest.fixture(scope="module")
def made() -> Iterator[dict[str, Service]]:
    """The services of this module, by driver: each is made once."""
    services: dict[str, Service] = {}
    yield services
    for service in services.values():
        service.close()


@pytest.fixture(params=DRIVERS)
def one_service(
    request: pytest.FixtureRequest, made: dict[str, Service], tmp_path_factory: pytest.TempPathFactory
) -> Service:
    if request.param not in made:
        driver, database = DRIVERS[request.param]
        if database == SQLITE:
            url = f"sqlite:///{tmp_path_factory.mktemp('ways') / 'ways.sqlite3'}"
        else:
            url = request.getfixturevalue("pg_databases" if database == POSTGRES else "mariadb_databases")()
        made[request.param] = Service(url, driver)
    return made[request.param]


@pytest.fixture
def service(one_service: Service) -> Service:
    """With the data of `fill`, and nothing cached."""
    one_service.empty()
    return one_service


Way = Callable[[Session], Any]


@dataclass(frozen=True)
class On:
    """A way, and the databases that have it."""

    way: Way
    databases: tuple[str, ...] = (POSTGRES, SQLITE, MARIADB)
    not_on: str = ""  # a driver


def bin_1(session: Session) -> Bin:
    return session.get_one(Bin, 1)


def add_a_label(session: Session) -> None:
    second = session.get_one(Bin, 2)
    second.labels.append(session.get_one(Label, 2))
    session.flush()


def clear_labels(session: Session) -> None:
    first = bin_1(session)
    first.labels.clear()
    session.flush()


def drop_a_bin(session: Session) -> None:
    team = session.get_one(Team, 1)
    team.bins.pop()
    session.flush()


def upsert(session: Session) -> None:
    rows = [{"id": 1, "name": "upserted"}, {"id": 4, "name": "new"}]
    dialect = session.get_bind().dialect.name
    if dialect == MARIADB:
        statement: Any = mysql.insert(Bin).values(rows)
        session.execute(statement.on_duplicate_key_update(name=statement.inserted.name))
        return
    kind: Any = postgresql if dialect == POSTGRES else sqlite
    statement = kind.insert(Bin).values(rows)
    session.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"name": statement.excluded.name}))


def orm_upsert_of_many(session: Session) -> None:
    kind: Any = postgresql if session.get_bind().dialect.name == POSTGRES else sqlite
    statement = kind.insert(Bin).on_conflict_do_update(index_elements=["id"], set_={"name": "upserted"})
    session.execute(statement, [{"id": 1, "name": "x"}, {"id": 4, "name": "y"}])


def rename_all(session: Session) -> None:
    for each in session.scalars(select(Bin)):
        each.name += "!"


def in_a_savepoint(session: Session) -> None:
    with session.begin_nested():
        bin_1(session).name = "in a savepoint"


def beside_a_savepoint_that_is_rolled_back(session: Session) -> None:
    bin_1(session).name = "kept"
    nested = session.begin_nested()
    session.get_one(Bin, 2).name = "not kept"
    session.flush()
    nested.rollback()


def after_a_flush_that_failed(session: Session) -> None:
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"), session.begin_nested():
        session.execute(insert(Bin), [{"id": 1, "name": "twice"}])
    bin_1(session).name = "after"


def outside_the_session(session: Session) -> None:
    with session.get_bind().connect() as connection, connection.begin():
        connection.execute(update(Bin).values(name="by a connection"))


def in_autocommit(session: Session) -> None:
    with session.get_bind().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(update(Bin).where(Bin.id == 1).values(name="at once"))
        connection.execute(text("UPDATE bins SET fill = 7 WHERE id = 2"))


def in_an_engine_of_autocommit(session: Session) -> None:
    engine = session.get_bind().execution_options(isolation_level="AUTOCOMMIT")
    with Session(engine) as other:
        other.get_one(Bin, 1).name = "at once"
        other.flush()


def in_a_session_of_autocommit(session: Session) -> None:
    session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
    bin_1(session).name = "at once"
    session.flush()


def in_two_phases(session: Session) -> None:
    with Session(session.get_bind(), twophase=True) as other:
        other.get_one(Bin, 1).name = "prepared"
        other.commit()


def in_two_phases_by_hand(session: Session) -> None:
    with session.get_bind().connect() as connection:
        transaction = connection.begin_twophase()
        connection.execute(update(Bin).where(Bin.id == 1).values(name="prepared"))
        transaction.prepare()
        transaction.commit()


def recovered(session: Session) -> None:
    """Prepared by a process that died, committed by one that knows only its name."""
    engine = session.get_bind()
    connection = engine.connect()
    transaction = connection.begin_twophase("dead")
    connection.execute(update(Bin).where(Bin.id == 1).values(name="recovered"))
    transaction.prepare()
    connection.invalidate()
    with engine.connect() as other:
        assert "dead" in other.recover_twophase()
        other.commit_prepared("dead", recover=True)


def in_a_joined_session(session: Session) -> None:
    """The inner commit ends a savepoint or nothing, the outer one all."""
    with session.get_bind().connect() as connection:
        outer = connection.begin()
        for mode in ("create_savepoint", "conditional_savepoint", "rollback_only"):
            with Session(connection, join_transaction_mode=mode) as inner:
                inner.get_one(Bin, 1).name += f" {mode}"
                inner.commit()
        outer.commit()


def in_control_of_the_outer_transaction(session: Session) -> None:
    with session.get_bind().connect() as connection:
        connection.begin()
        with Session(connection, join_transaction_mode="control_fully") as inner:
            inner.get_one(Bin, 1).name = "controlled"
            inner.commit()


def by_a_procedure(session: Session) -> None:
    if session.get_bind().dialect.name == POSTGRES:
        body = "LANGUAGE sql AS $$ UPDATE bins SET name = 'called' $$"
    else:
        body = "UPDATE bins SET name = 'called'"
    session.execute(text(f"CREATE OR REPLACE PROCEDURE change_all() {body}"))
    session.commit()
    session.execute(text("CALL change_all()"))


def drop_and_add_a_column(session: Session) -> None:
    session.execute(text("ALTER TABLE labels DROP COLUMN name"))
    session.execute(text("ALTER TABLE labels ADD COLUMN name varchar(60)"))


def core(statement: Any, *parameters: Any) -> Way:
    def way(session: Session) -> None:
        result = session.connection().execute(statement, *parameters)
        if getattr(result, "returns_rows", False):
            result.all()

    return way


def orm(statement: Any, *parameters: Any) -> Way:
    def way(session: Session) -> None:
        result = session.execute(statement, *parameters)
        if getattr(result, "returns_rows", False):
            result.all()

    return way


def sql(statement: str) -> Way:
    return core(text(statement))


def returning(verb: str, *, entity: bool = False) -> Way:
    statement = text(f"{verb} bins (id, name, fill) VALUES (4, 'four', 0) RETURNING *").columns(*bins.c)
    return lambda session: session.execute(select(Bin).from_statement(statement) if entity else statement).all()


def by_the_driver(statement: str) -> Way:
    return lambda session: session.connection().exec_driver_sql(statement)


bins = Base.metadata.tables["bins"]
teams = Base.metadata.tables["teams"]
NEW = [{"id": 4, "name": "four"}, {"id": 10, "name": "ten"}]

WAYS: dict[str, On] = {
    # the unit of work
    "flush, insert": On(lambda s: s.add(Bin(id=4, name="four"))),
    "flush, update": On(lambda s: setattr(bin_1(s), "name", "changed")),
    "flush, update by an expression": On(lambda s: setattr(bin_1(s), "fill", Bin.fill + 1)),
    "flush, delete": On(lambda s: s.delete(s.get_one(Bin, 2))),
    "flush, many updates": On(rename_all),
    "flush, many inserts": On(lambda s: s.add_all([Bin(id=i, name="x") for i in range(4, 400)])),
    "merge": On(lambda s: s.merge(Bin(id=1, name="merged"))),
    "primary key": On(lambda s: setattr(s.get_one(Bin, 3), "id", 10)),
    "version counter": On(lambda s: setattr(s.get_one(Counted, 1), "name", "second")),
    "inheritance, insert": On(lambda s: s.add(Yard(id=2, name="new", area=1))),
    "inheritance, only the child's column": On(lambda s: setattr(s.get_one(Yard, 1), "area", 6)),
    "inheritance, delete": On(lambda s: s.delete(s.get_one(Yard, 1))),
    "many to many, append": On(add_a_label),
    "many to many, clear": On(clear_labels),
    "ORM cascade, delete": On(lambda s: (clear_labels(s), s.delete(s.get_one(Team, 1)))),
    "ORM cascade, orphan": On(drop_a_bin),
    "ORM cascade, another parent": On(lambda s: setattr(bin_1(s), "team", s.get_one(Team, 2))),
    "ORM cascade, save": On(lambda s: s.add(Team(id=3, name="new", bins=[Bin(id=4, name="four")]))),
    "database cascade, delete": On(lambda s: s.delete(s.get_one(Depot, 1))),
    "database cascade, statement": On(orm(delete(Depot))),
    "database cascade, SQL": On(sql("DELETE FROM depots WHERE id = 1")),
    "database cascade, update of a key": On(orm(update(Depot).values(id=9))),
    # bulk, through the session
    "ORM insert, one": On(orm(insert(Bin).values(id=4, name="four"))),
    "ORM insert, many": On(orm(insert(Bin), NEW)),
    "ORM insert, returning": On(orm(insert(Bin).returning(Bin), NEW), (POSTGRES, SQLITE)),
    "ORM update by primary key": On(orm(update(Bin), [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}])),
    "ORM update": On(orm(update(Bin).where(Bin.fill == 0).values(name="all"))),
    "ORM update of one row": On(orm(update(Bin).where(Bin.id == 1).values(name="one"))),
    "ORM update of some rows": On(orm(update(Bin).where(Bin.id.in_([1, 2])).values(name="some"))),
    "ORM update, returning": On(orm(update(Bin).values(name="r").returning(Bin.id)), (POSTGRES, SQLITE)),
    "ORM update, no synchronizing": On(orm(update(Bin).values(name="n").execution_options(synchronize_session=False))),
    "ORM delete": On(orm(delete(Bin).where(Bin.id.not_in(select(bin_labels.c.bin_id))))),
    "ORM delete of one row": On(orm(delete(Bin).where(Bin.id == 2))),
    "ORM delete, returning": On(orm(delete(Bin).where(Bin.id == 2).returning(Bin.name))),
    "ORM insert of a class with two tables": On(orm(insert(Yard), [{"id": 9, "name": "nine", "area": 9}])),
    "ORM update by primary key of a class with two tables": On(orm(update(Yard), [{"id": 1, "name": "moved"}])),
    "query.update": On(lambda s: s.query(Bin).filter(Bin.id == 1).update({"name": "queried"})),
    "query.delete": On(lambda s: s.query(Bin).filter(Bin.id == 2).delete()),
    "bulk_save_objects": On(lambda s: s.bulk_save_objects([Bin(id=4, name="four")])),
    "bulk_insert_mappings": On(lambda s: s.bulk_insert_mappings(Bin, NEW)),
    "bulk_update_mappings": On(lambda s: s.bulk_update_mappings(Bin, [{"id": 1, "name": "mapped"}])),
    # Core
    "Core insert": On(core(insert(bins).values(id=4, name="four"))),
    "Core insert of many values": On(core(insert(bins).values(NEW))),
    "Core insert, executemany": On(core(insert(bins), NEW)),
    "Core insert, returning": On(core(insert(bins).returning(bins.c.id), NEW), (POSTGRES, SQLITE)),
    "Core insert from select": On(core(insert(bins).from_select(["id", "name"], select(teams.c.id + 3, teams.c.name)))),
    "Core update": On(core(update(bins).values(name="all"))),
    "Core update of one row": On(core(update(bins).where(bins.c.id == 1).values(name="one"))),
    "Core update, executemany": On(
        core(
            update(bins).where(bins.c.id == bindparam("key")).values(name=bindparam("name")),
            [{"key": 1, "name": "a"}, {"key": 2, "name": "b"}],
        )
    ),
    "Core update from another table": On(
        core(update(bins).where(bins.c.team_id == teams.c.id).values(name=teams.c.name))
    ),
    "Core update of two tables": On(
        core(update(bins).where(bins.c.team_id == teams.c.id).values({bins.c.name: "two", teams.c.name: "tables"})),
        (MARIADB,),
    ),
    "Core update of the key": On(core(update(bins).where(bins.c.id == 3).values(id=10))),
    "Core update by a subquery": On(core(update(bins).values(name=select(func.max(teams.c.name)).scalar_subquery()))),
    "Core delete": On(core(delete(bins).where(bins.c.id == 2))),
    "Core delete using another table": On(
        core(delete(bins).where(bins.c.team_id == teams.c.id, bins.c.id == 2)), (POSTGRES, MARIADB)
    ),
    "upsert": On(upsert),
    "upsert of many through the ORM": On(orm_upsert_of_many, (POSTGRES, SQLITE)),
    "insert or replace": On(core(insert(bins).prefix_with("OR REPLACE").values(id=2, name="new")), (SQLITE,)),
    "insert ignore": On(core(insert(bins).prefix_with("IGNORE"), [{"id": 1, "name": "x"}, *NEW]), (MARIADB,)),
    "a CTE that writes": On(
        lambda s: s.execute(select(update(bins).values(name="cte").returning(bins.c.id).cte("w").c.id)).all(),
        (POSTGRES,),
    ),
    "an insert under a CTE": On(
        core(
            insert(bins).from_select(
                ["id", "name"], select((c := select(literal(4).label("id")).cte("c")).c.id, literal("four"))
            )
        ),
        (POSTGRES, SQLITE),
    ),
    # text
    "text": On(sql("UPDATE bins SET name = 'text' WHERE id = 1")),
    "text, odd spelling": On(sql("  /* why */ -- not\n uPdAtE\tbins\nSET name='odd';  ")),
    "text with binds": On(lambda s: s.execute(text("UPDATE bins SET name = :n"), {"n": "bound"})),
    "text, executemany": On(
        lambda s: s.execute(text("UPDATE bins SET name = :n WHERE id = :i"), [{"n": "a", "i": 1}, {"n": "b", "i": 2}])
    ),
    "text, insert": On(sql("INSERT INTO bins (id, name, fill) VALUES (4, 'four', 0)")),
    "text, delete": On(sql("DELETE FROM bins WHERE id = 2")),
    "text, with": On(
        sql("WITH n AS (SELECT 'w' AS name) UPDATE bins SET name = (SELECT name FROM n)"), (POSTGRES, SQLITE)
    ),
    "text, a CTE that writes": On(
        sql("WITH w AS (UPDATE bins SET name = 'w' RETURNING id) SELECT count(*) FROM w"), (POSTGRES,)
    ),
    "text, truncate": On(sql("TRUNCATE TABLE bin_labels"), (POSTGRES, MARIADB)),
    "text, replace": On(sql("REPLACE INTO bins (id, name, fill) VALUES (2, 'r', 0)"), (SQLITE, MARIADB)),
    "text, merge": On(
        sql(
            "MERGE INTO bins USING (SELECT 1 AS id) AS s ON bins.id = s.id WHEN MATCHED THEN UPDATE SET name = 'merged'"
        ),
        (POSTGRES,),
    ),
    "text, explain analyze": On(sql("EXPLAIN ANALYZE UPDATE bins SET name = 'explained'"), (POSTGRES,)),
    "text, under a setting": On(
        sql("SET STATEMENT max_statement_time = 100 FOR INSERT bins (id, name, fill) VALUES (4, 'four', 0)"), (MARIADB,)
    ),
    "text, analyze": On(sql("ANALYZE UPDATE bins SET name = 'explained'"), (MARIADB,)),
    "text of columns, insert or ignore": On(returning("INSERT OR IGNORE INTO"), (SQLITE,)),
    "text of columns, insert ignore": On(returning("INSERT IGNORE INTO"), (MARIADB,)),
    "text of an entity, insert or ignore": On(returning("INSERT OR IGNORE INTO", entity=True), (SQLITE,)),
    "text of an entity, insert ignore": On(returning("INSERT IGNORE INTO", entity=True), (MARIADB,)),
    "text, do": On(sql("DO $$ BEGIN UPDATE bins SET name = 'done'; END $$"), (POSTGRES,)),
    "text, execute": On(
        lambda s: [s.execute(text(x)) for x in ("PREPARE p AS UPDATE bins SET name = 'prepared'", "EXECUTE p")],
        (POSTGRES,),
    ),
    "text, copy": On(sql("COPY bins (id, name, fill) FROM PROGRAM 'printf \"4\\tfour\\t0\\n\"'"), (POSTGRES,)),
    "a procedure": On(by_a_procedure, (POSTGRES, MARIADB)),
    "driver": On(by_the_driver("UPDATE bins SET name = 'driver' WHERE id = 1")),
    "driver, delete": On(by_the_driver("delete from bins where id = 2")),
    "DDL in SQL": On(drop_and_add_a_column, not_on="asyncpg"),
    # transactions
    "savepoint": On(in_a_savepoint),
    "savepoint, rolled back": On(beside_a_savepoint_that_is_rolled_back),
    "after a failed statement": On(after_a_flush_that_failed),
    "a connection without a session": On(outside_the_session),
    "AUTOCOMMIT, connection": On(in_autocommit),
    "AUTOCOMMIT, engine": On(in_an_engine_of_autocommit),
    "AUTOCOMMIT, session": On(in_a_session_of_autocommit),
    "two phases": On(in_two_phases, (POSTGRES, MARIADB)),
    "two phases, by hand": On(in_two_phases_by_hand, (POSTGRES, MARIADB)),
    "two phases, recovered": On(recovered, (POSTGRES,)),
    "joined": On(in_a_joined_session),
    "joined, in control": On(in_control_of_the_outer_transaction),
    "COMMIT as text": On(lambda s: [s.execute(text(x)) for x in ("UPDATE bins SET name = 'c'", "COMMIT")]),
}


def on(*drivers: str) -> pytest.MarkDecorator:
    """The test is about these."""
    return pytest.mark.parametrize("one_service", drivers, indirect=True)


# asyncpg keeps plans that DDL makes invalid; two phases are for drivers that wait
COMBINATIONS = [
    (driver, name)
    for driver, (module, database) in DRIVERS.items()
    for name, how in WAYS.items()
    if database in how.databases and module != how.not_on and not ("phases" in name and module in SUSPENDING)
]


@pytest.mark.parametrize(("one_service", "name"), COMBINATIONS, indirect=["one_service"])
def test_whatever_writes_is_noticed(service, name):
    """Every cached call agrees with the database afterwards, and something has changed."""
    how = WAYS[name]
    if "phases" in name and not can_prepare(service):
        pytest.skip("max_prepared_transactions is 0")
    before = service.seen(cached=False)
    service.warm()

    def work(session: Session) -> None:
        how.way(session)
        session.commit()

    service.run(work)

    after = service.seen(cached=False)
    assert service.seen() == after
    assert after != before, "this way changes nothing"


def can_prepare(service: Service) -> bool:
    if service.engine.dialect.name != POSTGRES:
        return True
    return bool(service.run(lambda s: int(s.execute(text("SHOW max_prepared_transactions")).scalar_one())))


def test_what_only_reads_marks_nothing(service):
    """However it is written."""
    marked = service.cache.stats().marked_commits
    reads: list[Way] = [
        orm(select(Bin)),
        orm(select(Bin).with_for_update()),
        sql("SELECT name FROM bins -- update bins set name = 'x'"),
        sql("WITH b AS (SELECT id FROM bins) SELECT count(*) FROM b"),
        sql("SELECT 'DELETE FROM bins'"),
        by_the_driver("select 1"),
        lambda s: s.get_one(Bin, 1).team,
        lambda s: s.begin_nested().commit(),
    ]

    for way in reads:
        service.run(lambda session, way=way: (way(session), session.commit()))

    assert service.cache.stats().marked_commits == marked


def test_a_rollback_marks_nothing(service):
    """What was noted goes with it."""
    marked = service.cache.stats().marked_commits
    service.warm()

    def work(session: Session) -> None:
        bin_1(session).name = "never"
        session.flush()
        session.rollback()
        session.scalars(select(Bin)).all()
        session.commit()

    service.run(work)

    assert service.cache.stats().marked_commits == marked
    service.warm()


@on("psycopg", "asyncpg")
def test_a_function_that_writes_is_announced_by_touch(service):
    """A SELECT of it looks like any other; the transaction is told by hand."""
    body = "UPDATE bins SET name = 'f'; SELECT 1"
    service.run(
        lambda s: (
            s.execute(text(f"CREATE OR REPLACE FUNCTION touching() RETURNS int LANGUAGE sql AS $$ {body} $$")),
            s.commit(),
        )
    )
    service.warm()

    def work(session: Session) -> None:
        session.execute(text("SELECT touching()")).all()
        service.cache.touch(session, "bins")
        session.commit()

    service.run(work)

    assert service.seen() == service.seen(cached=False)


@on("pymysql", "aiomysql")
@pytest.mark.parametrize("beginner", ["CREATE TABLE IF NOT EXISTS made (id int)", "BEGIN", "START TRANSACTION"])
def test_what_mariadb_commits_by_itself_is_announced_although_it_is_rolled_back_afterwards(service, beginner):
    """DDL and BEGIN end the transaction before them; a rollback finds nothing to undo."""
    service.warm()

    def work(session: Session) -> None:
        session.execute(update(Bin).where(Bin.id == 1).values(name="for good"))
        session.execute(text(beginner))
        session.rollback()

    service.run(work)

    after = service.seen(cached=False)
    assert service.seen() == after


@on("pymysql")
def test_what_mariadb_does_not_commit_by_itself_is_announced_again_at_its_commit(service):
    """A procedure may commit, or not."""
    service.run(lambda s: s.execute(text("CREATE OR REPLACE PROCEDURE change_all() UPDATE bins SET name = 'called'")))
    service.warm()

    def work(session: Session) -> None:
        session.execute(text("CALL change_all()"))
        with Session(service.engine) as beside:  # keeps what is there before the COMMIT
            assert service.cached_name_of(beside, 1) == "bin 1"
        session.commit()

    service.run(work)

    assert service.seen() == service.seen(cached=False)


@on("psycopg")
def test_what_a_transaction_prepared_by_hand_changed_is_announced_at_commit_prepared(service):
    """As SQL in AUTOCOMMIT, from a connection that knows only its name."""
    if not can_prepare(service):
        pytest.skip("max_prepared_transactions is 0")
    service.warm()

    def work(session: Session) -> None:
        engine = session.get_bind()
        with engine.connect() as connection:
            connection.exec_driver_sql("UPDATE bins SET name = 'prepared'")
            connection.exec_driver_sql("PREPARE TRANSACTION 'by hand'")
            connection.commit()
        with Session(engine) as beside:
            assert service.cached_name_of(beside, 1) == service.cached_name_of(beside, 1) == "bin 1"
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
            other.exec_driver_sql("COMMIT PREPARED 'by hand'")

    service.run(work)

    assert service.seen() == service.seen(cached=False)


@on("pymysql")
def test_what_others_have_not_committed_is_never_kept(service):
    """READ UNCOMMITTED shows it; the reader gets it and nobody else."""
    peeking = service.engine.execution_options(isolation_level="READ UNCOMMITTED")
    with Session(service.engine) as writer:
        bin_1(writer).name = "never"
        writer.flush()
        with Session(peeking) as reader:
            assert service.cached_name_of(reader, 1) == "never"
        writer.rollback()

    with Session(service.engine) as reader:
        assert service.cached_name_of(reader, 1) == "bin 1"
    assert service.cache.stats().unkept[Reason.DIRTY_READS] == 1


@on("psycopg")
@pytest.mark.parametrize(
    "asks",
    [
        ["SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"],
        ["SET transaction_isolation = 'repeatable read'"],
        ["SELECT set_config('default_transaction_isolation', 'repeatable read', false)", "COMMIT", "BEGIN"],
        ["SET default_transaction_isolation TO 'repeatable read'", "COMMIT", "BEGIN"],
    ],
)
def test_a_snapshot_that_was_asked_for_in_sql_is_a_snapshot(service, asks):
    """SQLAlchemy does not know of it."""
    with Session(service.engine) as reader:
        reader.connection().detach()  # the setting goes with the connection
        for each in asks:
            reader.execute(text(each))
        assert reader.scalar(text("SELECT count(*) FROM bins")) == 3
        with Session(service.engine) as writer:
            bin_1(writer).name = "newer"
            writer.commit()
        assert service.cached_name_of(reader, 1) == "bin 1"

    with Session(service.engine) as other:
        assert service.cached_name_of(other, 1) == "newer"


def test_one_session_on_two_engines_announces_both(pg_url, tmp_path):
    """Bound by mapper: each COMMIT is its own, and each is seen."""
    one, two = (
        create_engine(pg_url.replace("://", "+psycopg://")),
        create_engine(f"sqlite:///{tmp_path / 'two.sqlite3'}"),
    )
    cache = Cache("binds", Policy())
    loads: list[str] = []

    @cache.query(tags=Label)
    def labels(session: Session) -> list[str]:
        loads.append("labels")
        return list(session.scalars(select(Label.name).order_by(Label.id)))

    @cache.query(tags=Counted)
    def counted(session: Session) -> list[str]:
        loads.append("counted")
        return list(session.scalars(select(Counted.name).order_by(Counted.id)))

    binds = {Label: one, Counted: two}
    Base.metadata.create_all(one)
    Base.metadata.create_all(two)
    cache.connect()
    cache.watch(one, Base.metadata)
    cache.watch(two)

    def seen() -> tuple[list[str], list[str]]:
        with Session(binds=binds) as session:
            return labels(session), counted(session)

    assert seen() == seen() == ([], [])
    assert loads == ["labels", "counted"]

    with Session(binds=binds) as session:
        session.add_all([Label(id=1, name="a"), Counted(id=1, name="b")])
        session.commit()
    assert seen() == (["a"], ["b"])

    with Session(binds=binds) as session:
        session.get_one(Counted, 1).name = "c"
        session.commit()
    assert seen() == (["a"], ["c"])
    assert loads == ["labels", "counted"] * 2 + ["counted"], "the other engine's table was not touched"
    cache.close()
    one.dispose()
    two.dispose()


@pytest.fixture
def deferred(tmp_path: Path) -> Iterator[tuple[Engine, Cache, Callable[[], list[int]]]]:
    """Children whose parents are asked for at COMMIT, on SQLite, and their cached list."""
    engine = create_engine(f"sqlite:///{tmp_path / 'deferred.sqlite3'}", connect_args={"timeout": 0})
    event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys = ON"))
    FAMILY.create_all(engine)
    cache = Cache("deferred", Policy())

    @cache.query(tags="children")
    def children(connection: Connection) -> list[int]:
        return list(connection.scalars(select(child.c.id).order_by(child.c.id)))

    def read() -> list[int]:
        with engine.connect() as connection:
            return children(connection)

    cache.connect()
    cache.watch(engine, FAMILY)
    yield engine, cache, read
    cache.close()
    engine.dispose()


FAMILY = MetaData()
parent = Table("parents", FAMILY, Column("id", Integer, primary_key=True))
child = Table(
    "children",
    FAMILY,
    Column("id", Integer, primary_key=True),
    Column("parent_id", ForeignKey("parents.id", deferrable=True, initially="DEFERRED")),
)


def test_what_a_refused_commit_leaves_open_in_sqlite_is_announced_when_it_goes_through(deferred):
    """SQLite keeps the transaction, and SQLAlchemy's rollback() ends only its own idea of it (2.1)."""
    engine, cache, read = deferred
    assert read() == read() == []
    with engine.connect() as connection:
        connection.execute(insert(child), {"id": 1, "parent_id": 7})
        with pytest.raises(IntegrityError):
            connection.commit()
        assert read() == read() == []
        assert cache.stats().unbumped_commits == 0, "it was certain that nothing had become visible"
        connection.rollback()

        connection.execute(insert(parent), {"id": 7})
        connection.commit()

    with engine.connect() as connection:
        assert read() == list(connection.scalars(select(child.c.id)))


def test_a_commit_that_sqlite_refuses_as_busy_is_certain(deferred):
    """Readers go on with the cache at once."""
    engine, cache, read = deferred
    with engine.begin() as connection:
        connection.execute(insert(parent), {"id": 7})
    read()
    reader = engine.raw_connection()
    cursor = reader.cursor().execute("SELECT * FROM parents")
    with engine.connect() as connection:
        connection.execute(insert(child), {"id": 1, "parent_id": 7})
        with pytest.raises(OperationalError, match="locked"):
            connection.commit()
        cursor.close()
        connection.invalidate()
    reader.close()

    assert read() == read() == []
    assert (cache.stats().hits, cache.stats().unbumped_commits) == (1, 0)
