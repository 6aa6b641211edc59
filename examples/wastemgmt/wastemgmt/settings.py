"""Settings, from the environment: WASTEMGMT_DATABASE_URL and so on."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Secret = Annotated[str, Field(min_length=16)]


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
    cursor_secrets: Annotated[tuple[Secret, ...], NoDecode] = Field(default=(), validate_default=True)
    """What signs the cursors of pages, the newest first, between commas; without it, each process has one of its own.

    Processes that share a cache share the pages in it, and so have to share these.
    """
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    echo: bool = False
    """Log every statement."""
    detect: bool = False
    """Look for N+1 in every request: a line of the log for each, and `Perfkit-Findings` in every answer."""
    log_level: str = "INFO"
    pool_size: int = Field(default=10, ge=1, le=200)
    max_overflow: int = Field(default=10, ge=0, le=200)

    @field_validator("cursor_secrets", mode="before")
    @classmethod
    def _between_commas(cls, given: object) -> object:
        return tuple(filter(None, given.split(","))) if isinstance(given, str) else given

    @field_validator("cursor_secrets")
    @classmethod
    def _shared_with_the_cache(cls, given: tuple[str, ...], others: ValidationInfo) -> tuple[str, ...]:
        if not given and others.data.get("cache_enabled") and others.data.get("cache_url") != "memory://":
            raise ValueError("set it where processes share a cache: there are pages in it, with cursors")
        return given
