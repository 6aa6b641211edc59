"""Databases of unusual shapes: what was cached before a write agrees with the database after it.

Each test here was a stale read once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from sqlalchemy import (
    Column,
    Computed,
    Date,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    bindparam,
    cast,
    column,
    create_engine,
    delete,
    event,
    exists,
    func,
    insert,
    literal,
    select,
    table,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker
from sqlalchemy.pool import StaticPool

from perfkit import Cache
from perfkit.cache import Reason, only
from perfkit.errors import NotCached, UnknownTag


class Place:
    """A database of its own, and a cache that watches it."""

    def __init__(self, metadata: MetaData, url: str = "sqlite://", **options: Any) -> None:
        if url == "sqlite://":
            options = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}} | options
        for database, driver in (("postgresql", "psycopg"), ("mysql", "pymysql"), ("mariadb", "pymysql")):
            url = url.replace(f"{database}:", f"{database}+{driver}:")
        self.engine = create_engine(url, **options)
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys = ON"))
        self.metadata = metadata
        self.cache = Cache("agreement")
        self.cache.connect("memory://")

    def watch(self) -> None:
        self.metadata.create_all(self.engine)
        self.cache.watch(self.engine, self.metadata)

    def write(self, change: Callable[[Session], Any]) -> None:
        with Session(self.engine) as session:
            change(session)
            session.commit()

    def sql(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for each in statements:
                connection.exec_driver_sql(each)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        with Session(self.engine) as session:
            return function(session, *args)

    def agrees(self, read: Callable[..., Any], write: Callable[[Session], Any], *args: Any) -> None:
        """What `read` gives is kept; `write` changes it; and then the cache gives what the database does."""
        cached = self.cache.query()(read)
        before = [self.call(cached, *args), self.call(cached, *args)]
        hits = self.cache.stats_of(cached).hits

        self.write(write)

        assert hits == 1, "it was not kept"
        assert self.call(cached, *args) == self.call(read, *args)
        assert self.call(read, *args) != before[1], "nothing has changed"


@pytest.fixture
def at() -> Iterator[Callable[..., Place]]:
    """Makes a `Place`, watched; `before` are SQL statements that come first."""
    made: list[Place] = []

    def make(metadata: MetaData, *before: str, url: str = "sqlite://", **options: Any) -> Place:
        place = Place(metadata, url, **options)
        made.append(place)
        place.sql(*before)
        place.watch()
        return place

    yield make
    for place in made:
        place.cache.close()
        place.engine.dispose()


# ---- values that are equal and look different


class Lower(TypeDecorator[str]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else value.lower()


class LowerInSql(String):
    def bind_expression(self, bindvalue: Any) -> Any:
        return func.lower(bindvalue, type_=String())


class LowerInPython(String):
    def bind_processor(self, dialect: Any) -> Any:
        return lambda value: None if value is None else value.lower()


def parts_of(kind: Any = String) -> Table:
    """A table whose column `kind` has tags of its own."""
    return Table(
        "parts",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("kind", kind),
        Column("weight", Integer),
        info={"cache_tags": ("kind",)},
    )


def followers_of(parts: Table) -> Table:
    """One whose rows go with those of `parts`."""
    return Table(
        "followers",
        parts.metadata,
        Column("id", Integer, primary_key=True),
        Column("part_id", ForeignKey("parts.id", ondelete="CASCADE")),
    )


@pytest.mark.parametrize("kind", [Lower, LowerInSql, LowerInPython])
def test_a_column_whose_type_changes_values_on_the_way_cannot_be_declared(at, kind):
    """Two texts would be two tags of one value."""
    with pytest.raises(UnknownTag, match="'kind' cannot be a tag"):
        at(parts_of(kind).metadata)


@pytest.mark.parametrize("kind", [LowerInSql, LowerInPython])
def test_a_key_whose_type_changes_values_on_the_way_names_no_row(at, kind):
    """The row of 'GLASS' is the one of 'Glass'."""
    kinds = Table("kinds", MetaData(), Column("name", kind, primary_key=True), Column("weight", Integer))
    place = at(kinds.metadata)

    def weights(session: Session, name: str) -> list[int]:
        return list(session.scalars(select(kinds.c.weight).where(kinds.c.name == name)))

    place.agrees(weights, lambda s: s.execute(insert(kinds).values(name="Glass", weight=1)), "GLASS")


def test_a_bind_of_another_type_than_its_column_pins_nothing(at):
    """What is sent is what its own type makes of it."""
    parts = parts_of()
    place = at(parts.metadata)

    def weights(session: Session, kind: str) -> list[int]:
        return list(session.scalars(select(parts.c.weight).where(parts.c.kind == literal(kind, Lower()))))

    place.agrees(weights, lambda s: s.execute(insert(parts).values(kind="glass", weight=1)), "GLASS")
    place.agrees(weights, lambda s: s.execute(update(parts).where(parts.c.kind == "glass").values(weight=2)), "GLASS")


def test_an_update_by_a_bind_of_another_type_is_one_of_the_table(at):
    """The writer's side of the same."""
    parts = parts_of()
    place = at(parts.metadata)
    place.write(lambda s: s.execute(insert(parts).values(kind="glass", weight=1)))

    def weights(session: Session, kind: str) -> list[int]:
        return list(session.scalars(select(parts.c.weight).where(parts.c.kind == kind)))

    by_another = update(parts).where(parts.c.kind == literal("GLASS", Lower())).values(weight=2)
    place.agrees(weights, lambda s: s.execute(by_another), "glass")


@pytest.mark.parametrize("other", [Lower, String(collation="NOCASE")])
def test_a_column_that_compares_in_another_way_passes_on_no_value(at, other):
    """`parts.kind = kinds.name AND kinds.name = 'GLASS'` finds the parts of kind 'glass'."""
    parts = parts_of()
    kinds = Table("kinds", parts.metadata, Column("name", other, primary_key=True))
    place = at(parts.metadata)
    place.write(lambda s: s.execute(insert(kinds).values(name="glass")))
    place.write(lambda s: s.execute(insert(parts).values(id=1, kind="glass", weight=1)))

    def weights(session: Session, name: str) -> list[int]:
        found = select(parts.c.weight).join(kinds, kinds.c.name == parts.c.kind).where(kinds.c.name == name)
        return list(session.scalars(found))

    place.agrees(weights, lambda s: s.execute(update(parts).where(parts.c.id == 1).values(weight=2)), "GLASS")


