"""`perfkit cache doctor` on servers that are well, and on servers that are not."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from perfkit.cache.doctor import Level, examine_database, examine_store
from tests.servers import OwnCluster, OwnRedis, until
from tools.services import Program

RIGHTS = re.search(r"`(\+ping [^`]+)`", Path("docs/how-to/check-a-deployment.md").read_text())[1].split()


@pytest.fixture
def own(redis_program: Program, tmp_path: Path) -> Iterator[OwnRedis]:
    server = OwnRedis(redis_program, tmp_path)
    yield server
    server.kill()


def worst(findings: list) -> Level:
    return max(finding.level for finding in findings)


def told(findings: list, level: Level) -> str:
    return "\n".join(f"{each.text} {each.advice}" for each in findings if each.level is level)


def test_a_server_as_it_should_be_is_in_order(redis_url):
    """And nothing of ours stays in it."""
    findings = examine_store(redis_url)

    assert worst(findings) is Level.OK
    assert "scripts included" in told(findings, Level.OK)


def test_nothing_is_left_behind(own):
    """Not even for a while."""
    examine_store(own.url)

    with own.client() as client:
        assert client.dbsize() == 0


@pytest.mark.parametrize(
    ("policy", "level"),
    [("allkeys-lru", Level.WARNING), ("noeviction", Level.NOTE), ("volatile-ttl", Level.OK)],
)
def test_eviction_policies_are_judged(own, policy, level):
    """Marks have no expiry."""
    with own.client() as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", policy)

    findings = examine_store(own.url)

    assert worst(findings) is level
    assert policy in told(findings, level)


@pytest.mark.parametrize("command", ["mget", "set", "unlink", "evalsha", "info", "time"])
def test_a_missing_right_is_named_with_the_rule_that_grants_it(own, command):
    """All of them are tried."""
    with own.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", f"-{command}")

    findings = examine_store(own.url.replace("://", "://app:secret@"))

    assert worst(findings) is Level.PROBLEM
    assert command in told(findings, Level.PROBLEM).lower()
    assert "secret" not in repr(findings)


def test_a_user_of_one_namespace_is_well_with_it(own):
    """The rights are asked for where they are given; without it, the advice is to name it."""
    with own.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~shop:*", *RIGHTS)
        client.set("shop:v:another", "x")
    url = own.url.replace("://", "://app:secret@")

    assert worst(examine_store(url, namespace="shop")) is Level.OK
    assert "Give --namespace" in told(examine_store(url), Level.PROBLEM)
    assert "Grant ~shops:*" in told(examine_store(url, namespace="shops"), Level.PROBLEM)
    with own.client() as client:
        assert client.keys() == [b"shop:v:another"], "nothing is left, and nothing is taken"


@pytest.mark.parametrize("command", [right.removeprefix("+") for right in RIGHTS if "cluster" not in right])
def test_the_rights_that_are_named_are_all_that_are_needed(own, command):
    """One that is missing is a problem, and the advice has it."""
    with own.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", *RIGHTS, f"-{command}")

    findings = examine_store(own.url.replace("://", "://app:secret@"))

    assert f"+{command}" in told(findings, Level.PROBLEM)
    assert "got no answer" not in told(findings, Level.PROBLEM)


def test_a_replica_is_a_problem_and_a_master_with_one_is_noted(own, redis_program, tmp_path_factory):
    """Cells are read from masters."""
    with own.client() as client:
        client.config_set("repl-diskless-sync-delay", 0)
    replica = OwnRedis(redis_program, tmp_path_factory.mktemp("replica"), "--replicaof", f"127.0.0.1 {own.port}")
    until(lambda: replica.client().info("replication")["master_link_status"] == "up")

    assert "address of the master" in told(examine_store(replica.url), Level.PROBLEM)
    assert "failover" in told(examine_store(own.url), Level.NOTE)
    replica.kill()


def test_every_master_of_a_cluster_is_looked_at(cluster_url, shared_cluster: OwnCluster):
    """By its own address."""
    findings = examine_store(cluster_url)

    assert {f"127.0.0.1:{node.port}" for node in shared_cluster.masters} <= {finding.subject for finding in findings}
    assert worst(findings) <= Level.NOTE


@pytest.mark.parametrize("state", ["dead", "hanging", "wrong password"])
def test_a_server_that_does_not_answer_is_a_problem(own, state):
    """And no traceback."""
    url = own.url
    if state == "dead":
        own.kill()
    elif state == "hanging":
        own.pause()
    else:
        url = url.replace("://", "://app:wrong@")

    findings = examine_store(url)

    if state == "hanging":
        own.go_on()
    assert worst(findings) is Level.PROBLEM
    said = "PING was refused: invalid username-password" if state == "wrong password" else "PING got no answer"
    assert said in told(findings, Level.PROBLEM)


@pytest.mark.parametrize(("own_limit", "level"), [("0", Level.WARNING), ("5s", Level.OK), ("6s", Level.WARNING)])
def test_the_idle_limit_of_postgresql_is_held_against_the_mark(pg_url, own_limit, level):
    """With the line that mends it."""
    engine = create_engine(pg_url.replace("://", "+psycopg://"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(
            text(f"ALTER DATABASE {engine.url.database} SET idle_in_transaction_session_timeout = '{own_limit}'")
        )
    engine.dispose()

    findings = examine_database(pg_url.replace("://", "+psycopg://"), mark_hold_s=10)

    assert worst(findings) is level
    assert ("ALTER ROLE" in told(findings, Level.WARNING)) == (level is Level.WARNING)


@pytest.mark.parametrize(("idle_timeout_s", "level"), [(5, Level.OK), (6, Level.WARNING)])
def test_the_idle_limit_of_the_policy_is_as_good_as_the_databases(pg_url, idle_timeout_s, level):
    """A service that does as the docs say would never get the exit status 0 otherwise."""
    url = pg_url.replace("://", "+psycopg://")
    findings = examine_database(url, mark_hold_s=10, idle_timeout_s=idle_timeout_s)

    assert worst(findings) is level
    assert ("Policy(idle_timeout=5) sets idle_in" in told(findings, Level.OK)) == (level is Level.OK)
    assert ("--idle-timeout=5 says so here" in repr(findings)) == (level is Level.WARNING)


def test_the_isolation_level_of_mariadb_is_explained(mariadb_url):
    """REPEATABLE READ is its default."""
    findings = examine_database(mariadb_url.replace("://", "+pymysql://"))

    assert "REPEATABLE READ" in told(findings, Level.NOTE)
    assert "idle_transaction_timeout" in told(findings, Level.WARNING)


def test_a_database_that_is_not_there_is_a_problem():
    """Its password stays out of it."""
    findings = examine_database("postgresql+psycopg://user:secret@127.0.0.1:1/none")

    assert worst(findings) is Level.PROBLEM
    assert "secret" not in repr(findings)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("secret", "Could not parse"),
        ("sqlite+aiosqlite://", "aiosqlite is an async driver"),
        ("nosuch://host/name", "nosuch"),
    ],
)
def test_a_url_that_is_none_of_a_sync_driver_is_a_problem(url, said):
    """With an example of one that is."""
    findings = examine_database(url)

    assert worst(findings) is Level.PROBLEM
    assert said in told(findings, Level.PROBLEM)
    assert "such as postgresql+psycopg://" in told(findings, Level.PROBLEM)
    assert "secret" not in repr(findings)


def command(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "perfkit", "cache", "doctor", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )


def test_the_command_says_it_for_machines(redis_url, tmp_path):
    """One JSON document and nothing else; the exit status says how bad it is."""
    done = command("--cache", redis_url, "--database", f"sqlite:///{tmp_path / 'x'}", "--json")

    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert {"subject", "level", "text", "advice"} == set(found[0])
    assert {each["level"] for each in found} == {"ok"}


def test_the_exit_status_is_two_with_a_problem():
    """For scripts."""
    done = command("--cache", "redis://127.0.0.1:1/0")

    assert done.returncode == 2
    assert "problem" in done.stdout
    assert "\x1b[" not in done.stdout, "no colours in a pipe"


def test_one_advice_for_many_is_given_once(own):
    """After the last of them."""
    with own.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "+ping", "+info", "+time")

    shown = command("--cache", own.url.replace("://", "://app:secret@")).stdout

    assert shown.count("problem") > 3
    assert shown.count("Grant +ping") == 1


@pytest.mark.parametrize("options", [[], ["--cache", "nonsense"]])
def test_a_wrong_command_is_explained(options):
    """Without a traceback."""
    done = command(*options)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "give" in done.stderr


def test_it_is_coloured_on_a_terminal(redis_url):
    """And only there."""
    try:
        ours, its = pty.openpty()
    except OSError as none:
        pytest.skip(f"this machine has no terminals: {none}")
    process = subprocess.Popen(
        [sys.executable, "-m", "perfkit", "cache", "doctor", "--cache", redis_url],
        stdout=its,
        stderr=its,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm-256color"},
    )
    os.close(its)
    shown = b""
    try:
        while data := os.read(ours, 4096):
            shown += data
    except OSError:  # the other end is closed
        pass
    os.close(ours)

    assert process.wait(60) == 0
    assert b"\x1b[32mok" in shown


def test_without_its_extra_the_command_says_what_to_install(tmp_path):
    """One line."""
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError('no typer', name='typer')")

    done = command("--json", PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))

    assert (done.returncode, done.stderr) == (1, "the perfkit command needs typer: pip install 'perfkit[cli]'\n")
