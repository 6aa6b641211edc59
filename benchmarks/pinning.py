"""Cores: the client on one, the servers on the others, so that the scheduler decides no ratio.

A round trip over loopback takes several times as long when the server has to be woken on the client's own core, or on
one that sleeps; the floor and what is measured against it both grow by that, and their ratio shrinks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import redis


def pin(redis_url: str | None, postgres_url: str | None) -> Callable[[], None]:
    """This process to the first core that it may use, servers on this machine to the rest of them.

    Whoever is not ours to pin stays where it is, and that is said. Returns what lets this process go everywhere again.
    """
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        print("One core only: nothing is pinned.", file=sys.stderr)
        return lambda: None
    for name, process in (("Redis", _redis(redis_url)), ("PostgreSQL", _postmaster(postgres_url))):
        if process is None:
            continue
        try:
            for each in (process, *_children(process)):
                os.sched_setaffinity(each, others)
        except OSError as error:
            print(f"{name} is not pinned: {error}.", file=sys.stderr)
    os.sched_setaffinity(0, {first})
    return lambda: os.sched_setaffinity(0, {first, *others})


def _redis(url: str | None) -> int | None:
    if url is None:
        return None
    with redis.Redis.from_url(url) as client:
        return _if_here(int(client.info("server")["process_id"]), "redis", "valkey")


def _postmaster(url: str | None) -> int | None:
    if url is None:
        return None
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT pg_backend_pid()").fetchone()
        backend = _if_here(found[0] if found else 0, "postgres")
        return None if backend is None else _parent(backend)


def _if_here(process: int, *names: str) -> int | None:
    """`process`, if a process of this machine has this number and one of these names."""
    try:
        called = Path(f"/proc/{process}/comm").read_text()
    except OSError:
        return None
    return process if called.startswith(names) else None


def _parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def _children(process: int) -> list[int]:
    found: list[int] = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if _parent(int(each.name)) == process:
                found.append(int(each.name))
        except OSError:
            continue  # it has ended
    return found
