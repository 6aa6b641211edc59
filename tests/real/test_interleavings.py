"""Orders of events that go wrong elsewhere, forced on real servers through the public decorator."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from perfkit.cache import Reason
from perfkit.clock import SystemClock
from tests.conftest import url_of
from tests.real.conftest import Bin, Shops, cut_inside_commit, hang_commits
from tests.servers import until

LONG_S = 30
L1 = {"nothing held": {}, "validated": {"l1": "validate"}, "leased": {"l1": 0.02, "writer_waits": True}}


@pytest.fixture(params=L1.values(), ids=L1)
def held(request: pytest.FixtureRequest) -> dict[str, Any]:
    policy: dict[str, Any] = request.param
    return policy


@pytest.fixture(params=["redis", "valkey", "cluster"])
def store_url(request: pytest.FixtureRequest) -> str:
    return url_of(request.param, request)


@pytest.fixture
def service(pg_url: str, store_url: str, held: dict[str, Any]) -> Iterator[Shops]:
    with Shops(pg_url, store_url, **held) as made:
        yield made


def test_a_load_that_a_commit_overtakes_is_not_served_afterwards(service):
    """The stale fill: read the old row, be overtaken, keep it."""
    shop, other = service(), service()
    shop.write("old")
    shop.inside = lambda: other.write("new") if shop.loads == 1 else None

    assert shop.read() == "old"

    assert shop.read() == "new"
    assert other.read() == "new"


def test_a_read_between_commit_and_bump_gets_the_new_row(service):
    """Visible is visible, whether or not commit() has returned; and nothing is kept under the mark."""
    shop, writer = service(), service()
    writer.write("old")
    assert shop.read() == shop.read() == "old"
    committed, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        committed.set()
        go_on.wait(LONG_S)

    writer.store.before["bump"] = hold
    thread = threading.Thread(target=writer.write, args=("new",))
    thread.start()
    assert committed.wait(LONG_S)
    loads = shop.loads

    seen = [shop.read(), shop.read()]

    go_on.set()
    thread.join(LONG_S)
    assert seen == ["new", "new"]
    assert shop.loads == loads + 2
    assert shop.cache.stats().unkept[Reason.MARKED] == 2
    assert (shop.read(), shop.read(), shop.loads) == ("new", "new", loads + 3)


@pytest.mark.usefixtures("posting")
def test_until_a_posted_bump_arrives_readers_get_the_new_row(service):
    """commit() has returned before; nothing is kept meanwhile, and everything afterwards."""
    shop, writer = service(), service()
    writer.write("old")
    assert shop.read() == shop.read() == "old"
    writer.store.on_their_way = []

    writer.write("new")
    loads = shop.loads
    assert (shop.read(), writer.read(), shop.read()) == ("new", "new", "new")
    assert len(writer.store.on_their_way) == 1
    assert shop.loads == loads + 2

    writer.store.deliver()
    loads = shop.loads
    assert (shop.read(), shop.read()) == ("new", "new")
    assert shop.loads <= loads + 1


@pytest.mark.usefixtures("posting")
def test_posted_bumps_may_arrive_in_any_order_or_never(service):
    """Each takes back its own mark and no other."""
    shop, one, two = service(), service(), service()
    one.write("old")
    shop.read()
    one.store.on_their_way = []
    one.write("first")
    two.store.on_their_way = []
    two.write("second")

    two.store.deliver()
    loads = shop.loads
    assert (shop.read(), shop.read()) == ("second", "second")
    assert shop.loads == loads + 2, "the first has not arrived"

    one.store.deliver()
    assert (shop.read(), shop.read()) == ("second", "second")


@pytest.mark.usefixtures("posting")
def test_a_posted_bump_that_is_lost_costs_hits_until_its_mark_has_run_out(shops):
    """And no longer."""
    shop, writer = shops(), shops(mark_hold=1.0)
    writer.write("old")
    shop.read()
    writer.store.on_their_way = []
    writer.write("new")
    found: list[str | None] = []

    def is_kept() -> bool:
        found.append(shop.read())
        return shop.store.commands[-1] == "put"

    until(is_kept)
    assert set(found) == {"new"}


def test_a_read_between_mark_and_commit_gets_the_old_row_and_keeps_nothing(service):
    """It is the current one until then."""
    shop, writer = service(), service()
    writer.write("old")
    shop.read()
    seen: list[str | None] = []
    writer.store.before_commit = lambda: seen.append(shop.read())

    writer.write("new")

    assert (seen, shop.read()) == (["old"], "new")
    answered_by_a_lease = {} if "writer_waits" in service.policy else None
    assert shop.cache.stats().unkept in ({Reason.MARKED: 1}, answered_by_a_lease)


def test_the_first_of_two_writers_does_not_publish_for_the_second(service):
    """One cell, two marks."""
    shop, one, two = service(), service(), service()
    one.write("old")
    marked, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        marked.set()
        go_on.wait(LONG_S)

    # the second has marked and committed, and not bumped, when the first comes and goes
    two.store.before["bump"] = hold
    thread = threading.Thread(target=two.write, args=("second", 2))
    thread.start()
    assert marked.wait(LONG_S)
    one.write("first", 2)
    shop.read(2)
    loads = shop.loads
    shop.read(2)

    assert shop.loads == loads + 1, "kept under the second writer's mark"
    go_on.set()
    thread.join(LONG_S)
    assert shop.read(2) == "first"


KILLED = """
import os, signal, sys
sys.path[:0] = {path!r}
from tests.real.conftest import GatedStore, Shop
shop = Shop({database!r}, GatedStore({url!r}), mark_hold=1.0, **{policy!r})
shop.store.before["bump"] = lambda: os.kill(os.getpid(), signal.SIGKILL)
shop.write("new")
"""


def test_a_writer_killed_between_commit_and_bump_leaves_no_old_answer(service):
    """A process, and a real SIGKILL. Readers ask the database until the deadline, and keep again after it."""
    shop = service()
    shop.write("old")
    assert shop.read() == shop.read() == "old"

    program = KILLED.format(path=sys.path, database=service.database, url=service.url, policy=service.policy)
    ended = subprocess.run([sys.executable, "-c", program], cwd=Path.cwd(), timeout=LONG_S, check=False)

    assert ended.returncode == -signal.SIGKILL
    assert shop.read() == "new"
    while service.cell().startswith(b"d"):
        assert shop.read() == "new"
    assert shop.read() == "new"
    loads = shop.loads
    assert (shop.read(), shop.loads) == ("new", loads)


def test_a_connection_cut_inside_commit_leaves_the_mark(service, pg_url):
    """The outcome is not known, so nothing is published; the reader asks the database."""
    shop, writer = service(), service()
    writer.write("old")
    assert shop.read() == "old"
    with writer.engine.begin() as connection:
        hang_commits(connection)
    shop.read()

    failed = cut_inside_commit(writer, pg_url)

    assert len(failed) == 1
    assert service.cell().startswith(b"d")
    assert shop.read() == "old", "it was never committed"
    assert writer.cache.stats().unbumped_commits == 1


def test_a_commit_that_the_database_refuses_is_published(service, pg_url):
    """It is certain that nothing will ever be visible: the mark goes."""
    shop, writer = service(), service()
    writer.write("old")
    with writer.engine.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'no'; END $$; "
                "CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON bins DEFERRABLE INITIALLY DEFERRED "
                "FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        )

    with pytest.raises(DBAPIError):
        writer.write("new")

    assert shop.read() == "old"
    assert (shop.read(), shop.loads) == ("old", 1)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_snapshot_neither_gets_nor_gives(service, level):
    """Its past is its own."""
    shop, writer = service(), service()
    writer.write("old")
    with Session(shop.engine.execution_options(isolation_level=level)) as session:
        session.execute(select(Bin.id))
        writer.write("new")

        assert shop._name_of(session, 1) == "old"

    assert shop.read() == "new"
    assert shop.cache.stats().bypasses == {Reason.SNAPSHOT: 1}


def test_a_strict_commit_costs_one_round_trip_before_and_one_after(shops):
    """And a hit costs one."""
    shop = shops()
    shop.write("old")
    shop.read()
    shop.store.commands.clear()

    shop.read()
    assert shop.store.commands == ["read"]

    shop.write("new")
    sent = [each for each in shop.store.commands if each != "heard"]
    assert sent == ["read", "mark", "bump"]


def test_a_miss_costs_one_round_trip_before_the_load_and_one_after_it(shops):
    """One more where a cell is not there; and one, with nothing kept, beside a writer."""
    shop, writer = shops(), shops()
    writer.write("old")

    shop.read()
    assert shop.store.commands == ["read", "ensure", "put"], "`*` has no cell yet"

    shop.store.commands.clear()
    writer.write("new")
    shop.read()
    assert shop.store.commands == ["read", "put"]

    shop.store.commands.clear()
    writer.store.before_commit = lambda: shop.read()
    writer.write("newer")
    assert shop.store.commands == ["read"]


@pytest.mark.parametrize("minutes", [-600, -5, 5, 600])
def test_a_process_whose_clock_is_wrong_asks_the_server_whether_a_mark_has_run_out(shops, redis_url, minutes):
    """By its own clock an abandoned mark would end hours late, or hours early."""
    shop, writer = shops(), shops()
    writer.write("old")
    shop.store._real._clock = Skewed(minutes)
    shop.read()
    with redis.Redis.from_url(redis_url) as client:
        seconds, micros = client.time()
        live = b"d" + b"w" * 12 + b"%013d" % (seconds * 1000 + micros // 1000 + 60_000)
        client.set("real:t:{bins}:bins#1", live)
        assert [shop.read(), shop.read()] == ["old", "old"]
        assert client.get("real:t:{bins}:bins#1") == live, "not our clock's to end"

        client.set("real:t:{bins}:bins#1", b"d" + b"w" * 12 + b"%013d" % (seconds * 1000 - 1))
        loads = shop.loads
        shop.read()
        assert (shop.read(), shop.loads) == ("old", loads + 1)


class Skewed(SystemClock):
    def __init__(self, minutes: int) -> None:
        self._off_ms = minutes * 60_000

    def wall_ms(self) -> int:
        return super().wall_ms() + self._off_ms


def test_one_command_makes_any_number_of_entries_out_of_date(shops, redis_url):
    """Two thousand here; the benchmark does it with a hundred thousand."""
    shop = shops()
    calls = 0

    @shop.cache.query(tags="many:all")
    def one(number: int) -> int:
        nonlocal calls
        calls += 1
        return number

    for number in range(2000):
        one(number)
    for number in range(2000):
        one(number)
    assert calls == 2000
    with redis.Redis.from_url(redis_url) as client:
        client.config_resetstat()

        shop.cache.bump("many:all")

        statistics = client.info("commandstats")
    scripts = {name: each["calls"] for name, each in statistics.items() if name in ("cmdstat_evalsha", "cmdstat_eval")}
    assert sum(scripts.values()) <= 2  # the second, where the server had to be told the script
    for number in range(2000):
        one(number)
    assert calls == 4000
