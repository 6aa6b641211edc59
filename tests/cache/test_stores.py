"""What every store must do, in memory and on real servers, blocking and in asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
import redis

from perfkit.cache import MemoryStore
from perfkit.cache.cells import CLEAN, DIRTY, new_writer
from perfkit.cache.redis import RedisStore
from perfkit.cache.store import Store
from perfkit.errors import StoreDown
from perfkit.waiting import run_now
from perfkit.wire import answers
from perfkit.wire.answers import Command
from perfkit.wire.wires import open_wires

T = TypeVar("T")
CELL, OTHER, KEY = b"t:t:{bins}:bins", b"t:t:{bins}:bins#1", b"t:v:key"
HOLD_MS = 60_000
LONG_S = 30
on_servers = pytest.mark.parametrize("store_url", ["redis", "valkey"], indirect=True)


class Asked:
    """A store, and how to wait for it."""

    def __init__(self, store: Store, wait: Callable[[Awaitable[Any]], Any], raw: Any) -> None:
        self.store, self._wait, self.raw = store, wait, raw

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)
        return lambda *args: self._wait(method(*args))


def raw_client(url: str) -> Any:
    if "+cluster" not in url:
        return redis.Redis.from_url(url)
    return redis.RedisCluster.from_url(url.replace("+cluster", "").partition(",")[0])


@pytest.fixture(params=["blocking", "asyncio"])
def asked(request: pytest.FixtureRequest, store_url: str) -> Iterator[Asked]:
    if store_url == "memory://":
        yield Asked(MemoryStore(), run_now, None)
        return
    raw = raw_client(store_url)
    wires = open_wires(store_url, timeout_s=10)
    if request.param == "blocking":
        yield Asked(RedisStore(wires.blocking, cell_ttl_ms=HOLD_MS, hold_ms=HOLD_MS), run_now, raw)
        wires.close()
    else:
        with asyncio.Runner() as runner:
            yield Asked(RedisStore(wires.suspending, cell_ttl_ms=HOLD_MS, hold_ms=HOLD_MS), runner.run, raw)
            runner.run(wires.aclose())
    raw.close()


def cell(asked: Asked, key: bytes = CELL) -> bytes | None:
    return asked.read([key]).values[0]


def test_an_entry_is_read_back_in_the_order_of_the_question(asked):
    """None where there is nothing."""
    asked.put(KEY, b"entry", HOLD_MS)

    assert asked.read([b"t:v:none", KEY]).values == [None, b"entry"]


def test_an_entry_can_be_dropped(asked):
    """And how many there were is told."""
    asked.put(KEY, b"entry", HOLD_MS)

    assert (asked.drop([KEY, b"t:v:none"]), asked.drop([KEY])) == (1, 0)


def test_ensure_makes_a_version_once(asked):
    """Missing cells get one; the others keep theirs."""
    first = asked.ensure([CELL])
    again = asked.ensure([CELL, OTHER])

    assert first.values[0].startswith(CLEAN)
    assert again.values[0] == first.values[0] != again.values[1]
    assert {*first.epochs} == {*again.epochs}


def test_a_mark_is_no_version_and_a_bump_is_another_one(asked):
    """The life of a cell."""
    before = asked.ensure([CELL]).values[0]
    writer = new_writer()

    asked.mark([CELL], writer, HOLD_MS)
    during = cell(asked)
    asked.bump([CELL], writer)
    after = cell(asked)

    assert during.startswith(DIRTY)
    assert asked.ensure([CELL]).values == [after]
    assert after.startswith(CLEAN)
    assert after != before


def test_a_cell_stays_dirty_for_the_other_writer(asked):
    """The first to finish does not declare the other's change published."""
    one, other = new_writer(), new_writer()
    asked.mark([CELL], one, HOLD_MS)
    asked.mark([CELL], other, HOLD_MS)

    asked.bump([CELL], one)
    assert cell(asked).startswith(DIRTY)

    asked.bump([CELL], other)
    assert cell(asked).startswith(CLEAN)


