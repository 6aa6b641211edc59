"""A server that says who it is as it should, and answers all else with what nobody can make sense of."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from perfkit.cache.redis import RedisStore
from perfkit.errors import StoreDown
from perfkit.waiting import run_now
from perfkit.wire.addresses import Address
from perfkit.wire.cluster import owners_in
from perfkit.wire.wires import open_wires

CELL, KEY, WRITER = b"t:t:{bins}:bins", b"t:v:key", b"w" * 12
WHO = b"role:master\r\nmaster_replid:" + b"0" * 40
ANSWERS = {
    "less than nothing": b"*-5\r\n",
    "a map whose key is a list": b"%1\r\n*1\r\n:1\r\n:2\r\n",
    "a set of lists": b"~1\r\n*0\r\n",
    "lists a thousand deep": b"*1\r\n" * 1000 + b":1\r\n",
    "lists without an end": b"*1\r\n" * 100_000,
    "a list of lists": b"*2\r\n*0\r\n*0\r\n",
    "a refusal in a list": b"*1\r\n-ERR\r\n",
    "more than was asked for": b"*3\r\n$-1\r\n$-1\r\n$-1\r\n",
    "nothing": b"$-1\r\n",
    "a text": b"+maybe\r\n",
    "another number": b":7\r\n",
    "an unknown script": b"-NOSCRIPT no\r\n",
    "elsewhere, without saying where": b"-MOVED\r\n",
    "elsewhere, at port 99999999": b"-MOVED 1 127.0.0.1:99999999\r\n",
}


async def mark_on_its_way(store: RedisStore) -> None:
    """As a writer does in "committed"."""
    heard = await store.post_mark([CELL], WRITER, 1000)
    assert heard is not None
    await heard()


ASKED: dict[str, Callable[[RedisStore], Coroutine[Any, Any, Any]]] = {
    "read": lambda store: store.read([KEY, CELL]),
    "ensure": lambda store: store.ensure([CELL, KEY]),
    "put": lambda store: store.put(KEY, b"entry", 1000),
    "mark": lambda store: store.mark([CELL], WRITER, 1000),
    "mark, heard later": mark_on_its_way,
    "bump": lambda store: store.bump([CELL], WRITER),
}


class Liar:
    """Answers INFO, and what opens a connection, as it should; and all else with `answer`."""

    def __init__(self) -> None:
        self.answer = b""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._talk, args=(self._listening.accept()[0],), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while asked := connection.recv(65536):
                said = b"+OK\r\n" * asked.count(b"SETINFO")
                said += b"$%d\r\n%s\r\n" % (len(WHO), WHO) if b"INFO\r\n$11\r\nreplication" in asked else b""
                connection.sendall(said + (self.answer if KEY in asked or CELL in asked or b"SLOTS" in asked else b""))


def ask(url: str, what: Callable[[RedisStore], Coroutine[Any, Any, Any]], *, suspends: bool) -> Any:
    """What a store at `url` makes of the answer."""
    wires = open_wires(url)

    async def asked() -> Any:
        try:
            return await what(RedisStore(wires.suspending, cell_ttl_ms=1000))
        finally:
            await wires.aclose()

    try:
        return asyncio.run(asked()) if suspends else run_now(what(RedisStore(wires.blocking, cell_ttl_ms=1000)))
    finally:
        wires.close()


@pytest.fixture
def liar() -> Iterator[Liar]:
    server = Liar()
    yield server
    server.close()


@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_that_makes_no_sense_is_none(liar, answer, asked, suspends):
    """No exception of a parser in anybody's request, and no mark that passes for set."""
    liar.answer = ANSWERS[answer]

    with pytest.raises(StoreDown):
        ask(f"redis://{liar.place}", ASKED[asked], suspends=suspends)


@pytest.mark.parametrize("answer", [each for each in ANSWERS if each not in ("another number", "nothing")])
def test_what_was_dropped_is_a_number(liar, answer):
    """Who empties a cache by hand hears of a store that is down, too."""
    liar.answer = ANSWERS[answer]

    with pytest.raises(StoreDown):
        ask(f"redis://{liar.place}", lambda store: store.drop([KEY]), suspends=False)


@pytest.mark.parametrize(
    "slots",
    [
        [[0, 10**12, [b"127.0.0.1", 6379]]],
        [[-16_384, 3, [b"127.0.0.1", 6379]]],
        [[3, 2, [b"127.0.0.1", 6379]]],
        [[0, 1, [b"\xff", 6379]]],
        [[0, 1, [b"127.0.0.1", {}]]],
        [[None, 1, [b"127.0.0.1", 6379]]],
        {b"a": 1},
        7,
    ],
)
def test_a_map_of_slots_that_makes_no_sense_is_none(slots):
    """Nor does it make us a list of a million million servers."""
    with pytest.raises(StoreDown):
        owners_in(slots, Address("127.0.0.1", 6379))


@pytest.mark.parametrize("suspends", [False, True])
def test_a_server_of_a_cluster_at_a_port_that_is_none_is_down(liar, suspends):
    """The operating system has an error of its own for that."""
    liar.answer = b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:99999999\r\n"

    with pytest.raises(StoreDown):
        ask(f"redis+cluster://{liar.place}", ASKED["read"], suspends=suspends)
