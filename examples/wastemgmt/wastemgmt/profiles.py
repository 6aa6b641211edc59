"""What each screen loads; what it does not name is an error in the tests, and lazy in production."""

from __future__ import annotations

from perfkit.loading import EagerProfile, joined, many, never, one
from wastemgmt.models import Bin, Customer, Organization, Route


class Unaudited(EagerProfile):
    """Who made and changed a row is nobody's affair here."""

    created_by = never()
    updated_by = never()


class Hauler(Unaudited, EagerProfile, entity=Organization, fields=("name",)):
    """An organization's name, and how many users it has."""

    users = many(fields=["id"])


class CustomerCard(Unaudited, EagerProfile, entity=Customer, fields=("name",)):
    """Whose bins they are, and who looks after that."""

    organization = one(Hauler)
    account_manager = joined(fields=["full_name"])


class BinList(Unaudited, EagerProfile, entity=Bin):
    """Four statements, however many bins: bins, customers with their managers, organizations, their users."""

    customer = one(CustomerCard)


class RouteDetail(Unaudited, EagerProfile, entity=Route):
    """A route and its stops; two statements."""

    stops = many(fields=["bin_id", "position", "deleted_at"])
