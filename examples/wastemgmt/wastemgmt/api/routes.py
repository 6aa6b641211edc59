"""Collection routes over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from perfkit.integrations.fastapi import KeysetPage, KeysetParams
from wastemgmt.api.deps import Id, OfOrganization, Reads, Writes
from wastemgmt.api.errors import problems
from wastemgmt.api.pages import MAX_SIZE, Count, Linked, Place, paged, read_page
from wastemgmt.api.rows import all_must_exist, changed, found, must_exist, saved, shown
from wastemgmt.database import ReadSession
from wastemgmt.models import Bin, Organization, Route, User
from wastemgmt.models.base import now
from wastemgmt.models.route import RouteStatistics
from wastemgmt.perf import cache
from wastemgmt.profiles import RouteDetail as Detailed
from wastemgmt.profiles import RouteList
from wastemgmt.schemas import Lat, Lon, RouteChange, RouteDetail, RouteIn, RouteNearby, RouteOut, RouteStatus

router = APIRouter(prefix="/api/routes", tags=["routes"])


@router.get("/statistics", responses=problems(), operation_id="route_statistics")
async def statistics(session: Reads, organization_id: OfOrganization = None) -> RouteStatistics:
    """Counts, lengths and collections. Remembered for 15 minutes, or until something in it changes."""
    return await Route.statistics(session, organization_id)


@router.get("/nearby", responses=problems(), operation_id="routes_nearby")
async def nearby(
    session: Reads,
    lon: Annotated[Lon, Query()],
    lat: Annotated[Lat, Query()],
    radius_m: Annotated[float, Query(gt=0, le=50_000, allow_inf_nan=False)] = 300,
    limit: Annotated[int, Query(ge=1, le=MAX_SIZE, description="How many at most.")] = 50,
) -> list[RouteNearby]:
    """Active routes that pass within so many metres, nearest first."""
    routes = await Route.nearby(session, lon=lon, lat=lat, radius_m=radius_m, limit=limit)
    return [
        RouteNearby(**RouteOut.model_validate(route).model_dump(), distance_m=round(metres, 2))
        for route, metres in routes
    ]


@router.get("", responses=paged(), operation_id="list_routes")
async def list_routes(
    session: Reads,
    place: Place,
    linked: Linked,
    order: Annotated[Literal["name", "length"], Query(description="`length`: the longest first.")] = "name",
    count: Count = False,
    organization_id: OfOrganization = None,
    status: RouteStatus | None = None,
) -> KeysetPage[RouteOut]:
    """Routes, without their ways and stops."""
    return linked(await page_of(session, place, order, count=count, organization_id=organization_id, status=status))


@cache.query()
async def page_of(
    session: ReadSession, place: KeysetParams, order: str, *, count: bool, **equal: Any
) -> KeysetPage[RouteOut]:
    """A page of routes as it is shown, remembered until anything in it changes, or comes between."""
    listed = RouteList.apply(Route.listed(order, **equal))
    return KeysetPage[RouteOut].of(await read_page(session, listed, place, count=count))


@router.get("/{key}", responses=problems(404), operation_id="get_route")
async def get_route(session: Reads, key: Id) -> RouteDetail:
    """One route with its way and its stops."""
    return RouteDetail.model_validate(await shown(session, Route, key, Detailed))


@router.post("", status_code=201, responses=problems(400, 409, 413), operation_id="create_route")
async def create_route(session: Writes, new: RouteIn) -> RouteDetail:
    """Add a route with its stops; its length is that of its way."""
    await must_exist(session, organization_id=(Organization, new.organization_id), driver_id=(User, new.driver_id))
    await all_must_exist(session, bin_ids=(Bin, new.bin_ids))
    route = Route(**new.model_dump(exclude={"path", "bin_ids"}), path=new.ewkt())
    await saved(session, route)
    await route.measure(session)
    await route.stop_at(session, new.bin_ids)
    return await _detail(await saved(session, route))


@router.patch("/{key}", responses=problems(400, 404, 409, 413), operation_id="change_route")
async def change_route(session: Writes, key: Id, change: RouteChange) -> RouteDetail:
    """Change the fields that are sent; `version` is the one that was read."""
    await must_exist(session, driver_id=(User, change.driver_id))
    route = await found(session, Route, key)
    if "bin_ids" not in change.model_fields_set:
        return await _detail(await changed(session, route, change))
    await all_must_exist(session, bin_ids=(Bin, change.bin_ids))
    # stops are rows of their own: the route's own row has to change as well, or its version says nothing about them
    await changed(session, route, change, without={"bin_ids"}, updated_at=now())
    await route.stop_at(session, change.bin_ids)
    return await _detail(await saved(session, route))


@router.delete("/{key}", status_code=204, responses=problems(400, 404, 409), operation_id="delete_route")
async def delete_route(session: Writes, key: Id) -> Response:
    """Mark as deleted: it is not found any more, and stays in the records."""
    (await found(session, Route, key)).delete()
    return Response(status_code=204)


async def _detail(route: Route) -> RouteDetail:
    await route.awaitable_attrs.stops
    return RouteDetail.model_validate(route)
