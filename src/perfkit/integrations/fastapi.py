"""Pages in FastAPI: parameters as dependencies, pages as response models, a bad cursor as 400 problem+json.

`install(app)` once, `keyset_params(max_size=100)` as a dependency of each list, `BAD_REQUEST` as its `responses=`, and
`KeysetPage[BinOut].of(page)` as what it returns. The whole of it is in docs/how-to/page-through-a-list.md.
"""

# no `from __future__ import annotations`: FastAPI reads those of the dependencies made here, which name what is local

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, Self, TypedDict, TypeVar
from urllib.parse import quote

from perfkit.errors import InvalidCursor, MissingExtra, OffsetTooDeep
from perfkit.paging import NumberedPage, Page, Total, connection, listing
from perfkit.paging.keyset import MAX_SIZE, check_size

try:
    from fastapi import FastAPI, Query, Request
    from fastapi.responses import JSONResponse
    from pydantic import BaseModel, ConfigDict, Field
except ImportError as missing:
    raise MissingExtra("perfkit.integrations.fastapi", package="fastapi", extra="fastapi") from missing

__all__ = [
    "BAD_REQUEST",
    "Connection",
    "KeysetPage",
    "KeysetParams",
    "Listing",
    "OffsetPage",
    "OffsetParams",
    "Problem",
    "install",
    "keyset_params",
    "offset_params",
]

