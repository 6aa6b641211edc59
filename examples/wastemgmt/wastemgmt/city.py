"""The rows of one city: real businesses and streets, and bins, tours and collections that are made up.

Everything comes from one fixed seed, so that each run and each database has the same rows. City 0 is Helsinki; the
others are the same city again, some kilometres away and with other dice.
"""

from __future__ import annotations

import gzip
import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any, NamedTuple

SEED = "wastemgmt 1"
NOW = datetime(2026, 6, 30, 18, tzinfo=UTC)  # the end of the 90 days, a Tuesday
DAYS = 90
FIRST_MORNING = NOW.replace(hour=5) - timedelta(days=DAYS)
EAST_DEGREES, NORTH_DEGREES, COLUMNS = 0.04, 0.03, 10  # how far the cities lie apart, and how many in a row

HAULERS = ("Kauppatori Waste", "Etelä Recycling", "Töölö Collection", "Kallio Green")
FIRST_NAMES = ("Aino", "Eero", "Helmi", "Ilmari", "Kerttu", "Lauri", "Martta", "Onni", "Saima", "Toivo", "Venla")
LAST_NAMES = ("Aalto", "Harju", "Jokela", "Koski", "Laine", "Mäki", "Niemi", "Ranta", "Salo", "Virta")

# percent of its volume by which a bin of the type fills in a day
DAILY_PERCENT = {"general": 11, "bio": 12, "paper": 9, "plastic": 8, "glass": 6, "metal": 4}
GRAMS_PER_LITRE = {"general": 120, "bio": 450, "paper": 70, "plastic": 35, "glass": 280, "metal": 90}
LITRES = {"general": 660, "bio": 240, "paper": 660, "plastic": 370, "glass": 240, "metal": 240}
BUSY = {"restaurant": 1.35, "hotel": 1.3, "bar": 1.2, "food shop": 1.25, "café": 1.1, "office": 0.7, "bank": 0.5}
BINS = {
    "restaurant": (8, 13),
    "hotel": (10, 16),
    "food shop": (9, 14),
    "café": (7, 10),
    "bar": (7, 11),
    "office": (6, 9),
}
KINDS = ("general", "paper", "bio", "plastic", "glass", "metal")

Row = tuple[Any, ...]


class Place(NamedTuple):
    """Degrees of WGS84."""

    lon: float
    lat: float

    def ewkb(self) -> bytes:
        return struct.pack("<BIIdd", 1, 0x20000001, 4326, *self)