def test_a_variant_of_a_type_decides_in_its_dialect(at, pg_url):
    """A String that is a CITEXT on PostgreSQL finds 'Glass' by 'GLASS'."""
    kinds = Table(
        "kinds",
        MetaData(),
        Column("name", String().with_variant(postgresql.CITEXT(), "postgresql"), primary_key=True),
        Column("weight", Integer),
    )
    place = at(kinds.metadata, "CREATE EXTENSION IF NOT EXISTS citext", url=pg_url)

    def weights(session: Session, name: str) -> list[int]:
        return list(session.scalars(select(kinds.c.weight).where(kinds.c.name == name)))

    place.agrees(weights, lambda s: s.execute(insert(kinds).values(name="Glass", weight=1)), "GLASS")


def test_spaces_that_postgresql_cuts_off_make_no_other_value(at, pg_url):
    """'abc  ' is stored as 'abc' in a VARCHAR(3)."""
    parts = parts_of(String(3))
    place = at(parts.metadata, url=pg_url)

    def weights(session: Session, kind: str) -> list[int]:
        return list(session.scalars(select(parts.c.weight).where(parts.c.kind == kind)))

    place.agrees(weights, lambda s: s.execute(insert(parts).values(id=1, kind="abc  ", weight=1)), "abc")


# ---- what an entry can bear


def test_a_text_that_is_too_long_for_a_tag_is_a_value_like_any_other(at):
    """It raised `Unreadable` into the call. Now such a result depends on the table."""
    parts = parts_of()
    place = at(parts.metadata)

    def weights(session: Session, kind: str) -> list[int]:
        return list(session.scalars(select(parts.c.weight).where(parts.c.kind == kind)))

    for kind in ("short", "x" * 1_000, "é" * 150):
        place.agrees(weights, lambda s, kind=kind: s.execute(insert(parts).values(kind=kind, weight=1)), kind)
        place.agrees(weights, lambda s, kind=kind: s.execute(update(parts).values(weight=2)), kind)


def test_a_result_of_more_tags_than_an_entry_may_bear_is_returned_and_not_kept(at):
    """It raised `Unreadable` into the call."""
    parts = parts_of()
    place = at(parts.metadata)

    @place.cache.query()
    def weight_of(session: Session, part_id: int) -> int | None:
        return session.scalar(select(parts.c.weight).where(parts.c.id == part_id))

    @place.cache.query()
    def found(session: Session, count: int) -> int:
        return sum(weight_of(session, each) is not None for each in range(count))

    for each in range(1_100):
        place.call(weight_of, each)

    assert [place.call(found, 1_100), place.call(found, 1_100)] == [0, 0]
    assert place.cache.stats_of(found).unkept == {Reason.TOO_LARGE: 2}


# ---- what one write changes beside


def family_of(schema: str | None = None) -> tuple[Table, Table]:
    """Parents, and children that follow them by key and by code."""
    metadata = MetaData(schema=schema)
    parents = Table(
        "parents", metadata, Column("id", Integer, primary_key=True), Column("code", String(20), unique=True)
    )
    children = Table(
        "children",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("code", ForeignKey("parents.code", onupdate="CASCADE", ondelete="CASCADE")),
        Column("parent_id", ForeignKey("parents.id", onupdate="CASCADE", ondelete="CASCADE")),
    )
    return parents, children


CASCADES = {
    "an update of a column that is no key": lambda parents: update(parents).where(parents.c.id == 1).values(code="b"),
    "an upsert of the key": lambda parents: (
        sqlite.insert(parents).values(id=1, code="a").on_conflict_do_update(index_elements=["id"], set_={"id": 9})
    ),
    "an upsert of another column": lambda parents: (
        sqlite.insert(parents).values(id=1, code="a").on_conflict_do_update(index_elements=["id"], set_={"code": "b"})
    ),
    "INSERT OR REPLACE": lambda parents: insert(parents).prefix_with("OR REPLACE").values(id=1, code="b"),
    "a delete": lambda parents: delete(parents).where(parents.c.id == 1),
}


@pytest.mark.parametrize("schema", [None, "main"])
@pytest.mark.parametrize("write", CASCADES.values(), ids=CASCADES.keys())
def test_what_follows_a_row_changes_with_it(at, write, schema):
    """In a metadata that names the schema for all of its tables, too."""
    parents, children = family_of(schema)
    place = at(parents.metadata)
    place.write(lambda s: s.execute(insert(parents).values(id=1, code="a")))
    place.write(lambda s: s.execute(insert(children).values(id=1, code="a", parent_id=1)))

    def found(session: Session) -> list[list[Any]]:
        return [list(row) for row in session.execute(select(children))]

    place.agrees(found, lambda s: s.execute(write(parents)))


@pytest.mark.parametrize(
    "write",
    [
        lambda names: insert(names).values(id=2, name="a"),
        lambda names: update(names).where(names.c.id == 3).values(name="a"),
    ],
)
def test_a_table_that_replaces_what_is_in_conflict_loses_other_rows(at, write):
    """As `sqlite_on_conflict_unique="REPLACE"` has it."""
    names = Table(
        "names",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("name", String, unique=True, sqlite_on_conflict_unique="REPLACE"),
    )
    place = at(names.metadata)
    place.write(lambda s: s.execute(insert(names), [{"id": 1, "name": "a"}, {"id": 3, "name": "c"}]))

    def name_of(session: Session, row_id: int) -> str | None:
        return session.scalar(select(names.c.name).where(names.c.id == row_id))

    place.agrees(name_of, lambda s: s.execute(write(names)), 1)


def test_a_column_that_the_database_computes_is_set_by_every_update(at):
    """The row leaves its old value, which no statement names."""
    parts = Table(
        "parts",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("kind", String),
        Column("folded", String, Computed("lower(kind)")),
        info={"cache_tags": ("folded",)},
    )
    place = at(parts.metadata)
    place.write(lambda s: s.execute(insert(parts).values(id=1, kind="Glass")))

    def count_of(session: Session, folded: str) -> int:
        return session.scalar(select(func.count()).where(parts.c.folded == folded)) or 0

    place.agrees(count_of, lambda s: s.execute(update(parts).where(parts.c.id == 1).values(kind="Paper")), "glass")


