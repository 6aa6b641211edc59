"""The process between us and one server: it ends the server when we are gone, however we went.

    python -I -S guard.py --stop SIGQUIT [--user NAME] --folder DIR -- postgres -D DIR/data …

Three deaths are covered, and each is tested in tests/tools/test_guard.py:

    we finish         our end of the guard's standard input closes; the guard stops the server
    we are killed     the guard sees end-of-file, or a new parent, within `GLANCE_S`
    guard is killed   the kernel signals the server (PR_SET_PDEATHSIG, Linux only)

The kernel's signal alone would not do between us and the server: it fires when the *thread* that
started the process ends, and it cannot remove the server's folder. The guard has one thread.
This file is run by path and without site-packages, so it imports the standard library only.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NamedTuple

GLANCE_S = 0.2
PATIENCE_S = 10.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to run, as whom, how to end it and which folder goes with it."""

    command: tuple[str, ...]
    folder: str
    stop: signal.Signals
    user: str | None


def guard(order: Order) -> int:
    """The server's exit status, once it or our parent has ended; its folder is gone then."""
    parent, who = os.getppid(), identity(order.user)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        server = subprocess.Popen(
            order.command,
            stdin=subprocess.DEVNULL,
            cwd="/",
            preexec_fn=_dies_with_us(order.stop),  # safe here: this process has one thread
            user=who.user,
            group=who.group,
            extra_groups=who.extra_groups,
        )
        try:
            while server.poll() is None and os.getppid() == parent and not _input_closed():
                pass
        finally:
            _end(server, order.stop)
        return server.returncode
    finally:
        shutil.rmtree(order.folder, ignore_errors=True)


class Identity(NamedTuple):
    """Whom a program runs as, in the words of subprocess; all None if it stays as we are."""

    user: str | None = None
    group: int | None = None
    extra_groups: tuple[int, ...] | None = None


def identity(user: str | None) -> Identity:
    """`user` with their own group and no others."""
    return Identity() if user is None else Identity(user, pwd.getpwnam(user).pw_gid, ())


def _input_closed() -> bool:
    """Whether our parent has closed its end; waits `GLANCE_S` at most."""
    readable, _, _ = select.select([0], [], [], GLANCE_S)
    return bool(readable) and os.read(0, 1) == b""


def _end(server: subprocess.Popen[bytes], stop: signal.Signals) -> None:
    if server.poll() is None:
        server.send_signal(stop)
    try:
        server.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _dies_with_us(stop: signal.Signals) -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    us = os.getpid()

    def before_exec() -> None:
        # Changing the user clears this flag, so it must come after; subprocess calls us after it.
        prctl(PR_SET_PDEATHSIG, int(stop))
        if os.getppid() != us:
            os._exit(1)

    return before_exec


def _order(arguments: Sequence[str]) -> Order:
    parser = argparse.ArgumentParser(prog="guard")
    parser.add_argument("--stop", required=True)
    parser.add_argument("--user")
    parser.add_argument("--folder", required=True)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args(arguments)
    return Order(
        command=tuple(given.command), folder=given.folder, stop=signal.Signals[given.stop], user=given.user or None
    )


if __name__ == "__main__":
    raise SystemExit(guard(_order(sys.argv[1:])))
