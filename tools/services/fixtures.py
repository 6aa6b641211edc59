"""pytest fixtures that hand out real servers, and a summary that is loud about those not to be had.

    pg_url              a database of one's own, made from a template with PostGIS; for tests that commit
    pg_session          a Session whose commits are savepoints and which leaves nothing behind
    pg_async_session    the same as AsyncSession
    redis_url           an empty database; the test runs on Redis and again on Valkey
    mariadb_url         a database of one's own on MariaDB
    services            what the above ask; for tests about servers themselves

Nothing is started before a test asks for it. A test that asks for what is not to be had is skipped,
or fails with `--require-services` (PERFKIT_REQUIRE_SERVICES=1).
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, LiteralString, NamedTuple, TypeVar

import psycopg
import pytest
import redis
from psycopg import sql
from sqlalchemy import URL, NullPool, create_engine, make_url
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from tools.services import Missing, Running, Service, Up, running
from tools.services.servers import EXTENSIONS

T = TypeVar("T")

SESSION = pytest.StashKey[Running]()
WENT_WITHOUT = pytest.StashKey[Counter[Service]]()
OF_WORKERS = pytest.StashKey[dict[Service, "Found"]]()
OUTPUT = "perfkit_services"
REQUIRE_VARIABLE = "PERFKIT_REQUIRE_SERVICES"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--require-services`."""
    parser.addoption(
        "--require-services",
        action="store_true",
        default=os.environ.get(REQUIRE_VARIABLE) == "1",
        help=f"fail where a server is missing instead of skipping (also {REQUIRE_VARIABLE}=1)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse several processes on one named store: each test begins by emptying it."""
    named = [each.variable for each in (Service.REDIS, Service.VALKEY) if each.variable in os.environ]
    if named and config.getoption("numprocesses", None):
        raise pytest.UsageError(
            f"-n {config.getoption('numprocesses')}: its processes would empty one store under each other's tests, "
            f"the one that {' and '.join(named)} name: unset it, so that each starts its own, or leave -n out"
        )


@pytest.fixture(scope="session")
def services(pytestconfig: pytest.Config) -> Iterator[Running]:
    """The servers of this session; each starts when it is asked for."""
    with running() as session:
        pytestconfig.stash[SESSION] = session
        yield session


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A server on which we may make databases, and the template to make them from."""

    url: str
    template: str

    def create(self, like: str = "") -> str:
        """The URL of a new database, without a driver's name; a copy of `like`, a URL to which nobody is connected."""
        name = f"perfkit_{uuid.uuid4().hex[:12]}"
        self.execute("CREATE DATABASE {} TEMPLATE {}", name, make_url(like).database or "" if like else self.template)
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        """Remove a database that `create` made, whoever is still connected to it."""
        self.execute("DROP DATABASE {} WITH (FORCE)", make_url(url).database or "")

    def execute(self, statement: LiteralString, *names: str) -> None:
        """Run one statement that cannot be in a transaction, with `names` quoted into it."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@pytest.fixture(scope="session")
def _postgres_server(services: Running, pytestconfig: pytest.Config) -> Iterator[PostgresServer | Missing]:
    answer = _ask(services, Service.POSTGRES, pytestconfig)
    if isinstance(answer, Missing):
        yield answer
        return
    template = f"perfkit_template_{uuid.uuid4().hex[:12]}"
    server = PostgresServer(answer.url, template)
    server.execute("CREATE DATABASE {}", template)
    inside = PostgresServer(make_url(answer.url).set(database=template).render_as_string(hide_password=False), template)
    for extension in EXTENSIONS:
        inside.execute("CREATE EXTENSION IF NOT EXISTS {}", extension)
    yield server
    server.execute("DROP DATABASE {}", template)


@pytest.fixture
def pg_server(_postgres_server: PostgresServer | Missing, request: pytest.FixtureRequest) -> PostgresServer:
    """The server itself, for tests that need several databases."""
    return _or_skip(_postgres_server, request)


@pytest.fixture(scope="session")
def pg_databases(_postgres_server: PostgresServer | Missing) -> Iterator[Callable[[], str]]:
    """Makes databases that stay until the end, for fixtures that outlive a test; each call gives a `pg_url`."""
    made: list[str] = []

    def make() -> str:
        if isinstance(_postgres_server, Missing):
            pytest.skip(str(_postgres_server))
        made.append(_postgres_server.create())
        return made[-1]

    yield make
    for url in made:
        assert isinstance(_postgres_server, PostgresServer)
        _postgres_server.drop(url)


@pytest.fixture
def pg_url(pg_server: PostgresServer) -> Iterator[str]:
    """`postgresql://…` of a new database with PostGIS, btree_gist and pg_stat_statements; dropped after the test."""
    url = pg_server.create()
    yield url
    pg_server.drop(url)


@pytest.fixture(scope="session")
def _shared_url(_postgres_server: PostgresServer | Missing) -> Iterator[URL | Missing]:
    if isinstance(_postgres_server, Missing):
        yield _postgres_server
        return
    url = _postgres_server.create()
    yield make_url(url).set(drivername="postgresql+psycopg")
    _postgres_server.drop(url)


@pytest.fixture
def pg_session(_shared_url: URL | Missing, request: pytest.FixtureRequest) -> Iterator[Session]:
    """A Session on a database that everybody shares: `commit()` ends a savepoint, and the test is rolled back."""
    engine = create_engine(_or_skip(_shared_url, request), poolclass=NullPool)
    with engine.connect() as connection, connection.begin() as whole_test:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            yield session
        whole_test.rollback()


@pytest.fixture
async def pg_async_session(_shared_url: URL | Missing, request: pytest.FixtureRequest) -> AsyncIterator[AsyncSession]:
    """`pg_session` as an AsyncSession."""
    engine = create_async_engine(_or_skip(_shared_url, request), poolclass=NullPool)
    async with engine.connect() as connection, connection.begin() as whole_test:
        async with AsyncSession(connection, join_transaction_mode="create_savepoint") as session:
            yield session
        await whole_test.rollback()


@pytest.fixture(params=[Service.REDIS, Service.VALKEY], ids=str)
def redis_url(services: Running, request: pytest.FixtureRequest) -> str:
    """`redis://…` of an empty database, once of a Redis and once of a Valkey."""
    up = _or_skip(_ask(services, request.param, request.config), request)
    with redis.Redis.from_url(up.url) as client:
        client.flushdb()
    return up.url


@pytest.fixture(scope="session")
def mariadb_databases(services: Running, pytestconfig: pytest.Config) -> Iterator[Callable[[], str]]:
    """`pg_databases` for MariaDB."""
    made: list[URL] = []

    def make() -> str:
        up = _ask(services, Service.MARIADB, pytestconfig)
        if isinstance(up, Missing):
            pytest.skip(str(up))
        url = make_url(up.url).set(drivername="mariadb+pymysql")
        made.append(url.set(database=f"perfkit_{uuid.uuid4().hex[:12]}"))
        _on_mariadb(url, f"CREATE DATABASE {made[-1].database}")
        return made[-1].set(drivername="mariadb").render_as_string(hide_password=False)

    yield make
    for url in made:
        _on_mariadb(url, f"DROP DATABASE {url.database}")


@pytest.fixture
def mariadb_url(mariadb_databases: Callable[[], str]) -> str:
    """`mariadb://…` of a new database, without a driver's name."""
    return mariadb_databases()


def _on_mariadb(url: URL, statement: str) -> None:
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)


