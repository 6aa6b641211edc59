"""What a statement reads, from what SQLAlchemy renders and from SQL that people wrote."""

from __future__ import annotations

import sys

import pytest
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    String,
    Table,
    and_,
    exists,
    func,
    literal_column,
    or_,
    select,
    text,
    union,
)
from sqlalchemy.dialects import postgresql, sqlite

from perfkit.sqla import handwritten
from perfkit.sqla.naming import named_in
from perfkit.sqla.reads import Use, reads_of

metadata = MetaData()
bins = Table(
    "bins", metadata, Column("id", Integer, primary_key=True), Column("org_id", Integer), Column("kind", String)
)
orgs = Table("orgs", metadata, Column("id", Integer, primary_key=True), Column("name", String))

POSTGRESQL, SQLITE = postgresql.dialect(), sqlite.dialect()


def read(statement, dialect=POSTGRESQL):
    compiled = statement.compile(dialect=dialect)
    return reads_of(compiled, compiled.string, dialect.name)


@pytest.mark.parametrize(
    ("sql", "relations"),
    [
        ("SELECT a FROM x", {"x": 1}),
        ("SELECT a FROM s.x AS x, y JOIN z ON x.id = y.id", {"x": 1, "y": 1, "z": 1}),
        ('SELECT a FROM "My Table" LEFT OUTER JOIN `other` ON 1 = 1', {"My Table": 1, "other": 1}),
        ("SELECT (SELECT max(b) FROM y) FROM x WHERE EXISTS (SELECT 1 FROM x AS x_1)", {"x": 2, "y": 1}),
        ("WITH c AS (SELECT a FROM x) SELECT * FROM c, y", {"x": 1, "y": 1}),
        ("WITH RECURSIVE c(a) AS (SELECT a FROM x UNION ALL SELECT c.a FROM c) SELECT a FROM c", {"x": 1}),
        ("SELECT a FROM x UNION SELECT a FROM y INTERSECT SELECT a FROM z", {"x": 1, "y": 1, "z": 1}),
        ("SELECT EXTRACT(year FROM x.born) FROM x", {"x": 1}),
        ("SELECT a IS DISTINCT FROM b FROM x", {"x": 1}),
        ("SELECT a FROM (SELECT a FROM x, y) AS s, z", {"x": 1, "y": 1, "z": 1}),
        ("SELECT a FROM ((x JOIN y ON 1 = 1) JOIN z ON 1 = 1)", {"x": 1, "y": 1, "z": 1}),
        ("SELECT a FROM x, LATERAL (SELECT b FROM y) AS l", {"x": 1, "y": 1}),
        ("SELECT 'a FROM hidden' FROM x", {"x": 1}),
        ("SELECT a FROM generate_series(%(a)s, %(b)s) AS g, x", {"x": 1}),
        (
            "SELECT trim(both ' ' FROM x.name), substring(x.name FROM 2) FROM x WHERE a IN (SELECT b FROM y)",
            {"x": 1, "y": 1},
        ),
        ("SELECT ARRAY[(SELECT max(a) FROM x), 1], y.b[(SELECT min(a) FROM z)] FROM y", {"x": 1, "y": 1, "z": 1}),
        ("WITH x AS (SELECT a FROM s.x) SELECT a FROM x", {"x": 1}),
        ("SELECT a IN y FROM x WHERE a NOT IN s.z AND a IN (1, 2)", {"x": 1, "y": 1, "z": 1}),
        ("SELECT position(a IN b), match(a) AGAINST ('c' IN BOOLEAN MODE) FROM x", {"x": 1}),
    ],
)
def test_every_relation_is_named_as_often_as_it_is_used(sql, relations):
    """Wherever in the text it stands."""
    assert dict(named_in(sql).relations) == relations


def test_a_name_that_with_defines_may_be_a_table_inside_of_it():
    """Only where it is read under that name."""
    named = named_in("WITH x AS (SELECT a FROM x), y AS (SELECT 1) SELECT a FROM x")

    assert (dict(named.relations), named.shadowed) == ({}, {"x"})