def test_a_value_that_the_database_gives_is_not_that_of_a_column_with_a_like_name(at):
    """`kind_1` looks like one of the values of `kind IN (…)`."""
    parts = Table(
        "parts",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("kind", String, server_default="glass"),
        Column("kind_1", String),
        info={"cache_tags": ("kind",)},
    )
    place = at(parts.metadata)

    def count_of(session: Session, kind: str) -> int:
        return session.scalar(select(func.count()).where(parts.c.kind == kind)) or 0

    place.agrees(count_of, lambda s: s.execute(insert(parts).values(id=1, kind_1="paper")), "glass")


@pytest.mark.parametrize(("declared", "value", "other"), [("id", 4, 99), ("kind", "glass", "99")])
def test_a_bind_that_is_called_like_a_column_is_not_its_value(at, declared, value, other):
    """`INSERT … (id, weight) VALUES (2 + 2, :id)` was taken to write the row of that weight."""
    parts = parts_of()
    place = at(parts.metadata)
    places = {"id": literal(2) + literal(2), "kind": func.lower("GLASS")}

    def weights(session: Session, value: Any) -> list[int]:
        return list(session.scalars(select(parts.c.weight).where(parts.c[declared] == value)))

    inserts = insert(parts).values({declared: places[declared], "weight": bindparam(declared)})
    place.agrees(weights, lambda s: s.execute(inserts, {declared: other}), value)


def test_an_update_behind_another_one_moves_rows_too(at, pg_url):
    """What the first of two SETs assigns to is not all."""
    parts = parts_of()
    others = Table("others", parts.metadata, Column("id", Integer, primary_key=True), Column("n", Integer))
    place = at(parts.metadata, url=pg_url)
    place.write(lambda s: s.execute(insert(parts).values(id=1, kind="glass", weight=1)))

    def weights(session: Session, kind: str) -> list[int]:
        return list(session.scalars(select(parts.c.weight).where(parts.c.kind == kind)))

    first = update(others).values(n=1).returning(others.c.id).cte("first")
    place.agrees(
        weights, lambda s: s.execute(update(parts).where(parts.c.id == 1).values(kind="paper").add_cte(first)), "glass"
    )


def test_an_update_of_two_tables_is_one_of_both(at, mariadb_databases):
    """MariaDB sets columns of all tables that it names."""
    parts = parts_of(String(20))
    others = Table("others", parts.metadata, Column("id", Integer, primary_key=True), Column("n", Integer))
    place = at(parts.metadata, url=mariadb_databases())
    place.write(lambda s: s.execute(insert(parts).values(id=1, kind="glass", weight=1)))
    place.write(lambda s: s.execute(insert(others).values(id=1, n=1)))

    def numbers(session: Session) -> list[int]:
        return list(session.scalars(select(others.c.n)))

    both = update(parts).where(parts.c.id == others.c.id).values({parts.c.weight: 2, others.c.n: 2})
    place.agrees(numbers, lambda s: s.execute(both))


# ---- names


def rows_of(table: Table) -> Callable[[Session], list[list[Any]]]:
    def found(session: Session) -> list[list[Any]]:
        return [list(row) for row in session.execute(select(table))]

    return found


def test_two_tables_of_one_name_with_other_keys_share_the_tag_of_the_table(at):
    """A row of one was named by the key of the other."""
    metadata = MetaData()
    Table("things", metadata, Column("id", Integer, primary_key=True))
    things = Table(
        "things",
        metadata,
        Column("tenant", Integer, primary_key=True),
        Column("id", Integer, primary_key=True),
        Column("n", Integer),
        schema="other",
    )
    place = at(metadata, "ATTACH ':memory:' AS other")
    place.write(lambda s: s.execute(insert(things).values(tenant=1, id=5, n=1)))

    def numbers(session: Session, thing_id: int) -> list[int]:
        return list(session.scalars(select(things.c.n).where(things.c.id == thing_id)))

    one = update(things).where(things.c.id == 5, things.c.tenant == 1).values(n=2)
    place.agrees(numbers, lambda s: s.execute(one), 5)


def test_two_tables_of_one_name_with_other_declared_columns_share_the_tag_of_the_table(at):
    """Only one of them says in which column its conditions are."""
    metadata = MetaData()
    here, things = (
        Table(
            "things",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("kind", String),
            Column("n", Integer),
            schema=schema,
        )
        for schema in (None, "other")
    )
    here.info["cache_tags"] = ("kind",)
    place = at(metadata, "ATTACH ':memory:' AS other")
    place.write(lambda s: s.execute(insert(things).values(id=5, kind="glass", n=1)))

    def numbers(session: Session, kind: str) -> list[int]:
        return list(session.scalars(select(things.c.n).where(things.c.kind == kind)))

    place.agrees(numbers, lambda s: s.execute(update(things).where(things.c.id == 5).values(n=2)), "glass")


@pytest.mark.parametrize("way", ["metadata", "catalog"])
def test_a_temporary_table_is_another_one_in_each_session(at, pg_url, way):
    """One session got what another had put into its own."""
    parts = parts_of()
    picks = Table(
        "picks", parts.metadata if way == "metadata" else MetaData(), Column("id", Integer), prefixes=["TEMPORARY"]
    )
    place = at(parts.metadata, url=pg_url)
    place.write(lambda s: s.execute(insert(parts), [{"id": 1, "weight": 1}, {"id": 2, "weight": 2}]))

    @place.cache.query()
    def picked(session: Session) -> list[int]:
        return list(session.scalars(select(parts.c.weight).join(picks, picks.c.id == parts.c.id)))

    @place.cache.query()
    def weights(session: Session) -> list[int]:
        return list(session.scalars(select(parts.c.weight).order_by(parts.c.id)))

    with place.engine.connect() as one, place.engine.connect() as other, suppress_not_kept():
        for number, connection in enumerate((one, other), 1):
            connection.execute(text("CREATE TEMPORARY TABLE IF NOT EXISTS picks (id INTEGER)"))
            connection.execute(insert(picks).values(id=number))
            connection.commit()
        place.call(weights)  # on a third connection, before which the catalog is asked
        with place.cache.noting_changes() as noted:
            one.execute(insert(picks).values(id=9))
            one.commit()
        assert [picked(Session(each)) for each in (one, other, one)] == [[1], [2], [1]]

    assert "*" not in noted


