"""The service under test, in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from secrets import token_hex
from typing import Self

import httpx

SECRET = token_hex(16)  # one for all that this process starts: they may share a cache


class DidNotStart(RuntimeError):
    """The service ended or did not answer in time; the message has its last words."""


class Service:
    """`wastemgmt serve` on a free port. Owns the process; use it as a context."""

    def __init__(self, *, database_url: str, cache_url: str, cached: bool, log: Path, detect: bool = False) -> None:
        self.url = f"http://127.0.0.1:{_free_port()}"
        self._log = log
        self._environment = {
            **os.environ,
            "WASTEMGMT_DATABASE_URL": database_url,
            "WASTEMGMT_CACHE_URL": cache_url,
            "WASTEMGMT_CURSOR_SECRETS": SECRET,
            "WASTEMGMT_CACHE_ENABLED": str(cached).lower(),
            "WASTEMGMT_DETECT": str(detect).lower(),
            "WASTEMGMT_LOG_LEVEL": "WARNING",
        }

    def __enter__(self) -> Self:
        port = self.url.rpartition(":")[2]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "wastemgmt", "serve", "--port", port],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def memory_mb(self) -> float | None:
        """Resident memory; None where /proc does not tell."""
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return None
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return round(int(line.split()[1]) / 1024, 1)

    def _wait(self) -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/readyz", timeout=2).is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.05)
        words = self._log.read_text(errors="replace")[-2000:]
        raise DidNotStart(f"the service did not become ready at {self.url}:\n{words}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
