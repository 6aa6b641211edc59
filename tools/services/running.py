"""The services of one session, each started by the first question for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.services.kinds import Service
from tools.services.places import SYSTEM, Missing, Named, locate
from tools.services.servers import CannotStart, Server, start


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """A service that answers."""

    service: Service
    url: str
    origin: str
    started_in_s: float
    """Zero for one that was named."""


class Running:
    """Owns the servers of one session; `running()` makes and ends it."""

    def __init__(self, *, may_fetch: bool = True, system: Path = SYSTEM) -> None:
        self._may_fetch, self._system = may_fetch, system
        self._answers: dict[Service, Up | Missing] = {}
        self._servers: list[Server] = []

    @property
    def asked(self) -> tuple[Up | Missing, ...]:
        """The answers so far, in the order of the questions; they stay after `stop`."""
        return tuple(self._answers.values())

    def ask(self, service: Service) -> Up | Missing:
        """`service` up and answering, or why not. The first question may start it, later ones are free."""
        if service not in self._answers:
            self._answers[service] = self._bring_up(service)
        return self._answers[service]

    @property
    def postgres_url(self) -> str | None:
        """`postgresql://…` of a database with PostGIS, whose user may create others."""
        return self._url(Service.POSTGRES)

    @property
    def redis_url(self) -> str | None:
        """`redis://…` of a Redis."""
        return self._url(Service.REDIS)

    @property
    def valkey_url(self) -> str | None:
        """`redis://…` of a Valkey."""
        return self._url(Service.VALKEY)

    @property
    def mariadb_url(self) -> str | None:
        """`mariadb://…` of a MariaDB whose user may create databases."""
        return self._url(Service.MARIADB)

    def stop(self) -> None:
        """End every server that was started here."""
        for server in self._servers:
            server.leave()
        while self._servers:
            self._servers.pop().wait()

    def _url(self, service: Service) -> str | None:
        answer = self.ask(service)
        return answer.url if isinstance(answer, Up) else None

    def _bring_up(self, service: Service) -> Up | Missing:
        place = locate(service, may_fetch=self._may_fetch, system=self._system)
        if isinstance(place, Missing):
            return place
        if isinstance(place, Named):
            return Up(service=service, url=place.url, origin=str(place), started_in_s=0.0)
        began = time.monotonic()
        try:
            server = start(place)
        except CannotStart as trouble:
            return Missing(service, f"{place} could not be started: {trouble}")
        self._servers.append(server)
        return Up(service=service, url=server.url, origin=str(place), started_in_s=time.monotonic() - began)


@contextmanager
def running(*, may_fetch: bool = True, system: Path = SYSTEM) -> Iterator[Running]:
    """Services for the length of a `with` block."""
    session = Running(may_fetch=may_fetch, system=system)
    try:
        yield session
    finally:
        session.stop()
