"""What is noted of a transaction: rows where they can be told, more where not, never less."""

from __future__ import annotations

import contextlib
import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import ForeignKey, String, bindparam, create_engine, delete, insert, select, text, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from perfkit.cache.relations import Known
from perfkit.cache.tags import tags_of
from perfkit.sqla.catalog import NOTHING_KNOWN
from perfkit.sqla.changes import Changes
from perfkit.sqla.commits import Outcome, around_commits, outcome_of
from perfkit.sqla.handwritten import Mention
from perfkit.sqla.statements import TableWrite, writes_of


class Base(DeclarativeBase):
    pass


class Team(Base):
    __tablename__ = "teams"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Bin(Base):
    __tablename__ = "bins"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    team_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE", onupdate="CASCADE"))


class Slot(Base):
    __tablename__ = "slots"
    street: Mapped[str] = mapped_column(String(50), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    taken: Mapped[bool] = mapped_column(default=False)


@pytest.fixture
def committed() -> Iterator[Callable[[Callable[[Session], Any]], list[list[str]]]]:
    """Runs a change in a session that commits; the tags that each commit announced."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(
            [Team(id=1, name="a"), Team(id=2, name="b"), Bin(id=1, name="x", team_id=1), Bin(id=2, name="y")]
        )
        session.add(Slot(street="A, B", number=1))
        session.commit()
        session.execute(text("CREATE TABLE strays (id INTEGER)"))
    seen: list[list[str]] = []
    known = Known([Base.metadata])

    def before(changes: Changes) -> None:
        seen.append(sorted(tags_of(changes).union(known.beside(changes, NOTHING_KNOWN))))

    take_away = around_commits(engine, before, lambda token, outcome: None)

    def run(change: Callable[[Session], Any]) -> list[list[str]]:
        with Session(engine) as session:
            change(session)
            session.commit()
        return seen

    yield run
    take_away()
    engine.dispose()


class Numbered(Base):
    __tablename__ = "numbered"
    id: Mapped[int] = mapped_column(primary_key=True)
    id_1: Mapped[int]


def rename(session: Session) -> None:
    found = session.get(Bin, 1)
    assert found is not None
    found.name = "z"


def savepoint_undone(session: Session) -> None:
    nested = session.begin_nested()
    session.add(Bin(id=9, name="z"))
    session.flush()
    nested.rollback()


OTHER = Bin.__table__.alias("other")

ALL_BINS, ALL_TEAMS = ["bins", "bins#*", "bins?*"], ["teams", "teams#*", "teams?*"]

CASES: list[tuple[str, Callable[[Session], Any], list[list[str]]]] = [
    ("orm insert", lambda s: s.add(Bin(name="z")), [["bins", "bins#3"]]),
    ("orm inserts", lambda s: s.add_all([Bin(name="z"), Bin(name="w")]), [["bins", "bins#3", "bins#4"]]),
    ("orm update", rename, [["bins", "bins#1"]]),
    ("orm delete", lambda s: s.delete(s.get(Bin, 1)), [["bins", "bins#1"]]),
    ("orm delete that cascades", lambda s: s.delete(s.get(Team, 1)), [["bins", "bins#*", "teams", "teams#1"]]),
    ("composite key", lambda s: setattr(s.get(Slot, ("A, B", 1)), "taken", True), [["slots", "slots#A%2C%20B,1"]]),
    ("core, key", lambda s: s.execute(update(Bin).where(Bin.id == 2).values(name="z")), [["bins", "bins#2"]]),
    ("core, key and more", lambda s: s.execute(delete(Bin).where(Bin.id == 2, Bin.name == "y")), [["bins", "bins#2"]]),
    (
        "core, keys",
        lambda s: s.execute(update(Bin).where(Bin.id.in_([1, 2])).values(name="z")),
        [["bins", "bins#1", "bins#2"]],
    ),
    ("core, other", lambda s: s.execute(update(Bin).where(Bin.name == "x").values(name="z")), [["bins", "bins#*"]]),
    ("core, or", lambda s: s.execute(delete(Bin).where((Bin.id == 1) | (Bin.name == "y"))), [["bins", "bins#*"]]),
    (
        "core, the key of an alias",
        lambda s: s.execute(update(Bin).where(Bin.name == OTHER.c.name, OTHER.c.id == 2).values(name="z")),
        [["bins", "bins#*"]],
    ),
    (
        "a column named like a listed key",
        lambda s: s.execute(insert(Numbered).values(id_1=7)),
        [["numbered", "numbered#1"]],
    ),
    ("core, all", lambda s: s.execute(delete(Bin)), [["bins", "bins#*"]]),
    ("a key of the wrong type", lambda s: s.execute(delete(Bin).where(Bin.id == "1")), [["bins", "bins#*"]]),
    ("the key itself", lambda s: s.execute(update(Bin).where(Bin.id == 2).values(id=7)), [["bins", "bins#*"]]),
    (
        "a key by an expression",
        lambda s: s.execute(update(Team).where(Team.id == 2).values(id=Team.id + 7)),
        [["bins", "bins#*", "teams", "teams#*"]],
    ),
    ("bulk by key", lambda s: s.execute(update(Bin), [{"id": 1, "name": "p"}]), [["bins", "bins#1"]]),
    ("bulk insert", lambda s: s.execute(insert(Bin), [{"name": "p"}, {"name": "q"}]), [["bins", "bins#*"]]),
    (
        "bulk insert with keys",
        lambda s: s.execute(insert(Bin), [{"id": 8, "name": "p"}, {"id": 9, "name": "q"}]),
        [["bins", "bins#8", "bins#9"]],
    ),
    (
        "many rows in one",
        lambda s: s.execute(insert(Bin).values([{"id": 8, "name": "p"}, {"id": 9, "name": "q"}])),
        [["bins", "bins#*"]],
    ),
    (
        "insert from select",
        lambda s: s.execute(insert(Bin).from_select(["name"], select(Team.name))),
        [["bins", "bins#*"]],
    ),
    (
        "upsert",
        lambda s: s.execute(upsert(Team).values(id=5, name="a").on_conflict_do_update(["name"], set_={"name": "c"})),
        [["teams", "teams#*"]],
    ),
    (
        "or replace",
        lambda s: s.execute(insert(Team).prefix_with("OR REPLACE").values(id=5, name="a")),
        [["bins", "bins#*", "teams", "teams#*"]],
    ),
    ("text", lambda s: s.execute(text("UPDATE bins SET name = :n").bindparams(bindparam("n", "z"))), [ALL_BINS]),
    ("driver", lambda s: s.connection().exec_driver_sql("DELETE FROM bins"), [ALL_BINS]),
    ("definition", lambda s: s.execute(text("CREATE TABLE more (id integer)")), [["*"]]),
    ("a savepoint undone", savepoint_undone, [["bins", "bins#9"]]),
    ("a cte that deletes", lambda s: s.execute(text("WITH d AS (SELECT 1) DELETE FROM bins")), [ALL_BINS]),
    ("text that cascades", lambda s: s.execute(text("DELETE FROM TEAMS WHERE id = 1")), [ALL_BINS + ALL_TEAMS]),
    ("text about a table of nobody's", lambda s: s.execute(text("INSERT INTO strays VALUES (1)")), [["*"]]),
    ("a read", lambda s: s.execute(select(Bin)), []),
    ("a read as text", lambda s: s.execute(text("SELECT replace(name, 'a', 'b') FROM bins")), []),
    ("a read with a piece of text", lambda s: s.execute(select(Bin.id).where(text("name = 'delete from x'"))), []),
]


@pytest.mark.parametrize(("change", "tags"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_is_announced(committed, change, tags):
    """By the statement that ran."""
    assert committed(change) == tags


def test_more_rows_than_a_mark_can_name_are_the_whole_table(committed):
    """A mark names each row, and so does its bump."""
    assert committed(lambda s: s.add_all([Bin(id=100 + i, name="z") for i in range(300)]))[0][:2] == ["bins", "bins#*"]


def test_a_failed_statement_stays_noted(committed):
    """Some of its rows may be in, if the transaction goes on."""

    def change(session: Session) -> None:
        with contextlib.suppress(DBAPIError):
            session.connection().execute(insert(Team), [{"name": "new"}, {"name": "a"}])

    assert committed(change) == [["teams", "teams#*"]]


def test_a_rollback_announces_nothing(committed):
    """And the next transaction on that connection starts without notes."""

    def change(session: Session) -> None:
        session.add(Bin(name="z"))
        session.flush()
        session.rollback()

    assert committed(change) == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT '--'; DELETE FROM bins",
        "WITH q AS (SELECT '/*' AS a), d AS (DELETE FROM bins RETURNING 1) SELECT '*/'",
        """SELECT "it's" FROM y; DELETE FROM bins WHERE a = 'b'""",
        "SELECT `it's` FROM y; DELETE FROM bins WHERE a = 'b'",
        r"SELECT E'\'', a FROM y; DELETE FROM bins WHERE a = 'b'",
        "SELECT $$it's$$; DELETE FROM bins WHERE a = 'b'",
        "SELECT /* /* */ ' */ 1; DELETE FROM bins WHERE a = 'b'",
    ],
)
def test_a_write_cannot_hide_behind_quotes(sql):
    """Where a quote ends depends on the dialect, so a doubtful text is read both ways."""
    assert writes_of(None, sql, "postgresql").everything


@pytest.mark.parametrize(
    "sql",
    [
        "WITH q AS (SELECT 1) DELETE b, c FROM bins b JOIN c ON c.id = b.id",
        "EXPLAIN (ANALYZE, COSTS OFF) EXECUTE prepared",
        "SET STATEMENT max_statement_time = 1 FOR CALL tidy()",
        "/*!40000 DELETE FROM bins */",
    ],
)
def test_a_write_cannot_hide_behind_what_begins_like_a_read(sql):
    """In MySQL, PostgreSQL and MariaDB."""
    assert writes_of(None, sql, "").everything


@pytest.mark.parametrize(
    ("dialect", "sql", "mentions"),
    [
        ("postgresql", "UPDATE bins SET litres = :litres WHERE id IN (__[POSTCOMPILE_ids])", {"bins"}),
        ("postgresql", 'INSERT INTO archive."Bins" (id) VALUES (%(id)s) ON CONFLICT (id) DO NOTHING', {"Bins"}),
        ("postgresql", "INSERT INTO bins DEFAULT VALUES RETURNING id;", {"bins"}),
        ("postgresql", "UPDATE ONLY bins AS b SET name = o.name FROM (SELECT * FROM orgs) o", {"bins", "orgs"}),
        ("postgresql", "DELETE FROM bins USING orgs o WHERE o.id = bins.org AND now() > o.until", {"bins", "orgs"}),
        ("postgresql", "MERGE INTO bins b USING news n ON b.id = n.id WHEN MATCHED THEN DELETE", {"bins", "news"}),
        ("postgresql", "INSERT INTO bins SELECT $1::int, 'it; DELETE FROM orgs'", {"bins"}),
        ("sqlite", "INSERT OR REPLACE INTO bins (id) VALUES (?)", {"bins"}),
        ("mysql", "UPDATE bins b JOIN orgs o ON o.id = b.org SET o.name = %s", {"bins", "orgs"}),
        ("mariadb", "INSERT INTO bins (id) VALUES (1) ON DUPLICATE KEY UPDATE id = 2", {"bins"}),
    ],
)
def test_text_that_writes_changes_what_it_names(dialect, sql, mentions):
    """Read by a parser; which of them it changes is not asked."""
    found = writes_of(None, sql, dialect)

    assert ({mention.relation for mention in found.mentions}, found.everything) == (mentions, False)


def test_a_name_of_its_own_with_may_be_that_of_a_table():
    """PostgreSQL writes to the table, and reads from the WITH."""
    found = writes_of(None, "WITH bins AS (SELECT 1 AS id) UPDATE bins SET litres = 0", "postgresql")

    assert found.mentions == {Mention("bins", is_defined=True)}


@pytest.mark.parametrize(
    ("dialect", "sql"),
    [
        ("postgresql", "UPDATE bins SET litres = 0; DELETE FROM orgs"),
        ("postgresql", "UPDATE bins SET litres = tidy(3)"),
        ("postgresql", "DELETE FROM bins WHERE s.tidy(id)"),
        ("postgresql", r"UPDATE bins SET name = E'\'', litres = 0"),
        ("postgresql", "UPDATE bins SET name = $$a$$"),
        ("postgresql", "TRUNCATE bins CASCADE"),
        ("postgresql", "COPY bins FROM STDIN"),
        ("postgresql", "CALL tidy()"),
        ("postgresql", "DO 'BEGIN DELETE FROM bins; END'"),
        ("postgresql", "SELECT * INTO bins FROM orgs"),
        ("postgresql", "CREATE TABLE bins AS SELECT * FROM orgs"),
        ("postgresql", "EXPLAIN ANALYZE DELETE FROM bins"),
        ("postgresql", "UPDATE bins SET name = 'a' || (" + "1 + " * 10_000 + "1)"),
        ("mysql", "REPLACE INTO bins (id) VALUES (1)"),
        ("mysql", "LOAD DATA INFILE 'a' INTO TABLE bins"),
        ("oracle", "UPDATE bins SET litres = 0"),
    ],
)
def test_text_of_which_nobody_can_tell_changes_everything(dialect, sql):
    """Two statements, functions that may write, what is no INSERT, UPDATE, DELETE or MERGE, and what is too much."""
    assert writes_of(None, sql, dialect).everything


def test_without_a_parser_text_that_writes_changes_everything(monkeypatch):
    """It comes with an extra."""
    monkeypatch.setitem(sys.modules, "sqlglot", None)

    assert writes_of(None, "UPDATE bins SET litres = 12345", "postgresql").everything


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT p.delete, p.x FROM p",
        "EXPLAIN ANALYZE SELECT a FROM y",
        "SET statement_timeout = 100",
        "SELECT a FROM y WHERE a = 'delete from bins; --'",
        'SELECT "into" FROM y -- ; delete from bins',
        r"SELECT a FROM y WHERE a LIKE :a ESCAPE '\'",
        r"SELECT a FROM y WHERE a ~ '\d+;'",
        "/* who; why */ SELECT a FROM y;",
    ],
)
def test_a_read_with_quotes_is_a_read(sql):
    """Or every commit beside it would empty the cache."""
    assert not writes_of(None, sql, "postgresql")


def test_an_engine_is_forgotten_with_its_last_hook():
    """A door holds its dialect; nobody must hold the door."""
    engine = create_engine("sqlite://")
    take_away = around_commits(engine, lambda changes: None, lambda token, outcome: None)
    dialect = weakref.ref(engine.dialect)

    take_away()
    engine.dispose()
    del engine, take_away
    gc.collect()

    assert dialect() is None


class Stated(Exception):
    def __init__(self, sqlstate: str | None) -> None:
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Stated("23505"), Outcome.ABORTED),
        (Stated("40001"), Outcome.ABORTED),
        (Stated("40003"), Outcome.UNKNOWN),
        (Stated("08006"), Outcome.UNKNOWN),
        (Stated("57P01"), Outcome.UNKNOWN),
        (Stated(None), Outcome.UNKNOWN),
        (TimeoutError(), Outcome.UNKNOWN),
        (KeyboardInterrupt(), Outcome.UNKNOWN),
    ],
)
def test_only_the_servers_own_no_is_certain(error, outcome):
    """A connection that broke may have committed."""
    assert outcome_of(error) is outcome


@pytest.mark.parametrize("isolation_level", ["SERIALIZABLE", "AUTOCOMMIT"])
def test_an_insert_that_is_sent_in_batches_is_looked_at_once_in_each_transaction(monkeypatch, isolation_level):
    """Each batch tells the parameters of all: sixty thousand rows took ten times as long as without a cache."""
    engine = create_engine("sqlite://", isolation_level=isolation_level, insertmanyvalues_page_size=10)
    Base.metadata.create_all(engine)
    seen, looked = [], []
    real = TableWrite.keys_in
    monkeypatch.setattr(TableWrite, "keys_in", lambda self, given: looked.append(len(given)) or real(self, given))
    take_away = around_commits(engine, lambda changes: seen.append(tags_of(changes)), lambda token, outcome: None)

    with engine.connect() as connection:
        connection.execute(insert(Team).returning(Team.id), [{"id": i, "name": str(i)} for i in range(40)])
        connection.commit()

    take_away()
    engine.dispose()
    assert looked == [40] * len(seen)
    assert len(seen) == (1 if isolation_level == "SERIALIZABLE" else 4)
    assert {f"teams#{i}" for i in range(40)} <= set().union(*seen)
