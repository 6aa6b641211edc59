"""Rows that only the result can name: `tags=rows(Bin, …)`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from perfkit.cache import Reason, only, rows
from perfkit.errors import UnknownTag


class Fleet:
    """A team's bins, cached under the team and under the bins that were found; in a kit, sync and async."""

    def __init__(self, kit: Any) -> None:
        self.kit = kit
        self.loads = 0
        self.inside: Callable[[], None] = lambda: None
        tags = only("teams", rows(kit.Bin, lambda names: [int(key) for key in names]))

        @kit.cache.query(tags=tags)
        def names(session: Session, team_id: int) -> dict[str, str]:
            self.loads += 1
            found = session.execute(select(kit.Bin.id, kit.Bin.name).where(kit.Bin.team_id == team_id))
            result = {str(key): name for key, name in found}
            self.inside()
            return result

        @kit.cache.query(tags=tags)
        async def anames(session: AsyncSession, team_id: int) -> dict[str, str]:
            self.loads += 1
            found = await session.execute(select(kit.Bin.id, kit.Bin.name).where(kit.Bin.team_id == team_id))
            result = {str(key): name for key, name in found}
            self.inside()
            return result

        kit.sync["names"], kit.suspending["names"] = names, anames

        def setup(session: Session) -> None:
            session.add(kit.Team(id=7, name="seven"))
            session.flush()
            session.get_one(kit.Bin, 1).team_id = 7
            session.add(kit.Bin(id=3, name="three", team_id=7))

        kit.write(setup)


@pytest.fixture
def fleet(kit: Any) -> Fleet:
    return Fleet(kit)


def test_a_result_lives_until_one_of_its_rows_changes(fleet, calling):
    """A row that it does not depend on may change."""
    kit = fleet.kit
    assert calling(kit, "names", 7) == calling(kit, "names", 7) == {"1": "one", "3": "three"}
    assert fleet.loads == 1

    kit.rename(2, "another")
    assert calling(kit, "names", 7) == {"1": "one", "3": "three"}
    assert fleet.loads == 1

    kit.rename(3, "drei")
    assert calling(kit, "names", 7) == {"1": "one", "3": "drei"}
    assert calling(kit, "names", 7) == {"1": "one", "3": "drei"}
    assert fleet.loads == 2


def test_rows_changed_in_bulk_count(fleet, calling):
    """An UPDATE that does not say which rows it changes may have changed these."""
    kit = fleet.kit
    calling(kit, "names", 7)

    kit.write(lambda s: s.execute(update(kit.Bin).where(kit.Bin.kind == "glass").values(name="x")))

    assert calling(kit, "names", 7) == {"1": "x", "3": "x"}


def test_a_commit_between_the_load_and_the_naming_of_rows_is_noticed(fleet, calling):
    """The rows' cells are captured after the load, when the commit is already published; the guard has moved."""
    kit = fleet.kit

    def overtake() -> None:
        fleet.inside = lambda: None
        other = threading.Thread(target=kit.rename, args=(3, "drei"))
        other.start()
        other.join()

    fleet.inside = overtake

    assert calling(kit, "names", 7) == {"1": "one", "3": "three"}, "it was current when the call began"
    assert calling(kit, "names", 7) == {"1": "one", "3": "drei"}
    assert kit.cache.stats().unkept == {Reason.OVERTAKEN: 1}


def test_a_hit_whose_rows_are_other_ones_than_the_last_time_is_found_with_a_second_look(fleet, kit, calling):
    """Another process has stored it, and this one remembers an older list, or none."""
    calling(kit, "names", 7)
    declared = [each for each in kit.cache._declared if each.finder is not None]
    for each in declared:
        each.learner._met.clear()

    assert calling(kit, "names", 7) == {"1": "one", "3": "three"}
    assert fleet.loads == 1
    assert kit.cache.stats().hits == 1


def test_an_empty_result_depends_on_no_row(fleet, calling):
    """Only on its other tags."""
    kit = fleet.kit
    assert calling(kit, "names", 8) == calling(kit, "names", 8) == {}
    assert fleet.loads == 1

    kit.rename(1, "x")
    assert calling(kit, "names", 8) == {}
    assert fleet.loads == 1


def test_keys_that_a_write_could_spell_differently_mean_the_table(small):
    """A string for an integer key depends on more, never on less."""
    calls = 0

    @small.cache.query(tags=only(rows(small.Bin, lambda name: ["1"])))
    def name_of(session: Session) -> str | None:
        nonlocal calls
        calls += 1
        return session.execute(select(small.Bin.name).where(small.Bin.id == 1)).scalar_one_or_none()

    def read() -> str | None:
        with Session(small.engine) as session:
            return name_of(session)

    assert read() == read() == "one"
    small.rename(2, "x")
    assert (read(), calls) == ("one", 2)


def test_more_rows_than_a_mark_names_mean_the_table(small):
    """One cell instead of thousands."""

    @small.cache.query(tags=only(rows(small.Bin, lambda many: range(1000))))
    def many(session: Session) -> int:
        return 1

    with Session(small.engine) as session:
        many(session)
    declared = small.cache._declared[-1]
    (found,) = declared.learner._met.values()
    assert found.tags == (b"bins",)


def test_an_error_in_naming_the_rows_says_where(small):
    """It is the declaration that is wrong."""

    @small.cache.query(tags=rows(small.Bin, lambda nothing: nothing["ids"]))
    def nothing(session: Session) -> None:
        return None

    with Session(small.engine) as session, pytest.raises(TypeError) as caught:
        nothing(session)

    assert "rows(…) of" in caught.value.__notes__[0]


def test_something_that_is_no_table_is_refused_at_once():
    """Where it is written."""
    with pytest.raises(UnknownTag):
        rows(int, lambda value: [])


@pytest.mark.parametrize("tags", [(b"other#1",), (1,), tuple(b"bins#%d" % i for i in range(5000)), ((b"bins",),)])
def test_an_entry_that_bears_strange_tags_is_a_miss(small, tags):
    """It stands in the store, where anybody may have written it."""
    fleet = Fleet(small)
    with Session(small.engine) as session:
        small.sync["names"](session, 7)
        key = small.cache.key_of(small.sync["names"], session, 7).encode()
    store = small.cache._runtime.ports(suspending=False).store
    raw = msgpack.unpackb(store.read_now([key]).values[0], use_list=False)
    store._entries[key] = msgpack.packb((*raw[:3], (*raw[3][:2], *tags), *raw[4:])), float("inf")
    small.cache._runtime.near.clear()

    with Session(small.engine) as session:
        assert small.sync["names"](session, 7) == {"1": "one", "3": "three"}

    assert (fleet.loads, small.cache.stats().odd) == (2, {Reason.UNREADABLE: 1})