@pytest.mark.parametrize(
    ("sql", "functions"),
    [
        ("SELECT count(*), lower(x.a) FROM x", {"COUNT", "LOWER"}),
        ("SELECT CAST(a AS VARCHAR(20)), a::numeric(10, 2) FROM x WHERE a IN (1, 2) AND EXISTS (SELECT 1)", set()),
        ('SELECT "Secret"(a) FROM x', {"SECRET"}),
        ("SELECT a FROM s.peek(%(a)s) AS p(a, b)", {"PEEK"}),
    ],
)
def test_what_is_called_is_told_from_what_only_looks_so(sql, functions):
    """Types, lists and aliases have parentheses, too."""
    assert {name for name in named_in(sql).functions if name not in ("VARCHAR", "NUMERIC")} == functions


@pytest.mark.parametrize(
    ("sql", "locks"),
    [("SELECT a FROM x FOR UPDATE", True), ("SELECT a FROM x FOR NO KEY UPDATE", True), ("SELECT a FROM x", False)],
)
def test_locks_are_seen(sql, locks):
    """A kept result would not take them."""
    assert named_in(sql).locks is locks


@pytest.mark.parametrize(
    ("where", "pinned"),
    [
        (bins.c.id == 1, {"id"}),
        (and_(bins.c.org_id == 1, bins.c.kind == "glass"), {"org_id", "kind"}),
        (bins.c.id.in_([1, 2]), {"id"}),
        (or_(bins.c.id == 1, bins.c.org_id == 2), set()),
        (bins.c.id > 1, set()),
        (~(bins.c.id == 1), set()),
        (func.abs(bins.c.id) == 1, set()),
        (bins.c.id == orgs.c.id, set()),
        (and_(bins.c.org_id == orgs.c.id, orgs.c.id == 3), {"org_id"}),
    ],
)
def test_only_what_every_row_fulfils_pins_it(where, pinned):
    """An OR, a NOT, an expression or another table does not, unless that one is pinned itself."""
    uses = {use.table: {column for column, _ in use.pins} for use in read(select(bins.c.id).where(where)).uses}
    assert uses["bins"] == pinned


def test_a_second_use_of_a_table_has_pins_of_its_own():
    """Or the entry would depend on the rows of one use only."""
    other = bins.alias()
    uses = read(select(bins.c.id, other.c.id).where(bins.c.id == 1)).uses
    assert sorted(len(use.pins) for use in uses) == [0, 1]


@pytest.mark.parametrize(
    "statement",
    [
        select(bins.c.id).where(bins.c.org_id == 1, exists().where(orgs.c.id == bins.c.org_id)),
        select(bins.c.id).where(bins.c.org_id == 1, ~exists().where(orgs.c.id == bins.c.id, bins.c.kind == "paper")),
        select(select(func.count(orgs.c.id)).where(orgs.c.id == bins.c.id).scalar_subquery()).where(bins.c.org_id == 1),
    ],
)
def test_what_an_inner_statement_correlates_is_no_use_of_its_own(statement):
    """The outer one reads it, and has pinned it: a condition that only a subquery has does not."""
    pinned = {use.table: [column for column, _ in use.pins] for use in read(statement).uses}
    assert pinned["bins"] == ["org_id"]


def test_a_use_that_is_met_again_and_read_again_pins_nothing():
    """The second part of a UNION reads other rows by the same name."""
    parts = [select(bins.c.id).where(bins.c.org_id == each) for each in (1, 2)]
    assert read(union(*parts)).uses == (Use("bins"),)


def test_a_join_in_parentheses_is_read_where_it_stands():
    """Not where a subquery correlates it, under conditions of that subquery alone."""
    kinds = Table("kinds", metadata, Column("id", Integer, primary_key=True), extend_existing=True)
    joined = kinds.join(bins.join(orgs, orgs.c.id == bins.c.org_id), kinds.c.id == bins.c.id)
    other = bins.alias()
    without = ~exists().where(other.c.id == orgs.c.id, orgs.c.name == "a", bins.c.org_id == 1)

    uses = read(select(kinds.c.id).select_from(joined).where(without)).uses

    assert {use.table for use in uses if use.pins} == set()


def test_pins_that_do_not_account_for_every_use_do_not_count():
    """Literal SQL reads the table a second time, and no structure says which rows."""
    hidden = literal_column("(SELECT count(*) FROM bins)")
    assert read(select(hidden).where(bins.c.id == 1)).uses == (Use("bins"),)


