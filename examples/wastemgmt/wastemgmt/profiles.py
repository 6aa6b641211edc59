"""What each screen loads; what it does not name is an error in the tests, and lazy in production."""

from __future__ import annotations

from perfkit.loading import EagerProfile, joined, many, never, one
from wastemgmt.models import Bin, Collection, Customer, Organization, Route, User


class Unaudited(EagerProfile):
    """Who made and changed a row is nobody's affair here."""

    created_by = never()
    updated_by = never()


class OrganizationView(Unaudited, EagerProfile, entity=Organization):
    """An organization, alone or in a list."""


class UserView(Unaudited, EagerProfile, entity=User):
    """A user, alone or in a list."""


class CustomerView(Unaudited, EagerProfile, entity=Customer):
    """A customer, alone or in a list."""


class BinView(Unaudited, EagerProfile, entity=Bin):
    """A bin alone."""


class Hauler(OrganizationView, fields=("name",)):
    """An organization's name, and how many users it has."""

    users = many(fields=["id"])


class CustomerCard(CustomerView, fields=("name",)):
    """Whose bins they are, and who looks after that."""

    organization = one(Hauler)
    account_manager = joined(fields=["full_name"])


class BinList(BinView):
    """Four statements, however many bins: bins, customers with their managers, organizations, their users."""

    customer = one(CustomerCard)


class RouteList(Unaudited, EagerProfile, entity=Route):
    """Routes without their ways, which are most of their bytes."""

    path = never()


class RouteDetail(Unaudited, EagerProfile, entity=Route):
    """A route and its stops; two statements."""

    stops = many(fields=["bin_id", "position", "deleted_at"])


class CollectionList(EagerProfile, entity=Collection):
    """What happened at stops, and nothing of the bins, routes and drivers."""
