"""Collections over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from wastemgmt.api.deps import Limit, Offset, Reads, Writes
from wastemgmt.api.errors import problems
from wastemgmt.api.rows import found, must_exist, saved
from wastemgmt.models import Bin, Collection, Route, User
from wastemgmt.schemas import CollectionIn, CollectionOut, Key

router = APIRouter(prefix="/api/collections", tags=["collections"])


@router.get("", response_model=list[CollectionOut], responses=problems(), operation_id="list_collections")
async def list_collections(
    session: Reads,
    limit: Limit = 50,
    offset: Offset = 0,
    bin_id: Annotated[Key | None, Query(description="Only those of this bin.")] = None,
    route_id: Annotated[Key | None, Query(description="Only those on this route.")] = None,
) -> Sequence[Collection]:
    """Collections, newest first."""
    return await Collection.page(session, limit=limit, offset=offset, bin_id=bin_id, route_id=route_id)


@router.post(
    "", response_model=CollectionOut, status_code=201, responses=problems(400, 404, 409, 413), operation_id="collect"
)
async def collect(session: Writes, new: CollectionIn) -> Collection:
    """Write down what happened at a stop. A bin that was collected is empty afterwards."""
    await must_exist(session, route_id=(Route, new.route_id), driver_id=(User, new.driver_id))
    await found(session, Bin, new.bin_id)
    if new.status == "collected":
        await Bin.empty(session, new.bin_id, at=new.collected_at, user_id=session.sync_session.info.get("user_id"))
    return await saved(session, Collection(**new.model_dump()))