def test_a_temporary_table_in_front_of_another_hides_it_from_nobody_else(at, pg_url):
    """The catalog, which is one for all sessions, shows both."""
    parts = parts_of()
    place = at(parts.metadata, url=pg_url)

    def weights(session: Session) -> list[int]:
        return list(session.scalars(select(parts.c.weight)))

    with place.engine.connect() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE parts (id INTEGER, kind TEXT, weight INTEGER)"))
        connection.commit()
        place.agrees(weights, lambda s: s.execute(insert(parts).values(id=1, weight=1)))


HEAVY = "CREATE VIEW heavy AS SELECT id, kind, weight FROM parts WHERE weight > 0"
INSTEAD = (
    "CREATE TRIGGER heavier INSTEAD OF UPDATE ON heavy"
    " BEGIN UPDATE parts SET weight = new.weight WHERE id = old.id; END"
)


@pytest.mark.parametrize("server", ["sqlite", "pg_url", "mariadb_databases"])
def test_a_write_to_a_view_is_one_to_what_is_behind_it(at, request, server):
    """Only the view was marked, on which no result depends."""
    url = "sqlite://" if server == "sqlite" else request.getfixturevalue(server)
    parts = parts_of(String(20))
    heavy = Table("heavy", MetaData(), Column("id", Integer, primary_key=True), Column("weight", Integer))
    options = {} if server == "sqlite" else {"isolation_level": "READ COMMITTED"}
    place = at(parts.metadata, url=url() if callable(url) else url, **options)
    place.sql(HEAVY, *([INSTEAD] if server == "sqlite" else []))
    place.write(lambda s: s.execute(insert(parts).values(id=1, kind="glass", weight=1)))

    def weights(session: Session) -> list[int]:
        return list(session.scalars(select(parts.c.weight).where(parts.c.id == 1)))

    place.agrees(weights, lambda s: s.execute(update(heavy).where(heavy.c.id == 1).values(weight=2)))


def test_a_write_to_a_view_of_which_is_said_what_it_reads_leaves_the_rest_alone(at):
    """By `reads=` of `watch`."""
    parts = parts_of()
    heavy = Table("heavy", MetaData(), Column("id", Integer, primary_key=True), Column("weight", Integer))
    place = at(parts.metadata)
    place.sql(HEAVY, INSTEAD)
    place.cache.unwatch(place.engine)
    place.cache.watch(place.engine, parts.metadata, reads={"heavy": ["parts"]})

    with place.cache.noting_changes() as noted:
        place.write(lambda s: s.execute(update(heavy).where(heavy.c.id == 1).values(weight=2)))

    assert {"parts", "parts#*", "parts?*"} <= set(noted)
    assert "*" not in noted


def test_rows_that_go_with_those_behind_a_view_are_marked(at):
    """By the rules of its foreign keys."""
    parts = parts_of()
    follower = followers_of(parts)
    heavy = Table("heavy", MetaData(), Column("id", Integer, primary_key=True), Column("weight", Integer))
    place = at(parts.metadata)
    place.sql(HEAVY, "CREATE TRIGGER lighter INSTEAD OF DELETE ON heavy BEGIN DELETE FROM parts WHERE id = old.id; END")
    place.cache.unwatch(place.engine)
    place.cache.watch(place.engine, parts.metadata, reads={"heavy": ["parts"]})
    place.write(lambda s: s.execute(insert(parts).values(id=1, weight=1)))
    place.write(lambda s: s.execute(insert(follower).values(id=1, part_id=1)))

    def followers(session: Session) -> list[int]:
        return list(session.scalars(select(follower.c.id)))

    place.agrees(followers, lambda s: s.execute(delete(heavy).where(heavy.c.id == 1)))


# ---- text that writes


def test_text_that_writes_makes_nothing_out_of_date_but_what_it_names(at):
    """Rows and values of it, and what follows them; other tables stay."""
    parts = parts_of()
    follower = followers_of(parts)
    other = Table("others", parts.metadata, Column("id", Integer, primary_key=True))
    place = at(parts.metadata)
    place.write(lambda s: s.execute(insert(parts), [{"id": n, "kind": "glass", "weight": n} for n in (1, 2, 3)]))
    place.write(lambda s: s.execute(insert(follower).values(id=1, part_id=2)))

    @place.cache.query()
    def others(session: Session) -> int | None:
        return session.scalar(select(func.count(other.c.id)))

    def weight(session: Session) -> int | None:
        return session.scalar(select(parts.c.weight).where(parts.c.id == 1))

    def glass(session: Session) -> int | None:
        return session.scalar(select(func.sum(parts.c.weight)).where(parts.c.kind == "glass"))

    def followers(session: Session) -> list[int]:
        return list(session.scalars(select(follower.c.id)))

    place.call(others)
    place.agrees(weight, lambda s: s.execute(text("UPDATE parts SET weight = :w WHERE id = 1"), {"w": 9}))
    place.agrees(glass, lambda s: s.execute(text("INSERT INTO Parts (id, kind, weight) VALUES (7, 'glass', 70)")))
    place.agrees(followers, lambda s: s.connection().exec_driver_sql("DELETE FROM parts WHERE id = ?", (2,)))
    place.call(others)

    assert place.cache.stats_of(others).hits == 1
    assert place.cache.stats().unread_commits == 0


def test_text_that_has_written_keeps_its_own_transaction_from_the_cache(at):
    """Also from results of tables that it does not name: it is not asked which."""
    parts = parts_of()
    place = at(parts.metadata)
    place.write(lambda s: s.execute(insert(parts).values(id=1, weight=1)))

    @place.cache.query()
    def weight(session: Session) -> int | None:
        return session.scalar(select(parts.c.weight).where(parts.c.id == 1))

    place.call(weight)
    with Session(place.engine) as session:
        session.execute(text("UPDATE parts SET weight = 2"))
        assert weight(session) == 2
    assert place.call(weight) == 1


