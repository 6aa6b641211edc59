"""What goes over the wire. Bounds are those of the columns, so that nothing a client sends can break a statement."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Any, Literal

from geoalchemy2 import WKBElement
from geoalchemy2.shape import to_shape
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

MAX_KEY = 2**31 - 1

Key = Annotated[int, Field(ge=1, le=MAX_KEY)]
Percent = Annotated[int, Field(ge=0, le=100)]
Version = Annotated[int, Field(ge=1, le=MAX_KEY, description="As it was read; another one is a conflict.")]


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain NUL")
    return text


NoNul = AfterValidator(_no_nul)
Name = Annotated[str, Field(min_length=1, max_length=200), NoNul]
City = Annotated[str, Field(min_length=1, max_length=100), NoNul]
Short = Annotated[str, Field(min_length=1, max_length=50), NoNul]
Postcode = Annotated[str, Field(min_length=1, max_length=20), NoNul]
Email = Annotated[str, Field(max_length=254, pattern=r"^[^@\s\x00]+@[^@\s\x00]+$", examples=["aino@example.org"])]
Lon = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False, examples=[24.9414])]
Lat = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False, examples=[60.1719])]


# The first and the last day that a datetime can hold leave its range when they are moved to UTC.
FIRST, LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def _left_out() -> Any:
    """What a field holds that was not sent; a factory, because a default of null would be in the OpenAPI document."""
    return None


class Location(BaseModel):
    """A place, in degrees of WGS84."""

    lon: Lon
    lat: Lat

    def ewkt(self) -> str:
        return f"SRID=4326;POINT({self.lon!r} {self.lat!r})"


def _place(value: Any) -> Any:
    if isinstance(value, WKBElement):
        lon, lat = to_shape(value).coords[0]
        return {"lon": lon, "lat": lat}
    return value


def _line(value: Any) -> Any:
    return [[x, y] for x, y in to_shape(value).coords] if isinstance(value, WKBElement) else value


Place = Annotated[Location, BeforeValidator(_place)]
Line = Annotated[
    list[Annotated[list[float], Field(min_length=2, max_length=2)]],
    BeforeValidator(_line),
    Field(description="Longitude and latitude of each point.", examples=[[[24.94, 60.17], [24.95, 60.171]]]),
]


class Out(BaseModel):
    """Read from a mapped object."""

    model_config = ConfigDict(from_attributes=True)

    id: int


class Kept(Out):
    """With what all tables but the collections have."""

    created_at: datetime
    updated_at: datetime
    version: int


class In(BaseModel):
    """Sent by a client; unknown fields are an error, as they are most likely misspelt."""

    model_config = ConfigDict(extra="forbid")


class Change(In):
    """Fields that are left out stay as they are; None only where a column may be empty."""

    version: Version


class OrganizationOut(Kept):
    """A hauler."""

    name: str
    city: str


class OrganizationIn(In):
    """A new hauler."""

    name: Name = Field(examples=["Kauppatori Waste"])
    city: City = Field(examples=["Helsinki"])


class OrganizationChange(Change):
    """What can change of a hauler."""

    name: Name = Field(default_factory=_left_out)
    city: City = Field(default_factory=_left_out)


Role = Literal["admin", "dispatcher", "driver"]


class UserOut(Kept):
    """Somebody who works for a hauler."""

    organization_id: int
    email: str
    full_name: str
    role: Role
    is_active: bool


class UserIn(In):
    """A new user."""

    organization_id: Key
    email: Email
    full_name: Name = Field(examples=["Aino Aalto"])
    role: Role
    is_active: bool = True


class UserChange(Change):
    """What can change of a user."""

    email: Email = Field(default_factory=_left_out)
    full_name: Name = Field(default_factory=_left_out)
    role: Role = Field(default_factory=_left_out)
    is_active: bool = Field(default_factory=_left_out)


class CustomerOut(Kept):
    """A business with bins."""

    organization_id: int
    account_manager_id: int | None
    name: str
    category: str
    street: str | None
    house_number: str | None
    postcode: str | None
    city: str
    location: Place


class CustomerIn(In):
    """A new business."""

    organization_id: Key
    account_manager_id: Key | None = None
    name: Name = Field(examples=["Café Esplanad"])
    category: Short = Field(examples=["café"])
    street: Name | None = None
    house_number: Short | None = None
    postcode: Postcode | None = None
    city: City = Field(examples=["Helsinki"])
    location: Location


class CustomerChange(Change):
    """What can change of a business."""

    account_manager_id: Key | None = None
    name: Name = Field(default_factory=_left_out)
    category: Short = Field(default_factory=_left_out)
    location: Location = Field(default_factory=_left_out)


BinType = Literal["general", "paper", "glass", "plastic", "bio", "metal"]
BinStatus = Literal["active", "maintenance", "retired"]


class BinOut(Kept):
    """A bin."""

    customer_id: int
    bin_type: BinType
    capacity_l: int
    fill_percent: int
    status: BinStatus
    location: Place
    last_collected_at: datetime | None


class BinRow(BinOut):
    """A bin in a list, with whose it is."""

    customer: str
    organization: str
    account_manager: str | None
    organization_users: int


class BinIn(In):
    """A new bin."""

    customer_id: Key
    bin_type: BinType
    capacity_l: int = Field(ge=1, le=100_000, examples=[240])
    fill_percent: Percent = 0
    status: BinStatus = "active"
    location: Location


class BinChange(Change):
    """What can change of a bin."""

    capacity_l: int = Field(default_factory=_left_out, ge=1, le=100_000)
    fill_percent: Percent = Field(default_factory=_left_out)
    status: BinStatus = Field(default_factory=_left_out)
    location: Location = Field(default_factory=_left_out)


MAX_LEAP_DEG = 1.0


def _no_leap(path: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """`path`, of points near each other. Between opposite points of the earth PostGIS finds no line, and fails."""
    for (lon, lat), (next_lon, next_lat) in pairwise(path):
        east = abs(next_lon - lon)
        if max(min(east, 360 - east), abs(next_lat - lat)) > MAX_LEAP_DEG:
            raise ValueError(f"{next_lon}, {next_lat} is more than a degree from the point before it")
    return path


RouteStatus = Literal["planned", "active", "completed", "cancelled"]


class RouteOut(Kept):
    """A collection route."""

    organization_id: int
    driver_id: int | None
    name: str
    status: RouteStatus
    weekday: int
    length_m: float


class RouteDetail(RouteOut):
    """A route with its way and its stops."""

    path: Line
    bin_ids: list[int]


class RouteNearby(RouteOut):
    """A route, and how near it passes."""

    distance_m: float


class RouteIn(In):
    """A new route, with its stops in the order of their visit."""

    organization_id: Key
    driver_id: Key | None = None
    name: Name = Field(examples=["Kallio Green, Monday 1"])
    status: RouteStatus = "planned"
    weekday: int = Field(ge=0, le=6, description="0 is Monday.")
    path: Annotated[list[tuple[Lon, Lat]], AfterValidator(_no_leap)] = Field(
        min_length=2,
        max_length=10_000,
        description="Longitude and latitude of each point, at most one degree from the one before.",
        examples=[[[24.94, 60.17], [24.95, 60.171]]],
    )
    bin_ids: list[Key] = Field(default=[], max_length=1000)

    def ewkt(self) -> str:
        return f"SRID=4326;LINESTRING({', '.join(f'{lon!r} {lat!r}' for lon, lat in self.path)})"


class RouteChange(Change):
    """What can change of a route."""

    driver_id: Key | None = None
    name: Name = Field(default_factory=_left_out)
    status: RouteStatus = Field(default_factory=_left_out)
    weekday: int = Field(default_factory=_left_out, ge=0, le=6)
    bin_ids: list[Key] = Field(default_factory=_left_out, max_length=1000, description="Replaces the stops.")


CollectionStatus = Literal["collected", "skipped", "blocked"]


class CollectionOut(Out):
    """What happened at a stop."""

    bin_id: int
    route_id: int
    driver_id: int | None
    collected_at: datetime
    fill_before_percent: int
    weight_g: int
    status: CollectionStatus


class CollectionIn(In):
    """What happened at a stop; a bin that was collected is empty afterwards."""

    bin_id: Key
    route_id: Key
    driver_id: Key | None = None
    collected_at: AwareDatetime = Field(
        ge=FIRST, lt=LAST, description="Between 2000 and 2099.", examples=["2026-06-30T10:00:00Z"]
    )
    fill_before_percent: Percent
    weight_g: int = Field(ge=0, le=10_000_000, examples=[48_000])
    status: CollectionStatus = "collected"
