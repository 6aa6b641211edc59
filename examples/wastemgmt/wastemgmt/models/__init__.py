"""The tables, one file per aggregate, each with every query on it.

Imports follow the foreign keys: collection → route → bin → customer → user → organization.
"""

from wastemgmt.models.base import Base
from wastemgmt.models.bin import Bin
from wastemgmt.models.collection import Collection
from wastemgmt.models.customer import Customer
from wastemgmt.models.organization import Organization
from wastemgmt.models.route import Route, RouteStop
from wastemgmt.models.user import User

__all__ = ["Base", "Bin", "Collection", "Customer", "Organization", "Route", "RouteStop", "User"]