def test_marking_twice_is_marking_once(asked):
    """A command whose answer was lost is sent again."""
    writer = new_writer()
    asked.mark([CELL], writer, HOLD_MS)
    asked.mark([CELL], writer, HOLD_MS)

    asked.bump([CELL], writer)

    assert cell(asked).startswith(CLEAN)


with_server = pytest.mark.parametrize("store_url", ["redis", "valkey", "cluster"], indirect=True)


@with_server
def test_what_comes_after_a_posted_bump_finds_it_done(asked):
    """Nobody waited for its answer, and nobody takes it for the answer to something else."""
    writer = new_writer()
    asked.ensure([OTHER])
    asked.mark([CELL], writer, HOLD_MS)

    asked.post_bump([CELL], writer)
    values = asked.read([CELL, OTHER, KEY]).values

    assert [value and value[:1] for value in values] == [CLEAN, CLEAN, None]


@with_server
def test_a_posted_bump_is_done_although_nobody_asks_for_more(asked):
    """It was sent, and not kept back for company."""
    asked.post_bump([CELL], new_writer())

    until = time.monotonic() + LONG_S
    while asked.raw.get(CELL) is None and time.monotonic() < until:
        pass
    assert asked.raw.get(CELL).startswith(CLEAN)


@on_servers
def test_a_posted_bump_that_is_refused_is_told_to_who_reads_the_log(asked, caplog):
    """And what comes after it gets its own answer."""
    asked.raw.lpush(CELL, "no cell")
    answers._told.clear()

    asked.post_bump([CELL], new_writer())
    seen = asked.ensure([OTHER])

    assert seen.values[0].startswith(CLEAN)
    assert "was refused" in caplog.text


@on_servers
def test_a_posted_bump_whose_connection_breaks_disturbs_nobody(asked):
    """Its mark runs out by itself."""
    asked.ensure([OTHER])
    asked.post_bump([CELL], new_writer())
    asked.raw.client_kill_filter(_type="normal", skipme=True)

    assert asked.read([OTHER]).values[0].startswith(CLEAN)


@on_servers
def test_connections_of_loops_that_have_ended_are_let_go(store_url):
    """A program that calls `asyncio.run` for each of its jobs runs out of sockets otherwise."""
    raw, wires = raw_client(store_url), open_wires(store_url, timeout_s=10)
    store = RedisStore(wires.suspending, cell_ttl_ms=HOLD_MS, hold_ms=HOLD_MS)
    before = len(raw.client_list())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # they were left open
        for _ in range(5):
            asyncio.run(store.read([KEY]))
        gc.collect()

        until = time.monotonic() + LONG_S
        while len(raw.client_list()) > before + 1 and time.monotonic() < until:
            pass
        assert len(raw.client_list()) <= before + 1
        del wires, store
        gc.collect()
    raw.close()


def test_a_bump_of_a_lost_mark_makes_a_version(asked):
    """Whatever became of the cell meanwhile."""
    asked.bump([CELL], new_writer())

    assert cell(asked).startswith(CLEAN)


def test_an_abandoned_mark_ends_at_its_deadline(asked):
    """It looks missing, and ensure gives it a version that nobody remembers."""
    before = asked.ensure([CELL]).values[0]
    asked.mark([CELL], new_writer(), 1)
    while cell(asked) is not None:
        pass

    after = asked.ensure([CELL]).values[0]

    assert after.startswith(CLEAN)
    assert after != before


def test_a_live_mark_survives_ensure_and_other_writers_marks(asked):
    """Only overdue ones are dropped."""
    asked.mark([CELL], new_writer(), HOLD_MS)
    asked.mark([CELL], new_writer(), 1)

    assert asked.ensure([CELL]).values[0].startswith(DIRTY)


