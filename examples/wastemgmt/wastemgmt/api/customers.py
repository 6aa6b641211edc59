"""Customers over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Response

from perfkit.integrations.fastapi import KeysetPage, KeysetParams
from wastemgmt.api.deps import Id, OfOrganization, Reads, Writes
from wastemgmt.api.errors import problems
from wastemgmt.api.pages import Count, Linked, Place, paged, read_page
from wastemgmt.api.rows import changed, found, must_exist, saved, shown
from wastemgmt.database import ReadSession
from wastemgmt.models import Customer, Organization, User
from wastemgmt.perf import cache
from wastemgmt.profiles import CustomerView
from wastemgmt.schemas import CustomerChange, CustomerIn, CustomerOut

router = APIRouter(prefix="/api/customers", tags=["customers"])


@router.get("", responses=paged(), operation_id="list_customers")
async def list_customers(
    session: Reads, place: Place, linked: Linked, count: Count = False, organization_id: OfOrganization = None
) -> KeysetPage[CustomerOut]:
    """Customers by name."""
    return linked(await page_of(session, place, count=count, organization_id=organization_id))


@cache.query()
async def page_of(
    session: ReadSession, place: KeysetParams, *, count: bool, organization_id: int | None
) -> KeysetPage[CustomerOut]:
    """A page of customers as it is shown, remembered until anything in it changes, or comes between."""
    listed = CustomerView.apply(Customer.listed("name", organization_id=organization_id))
    return KeysetPage[CustomerOut].of(await read_page(session, listed, place, count=count))


@router.get("/{key}", response_model=CustomerOut, responses=problems(404), operation_id="get_customer")
async def get_customer(session: Reads, key: Id) -> Customer:
    """One customer."""
    return await shown(session, Customer, key, CustomerView)


@router.post(
    "", response_model=CustomerOut, status_code=201, responses=problems(400, 409, 413), operation_id="create_customer"
)
async def create_customer(session: Writes, new: CustomerIn) -> Customer:
    """Add a customer."""
    await must_exist(
        session,
        organization_id=(Organization, new.organization_id),
        account_manager_id=(User, new.account_manager_id),
    )
    return await saved(session, Customer(**new.model_dump(exclude={"location"}), location=new.location.ewkt()))


@router.patch(
    "/{key}", response_model=CustomerOut, responses=problems(400, 404, 409, 413), operation_id="change_customer"
)
async def change_customer(session: Writes, key: Id, change: CustomerChange) -> Customer:
    """Change the fields that are sent; `version` is the one that was read."""
    await must_exist(session, account_manager_id=(User, change.account_manager_id))
    moved = {"location": change.location.ewkt()} if "location" in change.model_fields_set else {}
    return await changed(session, await found(session, Customer, key), change, **moved)


@router.delete("/{key}", status_code=204, responses=problems(400, 404, 409), operation_id="delete_customer")
async def delete_customer(session: Writes, key: Id) -> Response:
    """Mark as deleted: it is not found any more, and stays in the records."""
    (await found(session, Customer, key)).delete()
    return Response(status_code=204)
