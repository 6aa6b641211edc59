"""A Redis that dies, hangs, comes back empty or comes back from the past: answers stay right."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from perfkit.cache import Reason
from tests.real.conftest import OwnRedis, Shop


@pytest.fixture
def shop(pg_url: str, own_redis: OwnRedis) -> Iterator[Shop]:
    shop = Shop(pg_url, own_redis.url)
    shop.write("old")
    assert shop.read() == shop.read() == "old"
    assert shop.loads == 1
    yield shop
    shop.close()


def until(true: Callable[[], Any]) -> None:
    """Ask again and again; the breaker's pauses end by themselves."""
    for _ in range(2_000_000):
        if true():
            return
    raise AssertionError("it never came")


def test_a_killed_server_costs_nobody_an_answer(shop, own_redis):
    """Reads come from the database; a write goes on, and is told when the server is back, before anything is served."""
    own_redis.kill()

    assert shop.read() == "old"
    shop.write("new")
    assert shop.read() == "new"
    assert shop.cache.stats().unbumped_commits == 1

    own_redis.start()
    until(lambda: shop.read() == "new" and shop.cache.stats().hits > 1)
    assert shop.read() == "new"


def test_a_server_that_comes_back_from_an_old_snapshot_serves_nothing_of_it(shop, own_redis):
    """Old entries return together with old cells; the server's new life tells them apart."""
    with own_redis.client() as client:
        client.save()
    shop.write("new")
    assert shop.read() == "new"

    own_redis.kill()
    own_redis.start()

    with own_redis.client() as client:
        assert client.dbsize() > 0, "the snapshot was not loaded"
    until(lambda: shop.read() == "new" and shop.cache.stats().hits > 1)


def test_a_server_that_hangs_costs_one_time_out(pg_url, own_redis):
    """Then nobody asks it for a while."""
    shop = Shop(pg_url, own_redis.url)
    shop.write("old")
    shop.read()
    own_redis.process.send_signal(signal.SIGSTOP)
    try:
        for _ in range(50):
            assert shop.read() == "old"
    finally:
        own_redis.process.send_signal(signal.SIGCONT)

    assert set(shop.cache.stats().unkept) == {Reason.STORE_DOWN}
    hits = shop.cache.stats().hits
    until(lambda: shop.read() == "old" and shop.cache.stats().hits > hits)
    shop.close()


def test_an_emptied_server_is_filled_again(shop, own_redis):
    """FLUSHALL at any moment."""
    with own_redis.client() as client:
        client.flushall()

    assert shop.read() == shop.read() == "old"
    assert shop.loads == 2


def test_a_server_that_is_full_refuses_and_nobody_notices(shop, own_redis):
    """OOM is a refusal like others."""
    with own_redis.client() as client:
        client.config_set("maxmemory", "1")
        client.config_set("maxmemory-policy", "noeviction")

    assert shop.read() == "old"
    shop.write("new")
    assert shop.read() == "new"
    assert shop.cache.stats().unmarked_commits == 1


def test_a_right_that_is_missing_is_a_bypass(pg_url, own_redis):
    """NOPERM."""
    with own_redis.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "on", "nopass", "~*", "+@all", "-mget")

    shop = Shop(pg_url, own_redis.url)
    shop.write("old")

    assert shop.read() == "old"
    assert shop.cache.stats().unkept == {Reason.STORE_DOWN: 1}
    shop.close()


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"\x00" * 100, b"\x93\x01\x00", b"\xdd\xff\xff\xff\xff", b"\xc1", b"\x94\x01\xc4\x01x\x90\x90", b"[1, 2]"],
)
def test_rubbish_in_an_entry_is_a_miss(shop, own_redis, rubbish):
    """Whoever wrote it."""
    with own_redis.client() as client:
        (key,) = client.keys("real:v:*")
        client.set(key, rubbish)

    assert shop.read() == "old"
    assert shop.loads == 2


def test_an_entry_with_a_forged_payload_is_a_miss(shop, own_redis):
    """Its versions are right, its payload is not ours."""
    import msgpack

    with own_redis.client() as client:
        (key,) = client.keys("real:v:*")
        form, _, versions, tags = msgpack.unpackb(client.get(key))
        client.set(key, msgpack.packb([form, b"\xff\xffrubbish", versions, tags]))

    assert shop.read() == "old"
    assert shop.cache.stats().odd == {Reason.UNREADABLE: 1}