def _ask(session: Running, service: Service, config: pytest.Config) -> Up | Missing:
    """The answer, with a download's progress on the terminal instead of in a captured report."""
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return session.ask(service)


def _or_skip(answer: T | Missing, request: pytest.FixtureRequest) -> T:
    """What was found. Without it the test ends here, as skipped or failed, and the summary counts it."""
    if not isinstance(answer, Missing):
        return answer
    _went_without(request.config)[answer.service] += 1
    if request.config.getoption("--require-services"):
        pytest.fail(str(answer), pytrace=False)
    pytest.skip(str(answer))


class Found(NamedTuple):
    """What the summary says of one service."""

    is_up: bool
    text: str


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a process of pytest-xdist: hand over what it ran on to the one that has the terminal."""
    config: Any = session.config
    if hasattr(config, "workeroutput"):
        found = {service.value: tuple(each) for service, each in _found(config).items()}
        went_without = {service.value: count for service, count in _went_without(config).items()}
        config.workeroutput[OUTPUT] = (found, went_without)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """In the one that has the terminal: take it. A process that crashed leaves nothing."""
    found, went_without = getattr(node, "workeroutput", {}).get(OUTPUT, ({}, {}))
    known = node.config.stash.setdefault(OF_WORKERS, {})
    for service, each in found.items():
        known.setdefault(Service(service), Found(*each))
    _went_without(node.config).update({Service(service): count for service, count in went_without.items()})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was run on, and loudly what was not and how to get it."""
    for service, found in (_found(config) | config.stash.get(OF_WORKERS, {})).items():
        if found.is_up:
            terminalreporter.write_line(f"services: {service.full_name}, {found.text}")
        else:
            count = _went_without(config)[service]
            terminalreporter.section(f"NO {service.full_name}: {count} tests did not run", red=True, bold=True)
            terminalreporter.write_line(found.text, red=True)


def _found(config: pytest.Config) -> dict[Service, Found]:
    """What this process has asked for."""
    session = config.stash.get(SESSION, None)
    return {
        answer.service: Found(False, str(answer))
        if isinstance(answer, Missing)
        else Found(True, f"{answer.origin}, up in {answer.started_in_s:.2f} s")
        for answer in (session.asked if session else ())
    }


def _went_without(config: pytest.Config) -> Counter[Service]:
    return config.stash.setdefault(WENT_WITHOUT, Counter())
