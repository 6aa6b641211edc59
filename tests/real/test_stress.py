"""Five processes at once, of whom writers are killed after COMMIT: `benchmarks/stale.py`, for some seconds."""

from __future__ import annotations

import pytest

from benchmarks.contenders import LEASE_S
from benchmarks.stale import MIXES, Count, one_run


def stress(pg_url: str, redis_url: str, name: str, mix: str, seconds: float) -> Count:
    return one_run(pg_url.replace("postgresql:", "postgresql+psycopg:"), redis_url, name, MIXES[mix], seconds)


@pytest.mark.parametrize("mix", MIXES)
def test_strict_has_no_stale_read(pg_url, redis_url, mix):
    """Of no kind, although writers were killed."""
    total = Count()
    while not (total.deaths and total.reads > 500 and total.commits > 20):
        total.add(stress(pg_url, redis_url, "perfkit, strict", mix, 3.0))

    assert (total.stale_visible, total.stale_acknowledged, total.left) == (0, 0, 0)


@pytest.mark.parametrize(
    "name",
    [
        "perfkit, strict, validated",
        "perfkit, strict, 20 ms lease, writers wait",
        "perfkit, strict, entities",
        "perfkit, strict, several entities",
        "perfkit, strict, statements",
    ],
)
def test_strict_has_none_in_any_other_way_either(pg_url, redis_url, name):
    """Results in the process, by versions that are asked for or leases that writers wait for; entities; statements."""
    total = Count()
    while not (total.deaths and total.reads > 500 and total.commits > 20):
        total.add(stress(pg_url, redis_url, name, "one hot row", 3.0))

    assert (total.stale_visible, total.stale_acknowledged, total.left) == (0, 0, 0)


def test_a_lease_is_stale_for_no_longer_than_it_lasts(pg_url, redis_url):
    """From when another process could see the newer number to when a read that got the older one began."""
    total = Count()
    while not (total.stale_visible and total.deaths):
        total.add(stress(pg_url, redis_url, "perfkit, 20 ms lease", "one hot row", 2.0))

    assert 0 < total.longest_us < LEASE_S * 1_000_000
    assert total.left == 0


def test_committed_has_no_acknowledged_stale_read(pg_url, redis_url):
    """Visible ones it has, and the checker sees them."""
    total = Count()
    while not total.stale_visible:
        total.add(stress(pg_url, redis_url, "perfkit, committed", "one hot row", 2.0))

    assert total.stale_acknowledged == 0


def test_the_checker_sees_what_deleting_after_the_commit_leaves_behind(pg_url, redis_url):
    """Otherwise it would find nothing anywhere."""
    total = Count()
    while not (total.stale_visible and total.deaths):
        total.add(stress(pg_url, redis_url, "delete after commit, by hand", "one hot row", 2.0))

    assert total.longest_us > 0
