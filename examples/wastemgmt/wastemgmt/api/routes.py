"""Collection routes over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Response

from wastemgmt.api.deps import Id, Limit, Offset, OfOrganization, Reads, Writes
from wastemgmt.api.errors import not_found, problems
from wastemgmt.api.rows import all_must_exist, changed, found, must_exist, saved
from wastemgmt.models import Bin, Organization, Route, User
from wastemgmt.models.base import now
from wastemgmt.models.route import RouteStatistics
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
    limit: Limit = 50,
) -> list[RouteNearby]:
    """Active routes that pass within so many metres, nearest first."""
    routes = await Route.nearby(session, lon=lon, lat=lat, radius_m=radius_m, limit=limit)
    return [
        RouteNearby(**RouteOut.model_validate(route).model_dump(), distance_m=round(metres, 2))
        for route, metres in routes
    ]


@router.get("", response_model=list[RouteOut], responses=problems(), operation_id="list_routes")
async def list_routes(
    session: Reads,
    limit: Limit = 50,
    offset: Offset = 0,
    organization_id: OfOrganization = None,
    status: RouteStatus | None = None,
) -> Sequence[Route]:
    """Routes in the order of their keys."""
    return await Route.page(session, limit=limit, offset=offset, organization_id=organization_id, status=status)


@router.get("/{key}", responses=problems(404), operation_id="get_route")
async def get_route(session: Reads, key: Id) -> RouteDetail:
    """One route with its way and its stops."""
    route = await Route.with_stops(session, key)
    if route is None:
        raise not_found("route", key)
    return RouteDetail.model_validate(route)


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
