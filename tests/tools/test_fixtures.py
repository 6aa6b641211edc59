"""What the fixtures of tools/services/fixtures.py promise to every other test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import psycopg
import pytest
import redis
from sqlalchemy import create_engine, text

REPOSITORY = Path(__file__).resolve().parents[2]
ON_A_BARE_SYSTEM = """
from pathlib import Path
import pytest
from tools.services import running
from tools.services.fixtures import SESSION

@pytest.fixture(scope="session")
def services(pytestconfig):
    with running(may_fetch=False, system=Path("/no/such/folder")) as session:
        pytestconfig.stash[SESSION] = session
        yield session

def test_on_each(redis_url):
    assert redis_url

def test_on_postgres(pg_url):
    assert pg_url
"""


@pytest.mark.parametrize("time", ["first", "second"])
def test_a_session_leaves_nothing_behind(pg_session, time):
    """A table that was made and committed is gone when the next test comes."""
    pg_session.execute(text("CREATE TABLE left_behind (id int)"))
    pg_session.commit()
    pg_session.rollback()

    assert pg_session.scalar(text("SELECT count(*) FROM left_behind")) == 0


@pytest.mark.parametrize("time", ["first", "second"])
async def test_an_async_session_leaves_nothing_behind(pg_async_session, time):
    """As the sync one."""
    await pg_async_session.execute(text("CREATE TABLE left_behind_too (id int)"))
    await pg_async_session.commit()
    await pg_async_session.rollback()

    assert await pg_async_session.scalar(text("SELECT count(*) FROM left_behind_too")) == 0


@pytest.mark.parametrize("time", ["first", "second"])
def test_a_database_of_ones_own_is_new_and_has_the_extensions(pg_url, time):
    """What the first test commits, the second does not see."""
    with psycopg.connect(pg_url) as connection:
        connection.execute("CREATE TABLE committed (id int)")
        connection.commit()
        found = connection.execute("SELECT extname FROM pg_extension").fetchall()
        metres = connection.execute("SELECT ST_Distance('POINT(0 0)'::geography, 'POINT(0 1)'::geography)").fetchone()

    assert {"postgis", "btree_gist", "pg_stat_statements"} <= {name for (name,) in found}
    assert metres is not None
    assert metres[0] == pytest.approx(110_574, abs=1)


@pytest.mark.parametrize("time", ["first", "second"])
def test_a_mariadb_of_ones_own_is_new_and_has_transactions(mariadb_url, time):
    """What the first test commits, the second does not see."""
    engine = create_engine(mariadb_url.replace("mariadb:", "mariadb+pymysql:"))
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE committed (id int)"))
        connection.execute(text("INSERT INTO committed VALUES (1)"))
        connection.rollback()
        found = connection.scalar(text("SELECT count(*) FROM committed"))
    engine.dispose()

    assert found == 0


@pytest.mark.parametrize("time", ["first", "second"])
def test_a_store_is_empty(redis_url, time):
    """Whatever the test before put there."""
    with redis.Redis.from_url(redis_url) as client:
        before = client.dbsize()
        client.set("left", "behind")

    assert before == 0


def test_redis_and_valkey_are_two_servers(services):
    """Or what runs on both would run on one twice."""
    urls = [services.redis_url, services.valkey_url]
    if None in urls:
        pytest.skip("needs both")
    names = []
    for url in urls:
        with redis.Redis.from_url(url) as client:
            names.append(client.info("server").get("server_name", "redis"))

    assert names == ["redis", "valkey"]


@pytest.mark.parametrize("processes", ["0", "2"])
def test_what_cannot_be_had_is_skipped_loudly(tmp_path, processes):
    """The summary says which server, how many tests, and what to do; also of what other processes went without."""
    told = pytest_on(tmp_path, "-n", processes)

    assert told.returncode == 0
    assert "1 passed, 2 skipped" in told.stdout
    assert "NO Redis: 1 tests did not run" in told.stdout
    assert "NO PostgreSQL with PostGIS: 1 tests did not run" in told.stdout
    assert "set PERFKIT_TEST_PG_URL=" in told.stdout


def test_a_skip_can_be_made_a_failure(tmp_path):
    """For a gate that must not be green without servers."""
    told = pytest_on(tmp_path, "--require-services")

    assert told.returncode == 1
    assert "1 passed, 2 errors" in told.stdout


@pytest.mark.parametrize("variable", ["PERFKIT_TEST_REDIS_URL", "PERFKIT_TEST_VALKEY_URL"])
def test_a_store_that_is_named_is_not_for_several_processes(tmp_path, variable):
    """One would empty it under the tests of another."""
    told = pytest_on(tmp_path, "-n", "2", environment={variable: "redis://127.0.0.1:6379/15"})

    assert told.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"that {variable} name" in told.stderr


def pytest_on(
    folder: Path, *options: str, environment: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess[str]:
    (folder / "test_services.py").write_text(ON_A_BARE_SYSTEM)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PERFKIT_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-p", "tools.services.fixtures", "--rootdir", str(folder)]
    return subprocess.run(
        [*command, *options, str(folder)],
        cwd=REPOSITORY,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
