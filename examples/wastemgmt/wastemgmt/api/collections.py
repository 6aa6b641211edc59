"""Collections over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from perfkit.integrations.fastapi import KeysetPage, KeysetParams
from wastemgmt.api.deps import Reads, Writes
from wastemgmt.api.errors import problems
from wastemgmt.api.pages import Count, Linked, Place, paged, read_page
from wastemgmt.api.rows import found, must_exist, saved
from wastemgmt.database import ReadSession
from wastemgmt.models import Bin, Collection, Route, User
from wastemgmt.perf import cache
from wastemgmt.profiles import CollectionList
from wastemgmt.schemas import CollectionIn, CollectionOut, Key

router = APIRouter(prefix="/api/collections", tags=["collections"])


@router.get("", responses=paged(), operation_id="list_collections")
async def list_collections(
    session: Reads,
    place: Place,
    linked: Linked,
    count: Count = False,
    bin_id: Annotated[Key | None, Query(description="Only those of this bin.")] = None,
    route_id: Annotated[Key | None, Query(description="Only those on this route.")] = None,
) -> KeysetPage[CollectionOut]:
    """Collections, newest first."""
    return linked(await page_of(session, place, count=count, bin_id=bin_id, route_id=route_id))


@cache.query()
async def page_of(
    session: ReadSession, place: KeysetParams, *, count: bool, **equal: int | None
) -> KeysetPage[CollectionOut]:
    """A page of collections as it is shown, remembered until anything in it changes, or comes between."""
    listed = CollectionList.apply(Collection.listed("newest", **equal))
    return KeysetPage[CollectionOut].of(await read_page(session, listed, place, count=count))


@router.post(
    "", response_model=CollectionOut, status_code=201, responses=problems(400, 404, 409, 413), operation_id="collect"
)
async def collect(session: Writes, new: CollectionIn) -> Collection:
    """Write down what happened at a stop. A bin that was collected is empty afterwards."""
    await must_exist(session, route_id=(Route, new.route_id), driver_id=(User, new.driver_id))
    await found(session, Bin, new.bin_id)
    if new.status == "collected":
        await Bin.empty(session, new.bin_id, at=new.collected_at, user_id=session.info.get("user_id"))
    return await saved(session, Collection(**new.model_dump()))
