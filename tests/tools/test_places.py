"""Where a service is looked for, in which order, and what counts as one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.services import Missing, Named, Program, Service, locate
from tools.services.__main__ import run
from tools.services.places import installed

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch):
    for service in Service:
        monkeypatch.delenv(service.variable, raising=False)


@pytest.mark.parametrize("service", list(Service))
def test_a_server_that_the_environment_names_comes_first(service, monkeypatch):
    """It is used as it is; nothing is started."""
    monkeypatch.setenv(service.variable, "redis://elsewhere:1/5")

    assert locate(service) == Named(service, "redis://elsewhere:1/5")


@pytest.mark.parametrize("service", [Service.POSTGRES, Service.REDIS, Service.MARIADB])
def test_what_may_not_be_fetched_is_missing_with_advice(service, monkeypatch, tmp_path):
    """The reason names the switch, the advice names the variable."""
    monkeypatch.setenv("PERFKIT_FETCH_SERVICES", "0")

    place = locate(service, system=tmp_path)

    assert isinstance(place, Missing)
    assert "PERFKIT_FETCH_SERVICES=0" in place.reason
    assert service.variable in str(place)


def test_postgresql_without_postgis_is_not_enough(tmp_path):
    """Tests would fail on it one by one instead of being skipped loudly."""
    executable(tmp_path / "usr/lib/postgresql/15/bin/postgres")

    assert installed(Service.POSTGRES, tmp_path) is None


def test_the_newest_postgresql_that_has_postgis_is_taken(tmp_path):
    """Version 9 is older than 10, and 17 has no PostGIS here."""
    for version in ("9", "10", "17"):
        executable(tmp_path / f"usr/lib/postgresql/{version}/bin/postgres")
    for version in ("9", "10"):
        executable(tmp_path / f"usr/share/postgresql/{version}/extension/postgis.control")

    assert installed(Service.POSTGRES, tmp_path) == tmp_path / "usr/lib/postgresql/10/bin/postgres"


def test_valkey_under_the_name_of_redis_is_not_redis(tmp_path):
    """Some distributions link one to the other; tests on both would run on one twice."""
    executable(tmp_path / "usr/bin/valkey-server")
    (tmp_path / "usr/bin/redis-server").symlink_to("valkey-server")

    assert installed(Service.REDIS, tmp_path) is None
    assert installed(Service.VALKEY, tmp_path) == tmp_path / "usr/bin/valkey-server"


def test_the_valkey_of_this_environment_is_found_in_its_wheel(tmp_path):
    """No system package is needed for it."""
    place = locate(Service.VALKEY, system=tmp_path)

    assert isinstance(place, Program)
    assert place.executable.name == "valkey-server"


def test_the_report_is_json_on_request():
    """One entry per service, for scripts."""
    told = tool("--json", "--no-fetch")

    report = json.loads(told.stdout)

    assert {name: set(facts) for name, facts in report.items()} == {
        service.value: {"found", "where", "version"} for service in Service
    }


def test_a_command_runs_with_the_urls_in_its_environment():
    """And its exit status is ours."""
    told = tool("run", "--only", "valkey", "--", "sh", "-c", "echo $PERFKIT_TEST_VALKEY_URL; exit 7")

    assert told.returncode == 7
    assert told.stdout.startswith("redis://127.0.0.1:")


def test_a_missing_service_stops_a_command_that_requires_it(capfd):
    """The command is not run at all, and standard error says what to do."""
    status = run(["echo", "ran"], [Missing(Service.REDIS, "not installed")], require=True)

    out, err = capfd.readouterr()
    assert (status, out) == (1, "")
    assert "PERFKIT_TEST_REDIS_URL" in err


def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.services", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


def executable(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o755)