T = TypeVar("T")
MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What was wrong with a request, as RFC 9457 has it."""

    type: str = Field(default="about:blank", examples=["about:blank"])
    title: str = Field(examples=["Bad Request"])
    status: int = Field(examples=[400])
    detail: str = Field(examples=["the cursor is not one of ours"])
    instance: str = Field(examples=["/bins"])


BAD_REQUEST: dict[int | str, dict[str, Any]] = {
    400: {
        "description": "The cursor is not one of this list, or the page is too far in.",
        "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
    }
}
"""For `responses=` of an operation that takes a page."""


def install(app: FastAPI) -> None:
    """Answer a wrong cursor, and a page number beyond what is allowed, with 400 and a problem."""

    async def refused(request: Request, error: Exception) -> JSONResponse:
        problem = Problem(title="Bad Request", status=400, detail=str(error), instance=quote(request.scope["path"]))
        return JSONResponse(problem.model_dump(), 400, media_type=MEDIA_TYPE)

    app.add_exception_handler(InvalidCursor, refused)
    app.add_exception_handler(OffsetTooDeep, refused)


class KeysetOptions(TypedDict):
    """What `keyset` is called with."""

    size: int
    after: str | None
    before: str | None
    last: bool
    max_size: int


@dataclass(frozen=True, slots=True)
class KeysetParams:
    """The place and size of a page, as a query asked for it."""

    size: int
    after: str | None = None
    before: str | None = None
    last: bool = False
    max_size: int = MAX_SIZE

    @property
    def options(self) -> KeysetOptions:
        """For `keyset(session, statement, **params.options)`."""
        return {
            "size": self.size,
            "after": self.after,
            "before": self.before,
            "last": self.last,
            "max_size": self.max_size,
        }


def keyset_params(*, size: int = 50, max_size: int = 100) -> Callable[..., KeysetParams]:
    """A dependency that reads `size`, `after`, `before` and `last` from the query; what contradicts itself is a 400.

    Raises:
        PagingDeclarationError: a `size` that is not from 1 to `max_size`.
    """
    check_size(size, max_size)
    usual = size

    def parameters(
        size: Annotated[int, Query(ge=1, le=max_size, description="How many items.")] = usual,
        after: Annotated[str | None, Query(description="The `next` of a page: what comes after it.")] = None,
        before: Annotated[str | None, Query(description="The `previous` of a page: what comes before it.")] = None,
        last: Annotated[bool, Query(description="The end of the list.")] = False,
    ) -> KeysetParams:
        if (after is not None) + (before is not None) + last > 1:
            raise InvalidCursor("give one of after, before and last")
        return KeysetParams(size, after, before, last, max_size)

    return parameters


class OffsetOptions(TypedDict):
    """What `offset` is called with."""

    size: int
    number: int
    max_size: int


@dataclass(frozen=True, slots=True)
class OffsetParams:
    """The number and size of a page, as a query asked for it."""

    size: int
    number: int = 1
    max_size: int = MAX_SIZE

    @property
    def options(self) -> OffsetOptions:
        """For `offset(session, statement, **params.options)`."""
        return {"size": self.size, "number": self.number, "max_size": self.max_size}


def offset_params(*, size: int = 50, max_size: int = 100) -> Callable[..., OffsetParams]:
    """A dependency that reads `size` and `page` from the query.

    Raises:
        PagingDeclarationError: a `size` that is not from 1 to `max_size`.
    """
    check_size(size, max_size)
    usual = size

    def parameters(
        size: Annotated[int, Query(ge=1, le=max_size, description="How many items.")] = usual,
        page: Annotated[int, Query(ge=1, description="The number of the page; the first is 1.")] = 1,
    ) -> OffsetParams:
        return OffsetParams(size, page, max_size)

    return parameters


class TotalOut(BaseModel):
    """How many items there are on all pages."""

    value: int
    kind: str = Field(description="`exact`, `at_least`, `estimate`, `cached` or `carried`.")
    counted: str | None = Field(default=None, description="If it is carried: the kind that it was counted as.")
    counted_at: datetime | None = Field(default=None, description="If it is carried: since when.")


class _FromAttributes(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class KeysetPage(_FromAttributes, Generic[T]):
    """Some items of a list, and what leads to those before and after them."""

    items: list[T]
    next: str | None = Field(description="Ask for it as `after`; null at the end.")
    previous: str | None = Field(description="Ask for it as `before`; null at the beginning.")
    total: TotalOut | None = None

    @classmethod
    def of(cls, page: Page[Any]) -> Self:
        """The model of a page."""
        told = {"items": page.items, "next": page.next, "previous": page.previous, "total": _total(page.total)}
        return cls.model_validate(told, from_attributes=True)


class OffsetPage(_FromAttributes, Generic[T]):
    """A numbered page of a list."""

    items: list[T]
    page: int
    size: int
    has_next: bool
    total: TotalOut | None = None

    @classmethod
    def of(cls, page: NumberedPage[Any]) -> Self:
        """The model of a page."""
        told = {"items": page.items, "page": page.number, "size": page.size, "has_next": page.has_next}
        return cls.model_validate({**told, "total": _total(page.total)}, from_attributes=True)


class Edge(_FromAttributes, Generic[T]):
    """An item and its place."""

    cursor: str
    node: T


class PageInfo(BaseModel):
    """What is around a connection's edges, in the words of Relay."""

    hasNextPage: bool  # noqa: N815
    hasPreviousPage: bool  # noqa: N815
    startCursor: str | None  # noqa: N815
    endCursor: str | None  # noqa: N815


class Connection(_FromAttributes, Generic[T]):
    """A page as a Relay connection."""

    edges: list[Edge[T]]
    pageInfo: PageInfo  # noqa: N815

    @classmethod
    def of(cls, page: Page[Any]) -> Self:
        """The model of a page."""
        return cls.model_validate(connection(page), from_attributes=True)


class Listing(_FromAttributes, Generic[T]):
    """A page as a list in the manner of Stripe."""

    object: str = "list"
    url: str
    has_more: bool
    data: list[T]
    next: str | None
    previous: str | None

    @classmethod
    def of(cls, page: Page[Any], url: str) -> Self:
        """The model of a page of the list at `url`."""
        return cls.model_validate(listing(page, url), from_attributes=True)


def _total(total: Total | None) -> dict[str, Any] | None:
    return None if total is None else asdict(total)
