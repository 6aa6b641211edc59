"""Users over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Response

from perfkit.integrations.fastapi import KeysetPage, KeysetParams
from wastemgmt.api.deps import Id, OfOrganization, Reads, Writes
from wastemgmt.api.errors import problems
from wastemgmt.api.pages import Count, Linked, Place, paged, read_page
from wastemgmt.api.rows import changed, found, must_exist, saved, shown
from wastemgmt.database import ReadSession
from wastemgmt.models import Organization, User
from wastemgmt.perf import cache
from wastemgmt.profiles import UserView
from wastemgmt.schemas import UserChange, UserIn, UserOut

router = APIRouter(prefix="/api/users", tags=["users"])


@router.get("", responses=paged(), operation_id="list_users")
async def list_users(
    session: Reads, place: Place, linked: Linked, count: Count = False, organization_id: OfOrganization = None
) -> KeysetPage[UserOut]:
    """Users by name."""
    return linked(await page_of(session, place, count=count, organization_id=organization_id))


@cache.query()
async def page_of(
    session: ReadSession, place: KeysetParams, *, count: bool, organization_id: int | None
) -> KeysetPage[UserOut]:
    """A page of users as it is shown, remembered until anything in it changes, or comes between."""
    listed = UserView.apply(User.listed("name", organization_id=organization_id))
    return KeysetPage[UserOut].of(await read_page(session, listed, place, count=count))


@router.get("/{key}", response_model=UserOut, responses=problems(404), operation_id="get_user")
async def get_user(session: Reads, key: Id) -> User:
    """One user."""
    return await shown(session, User, key, UserView)


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