def test_an_outer_join_pins_nothing_by_its_own_condition():
    """Rows that do not fulfil it are there all the same."""
    joined = bins.outerjoin(orgs, and_(orgs.c.id == bins.c.org_id, bins.c.org_id == 1))
    assert all(
        use.pins == () for use in read(select(bins.c.id, orgs.c.id).select_from(joined)).uses if use.table == "bins"
    )


@pytest.mark.parametrize(
    ("column", "volatile"),
    [
        (func.now(), ("CURRENT_TIMESTAMP",)),
        (func.random(), ("RANDOM",)),
        (func.current_timestamp(), ("CURRENT_TIMESTAMP",)),
        (func.date("now"), ()),
        (func.strftime("%Y"), ("STRFTIME",)),
        (literal_column("current_user"), ("CURRENT_USER",)),
        (func.lower(bins.c.kind), ()),
    ],
)
def test_what_changes_by_itself_is_named(column, volatile):
    """With its name, for the warning."""
    assert read(select(column), SQLITE).volatile == volatile


@pytest.mark.parametrize("name", ["version", "uuid", "changes", "database", "user"])
@pytest.mark.parametrize("dialect", [SQLITE, POSTGRESQL])
def test_a_column_with_the_name_of_such_a_function_is_a_column(name, dialect):
    """A subquery gives it without its table, as when somebody counts what a list has."""
    named = Table("named", MetaData(), Column("id", Integer, primary_key=True), Column(name, Integer))
    inner = select(named).subquery()
    again = select(inner.c[name].label(name)).subquery()

    assert read(select(func.count()).select_from(again), dialect).volatile == ()


def test_now_as_a_parameter_is_the_time_of_the_call():
    """SQLite takes it as a text."""
    reads = read(select(func.date("now")), SQLITE)
    assert reads.is_of_now([{"date_1": "now"}])
    assert not reads.is_of_now([{"date_1": "2026-01-01"}])


def test_a_function_that_nobody_knows_is_named():
    """It may read any table."""
    assert read(select(func.my_sum(bins.c.id))).calls == ("MY_SUM",)


@pytest.mark.parametrize(
    ("sql", "dialect", "relations"),
    [
        ("SELECT sum(litres) FROM bins b WHERE b.org_id = :org", "sqlite", {"bins"}),
        ("SELECT 1 /* FROM hidden */ FROM bins -- FROM other\n", "postgresql", {"bins"}),
        ("SELECT $$ FROM hidden $$ FROM bins", "postgresql", {"bins"}),
        ("WITH c AS (SELECT * FROM orgs) SELECT * FROM c JOIN bins ON TRUE", "postgresql", {"orgs", "bins"}),
        ("SELECT 'it\\'s FROM hidden' FROM `bins` WHERE id = %s", "mysql", {"bins"}),
        ("SELECT data ? 'a' FROM bins WHERE id = $1", "postgresql", {"bins"}),
    ],
)
def test_sql_text_is_parsed(sql, dialect, relations):
    """Comments and quotes of every kind hide nothing, and nothing in them is taken for a table."""
    reads = reads_of(None, sql, dialect)
    assert not reads.unreadable
    assert {use.table for use in reads.uses} == relations


@pytest.mark.parametrize(
    "sql",
    ["SELECT FROM WHERE", "SELECT 1; SELECT * FROM bins", "CALL tidy()", "EXPLAIN SELECT * FROM bins", ""],
)
def test_sql_text_that_is_not_one_query_is_refused(sql):
    """With a sentence that says so."""
    assert "its SQL text" in reads_of(None, sql, "postgresql").unreadable


def test_without_the_parser_sql_text_is_not_understood(monkeypatch):
    """And the sentence names the extra."""
    monkeypatch.setitem(sys.modules, "sqlglot", None)
    handwritten.named_by_hand.cache_clear()
    compiled = text("SELECT * FROM bins").compile(dialect=POSTGRESQL)
    assert "perfkit[sql]" in reads_of(compiled, compiled.string, "postgresql").unreadable
    handwritten.named_by_hand.cache_clear()
