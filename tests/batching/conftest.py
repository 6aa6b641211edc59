"""A database with one model of each kind, and the statements that are sent to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, event

from perfkit.loading.batch import uninstall
from tests.batching.models import fill


@pytest.fixture
def engine(tmp_path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path}/loading.sqlite3")
    fill(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def sent(engine) -> list[str]:
    """The statements so far; to be cleared by who counts."""
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    return statements


@pytest.fixture(autouse=True)
def _hooks_are_taken_away() -> Iterator[None]:
    yield
    uninstall()