class Line(tuple[Place, ...]):
    """A line through places."""

    __slots__ = ()

    def ewkb(self) -> bytes:
        flat = [degrees for place in self for degrees in place]
        return struct.pack(f"<BIII{len(flat)}d", 1, 0x20000002, 4326, len(self), *flat)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows for one table, in the order of its foreign keys."""

    name: str
    columns: tuple[str, ...]
    rows: list[Row]


COLUMNS_OF = {
    "organizations": ("id", "name", "city"),
    "users": ("id", "organization_id", "email", "full_name", "role", "is_active"),
    "customers": (
        *("id", "organization_id", "account_manager_id", "name", "category"),
        *("street", "house_number", "postcode", "city", "location"),
    ),
    "bins": ("id", "customer_id", "bin_type", "capacity_l", "fill_percent", "status", "location", "last_collected_at"),
    "routes": ("id", "organization_id", "driver_id", "name", "status", "weekday", "length_m", "path"),
    "route_stops": ("id", "route_id", "bin_id", "position"),
    "collections": (
        "id",
        "bin_id",
        "route_id",
        "driver_id",
        "collected_at",
        "fill_before_percent",
        "weight_g",
        "status",
    ),
}


@cache
def _data(name: str) -> Any:
    return json.loads(gzip.decompress((files("wastemgmt") / "data" / f"{name}.json.gz").read_bytes()))


class Tour(NamedTuple):
    """A route, who drives it, and on which of the 90 days."""

    route: int
    driver: int
    days: list[int]  # none, if the route is not driven


def _weekday(day: int) -> int:
    return (FIRST_MORNING + timedelta(days=day)).weekday()


class Ids:
    """Where the keys of the next city begin. Counts on from city to city."""

    def __init__(self) -> None:
        self._next = dict.fromkeys(COLUMNS_OF, 1)

    def take(self, table: str) -> int:
        taken = self._next[table]
        self._next[table] += 1
        return taken


def rows_of(number: int, ids: Ids) -> Iterator[Table]:
    """The rows of one city, table by table."""
    city = _City(number, ids)
    city.build()
    for name, columns in COLUMNS_OF.items():
        yield Table(name, columns, city.rows[name])


class _City:
    def __init__(self, number: int, ids: Ids) -> None:
        self.rows: dict[str, list[Row]] = {name: [] for name in COLUMNS_OF}
        self._number, self._ids = number, ids
        self._random = Random(f"{SEED}:{number}")
        self._east, self._north = number % COLUMNS * EAST_DEGREES, number // COLUMNS * NORTH_DEGREES
        self._suffix = f" {number + 1}" if number else ""
        self._drivers: list[list[int]] = []
        self._managers: list[list[int]] = []
        self._haulers: list[int] = []

    def build(self) -> None:
        self._people()
        customers = self._customers()
        for tour in _data("tours"):
            self._tour(tour, customers)

    def _people(self) -> None:
        for hauler, name in enumerate(HAULERS):
            organization = self._add("organizations", name + self._suffix, f"Helsinki{self._suffix}")
            self._haulers.append(organization)
            staff = {"admin": 1, "dispatcher": 4, "driver": 15}
            made = {role: [self._user(organization, hauler, role, i) for i in range(n)] for role, n in staff.items()}
            self._drivers.append(made["driver"])
            self._managers.append(made["dispatcher"])

    def _user(self, organization: int, hauler: int, role: str, i: int) -> int:
        first, last = self._random.choice(FIRST_NAMES), self._random.choice(LAST_NAMES)
        email = f"{role}{i + 1}.hauler{hauler + 1}.city{self._number + 1}@example.org"
        return self._add("users", organization, email, f"{first} {last}", role, True)

    def _customers(self) -> dict[int, tuple[int, str, Place]]:
        """By their number in the file: key, category, place."""
        hauler_of = {customer: tour["hauler"] for tour in _data("tours") for customer in tour["customers"]}
        made = {}
        for i, (name, category, street, house, postcode, lon, lat) in enumerate(_data("customers")):
            hauler, place = hauler_of[i], self._moved(lon, lat)
            manager = self._random.choice(self._managers[hauler])
            address = (street, house, postcode, f"Helsinki{self._suffix}")
            key = self._add("customers", self._haulers[hauler], manager, name + self._suffix, category, *address, place)
            made[i] = key, category, place
        return made

    def _tour(self, tour: dict[str, Any], customers: dict[int, tuple[int, str, Place]]) -> None:
        hauler, weekday = tour["hauler"], tour["weekday"]
        driver = self._drivers[hauler][len(self.rows["routes"]) % len(self._drivers[hauler])]
        nodes = _data("streets")["nodes"]
        path = Line(
            Place(round(x + self._east, 6), round(y + self._north, 6)) for x, y in (nodes[n] for n in tour["path"])
        )
        day = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")[weekday]
        name = f"{HAULERS[hauler]}{self._suffix}, {day} {len(self.rows['routes']) % 15 // 5 + 1}"
        status = self._random.choices(("active", "planned", "completed", "cancelled"), (88, 5, 5, 2))[0]
        driven = status in ("active", "completed")
        route = self._add("routes", self._haulers[hauler], driver, name, status, weekday, tour["length_m"], path)
        made = Tour(route, driver, [day for day in range(1, DAYS + 1) if driven and _weekday(day) == weekday])
        position = 0
        for customer in tour["customers"]:
            key, category, place = customers[customer]
            for kind in self._kinds(category):
                position += 1
                self._bin(made, key, category, kind, place, position)

    def _moved(self, lon: float, lat: float) -> Place:
        return Place(round(lon + self._east, 6), round(lat + self._north, 6))

    def _kinds(self, category: str) -> list[str]:
        count = self._random.randint(*BINS.get(category, (7, 9)))
        return [KINDS[i % len(KINDS)] for i in range(count)]

    def _bin(self, tour: Tour, customer: int, category: str, kind: str, place: Place, position: int) -> None:
        dice = self._random
        status = "active" if dice.random() < 0.96 else dice.choice(("maintenance", "retired"))
        litres = LITRES[kind] * (2 if dice.random() < 0.15 else 1)
        spot = Place(round(place.lon + dice.uniform(-1, 1) * 2e-4, 6), round(place.lat + dice.uniform(-1, 1) * 1e-4, 6))
        key = self._ids.take("bins")
        daily = DAILY_PERCENT[kind] * BUSY.get(category, 1.0)
        days = tour.days if status == "active" else []
        fill, last = self._collect(tour, key, daily, litres * GRAMS_PER_LITRE[kind] / 100, days, position)
        self.rows["bins"].append((key, customer, kind, litres, fill, status, spot, last))
        if status == "active":
            self._add("route_stops", tour.route, key, position)

    def _collect(
        self, tour: Tour, key: int, daily: float, grams_per_percent: float, days: list[int], position: int
    ) -> tuple[int, datetime | None]:
        """Ninety days of one bin: how full it is at the end, in percent, and when it was last emptied."""
        dice, rows, take = self._random.random, self.rows["collections"], self._ids.take
        fill, last, before = dice() * 40, None, 0
        for day in days:
            fill = min(100.0, fill + daily * (day - before) * (0.6 + 0.8 * dice()))
            before, luck = day, dice()
            outcome = "collected" if luck >= 0.045 else "skipped" if luck >= 0.015 else "blocked"
            grams = round(fill * grams_per_percent) if outcome == "collected" else 0
            when = FIRST_MORNING + timedelta(days=day, seconds=position * 95 + math.floor(dice() * 60))
            rows.append((take("collections"), key, tour.route, tour.driver, when, math.floor(fill), grams, outcome))
            if outcome == "collected":
                fill, last = 0.0, when
        return math.floor(min(100.0, fill + daily * (DAYS - before))), last

    def _add(self, table: str, *values: Any) -> int:
        key = self._ids.take(table)
        self.rows[table].append((key, *values))
        return key
