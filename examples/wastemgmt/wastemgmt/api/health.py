"""Whether the process lives, and whether it can work."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from perfkit.errors import StoreDown
from wastemgmt.api.deps import database_of
from wastemgmt.api.errors import Refused, problems
from wastemgmt.database import Database

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """The database answers. Without the cache the service is slower, and not wrong."""

    database: Literal["ok"] = "ok"
    cache: Literal["ok", "off", "down"]


@router.get("/healthz", operation_id="health", responses=problems())
async def health() -> Health:
    """The process lives."""
    return Health()


@router.get("/readyz", operation_id="readiness", responses=problems(503))
async def readiness(database: Annotated[Database, Depends(database_of)]) -> Readiness:
    """The database answers, so that requests may be sent here."""
    try:
        await database.ping()
    except (SQLAlchemyError, OSError, TimeoutError):
        raise Refused(503, "The database does not answer.") from None
    try:
        return Readiness(cache="ok" if await database.ping_cache() else "off")
    except StoreDown:
        return Readiness(cache="down")
