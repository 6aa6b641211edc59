"""One throw-away server: a folder, a free port, a guard, and the wait until it answers.

PostgreSQL gets its extensions in template1 before it is started, so that every database has them.
Durability is off everywhere: these servers never outlive the process that started them.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.services import guard
from tools.services.kinds import Service
from tools.services.places import Program

ATTEMPTS = 3  # another process may take the free port between our look and the server's
READY_WITHIN_S = 60.0
GLANCE_S = 0.01
EXTENSIONS = ("postgis", "btree_gist", "pg_stat_statements")
DATABASE = "perfkit"
POSTGRES_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_prepared_transactions": "20",
    "wal_level": "logical",
    "shared_preload_libraries": "pg_stat_statements",
}
MARIADB_OPTIONS = (
    "--no-defaults",
    "--innodb-log-file-size=16M",
    "--innodb-data-file-path=ibdata1:8M:autoextend",
    "--innodb-temp-data-file-path=ibtmp1:4M:autoextend",
)


class CannotStart(Exception):
    """The server ended before it answered; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers at `url` until `leave`."""

    url: str
    guarded_by: subprocess.Popen[bytes]

    def leave(self) -> None:
        """Tell its guard to end it and to remove its folder."""
        assert self.guarded_by.stdin is not None  # we made it with a pipe
        self.guarded_by.stdin.close()

    def wait(self) -> None:
        """Return when it is gone."""
        self.guarded_by.wait(guard.PATIENCE_S + 5)


def start(program: Program) -> Server:
    """A fresh and empty server.

    PostgreSQL: `postgresql://postgres@127.0.0.1:PORT/perfkit`, a superuser without password, a
    database with `EXTENSIONS`. MariaDB: `mariadb://root@127.0.0.1:PORT/perfkit`, without password. Redis and
    Valkey: `redis://127.0.0.1:PORT/0`.

    Raises:
        CannotStart: it ended, or did not answer within a minute.
    """
    starts = {Service.POSTGRES: _start_postgres, Service.MARIADB: _start_mariadb}.get(program.service, _start_redis)
    for attempt in range(ATTEMPTS):
        folder, user = _folder(program.service)
        try:
            return starts(program, folder, user)
        except CannotStart:
            shutil.rmtree(folder, ignore_errors=True)
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _start_postgres(program: Program, folder: Path, user: str | None) -> Server:
    data, port = folder / "data", _free_port()
    environment = _environment(program, folder)
    initdb = program.executable.with_name("initdb")
    options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions")
    _once([str(initdb), "-D", str(data), *options], environment, user)
    settings = [part for name, value in POSTGRES_OPTIONS.items() for part in ("-c", f"{name}={value}")]
    extensions = [f"CREATE EXTENSION {name};\n" for name in EXTENSIONS]
    single = [str(program.executable), "--single", "-D", str(data), *settings, "template1"]
    _once(single, environment, user, "".join([*extensions, f"CREATE DATABASE {DATABASE};\n"]))
    command = [str(program.executable), "-D", str(data), "-p", str(port), *settings]
    guarded_by = _guarded(command, folder, environment, user, stop=signal.SIGQUIT)
    _wait(guarded_by, folder, lambda: _postmaster_is_ready(data / "postmaster.pid"))
    return Server(f"postgresql://postgres@127.0.0.1:{port}/{DATABASE}", guarded_by)


def _start_mariadb(program: Program, folder: Path, user: str | None) -> Server:
    data, port = folder / "data", _free_port()
    data.mkdir()
    if user is not None:
        shutil.chown(data, user)
    share = _share_of_mariadb(program.executable)
    environment = _environment(program, folder)
    options = [*MARIADB_OPTIONS, f"--datadir={data}", f"--tmpdir={folder}", f"--lc-messages-dir={share}"]
    options.append(f"--character-sets-dir={share / 'charsets'}")
    tables = next(share.glob("m*_system_tables.sql")).read_text()
    # one statement ends at each semicolon that ends a line
    text = f"CREATE DATABASE mysql;\nUSE mysql;\n{tables}\nCREATE DATABASE {DATABASE};\n"
    _once([str(program.executable), *options, "--bootstrap"], environment, user, text)
    serving = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder / 'socket'}", "--skip-grant-tables"]
    serving += ["--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync", "--innodb-doublewrite=0"]
    guarded_by = _guarded([str(program.executable), *options, *serving], folder, environment, user, stop=signal.SIGKILL)
    _wait(guarded_by, folder, lambda: _greets(port))
    return Server(f"mariadb://root@127.0.0.1:{port}/{DATABASE}", guarded_by)


def _share_of_mariadb(executable: Path) -> Path:
    """The folder with its messages and the SQL of its own tables; its name differs by release."""
    shares = (executable.parent.parent / "share" / name for name in ("mysql", "mariadb"))
    found = next((share for share in shares if any(share.glob("m*_system_tables.sql"))), None)
    if found is None:
        raise CannotStart(f"the SQL of MariaDB's system tables is not beside {executable}")
    return found


def _start_redis(program: Program, folder: Path, user: str | None) -> Server:
    executable, port = program.executable, _free_port()
    if user is not None:  # who may not be allowed to enter the environment that the wheel is in
        executable = Path(shutil.copy(executable, folder / executable.name))
    command = [str(executable), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    command += ["--save", "", "--appendonly", "no", "--databases", "16"]
    guarded_by = _guarded(command, folder, _environment(program, folder), user, stop=signal.SIGKILL)
    _wait(guarded_by, folder, lambda: _answers_ping(port))
    return Server(f"redis://127.0.0.1:{port}/0", guarded_by)


def _folder(service: Service) -> tuple[Path, str | None]:
    """A folder for one server, and the unprivileged user who owns it if we are the superuser."""
    folder = Path(tempfile.mkdtemp(prefix=f"perfkit-{service.value}-"))
    if os.geteuid() != 0:
        return folder, None
    known = {entry.pw_name for entry in pwd.getpwall()}
    user = next(name for name in ("postgres", "nobody") if name in known)
    shutil.chown(folder, user)
    return folder, user


def _environment(program: Program, folder: Path) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "HOME": str(folder), **program.environment}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _once(command: list[str], environment: dict[str, str], user: str | None, text: str = "") -> None:
    """Run a command to its end."""
    who = guard.identity(user)
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        env=environment,
        cwd="/",
        check=False,
        user=who.user,
        group=who.group,
        extra_groups=who.extra_groups,
    )
    # A single-user backend reports a failed statement and goes on to the next one.
    if done.returncode or "ERROR:" in done.stderr:
        raise CannotStart(f"{Path(command[0]).name} failed: {done.stderr.strip()[-600:]}")


def _guarded(
    command: list[str], folder: Path, environment: dict[str, str], user: str | None, *, stop: signal.Signals
) -> subprocess.Popen[bytes]:
    watcher = [sys.executable, "-I", "-S", str(Path(guard.__file__)), "--stop", stop.name, "--user", user or ""]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [*watcher, "--folder", str(folder), "--", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
            cwd="/",
            start_new_session=True,  # so that Ctrl-C reaches us first, and the server when we say so
        )


def _wait(guarded_by: subprocess.Popen[bytes], folder: Path, is_ready: Callable[[], bool]) -> None:
    until = time.monotonic() + READY_WITHIN_S
    log = (folder / "log").open("rb")
    with log:
        while guarded_by.poll() is None and time.monotonic() < until:
            if is_ready():
                return
            time.sleep(GLANCE_S)
        unborn = Server("", guarded_by)
        unborn.leave()
        unborn.wait()
        raise CannotStart(f"{folder.name} did not come up: {log.read()[-600:].decode(errors='replace').strip()}")


def _postmaster_is_ready(pid_file: Path) -> bool:
    """PostgreSQL writes its state into the eighth line, which is what pg_ctl looks at too."""
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready"


def _greets(port: int) -> bool:
    """MariaDB speaks first, and its greeting has its version in it."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return b"MariaDB" in connection.recv(128)
    except OSError:
        return False


def _answers_ping(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"
    except OSError:
        return False
