"""Which statements are known to leave everything as it is, and to read what was there."""

from __future__ import annotations

import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.dialects import postgresql

from perfkit.sqla.written import reads_only
from tests.batching.models import Bin, Tag

READS = [
    select(Bin).where(Bin.kilos > func.abs(3)),
    select(func.count()).select_from(Bin),
    text("SELECT kilos FROM bins -- UPDATE"),
]
MAY_WRITE = [
    update(Bin).values(kilos=1),
    insert(Tag).values(name="x"),
    select(update(Bin).values(kilos=1).returning(Bin.id).cte()),
    select(func.my_function(Bin.id)),
    select(func.nextval("numbers")),
    select(Bin).with_for_update(),
    text("UPDATE bins SET kilos = 1"),
    text("WITH gone AS (DELETE FROM bins RETURNING id) SELECT * FROM gone"),
    text("SELECT my_function()"),
]


@pytest.mark.parametrize("statement", READS, ids=str)
def test_what_only_reads_keeps_what_was_read_ahead(statement):
    """Also a function whose value follows from its arguments."""
    compiled = statement.compile(dialect=postgresql.dialect())
    assert reads_only(compiled, str(compiled), "sqlite")


@pytest.mark.parametrize("statement", MAY_WRITE, ids=str)
def test_what_may_write_or_locks_does_not(statement):
    """A locking read sees what others have committed meanwhile; nobody knows what a function does."""
    compiled = statement.compile(dialect=postgresql.dialect())
    assert not reads_only(compiled, str(compiled), "sqlite")
    assert not reads_only(None, str(compiled), "sqlite")