@pytest.mark.parametrize(
    "written",
    [
        "INSERT INTO parts_a (id, kind, weight) VALUES (2, 'a', 5)",
        "WITH heavy AS (SELECT 3 AS id, 'a' AS kind, 5 AS weight) INSERT INTO parts SELECT * FROM heavy",
        "WITH parts AS (SELECT 5 AS weight) UPDATE parts SET weight = 5",
        "WITH gone AS (DELETE FROM parts WHERE id = 1 RETURNING weight) INSERT INTO others SELECT weight FROM gone",
        "UPDATE heavy SET weight = 5",
    ],
)
def test_text_that_writes_to_a_partition_a_view_or_by_a_with_is_noticed(at, pg_url, written):
    """In PostgreSQL a name after WITH is that of the table, where it is written to."""
    parts = parts_of()
    Table("others", parts.metadata, Column("id", Integer, primary_key=True))
    place = at(
        parts.metadata,
        "CREATE TABLE parts (id INTEGER, kind VARCHAR, weight INTEGER) PARTITION BY LIST (kind)",
        "CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a')",
        url=pg_url,
    )
    place.sql("CREATE VIEW heavy AS SELECT id, kind, weight FROM parts WHERE weight > 0")
    place.cache.unwatch(place.engine)
    place.cache.watch(place.engine, parts.metadata)
    place.write(lambda s: s.execute(insert(parts).values(id=1, kind="a", weight=1)))

    def weights(session: Session) -> list[int]:
        return list(session.scalars(select(parts.c.weight).where(parts.c.kind == "a").order_by(parts.c.id)))

    place.agrees(weights, lambda s: s.execute(text(written)))


@pytest.mark.parametrize("is_in_public", [True, False])
def test_a_schema_that_one_statement_alone_is_translated_to_is_where_its_rows_are(at, pg_url, is_in_public):
    """Before COMMIT, the table without the translation was asked in which of its rows the declared values were.

    Where there was such a table, these were another row's; where there was none, the COMMIT failed.
    """
    parts = parts_of()
    place = at(parts.metadata, "CREATE SCHEMA north", url=pg_url)
    north = {"schema_translate_map": {None: "north"}}
    with place.engine.begin() as connection:
        parts.metadata.create_all(connection.execution_options(**north))
    place.write(lambda s: s.execute(insert(parts).values(id=1, kind="glass", weight=1), execution_options=north))
    if is_in_public:
        place.write(lambda s: s.execute(insert(parts).values(id=1, kind="paper", weight=1)))
    else:
        place.sql("DROP TABLE public.parts")

    def weights(session: Session, kind: str) -> list[int]:
        return list(session.scalars(select(parts.c.weight).where(parts.c.kind == kind), execution_options=north))

    changes = update(parts).where(parts.c.id == 1).values(weight=2)
    place.agrees(weights, lambda s: s.execute(changes, execution_options=north), "glass")


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("name", ["things", "Things"])
def test_tables_whose_names_differ_in_case_are_told_apart(at, pg_url, name, by_hand):
    """PostgreSQL has both; SQL text may mean either."""
    metadata = MetaData()
    tables = {each: Table(each, metadata, Column("id", Integer, primary_key=True)) for each in ("things", "Things")}
    place = at(metadata, url=pg_url)

    def by_text(session: Session) -> list[list[Any]]:
        return [list(row) for row in session.execute(text(f'SELECT id FROM "{name}"'))]

    read = by_text if by_hand else rows_of(tables[name])
    place.agrees(read, lambda s: s.execute(insert(tables[name]).values(id=1)))


def test_a_reflected_table_writes_to_the_one_that_is_watched(at):
    """It knows nothing of declared columns, nor of what follows its rows."""
    parents, children = family_of()
    parts = parts_of()
    for each in (parents, children):
        each.to_metadata(parts.metadata)
    place = at(parts.metadata)
    place.write(lambda s: s.execute(insert(parts).values(id=1, kind="glass", weight=1)))
    place.write(lambda s: s.execute(insert(parents).values(id=1, code="a")))
    place.write(lambda s: s.execute(insert(children).values(id=1, code="a", parent_id=1)))
    with place.engine.connect() as connection:
        reflected = [Table(name, MetaData(), autoload_with=connection) for name in ("parts", "parents")]

    def weights(session: Session, kind: str) -> list[int]:
        return list(session.scalars(select(parts.c.weight).where(parts.c.kind == kind)))

    one, other = reflected
    place.agrees(weights, lambda s: s.execute(update(one).where(one.c.id == 1).values(weight=2)), "glass")
    place.agrees(rows_of(children), lambda s: s.execute(delete(other)))


# ---- tags by hand


def test_a_condition_can_be_declared(at):
    """`parts?kind={kind}` was taken for a row whose key is the kind."""
    parts = parts_of(Integer)
    place = at(parts.metadata)
    place.write(
        lambda s: s.execute(insert(parts), [{"id": 7, "kind": 1, "weight": 1}, {"id": 8, "kind": 2, "weight": 1}])
    )

    @place.cache.query(tags=only("parts?kind={kind}"))
    def weights(session: Session, kind: int) -> list[int]:
        return list(session.scalars(select(parts.c.weight).where(parts.c.kind == kind)))

    assert [place.call(weights, 1), place.call(weights, 1)] == [[1], [1]]
    place.write(lambda s: s.execute(update(parts).where(parts.c.id == 8).values(weight=2)))
    assert place.call(weights, 1) == [1]
    place.write(lambda s: s.execute(update(parts).where(parts.c.id == 7).values(weight=2)))
    assert place.call(weights, 1) == [2]
    assert place.cache.stats().hits == 2


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("parts?weight={kind}", "'weight' has no tags of its own"),
        ("parts?kind={kind},{kind}", "one column and its value"),
        ("parts?{kind}", "one column and its value"),
        ("parts?kind=", "one column and its value"),
    ],
)
def test_a_condition_that_no_write_reaches_is_refused(at, tag, message):
    """When it is declared."""
    place = at(parts_of().metadata)

    with pytest.raises(UnknownTag, match=message):

        @place.cache.query(tags=tag)
        def weights(session: Session, kind: str) -> list[int]:
            raise AssertionError


# ---- commits of which SQLAlchemy does not know


def undone(*statements: str) -> Callable[[Session], None]:
    """SQL for the driver, and a rollback that comes too late."""

    def write(session: Session) -> None:
        for each in statements:
            session.connection().exec_driver_sql(each)
        session.rollback()

    return write


