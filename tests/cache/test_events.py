"""`cache.listen`: what becomes of each call, as it does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from perfkit.cache import CacheEvent, Reason
from tests.cache.test_dependencies import Counting
from tests.cache.test_entities import Fleet, Truck


@pytest.fixture
def fleet(tmp_path) -> Iterator[Fleet]:
    """With a store that is asked as a server is."""
    fleet = Fleet(tmp_path / "fleet.db", Counting())
    yield fleet
    fleet.close()


def test_each_call_is_told_with_what_it_took(fleet):
    """In the order of the calls, until that is ended."""
    told: list[CacheEvent] = []

    @fleet.cache.query()
    def trucks(session: Session) -> list[int]:
        return list(session.scalars(select(Truck.id)))

    end = fleet.cache.listen(told.append)
    for _ in range(2):
        with fleet.session() as session:
            trucks(session)
    with fleet.session() as session:
        fleet.cache.get_many(session, Truck, [1, 2])
    with fleet.session() as session:
        session.get_one(Truck, 1).plate = "X"
        session.flush()
        trucks(session)
    end()
    with fleet.session() as session:
        trucks(session)

    assert [(each.function.rpartition(".")[2], each.outcome, each.reason) for each in told] == [
        ("trucks", "fill", None),
        ("trucks", "hit", None),
        ("get", "fill", None),
        ("get", "fill", None),
        ("trucks", "bypass", Reason.OWN_WRITES),
    ]
    assert (told[0].load_s or 0) > 0
    assert told[4].load_s is None


def test_hits_that_ask_nobody_are_counted_only(tmp_path):
    """They have no time for more."""
    fleet = Fleet(tmp_path / "fleet.db")
    told: list[str] = []

    @fleet.cache.query()
    def count(session: Session) -> int:
        return session.scalar(select(func.count()).select_from(Truck)) or 0

    fleet.cache.listen(lambda event: told.append(event.outcome))
    for _ in range(3):
        with fleet.session() as session:
            count(session)
    assert (told, fleet.cache.stats().hits) == (["fill"], 2)
    fleet.close()


def test_what_a_listener_raises_reaches_nobody(fleet, caplog):
    """It is logged once, and the others are told."""
    told: list[str] = []

    @fleet.cache.query(tags="trucks")
    def count(session: Session) -> int:
        return session.scalar(select(func.count()).select_from(Truck)) or 0

    fleet.cache.listen(lambda event: 1 / 0)
    fleet.cache.listen(lambda event: told.append(event.outcome))
    for _ in range(3):
        with fleet.session() as session:
            assert count(session) == 6

    assert told == ["fill", "hit", "hit"]
    assert caplog.text.count("a listener to cache events failed") == 1
