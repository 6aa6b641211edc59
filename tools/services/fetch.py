"""A private tree of Debian or Ubuntu packages: nothing installed, no superuser, no daemon started.

`apt-get` downloads with its state and cache in our own folder, `dpkg-deb -x` unpacks, and three
things that an installation would have done are made up for:

    a name       Debian makes postgis.control a link when it installs (update-alternatives)
    libraries    the loader must be told where they are, by absolute path: postgres changes folder
    the status   apt must not believe that a server is present because the system has half of it,
                 so it reads a copy of the package list in which the servers are absent

Tried on Debian 12 and 13; Ubuntu has the same tools, but nobody has run this there.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.services.kinds import Service

REPOSITORY = Path(__file__).resolve().parents[2]
LISTS_STAY_FRESH_S = 3600.0
OF_NO_USE = re.compile(r"Package: (postgresql|postgis|redis|mariadb-server|default-mysql-server)")
POSTGIS = re.compile("postgresql-([0-9]+)-postgis-3")


class CannotFetch(Exception):
    """This machine has no apt, or apt could not do it; the message says which."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Packages unpacked under `root`."""

    root: Path

    def environment(self) -> dict[str, str]:
        """What a program of this tree needs to find its libraries and its map projections."""
        libraries = sorted({str(path.parent) for path in (self.root / "usr/lib").rglob("*.so*")})
        return {"LD_LIBRARY_PATH": ":".join(libraries), "PROJ_DATA": str(self.root / "usr/share/proj")}


def fetched(service: Service) -> Tree:
    """The tree that holds `service`: there from an earlier run, or made now.

    Raises:
        CannotFetch: no apt here, no network, no such package, no room.
    """
    tools = ("apt-get", "apt-cache", "dpkg-deb")
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        raise CannotFetch(f"this system has no {', '.join(missing)} to fetch it with")
    home = _home()
    root = home / service.value
    with _alone(home):
        if not root.is_dir():
            _fill(root, service, Apt(home))
    return Tree(root)


@dataclass(frozen=True, slots=True)
class Apt:
    """apt with its state and cache under `home`, and a package list without servers."""

    home: Path

    def update(self) -> None:
        """Fetch the package lists, unless that was done within the last hour."""
        stamp = self.home / "state/updated"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < LISTS_STAY_FRESH_S:
            return
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        installed = Path("/var/lib/dpkg/status").read_text(errors="replace").split("\n\n")
        kept = [entry for entry in installed if not OF_NO_USE.match(entry)]
        (self.home / "state/status").write_text("\n\n".join(kept))
        self.run("apt-get", "-q", "update")
        stamp.touch()

    def packages(self, service: Service) -> list[str]:
        """The packages to ask for; PostgreSQL in the newest version that has PostGIS."""
        if service is Service.REDIS:
            return ["redis-server"]
        if service is Service.MARIADB:
            return ["mariadb-server-core"]
        told = self.run("apt-cache", "search", "--names-only", f"^{POSTGIS.pattern}$")
        versions = sorted(int(found[1]) for line in told.splitlines() if (found := POSTGIS.match(line)))
        if not versions:
            raise CannotFetch("apt knows no package of PostgreSQL with PostGIS")
        return [f"postgresql-{versions[-1]}", f"postgresql-{versions[-1]}-postgis-3"]

    def download(self, packages: list[str]) -> list[Path]:
        """The packages and whatever they need that the system does not have."""
        self.run("apt-get", "-y", "-q", "--no-install-recommends", "--download-only", "install", *packages)
        return sorted((self.home / "cache/archives").glob("*.deb"))

    def run(self, tool: str, *arguments: str) -> str:
        """The output of one apt command with our folders in place of the system's."""
        ours = {
            "Dir::State": self.home / "state",
            "Dir::State::lists": self.home / "state/lists",
            "Dir::State::status": self.home / "state/status",
            "Dir::Cache": self.home / "cache",
            "Dir::Cache::archives": self.home / "cache/archives",
            "Debug::NoLocking": "1",
            "Acquire::GzipIndexes": "true",
            "Acquire::Languages": "none",
            # apt would drop to a user who may not write into our folder.
            "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
        }
        options = [part for name, value in ours.items() for part in ("-o", f"{name}={value}")]
        return _run(tool, *options, *arguments)


def _fill(root: Path, service: Service, apt: Apt) -> None:
    """Make `root`, or nothing at all."""
    began = time.monotonic()
    _say(f"{service.full_name} is not installed; fetching its packages into {root} (nothing gets installed) …")
    apt.update()
    debs = apt.download(apt.packages(service))
    megabytes = sum(deb.stat().st_size for deb in debs) / 1e6
    _say(f"{len(debs)} packages, {megabytes:.0f} MB; unpacking …")
    unfinished = root.with_name(f"{root.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for deb in debs:
        _run("dpkg-deb", "-x", str(deb), str(unfinished))
        deb.unlink()
    for versioned in unfinished.glob("usr/share/postgresql/*/extension/*-3.control"):
        plain = versioned.with_name(versioned.name.replace("-3.control", ".control"))
        if not plain.exists():
            plain.symlink_to(versioned.name)
    unfinished.rename(root)
    _say(f"{service.full_name} is ready, {time.monotonic() - began:.0f} s.")


def _home() -> Path:
    """A folder of ours which the servers' user may enter, named by the system its packages are for."""
    system = platform.freedesktop_os_release()
    name = f"{system.get('ID', 'linux')}-{system.get('VERSION_ID', 'rolling')}-{platform.machine()}"
    if os.geteuid() != 0:
        home = REPOSITORY / ".nox/services" / name
    else:
        # The servers run as somebody who may not enter the superuser's home, where this clone may be.
        home = Path(tempfile.gettempdir()) / f"perfkit-services-{name}"
    home.mkdir(parents=True, exist_ok=True)
    owner = home.stat()
    if owner.st_uid != os.geteuid() or owner.st_mode & 0o022:
        raise CannotFetch(f"{home} belongs to somebody else or may be written by others: remove it")
    return home


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One process at a time fills a home; the others wait and find it filled."""
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        told = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise CannotFetch(f"{command[0]} failed: {' / '.join(told)}")
    return done.stdout


def _say(text: str) -> None:
    print(f"services: {text}", file=sys.stderr, flush=True)