@pytest.mark.parametrize(
    "statement",
    ["COMMIT; UPDATE parts SET weight = 2", "UPDATE parts SET weight = 2; COMMIT", "END; DELETE FROM parts"],
)
def test_a_commit_among_several_statements_is_announced_with_all_of_them(at, pg_url, statement):
    """Nothing was marked, or what was marked was forgotten with the rollback."""
    parts = parts_of()
    place = at(parts.metadata, url=pg_url)
    place.write(lambda s: s.execute(insert(parts).values(id=1, kind="glass", weight=1)))

    place.agrees(rows_of(parts), undone(statement))


MANY = "INSERT INTO parts (weight) SELECT seq FROM seq_1_to_100000 RETURNING id, repeat('x', 200)"


@pytest.mark.parametrize("server", ["sqlite", "mariadb_databases"])
def test_a_statement_that_commits_when_its_rows_are_read_is_not_over_before(at, tmp_path, request, server):
    """In AUTOCOMMIT, RETURNING: what was loaded until then was kept as if it were what the statement had written."""
    url = f"sqlite:///{tmp_path}/parts.db" if server == "sqlite" else request.getfixturevalue(server)()
    parts = parts_of(String(20))
    place = at(parts.metadata, url=url, **({} if server == "sqlite" else {"isolation_level": "READ COMMITTED"}))
    if server == "sqlite":
        place.sql("PRAGMA journal_mode = WAL")
    place.write(lambda s: s.execute(insert(parts).values(id=1, weight=1)))

    @place.cache.query()
    def total(session: Session) -> int:
        return int(session.scalar(select(func.sum(parts.c.weight))) or 0)

    with place.engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT", stream_results=True)
        changes = update(parts).values(weight=2).returning(parts.c.id) if server == "sqlite" else text(MANY)
        result = connection.execute(changes)
        assert place.call(total) == 1
        result.all()

    assert place.call(total) == place.call(lambda session: int(session.scalar(select(func.sum(parts.c.weight)))))
    assert place.call(total) > 1


def test_a_savepoint_by_hand_that_opens_a_transaction_in_sqlite_commits_nothing(at):
    """Its RELEASE was the commit, and nobody heard of it. Now there is a transaction around it."""
    parts = parts_of()
    place = at(parts.metadata)

    place.write(undone("SAVEPOINT a", "INSERT INTO parts (id, kind) VALUES (1, 'glass')", "RELEASE a"))

    assert place.call(rows_of(parts)) == []


def committed_by_the_driver(parts: Table) -> Callable[[Session], None]:
    def write(session: Session) -> None:
        session.execute(insert(parts).values(id=1, kind="glass", weight=1))
        session.rollback()

    return write


def test_a_driver_that_commits_by_itself_is_noticed_in_sqlite(at, tmp_path):
    """`connect_args={"isolation_level": None}` without a BEGIN of one's own."""
    parts = parts_of()
    url = f"sqlite:///{tmp_path / 'auto.sqlite3'}"
    place = at(parts.metadata, url=url, connect_args={"isolation_level": None})

    place.agrees(rows_of(parts), committed_by_the_driver(parts))


def test_a_driver_that_commits_by_itself_is_noticed_in_postgresql(at, pg_url):
    """`connect_args={"autocommit": True}`."""
    parts = parts_of()
    place = at(parts.metadata, url=pg_url, connect_args={"autocommit": True})

    place.agrees(rows_of(parts), committed_by_the_driver(parts))


def test_a_driver_that_commits_by_itself_is_noticed_in_mariadb(at, mariadb_databases):
    """The same of PyMySQL."""
    parts = parts_of(String(20))
    place = at(parts.metadata, url=mariadb_databases(), connect_args={"autocommit": True})

    place.agrees(rows_of(parts), committed_by_the_driver(parts))


# ---- sessions that nobody passed


class Base(DeclarativeBase):
    pass


class Lorry(Base):
    __tablename__ = "lorries"
    id: Mapped[int] = mapped_column(primary_key=True)
    plate: Mapped[str]


@pytest.mark.parametrize("tags", [(), only(Lorry)])
def test_what_a_session_of_the_whole_process_holds_is_returned_and_not_kept(at, tmp_path, tags):
    """It was kept under the versions of the new row, for everybody."""
    place = at(Base.metadata, url=f"sqlite:///{tmp_path / 'lorries.sqlite3'}")
    place.write(lambda s: s.add(Lorry(id=1, plate="old")))
    everywhere = scoped_session(sessionmaker(place.engine))

    @place.cache.query(tags=tags)
    def plate_of(lorry_id: int) -> str:
        return everywhere.scalars(select(Lorry).where(Lorry.id == lorry_id)).one().plate

    held = everywhere.get(Lorry, 1)
    assert held is not None
    place.write(lambda s: s.execute(update(Lorry).values(plate="new")))

    with pytest.warns(RuntimeWarning, match="is not among its arguments"):
        assert plate_of(1) == "old", "SQLAlchemy gives it back as it was"
    everywhere.remove()
    assert [plate_of(1), plate_of(1)] == ["new", "new"]
    assert place.cache.stats().unkept == {Reason.IDENTITY_MAP: 1}
    everywhere.remove()


class Shelf(DeclarativeBase):
    pass


class Book(Shelf):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    pages: Mapped[int]


class Note(Shelf):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def shelves(tmp_path) -> Iterator[tuple[Cache, dict[str, Any]]]:
    """Three databases, in which the book has 0, 1 and 2 pages, and a cache that watches all of them."""
    engines = {name: create_engine(f"sqlite:///{tmp_path}/{name}.db") for name in ("main", "north", "south")}
    cache = Cache("shelves")
    cache.connect("memory://")
    for pages, engine in enumerate(engines.values()):
        Shelf.metadata.create_all(engine)
        cache.watch(engine, Shelf.metadata)
        with Session(engine) as session:
            session.add(Book(id=1, pages=pages))
            session.commit()
    yield cache, engines
    cache.close()
    for engine in engines.values():
        engine.dispose()


@pytest.mark.parametrize("tags", [(), (Note,), only(Book)])
def test_where_a_session_that_chooses_its_engine_reads_is_a_part_of_the_key(shelves, tags):
    """One tenant got the rows of another, because both sessions chose the same engine for nothing in particular."""
    cache, engines = shelves

    class Routed(Session):
        def __init__(self, tenant: str) -> None:
            super().__init__()
            self.tenant = tenant

        def get_bind(self, mapper: Any = None, **others: Any) -> Any:
            return engines["main"] if mapper is None else engines[self.tenant]

    @cache.query(tags=tags)
    def pages(session: Session) -> list[int]:
        return list(session.scalars(select(Book.pages)))

    found = []
    for tenant in ("north", "south") * 2:
        with Routed(tenant) as session:
            found.append(pages(session))

    assert found == [[1], [2], [1], [2]]
    assert cache.stats_of(pages).hits == 2


