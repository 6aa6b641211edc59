"""Organizations over HTTP."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Response

from wastemgmt.api.deps import Id, Limit, Offset, Reads, Writes
from wastemgmt.api.errors import problems
from wastemgmt.api.rows import changed, found, saved
from wastemgmt.models import Organization
from wastemgmt.schemas import OrganizationChange, OrganizationIn, OrganizationOut

router = APIRouter(prefix="/api/organizations", tags=["organizations"])


@router.get("", response_model=list[OrganizationOut], responses=problems(), operation_id="list_organizations")
async def list_organizations(session: Reads, limit: Limit = 50, offset: Offset = 0) -> Sequence[Organization]:
    """Organizations in the order of their keys."""
    return await Organization.page(session, limit=limit, offset=offset)


@router.get("/{key}", response_model=OrganizationOut, responses=problems(404), operation_id="get_organization")
async def get_organization(session: Reads, key: Id) -> Organization:
    """One organization."""
    return await found(session, Organization, key)


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
