"""A server ends with whoever started it, and leaves no folder behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tools.services import CannotStart, Program, Service, locate, running
from tools.services.servers import start

REPOSITORY = Path(__file__).resolve().parents[2]
ASKS_AND_WAITS = """
import os, sys, time
from tools.services import Service, running
with running() as up:
    print(up.ask(Service(sys.argv[1])).url, flush=True)
    if sys.argv[2:] == ["fork"] and os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")
on_redis = pytest.mark.parametrize("program", [Service.REDIS], indirect=True, ids=str)


@pytest.fixture(params=list(Service), ids=str)
def program(request: pytest.FixtureRequest) -> Program:
    place = locate(request.param)
    if not isinstance(place, Program):
        pytest.skip(f"cannot be started here: {place}")
    return place


@pytest.fixture
def host(program: Program) -> Iterator[subprocess.Popen[str]]:
    """A process that has one server up and waits."""
    with hosting(program) as process:
        yield process


@contextmanager
def hosting(program: Program, *options: str) -> Iterator[subprocess.Popen[str]]:
    environment = {name: value for name, value in os.environ.items() if name != program.service.variable}
    process = subprocess.Popen(
        [sys.executable, "-c", ASKS_AND_WAITS, program.service.value, *options],
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(("postgresql://", "redis://", "mariadb://"))
        yield process
        process.kill()


def test_a_server_ends_with_a_host_that_finishes(host):
    """The `with` block ends everything before it returns."""
    guard, servers, folder = family_of(host.pid)

    host.communicate("")

    assert [pid for pid in [guard, *servers] if is_alive(pid)] == []
    assert not folder.exists()


def test_a_server_ends_with_a_host_that_is_killed(host):
    """SIGKILL gives the host no chance to say anything; the guard notices."""
    guard, servers, folder = family_of(host.pid)

    host.kill()

    within(10, lambda: not any(map(is_alive, [guard, *servers])))
    assert not folder.exists()


def test_a_server_ends_with_a_guard_that_is_killed(host):
    """The kernel signals the server; PostgreSQL's own children go with it."""
    guard, servers, folder = family_of(host.pid)

    os.kill(guard, signal.SIGKILL)

    within(10, lambda: not any(map(is_alive, servers)))
    remove(folder)


@on_redis
def test_a_server_ends_although_a_fork_of_its_host_lives_on(program):
    """A forked child holds the host's end of the guard's input open; the guard has a new parent all the same."""
    with hosting(program, "fork") as host:
        within(5, lambda: len(children_of(host.pid)) == 2)
        guard, fork = sorted(children_of(host.pid), key=lambda pid: not descendants_of(pid))
        servers = descendants_of(guard)

        host.kill()

        try:
            within(10, lambda: not any(map(is_alive, [guard, *servers])))
        finally:
            os.kill(fork, signal.SIGKILL)


@on_redis
def test_ctrl_c_does_not_reach_a_server(host):
    """The terminal signals a whole group of processes; ours decides when its servers end."""
    guard, servers, _ = family_of(host.pid)

    groups = {os.getpgid(pid) for pid in [guard, *servers]}

    assert os.getpgid(host.pid) not in groups


@on_redis
@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser has anything to drop")
def test_the_superuser_does_not_run_servers(host):
    """Somebody unprivileged does."""
    _, servers, _ = family_of(host.pid)

    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in servers}

    assert 0 not in owners


def test_a_server_that_does_not_come_up_is_reported_with_its_log(tmp_path):
    """It is neither waited for nor left behind."""
    liar = tmp_path / "redis-server"
    liar.write_text("#!/bin/sh\necho no room today; exit 3\n")
    liar.chmod(0o755)

    with pytest.raises(CannotStart, match="no room today"):
        start(Program(Service.REDIS, liar, "installed"))


def test_a_block_without_questions_starts_nothing():
    """A session costs nothing until somebody asks."""
    before = children_of(os.getpid())

    with running() as session:
        during = children_of(os.getpid())

    assert (during, session.asked) == (before, ())


def family_of(host: int) -> tuple[int, list[int], Path]:
    """The guard below `host`, the server's processes below that, and the folder they share."""
    (guard,) = children_of(host)
    servers = descendants_of(guard)
    words = Path(f"/proc/{guard}/cmdline").read_text().split("\0")
    assert servers
    return guard, servers, Path(words[words.index("--folder") + 1])


def descendants_of(pid: int) -> list[int]:
    below = children_of(pid)
    return below + [far for child in below for far in descendants_of(child)]


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def is_alive(pid: int) -> bool:
    """Whether `pid` runs; a zombie that nobody has collected yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def within(seconds: float, is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def remove(folder: Path) -> None:
    """What a killed guard could not: it owned the folder."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.rmdir()