def test_what_a_session_reads_where_it_does_not_say_is_not_kept(shelves):
    """Its `get_bind` looks at the statement, say."""
    cache, engines = shelves

    class Routed(Session):
        tenant = "main"

        def get_bind(self, mapper: Any = None, *, clause: Any = None, **others: Any) -> Any:
            return engines[self.tenant if getattr(clause, "is_select", False) else "main"]

    @cache.query()
    def pages(session: Session) -> list[int]:
        return list(session.scalars(select(Book.pages)))

    found = []
    with suppress_not_kept():
        for tenant in ("north", "south") * 2:
            with Routed() as session:
                session.tenant = tenant
                found.append(pages(session))

    assert found == [[1], [2], [1], [2]]
    assert cache.stats_of(pages).unkept == {Reason.NOT_WATCHED: 4}


def test_a_session_of_shards_is_answered_by_its_databases(shelves):
    """It raised an AssertionError into the call: such a session has no engine for nothing in particular."""
    cache, engines = shelves
    session = ShardedSession(
        shards=engines,
        shard_chooser=lambda mapper, instance, clause=None: instance.shard,
        identity_chooser=lambda *its, **others: list(engines),
        execute_chooser=lambda context: list(engines),
    )

    @cache.query()
    def pages(session: Session) -> list[int]:
        return sorted(session.scalars(select(Book.pages)))

    with session:
        assert [pages(session), pages(session)] == [[0, 1, 2], [0, 1, 2]]
        assert "cannot say which that is" in str(cache.explain(pages, session))
    assert cache.stats_of(pages).bypasses == {Reason.NOT_WATCHED: 2}


def test_tags_that_add_leave_all_engines_of_a_session_in_the_key(shelves):
    """Only those of the tags were, and what the statements read besides came from the other session's engine."""
    cache, engines = shelves

    @cache.query(tags=Note)
    def pages(session: Session) -> list[int]:
        return list(session.scalars(select(Book.pages)))

    found = []
    for place in ("north", "south"):
        with Session(binds={Note: engines["main"], Book: engines[place]}) as session:
            found.append(pages(session))

    assert found == [[1], [2]]


def test_what_get_many_finds_is_what_its_caller_depends_on(at, tmp_path):
    """It told nobody that it had asked, so that the caller's result outlived every change of the rows."""

    class Base(DeclarativeBase):
        pass

    class Part(Base):
        __tablename__ = "parts"
        id: Mapped[int] = mapped_column(primary_key=True)
        weight: Mapped[int]

    place = at(Base.metadata, url=f"sqlite:///{tmp_path}/parts.db")
    place.write(lambda s: s.add_all([Part(id=1, weight=1), Part(id=2, weight=2)]))

    def weights(session: Session) -> list[int]:
        found = place.cache.get_many(session, Part, [1, 2])
        return [each.weight for each in found.values()]

    place.call(weights)  # from here on they are hits: of the store first, then of the process
    place.agrees(weights, lambda s: s.execute(update(Part).where(Part.id == 2).values(weight=3)))
    place.call(weights)
    place.agrees(weights, lambda s: s.execute(update(Part).where(Part.id == 1).values(weight=4)))


def test_what_a_function_with_a_timeout_loads_is_what_its_caller_depends_on(at, tmp_path):
    """It is loaded in another thread, whose statements the caller's load does not see."""
    parts = parts_of()
    place = at(parts.metadata, url=f"sqlite:///{tmp_path}/parts.db")
    place.write(lambda s: s.execute(insert(parts).values(id=1, weight=1)))

    @place.cache.query(hard_timeout=60)
    def weight(session: Session) -> int:
        return session.scalars(select(parts.c.weight)).one()

    def twice(session: Session) -> int:
        return 2 * weight(session) + 0 * len(session.execute(select(literal(1))).all())

    place.agrees(twice, lambda s: s.execute(update(parts).values(weight=2)))


def test_a_session_that_a_function_opens_holds_nothing_before(at, tmp_path):
    """Its second statement finds what its first has loaded, and that is kept."""
    place = at(Base.metadata, url=f"sqlite:///{tmp_path / 'lorries.sqlite3'}")
    place.write(lambda s: s.add(Lorry(id=1, plate="old")))

    def plates(session: Session) -> list[str]:
        with Session(place.engine) as own:
            return [each.plate for _ in range(2) for each in own.scalars(select(Lorry))]

    place.agrees(plates, lambda s: s.execute(update(Lorry).values(plate="new")))


# ---- what nobody says that it reads


def is_kept(place: Place, read: Callable[..., Any], *args: Any) -> bool:
    cached = place.cache.query()(read)
    with suppress_not_kept():
        place.call(cached, *args)
        place.call(cached, *args)
    return place.cache.stats_of(cached).hits == 1


@contextmanager
def suppress_not_kept() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotCached)
        yield


def test_a_function_of_ones_own_with_a_known_name_is_not_known(at, pg_url):
    """TOTAL is an aggregate of SQLite; in PostgreSQL it is whatever somebody has made."""
    parts = parts_of()
    place = at(parts.metadata, url=pg_url)
    place.sql(
        "CREATE FUNCTION total(k text) RETURNS bigint LANGUAGE sql STABLE"
        " AS 'SELECT coalesce(sum(weight), 0) FROM parts WHERE kind = k'",
        "CREATE FUNCTION len(k text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT length(k)'",
    )

    def total_of(session: Session, kind: str) -> int | None:
        return session.scalar(select(func.total(kind, type_=Integer)).select_from(parts))

    def length_of(session: Session, kind: str) -> int | None:
        return session.scalar(select(func.max(func.len(kind, type_=Integer))).select_from(parts))

    assert not is_kept(place, total_of, "glass")
    assert is_kept(place, length_of, "glass")


