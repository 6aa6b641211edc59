"""What a window holds is bounded, and it says so when it has seen its fill."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session, joinedload, selectinload

from perfkit.loading import Kind, detect
from perfkit.sqla import executions, reading
from perfkit.trace import window as windows
from tests.loading.models import Base, Bin, Customer, fill

EAGER = select(Customer).options(selectinload(Customer.bins))
JOINED = select(Customer).options(joinedload(Customer.bins))


@pytest.fixture
def session():
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        fill(session)
        session.expunge_all()
        yield session
    engine.dispose()


def kinds(window):
    return [each.kind for each in window.findings]


def test_statements_after_the_last_one_that_is_looked_at_are_told_of(session, monkeypatch):
    """Silence would read as "nothing found"."""
    monkeypatch.setattr(windows, "MAX_EXECUTIONS", 3)
    with detect() as window:
        for number in (1, 2, 3, 4, 5):
            session.get(Customer, number)

    with pytest.warns(RuntimeWarning, match="does not look at later ones"):
        (finding,) = window.findings
    assert finding.statements == 3


def test_rows_of_one_statement_are_kept_up_to_a_number(session, monkeypatch):
    """Of a join with a million rows the first thousands tell enough."""
    monkeypatch.setattr(executions, "MAX_KEPT", 4)
    with detect() as window:
        session.scalars(JOINED).unique().all()

    (only,) = window._window.trace().queries
    assert (only.rows, len(only.kept)) == (12, 4)


def test_rows_of_a_window_are_kept_up_to_a_number(session, monkeypatch):
    """What later statements joined for nothing is not known, so nothing is said of them."""
    monkeypatch.setattr(windows, "MAX_ROWS", 12)
    with detect() as window:
        session.scalars(JOINED).unique().all()
        session.scalars(JOINED.where(Customer.id > 1)).unique().all()
        session.scalars(JOINED.where(Customer.id > 2)).unique().all()

    assert [len(each.kept or ()) for each in window._window.trace().queries] == [12, 0, 0]
    assert kinds(window) == [Kind.UNUSED_EAGER]


def test_a_fix_names_the_option_whose_columns_were_narrowed(session):
    """It was `defer(Customer.bins)`, because `load_only` says that of all other columns; profiles with fields, too."""
    with detect() as window:
        session.scalars(select(Customer).options(selectinload(Customer.bins).load_only(Bin.name))).all()

    assert [each.fix for each in window.findings] == [
        "select(Customer)  # without .options(selectinload(Customer.bins))"
    ]


def test_reads_are_forgotten_with_the_windows_that_wanted_them(session):
    """Windows that overlap all day never leave a moment in which none is open."""
    previous = detect()
    previous.__enter__()
    for _ in range(20):
        current = detect()
        current.__enter__()
        [customer.bins for customer in session.scalars(EAGER)]
        session.expunge_all()
        previous.__exit__(None, None, None)
        previous = current
        assert len(reading.reads()) <= 2
    previous.__exit__(None, None, None)


def test_after_too_many_reads_all_before_counts_as_read(session, monkeypatch):
    """And what comes after them is told apart again."""
    monkeypatch.setattr(reading, "MAX_READS", 3)
    with detect() as window:
        for _ in range(5):
            [customer.bins for customer in session.scalars(EAGER)]
            session.expunge_all()
        assert Kind.UNUSED_EAGER not in kinds(window)
        session.scalars(EAGER).all()

    assert Kind.UNUSED_EAGER in kinds(window)
