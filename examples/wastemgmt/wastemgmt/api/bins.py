"""Bins over HTTP."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from perfkit.integrations.fastapi import KeysetPage, KeysetParams
from perfkit.paging import Page
from wastemgmt.api.deps import Id, OfOrganization, Reads, Writes
from wastemgmt.api.errors import problems
from wastemgmt.api.pages import Count, Linked, Place, paged, read_page
from wastemgmt.api.rows import changed, found, must_exist, saved, shown
from wastemgmt.database import ReadSession
from wastemgmt.models import Bin, Customer
from wastemgmt.models.bin import BinStatistics
from wastemgmt.perf import cache
from wastemgmt.profiles import BinList, BinView
from wastemgmt.schemas import BinChange, BinIn, BinOut, BinRow, BinStatus, BinType, Key

router = APIRouter(prefix="/api/bins", tags=["bins"])


@router.get("/statistics", responses=problems(), operation_id="bin_statistics")
async def statistics(session: Reads, organization_id: OfOrganization = None) -> BinStatistics:
    """Counts, fill levels and collected weights. Remembered for 15 minutes, or until something in it changes."""
    return await Bin.statistics(session, organization_id)


Order = Annotated[
    Literal["fill", "waiting"],
    Query(description="`fill`: the fullest first. `waiting`: those that were not collected for longest."),
]


@router.get("", responses=paged(), operation_id="list_bins")
async def list_bins(
    session: Reads,
    place: Place,
    linked: Linked,
    order: Order = "fill",
    count: Count = False,
    customer_id: Annotated[Key | None, Query(description="Only those at this customer.")] = None,
    bin_type: BinType | None = None,
    status: BinStatus | None = None,
) -> KeysetPage[BinRow]:
    """Bins with their customer, organization and account manager."""
    equal = {"customer_id": customer_id, "bin_type": bin_type, "status": status}
    return linked(await page_of(session, place, order, count=count, **equal))


@cache.query()
async def page_of(
    session: ReadSession, place: KeysetParams, order: str, *, count: bool, **equal: Any
) -> KeysetPage[BinRow]:
    """A page of bins as it is shown, remembered until anything in it changes, or comes between."""
    page: Page[Any] = await read_page(session, BinList.apply(Bin.listed(order, **equal)), place, count=count)
    return KeysetPage[BinRow].of(replace(page, items=[_row(each) for each in page.items]))


def _row(each: Bin) -> BinRow:
    customer, manager = each.customer, each.customer.account_manager
    return BinRow.model_construct(
        **dict(BinOut.model_validate(each)),
        customer=customer.name,
        organization=customer.organization.name,
        account_manager=manager.full_name if manager else None,
        organization_users=len(customer.organization.users),
    )


@router.get("/{key}", response_model=BinOut, responses=problems(404), operation_id="get_bin")
async def get_bin(session: Reads, key: Id) -> Bin:
    """One bin."""
    return await shown(session, Bin, key, BinView)


@router.post("", response_model=BinOut, status_code=201, responses=problems(400, 409, 413), operation_id="create_bin")
async def create_bin(session: Writes, new: BinIn) -> Bin:
    """Add a bin at a customer."""
    await must_exist(session, customer_id=(Customer, new.customer_id))
    return await saved(session, Bin(**new.model_dump(exclude={"location"}), location=new.location.ewkt()))


@router.patch("/{key}", response_model=BinOut, responses=problems(400, 404, 409, 413), operation_id="change_bin")
async def change_bin(session: Writes, key: Id, change: BinChange) -> Bin:
    """Change the fields that are sent; `version` is the one that was read."""
    moved = {"location": change.location.ewkt()} if "location" in change.model_fields_set else {}
    return await changed(session, await found(session, Bin, key), change, **moved)


@router.delete("/{key}", status_code=204, responses=problems(400, 404, 409), operation_id="delete_bin")
async def delete_bin(session: Writes, key: Id) -> Response:
    """Mark as deleted: it is not found any more, and stays in the records."""
    (await found(session, Bin, key)).delete()
    return Response(status_code=204)
