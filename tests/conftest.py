"""Servers of Redis that are the tests' own: see tests/servers.py."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.servers import OwnCluster
from tools.services import Missing, Program, Running, Service, locate

collect_ignore = ["typing"]  # is read by type checkers and never run: looking for doctests would


@pytest.fixture(scope="session")
def redis_program(services: Any) -> Program:
    """The executable of a Redis or Valkey, to start servers of one's own with."""
    place = locate(Service.REDIS)
    return place if isinstance(place, Program) else _program_beside(place)


@pytest.fixture(scope="session")
def shared_cluster(redis_program: Program) -> Iterator[OwnCluster]:
    with tempfile.TemporaryDirectory(prefix="perfkit-cluster-") as folder:
        cluster = OwnCluster(redis_program, Path(folder))
        yield cluster
        cluster.kill()


@pytest.fixture
def cluster_url(shared_cluster: OwnCluster) -> str:
    """`redis+cluster://…` of an empty cluster, for tests that leave it whole."""
    shared_cluster.empty()
    return shared_cluster.url


def url_of(store: str, request: pytest.FixtureRequest) -> str:
    """The address of a `redis`, a `valkey` or a `cluster`, emptied; skips the test where there is none."""
    if store == "cluster":
        return str(request.getfixturevalue("cluster_url"))
    services: Running = request.getfixturevalue("services")
    url = services.redis_url if store == "redis" else services.valkey_url
    if url is None:
        pytest.skip(f"no {store}")
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


def _program_beside(place: Any) -> Program:
    """A server of our own, although the environment names one that is not ours to kill."""
    if isinstance(place, Missing):
        pytest.skip(str(place))
    variable = os.environ.pop(Service.VALKEY.variable, None)
    try:
        found = locate(Service.VALKEY)
    finally:
        if variable is not None:
            os.environ[Service.VALKEY.variable] = variable
    if not isinstance(found, Program):
        pytest.skip(str(found))
    return found
