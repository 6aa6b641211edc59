"""Pages of lists: which one is asked for, what reads it, and how it is shown."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query, Request, Response
from sqlalchemy import Select

from perfkit.integrations.fastapi import BAD_REQUEST, KeysetPage, KeysetParams, keyset_params
from perfkit.paging import Page, akeyset, capped, link_header
from wastemgmt.api.errors import problems
from wastemgmt.database import ReadSession, cursors_of

M = TypeVar("M")
P = TypeVar("P", bound=KeysetPage[Any])

MAX_SIZE, MAX_COUNTED = 200, 10_000

Place = Annotated[KeysetParams, Depends(keyset_params(size=50, max_size=MAX_SIZE))]
Count = Annotated[bool, Query(description=f"Say how many there are, up to {MAX_COUNTED:,}.")]


def paged() -> dict[int | str, dict[str, Any]]:
    """For `responses=` of a list."""
    link = {"schema": {"type": "string"}, "description": "The pages around this one: next, prev, first, last."}
    found = problems(400)
    found[400]["description"] = BAD_REQUEST[400]["description"]
    return {200: {"headers": {"Link": link}}, **found}


async def read_page(session: ReadSession, listed: Select[M], place: KeysetParams, *, count: bool) -> Page[M]:
    """One page of a statement, with cursors that all processes of the service know."""
    total = capped(MAX_COUNTED) if count else None
    return await akeyset(session, listed, cursors=cursors_of(session), count=total, **place.options)


class Linking:
    """Says in an answer's Link header what is around the page that it shows."""

    def __init__(self, request: Request, response: Response) -> None:
        self._url, self._headers = request.url, response.headers

    def __call__(self, page: P) -> P:
        self._headers["Link"] = link_header(page, self._url)
        return page


Linked = Annotated[Linking, Depends(Linking)]
