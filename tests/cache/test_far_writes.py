"""Writes that change more than they name: rows and values that the database itself changes beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Computed,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    bindparam,
    create_engine,
    delete,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.orm import Session

from perfkit import Cache
from perfkit.sqla.statements import writes_of

metadata = MetaData()
orgs = Table(
    "orgs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("code", Integer, unique=True),
    Column("n", Integer),
)
bins = Table(
    "bins",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("code", ForeignKey("orgs.code", ondelete="SET NULL", onupdate="CASCADE"), unique=True),
    Column("n", Integer),
    Column("parity", Integer, Computed("n % 2")),
    info={"cache_tags": ("parity",)},
)
slots = Table(
    "slots",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("bin_code", ForeignKey("bins.code", onupdate="CASCADE", ondelete="CASCADE")),
)
labels = Table(
    "labels",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String),
    UniqueConstraint("name", sqlite_on_conflict="REPLACE"),
)
# one name in two schemas and in two cases, with other keys and declared columns
here = Table(
    "things",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("org", Integer),
    info={"cache_tags": ("org",)},
)
there = Table(
    "things",
    metadata,
    Column("code", String, primary_key=True),
    Column("id", Integer),
    Column("org", Integer),
    schema="other",
)
# the same table as somebody else sees it: another key, no declared columns
bins_elsewhere = Table("bins", MetaData(), Column("id", Integer), Column("code", Integer), Column("n", Integer))

Read = Callable[[Session], Any]


def all_of(table: Table) -> Read:
    return lambda session: sorted(map(tuple, session.execute(select(table))))


def where(column: Column[Any], value: Any) -> Read:
    return lambda session: sorted(map(tuple, session.execute(select(column.table).where(column == value))))


def in_other_letters(session: Session) -> Any:
    return session.scalar(text("SELECT sum(n) FROM BINS"))


READS: dict[str, Read] = {
    "orgs": all_of(orgs),
    "bins": all_of(bins),
    "slots": all_of(slots),
    "one org": where(orgs.c.id, 2),
    "one bin": where(bins.c.id, 1),
    "one label": where(labels.c.id, 1),
    "odd bins": where(bins.c.parity, 1),
    "things there, by id": where(there.c.id, 1),
    "things there, of one": where(there.c.org, 1),
    "things here, of one": where(here.c.org, 1),
    "letters": in_other_letters,
}
WRITES: dict[str, Any] = {
    "a referenced column that is no key": update(orgs).where(orgs.c.id == 1).values(code=9),
    "a referenced column by an expression": update(orgs).values(code=orgs.c.code + 5),
    "what is set to NULL is referenced in turn": delete(orgs).where(orgs.c.id == 1),
    "or replace": insert(orgs).prefix_with("OR REPLACE").values(id=1, code=7),
    "update or replace": update(orgs).prefix_with("OR REPLACE").where(orgs.c.id == 1).values(code=2),
    "on conflict replace": insert(labels).values(id=2, name="one"),
    "an upsert of a referenced column": sqlite.insert(orgs)
    .values(id=1, code=1)
    .on_conflict_do_update(index_elements=["id"], set_={"code": 8}),
    "a column that is computed": update(bins).where(bins.c.id == 1).values(n=2),
    "a column that is computed, of its own rows": update(bins).where(bins.c.parity == 1).values(n=2),
    "a table of that name in another schema": update(there).where(there.c.code == "z").values(id=5, org=5),
    "the one of that name here": update(here).where(here.c.id == 1).values(org=5),
    "another object for the table": update(bins_elsewhere).where(bins_elsewhere.c.id == 1).values(n=4),
}


class Place:
    """Two databases under one engine, and a cached function for each of the reads."""

    def __init__(self, folder: Path) -> None:
        self.engine: Engine = create_engine(f"sqlite:///{folder}/one.db")
        event.listen(self.engine, "connect", self._on_connect(folder))
        self.cache = Cache("far")
        self.cached = {name: self._cached(name, read) for name, read in READS.items()}
        self.cache.connect()
        self.cache.watch(self.engine, metadata)
        metadata.create_all(self.engine)
        self.write(
            insert(orgs).values([{"id": 1, "code": 1}, {"id": 2, "code": 2}]),
            insert(bins).values([{"id": 1, "code": 1, "n": 1}, {"id": 2, "code": 2, "n": 3}]),
            insert(slots).values([{"id": 1, "bin_code": 1}, {"id": 2, "bin_code": 2}]),
            insert(labels).values(id=1, name="one"),
            insert(here).values(id=1, org=1),
            insert(there).values(code="z", id=1, org=1),
        )

    def _on_connect(self, folder: Path) -> Callable[[Any, Any], None]:
        def on_connect(connection: Any, record: Any) -> None:
            connection.execute(f"ATTACH '{folder}/other.db' AS other")
            connection.execute("PRAGMA foreign_keys = ON")

        return on_connect

    def _cached(self, name: str, read: Read) -> Read:
        def function(session: Session) -> Any:
            return read(session)

        function.__qualname__ = name
        return self.cache.query()(function)

    def write(self, *statements: Any) -> None:
        with Session(self.engine) as session:
            for statement in statements:
                session.execute(statement)
            session.commit()

    def answers(self, functions: dict[str, Read]) -> dict[str, Any]:
        found = {}
        for name, function in functions.items():
            with Session(self.engine) as session:
                found[name] = function(session)
        return found

    def close(self) -> None:
        self.cache.close()
        self.engine.dispose()


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("name", WRITES)
def test_what_the_database_changes_beside_it_is_seen(place, name):
    """Each result is what the database says, and something has changed."""
    before = place.answers(place.cached)
    assert place.answers(place.cached) == before
    assert place.cache.stats().hits == len(READS)

    place.write(WRITES[name])

    right = place.answers(READS)
    assert place.answers(place.cached) == right
    assert right != before


def test_mariadb_sets_columns_of_several_tables():
    """Both are written, and a declared column of either may move."""
    statement = update(here).where(here.c.org == orgs.c.id, here.c.org == 1).values({here.c.org: 2, orgs.c.n: 3})

    writes = writes_of(statement.compile(dialect=mysql.dialect()), "", "mysql")

    assert {(write.table.name, write.moves) for write in writes.tables} == {("things", True), ("orgs", True)}


def test_a_table_that_mariadb_sets_by_an_alias_is_everything():
    """Its name is none that the metadata has."""
    other = orgs.alias("o")
    statement = update(here).where(here.c.org == other.c.id).values({other.c.n: 3})

    assert writes_of(statement.compile(dialect=mysql.dialect()), "", "mysql").everything


def test_a_declared_column_moves_beside_a_cte_that_writes():
    """The SET of the inner UPDATE comes first in the text."""
    inner = update(orgs).where(orgs.c.id == 1).values(n=1).returning(orgs.c.id).cte("inner")
    outer = update(here).where(here.c.org == 1).values(org=bindparam("new", 2)).add_cte(inner)

    found = {write.table.name: write.moves for write in writes_of(outer.compile(), "", "").tables}

    assert found["things"] is True