@pytest.mark.parametrize("server", ["pg_url", "mariadb_databases"])
@pytest.mark.parametrize("way", ["core", "text"])
def test_a_table_inside_of_a_with_of_its_name_is_read(at, request, server, way):
    """`WITH parts AS (SELECT … FROM parts)` was taken to read nothing."""
    found = request.getfixturevalue(server)
    parts = parts_of(String(20))
    place = at(parts.metadata, url=found if server == "pg_url" else found(), isolation_level="READ COMMITTED")
    place.write(lambda s: s.execute(insert(parts).values(id=1, kind="glass", weight=1)))
    heavy = select(parts).where(parts.c.kind == "glass").cte("parts")
    by_hand = text("WITH parts AS (SELECT * FROM parts WHERE kind = 'glass') SELECT weight FROM parts")

    def weights(session: Session) -> list[int]:
        return list(session.scalars(select(heavy.c.weight) if way == "core" else by_hand))

    place.agrees(weights, lambda s: s.execute(update(parts).values(weight=2)))


@pytest.mark.parametrize("way", ["array", "index"])
def test_a_subquery_in_the_brackets_of_an_array_is_read(at, pg_url, way):
    """What stood between brackets was taken for a name."""
    parts = parts_of()
    place = at(parts.metadata, url=pg_url)
    place.write(lambda s: s.execute(insert(parts).values(id=1, weight=1)))
    heaviest = select(func.max(parts.c.weight)).scalar_subquery()
    array = postgresql.array([heaviest, literal(5)])

    def found(session: Session) -> Any:
        return session.scalar(select(array if way == "array" else postgresql.array([4, 5, 6])[heaviest]))

    place.agrees(found, lambda s: s.execute(update(parts).values(weight=2)))


def test_a_class_of_two_tables_that_is_joined_is_not_read_as_a_subquery_of_it_says(at):
    """Of people, only those of department 1 were taken to be read, since the subquery is about these."""

    class Base(DeclarativeBase):
        pass

    class Team(Base):
        __tablename__ = "teams"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Person(Base):
        __tablename__ = "people"
        __cache_tags__ = ("department",)
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        department: Mapped[int]
        team_id: Mapped[int] = mapped_column(ForeignKey("teams.id"))
        __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    class Driver(Person):
        __tablename__ = "drivers"
        id: Mapped[int] = mapped_column(ForeignKey("people.id"), primary_key=True)
        __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_identity": "driver"}

    class Trip(Base):
        __tablename__ = "trips"
        id: Mapped[int] = mapped_column(primary_key=True)
        driver_id: Mapped[int]

    place = at(Base.metadata)
    place.write(lambda s: s.add_all([Team(id=1), Team(id=2)]))
    place.write(lambda s: s.add(Driver(id=1, department=2, team_id=1)))

    def teams(session: Session) -> list[int]:
        away = exists().where(Trip.driver_id == Driver.id, Driver.department == 1)
        return list(session.scalars(select(Team.id).join(Driver, Driver.team_id == Team.id).where(~away)))

    place.agrees(teams, lambda s: setattr(s.get_one(Person, 1), "team_id", 2))


def test_a_table_after_in_is_read(at):
    """SQLite knows `id IN picks`, without a SELECT."""
    parts = parts_of()
    picks = Table("picks", parts.metadata, Column("id", Integer, primary_key=True))
    place = at(parts.metadata)
    place.write(lambda s: s.execute(insert(parts).values(id=1, weight=1)))

    def weights(session: Session) -> list[int]:
        return list(session.scalars(text("SELECT weight FROM parts WHERE id IN picks")))

    place.agrees(weights, lambda s: s.execute(insert(picks).values(id=1)))


def test_a_comment_that_mariadb_executes_reads_and_writes(at, mariadb_databases):
    """What stood in it was nothing."""
    parts = parts_of(String(20))
    place = at(parts.metadata, url=mariadb_databases(), isolation_level="READ COMMITTED")
    place.write(lambda s: s.execute(insert(parts).values(id=1, weight=1)))

    def weight(session: Session) -> int | None:
        return session.scalar(text("SELECT 0 /*!50000 + (SELECT sum(weight) FROM parts) */"))

    place.agrees(weight, lambda s: s.execute(text("/*!50000 UPDATE parts SET weight = 2 */")))
    place.agrees(weight, lambda s: s.execute(update(parts).values(weight=3)))


def test_a_virtual_table_reads_more_than_itself(at):
    """An index of full texts has the texts themselves from another table."""
    parts = parts_of()
    place = at(parts.metadata, "CREATE VIRTUAL TABLE texts USING fts5(kind, content='parts', content_rowid='id')")

    def kinds(session: Session) -> list[str]:
        return [row.kind for row in session.execute(select(column("kind")).select_from(table("texts")))]

    assert not is_kept(place, kinds)


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        (text("day >= 'today'"), False),
        (text("day >= date ' Yesterday '"), False),
        (text("day >= timestamp 'today 08:00'"), False),
        (text("day >= CAST(:day AS timestamp)").bindparams(day="8:30 pm tomorrow"), False),
        (text("kind = 'today we sort'"), True),
        (column("day", Date) >= literal("tomorrow", Date), False),
        (column("day", Date) >= cast("now", Date), False),
        (column("day", Date) >= cast(literal("today", String), Date), False),
        (text("day >= CAST(:day AS date)").bindparams(day="today"), False),
        (column("day", Date) >= literal("2020-01-01", Date), True),
        (column("kind") == "today", True),
    ],
)
def test_a_text_that_postgresql_reads_as_the_time_of_the_call_is_not_kept(at, pg_url, condition, kept):
    """It changes by itself."""
    days = Table("days", MetaData(), Column("day", Date, primary_key=True), Column("kind", String))
    place = at(days.metadata, url=pg_url)

    def count(session: Session) -> int | None:
        return session.scalar(select(func.count()).select_from(days).where(condition))

    assert is_kept(place, count) is kept


@pytest.mark.parametrize(("given", "kept"), [("now", False), ("2020-01-01", True)])
def test_a_parameter_of_sql_for_the_driver_may_be_the_time_of_the_call(at, given, kept):
    """It has no bind of SQLAlchemy's, and was not looked at."""
    parts = parts_of()
    place = at(parts.metadata)

    def found(session: Session) -> list[Any]:
        rows = session.connection().exec_driver_sql("SELECT count(*), date(?) FROM parts", (given,))
        return [tuple(row) for row in rows]

    assert is_kept(place, found) is kept
