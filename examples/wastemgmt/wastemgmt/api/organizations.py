"""Organizations over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Response

from perfkit.integrations.fastapi import KeysetPage, KeysetParams
from wastemgmt.api.deps import Id, Reads, Writes
from wastemgmt.api.errors import problems
from wastemgmt.api.pages import Count, Linked, Place, paged, read_page
from wastemgmt.api.rows import changed, found, saved, shown
from wastemgmt.database import ReadSession
from wastemgmt.models import Organization
from wastemgmt.perf import cache
from wastemgmt.profiles import OrganizationView
from wastemgmt.schemas import OrganizationChange, OrganizationIn, OrganizationOut

router = APIRouter(prefix="/api/organizations", tags=["organizations"])


@router.get("", responses=paged(), operation_id="list_organizations")
async def list_organizations(
    session: Reads, place: Place, linked: Linked, count: Count = False
) -> KeysetPage[OrganizationOut]:
    """Organizations by name."""
    return linked(await page_of(session, place, count=count))


@cache.query()
async def page_of(session: ReadSession, place: KeysetParams, *, count: bool) -> KeysetPage[OrganizationOut]:
    """A page of organizations as it is shown, remembered until anything in it changes, or comes between."""
    listed = OrganizationView.apply(Organization.listed("name"))
    return KeysetPage[OrganizationOut].of(await read_page(session, listed, place, count=count))


@router.get("/{key}", response_model=OrganizationOut, responses=problems(404), operation_id="get_organization")
async def get_organization(session: Reads, key: Id) -> Organization:
    """One organization."""
    return await shown(session, Organization, key, OrganizationView)


@router.post(
    "",
    response_model=OrganizationOut,
    status_code=201,
    responses=problems(400, 409, 413),
    operation_id="create_organization",
)
async def create_organization(session: Writes, new: OrganizationIn) -> Organization:
    """Add an organization."""
    return await saved(session, Organization(**new.model_dump()))


@router.patch(
    "/{key}", response_model=OrganizationOut, responses=problems(400, 404, 409, 413), operation_id="change_organization"
)
async def change_organization(session: Writes, key: Id, change: OrganizationChange) -> Organization:
    """Change the fields that are sent; `version` is the one that was read."""
    return await changed(session, await found(session, Organization, key), change)


@router.delete("/{key}", status_code=204, responses=problems(400, 404, 409), operation_id="delete_organization")
async def delete_organization(session: Writes, key: Id) -> Response:
    """Mark as deleted: it is not found any more, and stays in the records."""
    (await found(session, Organization, key)).delete()
    return Response(status_code=204)
