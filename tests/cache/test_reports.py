"""What processes leave in the store for `perfkit cache stats`."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, replace
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session

from perfkit import Cache, Policy
from perfkit.cache import FunctionStats, MemoryStore, Reason
from perfkit.cache.reports import Reports, added_up, packed, unpacked
from perfkit.errors import StoreDown, Unreadable
from perfkit.waiting import run_now
from tests.cache.conftest import Base, Bin
from tests.cache.test_dependencies import Counting

NUMBERS = {each.name: number for number, each in enumerate(fields(FunctionStats)) if each.type == "int"}
REASONS: dict[str, Any] = {"bypasses": {Reason.OFF: 3}, "unkept": {}, "odd": {Reason.UNREADABLE: 1}}
STATS = FunctionStats(name="shop.count", load_ms=2.0, saved_s=-1.5, **NUMBERS, **REASONS)


def test_what_was_said_is_read_again():
    """Every number, and the reasons by name."""
    assert unpacked(packed([STATS, replace(STATS, name="shop.names", load_ms=None)])) == [
        STATS,
        replace(STATS, name="shop.names", load_ms=None),
    ]


def test_processes_are_added_up():
    """Loads are weighed by how many there were."""
    other = replace(STATS, fills=3 * STATS.fills + 2 * STATS.refreshed, load_ms=4.0)

    (total,) = added_up([STATS, other]).values()

    assert total.hits == 2 * STATS.hits
    assert total.saved_s == -3.0
    assert total.bypasses == {Reason.OFF: 6}
    assert total.load_ms == 3.5


def test_a_process_that_found_all_it_asked_for_has_saved_what_others_know():
    """It has not loaded, so that for itself it has only what asking took; nobody is told to do without the cache."""
    nothing = dict.fromkeys(NUMBERS, 0)
    loaded = FunctionStats(name="shop.count", load_ms=10.0, saved_s=-0.001, **nothing | {"fills": 1}, **REASONS)
    found = replace(loaded, fills=0, hits=1_000, load_ms=None, saved_s=-0.1)

    (total,) = added_up([loaded, found]).values()

    assert found.advice == ""
    assert total.saved_s == pytest.approx(10.0 - 0.101)
    assert total.load_ms == 10.0


def test_a_reason_of_another_release_is_left_out():
    """Processes of two releases run side by side."""
    (told,) = json.loads(packed([STATS]))
    told["bypasses"]["A_NEW_ONE"] = 5

    assert unpacked(json.dumps([told]).encode()) == [STATS]


@given(
    st.sampled_from([*(each.name for each in fields(FunctionStats))]),
    st.one_of(
        st.none(),
        st.text(),
        st.floats(),
        st.integers(-5, -1),
        st.booleans(),
        st.lists(st.integers()),
        st.just({"OFF": -1}),
    ),
)
def test_what_is_of_the_wrong_kind_is_no_report(name: str, value: Any):
    """Each is read as it was said, or not at all: a table of these is shown to somebody."""
    (told,) = json.loads(packed([STATS]))
    told[name] = value

    try:
        (found,) = unpacked(json.dumps([told]).encode())
    except Unreadable:
        return
    assert isinstance(found.name, str)
    assert all(type(getattr(found, each)) is int and getattr(found, each) >= 0 for each in NUMBERS)
    assert found.load_ms is None or -inf < found.load_ms < inf
    assert -inf < found.saved_s < inf


@pytest.mark.parametrize("number", ["9" * 400, "-" + "9" * 4000, "9" * 5000, "1e999", "1.7e308", "NaN", "-Infinity"])
@pytest.mark.parametrize("name", ["load_ms", "saved_s"])
def test_a_number_that_cannot_be_added_is_no_report(name: str, number: str):
    """The sums of many are shown, and written as JSON, which has no infinity."""
    (told,) = json.loads(packed([STATS]))
    told[name] = 1.5
    raw = json.dumps([told]).replace(f'"{name}": 1.5', f'"{name}": {number}')

    with pytest.raises(Unreadable):
        unpacked(raw.encode())


def test_each_process_has_a_name_of_its_own(monkeypatch):
    """Also one that was forked from another which had one."""
    names: list[bytes] = []

    class Listed(MemoryStore):
        async def put(self, key: bytes, entry: bytes, ttl_ms: int) -> None:
            names.append(key)

    reports = Reports("shop")
    reports.begin(lambda: [STATS])
    for pid in (1, 1, 2):
        monkeypatch.setattr("os.getpid", lambda pid=pid: pid)
        run_now(reports.send(Listed()))

    first, again, child = names
    assert first == again != child
    assert all(name.startswith(b"shop:w:") for name in names)


def test_a_store_that_does_not_take_it_disturbs_nobody():
    """The call that brought it has its answer by then."""

    class Down(MemoryStore):
        async def put(self, key: bytes, entry: bytes, ttl_ms: int) -> None:
            raise StoreDown("down")

    reports = Reports("shop")
    reports.begin(lambda: [STATS])
    before = reports.due_s
    run_now(reports.send(Down()))

    assert reports.due_s >= before
    reports.leave()
    assert reports.due_s == inf


class Silent(Counting):
    """A server that hangs: each command costs who asks a time-out."""

    async def read(self, *rest: Any) -> Any:
        self.asked.append("read")
        raise StoreDown("no answer in time")

    async def put(self, *rest: Any) -> None:
        self.asked.append("put")
        raise StoreDown("no answer in time")


def test_who_has_waited_for_a_server_that_hangs_does_not_wait_again(tmp_path):
    """The next call that gets an answer reports."""
    store = Silent()
    engine = create_engine(f"sqlite:///{tmp_path / 'bins.db'}")
    Base.metadata.create_all(engine)
    cache = Cache("shop", Policy(mode="committed"))
    cache.connect(store)
    cache.watch(engine, Base.metadata)

    @cache.query(tags=Bin)
    def count(session: Session) -> int | None:
        return session.scalar(select(func.count()).select_from(Bin))

    reports = cache._runtime.reports
    reports.begin(lambda: [STATS])
    reports.due_s = 0.0
    with Session(engine) as session:
        assert count(session) == 0

    assert (store.asked, reports.due_s) == (["read"], 0.0)
    cache.close()
    engine.dispose()


FORKING = """
import os, sys
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session
from perfkit import Cache
from tests.cache.conftest import Base, Bin

