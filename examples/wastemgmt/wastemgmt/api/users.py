"""Users over HTTP."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Response

from wastemgmt.api.deps import Id, Limit, Offset, OfOrganization, Reads, Writes
from wastemgmt.api.errors import problems
from wastemgmt.api.rows import changed, found, must_exist, saved
from wastemgmt.models import Organization, User
from wastemgmt.schemas import UserChange, UserIn, UserOut

router = APIRouter(prefix="/api/users", tags=["users"])


@router.get("", response_model=list[UserOut], responses=problems(), operation_id="list_users")
async def list_users(
    session: Reads, limit: Limit = 50, offset: Offset = 0, organization_id: OfOrganization = None
) -> Sequence[User]:
    """Users in the order of their keys."""
    return await User.page(session, limit=limit, offset=offset, organization_id=organization_id)


@router.get("/{key}", response_model=UserOut, responses=problems(404), operation_id="get_user")
async def get_user(session: Reads, key: Id) -> User:
    """One user."""
    return await found(session, User, key)


@router.post("", response_model=UserOut, status_code=201, responses=problems(400, 409, 413), operation_id="create_user")
async def create_user(session: Writes, new: UserIn) -> User:
    """Add a user."""
    await must_exist(session, organization_id=(Organization, new.organization_id))
    return await saved(session, User(**new.model_dump()))


@router.patch("/{key}", response_model=UserOut, responses=problems(400, 404, 409, 413), operation_id="change_user")
async def change_user(session: Writes, key: Id, change: UserChange) -> User:
    """Change the fields that are sent; `version` is the one that was read."""
    return await changed(session, await found(session, User, key), change)


@router.delete("/{key}", status_code=204, responses=problems(400, 404, 409), operation_id="delete_user")
async def delete_user(session: Writes, key: Id) -> Response:
    """Mark as deleted: it is not found any more, and stays in the records."""
    (await found(session, User, key)).delete()
    return Response(status_code=204)
