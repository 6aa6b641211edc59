"""Bins over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from wastemgmt.api.deps import Id, Limit, Offset, OfOrganization, Reads, Writes
from wastemgmt.api.errors import problems
from wastemgmt.api.rows import changed, found, must_exist, saved
from wastemgmt.models import Bin, Customer
from wastemgmt.models.bin import BinStatistics
from wastemgmt.perf import cache
from wastemgmt.profiles import BinList
from wastemgmt.schemas import BinChange, BinIn, BinOut, BinRow, BinStatus, BinType, Key

router = APIRouter(prefix="/api/bins", tags=["bins"])


@router.get("/statistics", responses=problems(), operation_id="bin_statistics")
async def statistics(session: Reads, organization_id: OfOrganization = None) -> BinStatistics:
    """Counts, fill levels and collected weights. Remembered for 15 minutes, or until something in it changes."""
    return await Bin.statistics(session, organization_id)


@router.get("", response_model=list[BinRow], responses=problems(), operation_id="list_bins")
@cache.query()
async def list_bins(
    session: Reads,
    limit: Limit = 50,
    offset: Offset = 0,
    customer_id: Annotated[Key | None, Query(description="Only those at this customer.")] = None,
    bin_type: BinType | None = None,
    status: BinStatus | None = None,
) -> list[BinRow]:
    """Bins with their customer, organization and account manager. Remembered until any of these changes."""
    listed = Bin.listed(limit=limit, offset=offset, customer_id=customer_id, bin_type=bin_type, status=status)
    return [
        BinRow(
            **BinOut.model_validate(each).model_dump(),
            customer=each.customer.name,
            organization=each.customer.organization.name,
            account_manager=each.customer.account_manager.full_name if each.customer.account_manager else None,
            organization_users=len(each.customer.organization.users),
        )
        for each in await session.scalars(BinList.apply(listed))
    ]


@router.get("/{key}", response_model=BinOut, responses=problems(404), operation_id="get_bin")
async def get_bin(session: Reads, key: Id) -> Bin:
    """One bin."""
    return await found(session, Bin, key)


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