engine = create_engine(sys.argv[1])
Base.metadata.create_all(engine)
cache = Cache("shop")
cache.connect()
cache.watch(engine, Base.metadata)

@cache.query(tags=Bin)
def count(session):
    return session.scalar(select(func.count()).select_from(Bin))

def call(times):
    for _ in range(times):
        with Session(engine) as session:
            count(session)

with Session(engine) as session:
    session.add(Bin(id=1, name="one"))
    session.commit()
call(10)
child = os.fork()
if not child:
    engine.dispose(close=False)
    call(2)
    stats = cache.stats()
    print(stats.calls, stats.hits, stats.marked_commits, stats.functions[0].saved_s < 1, flush=True)
    os._exit(0)
os.waitpid(child, 0)
stats = cache.stats()
print(stats.calls, stats.hits, stats.marked_commits)
"""


def test_a_process_counts_what_it_has_done_itself(tmp_path):
    """And not what its parent had done before it was forked, which each child would add to the totals."""
    told = subprocess.run(
        [sys.executable, "-c", FORKING, f"sqlite:///{tmp_path}/forks.db"],
        env={"PYTHONPATH": ":".join(sys.path)},
        timeout=60,
        check=True,
        capture_output=True,
        text=True,
    )

    assert told.stdout.split("\n")[:2] == ["2 2 0 True", "10 9 1"]