@on_servers
def test_scripts_are_sent_again_when_the_server_forgot_them(asked):
    """SCRIPT FLUSH, or a restart."""
    asked.ensure([CELL])
    asked.raw.script_flush()

    assert asked.ensure([CELL]).values[0].startswith(CLEAN)


@on_servers
def test_a_dirty_cell_has_no_expiry_and_a_clean_one_has(asked):
    """An eviction policy may take what nobody waits on, and nothing else."""
    writer = new_writer()
    asked.mark([CELL], writer, HOLD_MS)
    during = asked.raw.pttl(CELL)
    asked.bump([CELL], writer)

    assert during == -1
    assert 0 < asked.raw.pttl(CELL) <= HOLD_MS


@on_servers
def test_a_key_of_another_type_is_a_refusal(asked):
    """And not an exception of Redis."""
    asked.raw.lpush(CELL, "x")

    with pytest.raises(StoreDown, match=r"WRONGTYPE|wrong kind"):
        asked.ensure([CELL])


@on_servers
@pytest.mark.parametrize("rubbish", [b"", b"d", b"dxxx", b"d" + b"x" * 25, b"d" + b"9" * 60, b"\xff" * 40])
def test_rubbish_in_a_cell_is_no_version(asked, rubbish):
    """It is made new, or left for nobody."""
    asked.raw.set(CELL, rubbish)

    asked.bump([CELL], new_writer())

    assert cell(asked) is None or cell(asked).startswith((CLEAN, DIRTY))
    assert asked.ensure([OTHER]).values[0].startswith(CLEAN)


def test_memory_is_bounded_in_bytes_and_keeps_what_was_read_last():
    """Least recently used first out."""
    store = MemoryStore(max_bytes=10 * 1300)
    for i in range(10):
        run_now(store.put(b"%d" % i, b"x" * 1000, HOLD_MS))
    run_now(store.read([b"0"]))
    run_now(store.put(b"new", b"x" * 1000, HOLD_MS))
    run_now(store.put(b"newer", b"x" * 1000, HOLD_MS))

    entries, size = store.size()
    assert (entries <= 10, size <= 13_000) == (True, True)
    assert run_now(store.read([b"0"])).values != [None]
    assert run_now(store.read([b"1"])).values == [None]


def test_memory_never_puts_out_a_dirty_cell():
    """Readers would take the change for published."""
    store = MemoryStore(max_cells=5)
    run_now(store.mark([CELL], new_writer(), HOLD_MS))
    for i in range(50):
        run_now(store.ensure([b"t:t:{bins}:bins#%d" % i]))

    assert run_now(store.read([CELL])).values[0].startswith(DIRTY)


@on_servers
def test_hiredis_reads_the_answers_where_it_is_installed(asked):
    """As it is here: a parser in C."""
    asked.read([KEY])

    nodes = asked.store._wire._node
    idle = nodes._idle if hasattr(nodes, "_idle") else [held for loop in nodes._loops.values() for held in loop.idle]
    assert [type(held.connection._parser).__name__ for held in idle] in (["_HiredisParser"], ["_AsyncHiredisParser"])


def test_an_entry_larger_than_memory_does_not_stay():
    """Nor does it throw an error."""
    store = MemoryStore(max_bytes=1000)
    run_now(store.put(b"big", b"x" * 5000, HOLD_MS))

    assert store.size() == (0, 0)


@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$abc\r\n", b"*1\r\n*1\r\n:1\r\n", b"$-1\r\n", b"\xff\xfe\r\n"]
)
def test_a_port_that_speaks_another_language_is_a_store_that_is_down(garbage):
    """A wrong port in a URL costs no reader an answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(garbage * 3)

        threading.Thread(target=answer, daemon=True).start()
        url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"

        with pytest.raises(StoreDown):
            run_now(open_wires(url).blocking.run(Command(b"", ("PING",))))
        with pytest.raises(StoreDown):
            asyncio.run(open_wires(url).suspending.run(Command(b"", ("PING",))))
