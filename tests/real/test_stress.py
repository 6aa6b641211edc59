"""Five processes at once, of whom writers are killed after COMMIT: `benchmarks/stale.py`, for some seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.contenders import LEASE_S
from benchmarks.stale import MIXES, Count, one_run

OTHER_WAYS = [
    "perfkit, strict, validated",
    "perfkit, strict, 20 ms lease, writers wait",
    "perfkit, strict, entities",
    "perfkit, strict, several entities",
    "perfkit, strict, statements",
]


def stress(
    pg_url: str,
    redis_url: str,
    name: str,
    *,
    mix: str = "one hot row",
    seconds: float = 1.0,
    until: Callable[[Count], Any],
) -> Count:
    address = pg_url.replace("postgresql:", "postgresql+psycopg:")
    return one_run(address, redis_url, name, MIXES[mix], seconds, until)


def has_been_busy(so_far: Count) -> Any:
    return so_far.deaths and so_far.reads > 500 and so_far.commits > 20


@pytest.mark.parametrize("mix", MIXES)
def test_strict_has_no_stale_read(pg_url, redis_url, mix):
    """Of no kind, although writers were killed."""
    total = stress(pg_url, redis_url, "perfkit, strict", mix=mix, seconds=3.0, until=has_been_busy)

    assert (total.stale_visible, total.stale_acknowledged, total.left) == (0, 0, 0)


@pytest.mark.parametrize("name", OTHER_WAYS)
def test_strict_has_none_in_any_other_way_either(pg_url, redis_url, name):
    """Results in the process, by versions that are asked for or leases that writers wait for; entities; statements."""
    total = stress(pg_url, redis_url, name, until=has_been_busy)

    assert (total.stale_visible, total.stale_acknowledged, total.left) == (0, 0, 0)


def test_a_lease_is_stale_for_no_longer_than_it_lasts(pg_url, redis_url):
    """From when another process could see the newer number to when a read that got the older one began."""
    total = stress(pg_url, redis_url, "perfkit, 20 ms lease", until=lambda c: c.stale_visible and c.deaths)

    assert 0 < total.longest_us < LEASE_S * 1_000_000
    assert total.left == 0


def test_committed_has_no_acknowledged_stale_read(pg_url, redis_url):
    """Visible ones it may have: the mark is on its way while COMMIT is, and mostly there before it is visible."""
    total = stress(pg_url, redis_url, "perfkit, committed", until=has_been_busy)

    assert total.stale_acknowledged == 0


def test_the_checker_sees_what_deleting_after_the_commit_leaves_behind(pg_url, redis_url):
    """Otherwise it would find nothing anywhere."""
    name = "delete after commit, by hand"
    total = stress(pg_url, redis_url, name, until=lambda c: c.stale_visible and c.deaths)

    assert total.longest_us > 0
