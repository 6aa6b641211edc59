"""What handlers ask for: sessions, and who acts; pages are in `pages`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request

from wastemgmt.api.errors import Refused
from wastemgmt.database import Database, ReadSession, WriteSession
from wastemgmt.models import User
from wastemgmt.schemas import MAX_KEY, Key

Id = Annotated[int, Path(ge=1, le=MAX_KEY)]
OfOrganization = Annotated[Key | None, Query(description="Only those of this organization.")]


def database_of(request: Request) -> Database:
    """The database that `create_app` opened."""
    database: Database = request.app.state.database
    return database


async def reading(database: Annotated[Database, Depends(database_of)]) -> AsyncIterator[ReadSession]:
    """A session for one request that changes nothing."""
    async with database.reading() as session:
        yield session


async def acting_user(
    database: Annotated[Database, Depends(database_of)],
    x_user_id: Annotated[Key | None, Header(description="Who acts; goes into the audit columns.")] = None,
) -> int | None:
    """The user in the X-User-Id header, who must exist."""
    if x_user_id is None:
        return None
    async with database.reading() as session:
        if await User.get(session, x_user_id) is None:
            raise Refused(400, f"X-User-Id: there is no user {x_user_id}.")
    return x_user_id


async def writing(
    database: Annotated[Database, Depends(database_of)], user_id: Annotated[int | None, Depends(acting_user)]
) -> AsyncIterator[WriteSession]:
    """A session for one request that changes something; committed once, before the answer is sent."""
    async with database.writing(user_id) as session:
        yield session


Reads = Annotated[ReadSession, Depends(reading)]
# "function": the commit comes before the answer, and its failure becomes the answer
Writes = Annotated[WriteSession, Depends(writing, scope="function")]
