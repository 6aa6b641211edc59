"""Settings, from the environment: WASTEMGMT_DATABASE_URL and so on."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def default_folder() -> Path:
    """A folder of this user's for the embedded database."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "me")
    return Path(tempfile.gettempdir()) / f"wastemgmt-{user}"


class Settings(BaseSettings):
    """What can be set. The defaults need nothing: SQLite in a file, and a cache in this process."""

    model_config = SettingsConfigDict(env_prefix="WASTEMGMT_", extra="ignore")

    database_url: str = Field(default_factory=lambda: f"sqlite:///{default_folder() / 'wastemgmt.sqlite3'}")
    """`sqlite:///FILE`, or `postgresql://…`, which means psycopg; `postgresql+asyncpg://…` means asyncpg."""
    cache_url: str = "memory://"
    """`memory://`, which is for one process, or `redis://…`."""
    cache_enabled: bool = True
    """False: the same service without a cache."""
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    echo: bool = False
    """Log every statement."""
    detect: bool = False
    """Look for N+1 in every request: a line of the log for each, and `Perfkit-Findings` in every answer."""
    log_level: str = "INFO"
    pool_size: int = Field(default=10, ge=1, le=200)
    max_overflow: int = Field(default=10, ge=0, le=200)
