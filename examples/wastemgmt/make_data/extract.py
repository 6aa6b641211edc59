"""An OpenStreetMap extract → named businesses and the largest connected piece of the streets."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import osmium

DRIVABLE = frozenset(
    {
        *("primary", "primary_link", "secondary", "tertiary", "tertiary_link"),
        *("residential", "unclassified", "service", "living_street"),
    }
)
CATEGORIES = {
    "hotel": {"hotel", "hostel", "guest_house"},
    "restaurant": {"restaurant", "fast_food"},
    "café": {"cafe", "ice_cream"},
    "bar": {"bar", "pub", "nightclub"},
    "bank": {"bank"},
    "health": {"pharmacy", "clinic"},
    "culture": {"theatre", "cinema", "library", "gallery", "museum", "arts_centre"},
    "embassy": {"embassy"},
}
PRACTICES = frozenset({"lawyer", "consulting", "accountant", "tax_advisor", "therapist", "physician", "architect"})


@dataclass
class City:
    """What the files are made of. A business: name, category, street, number, postcode, longitude, latitude."""

    businesses: list[list[Any]] = field(default_factory=list)
    nodes: list[tuple[float, float]] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)
    newest: str = ""


class _Reader(osmium.SimpleHandler):  # type: ignore[misc]  # osmium has no types
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, list[Any]] = {}
        self.places: dict[int, tuple[float, float]] = {}
        self.links: set[tuple[int, int]] = set()
        self.newest = ""

    def node(self, node: Any) -> None:
        self.newest = max(self.newest, node.timestamp.isoformat())
        lon, lat = round(node.location.lon, 6), round(node.location.lat, 6)
        self.places[node.id] = lon, lat
        category = category_of(node.tags)
        if category and "name" in node.tags and not _is_a_person(node.tags["name"]):
            address = [node.tags.get(f"addr:{part}") for part in ("street", "housenumber", "postcode")]
            self.found[node.id] = [node.tags["name"], category, *address, lon, lat]

    def way(self, way: Any) -> None:
        self.newest = max(self.newest, way.timestamp.isoformat())
        if way.tags.get("highway") in DRIVABLE:
            refs = [node.ref for node in way.nodes]
            self.links.update((min(a, b), max(a, b)) for a, b in pairwise(refs) if a != b)


def category_of(tags: Any) -> str | None:
    """What kind of customer somebody with these tags would be; None for what has no waste of its own."""
    for key in ("amenity", "tourism"):
        for category, values in CATEGORIES.items():
            if tags.get(key) in values:
                return category
    if "shop" in tags:
        return "food shop" if tags["shop"] in ("supermarket", "convenience", "kiosk", "alcohol", "bakery") else "shop"
    # practices are often named after the person who has one, and persons are nobody's test data
    return "office" if "office" in tags and tags["office"] not in PRACTICES else None


def _is_a_person(name: str) -> bool:
    return name.endswith("Consulting") or name.startswith(("Hammaslääkäri", "Lääkäri", "Asianajotoimisto", "Tmi "))


def read(extract: str) -> City:
    """The businesses in the order of their OpenStreetMap ids, and the streets."""
    reader = _Reader()
    reader.apply_file(extract)
    links = sorted((a, b) for a, b in reader.links if a in reader.places and b in reader.places)
    kept = sorted(_largest_piece(links))
    number = {node: i for i, node in enumerate(kept)}
    return City(
        businesses=[reader.found[node] for node in sorted(reader.found)],
        nodes=[reader.places[node] for node in kept],
        edges=[(number[a], number[b]) for a, b in links if a in number],
        newest=reader.newest,
    )


def _largest_piece(links: list[tuple[int, int]]) -> set[int]:
    beside: dict[int, list[int]] = {}
    for a, b in links:
        beside.setdefault(a, []).append(b)
        beside.setdefault(b, []).append(a)
    largest: set[int] = set()
    left = set(beside)
    while left:
        piece, ahead = set(), [left.pop()]
        while ahead:
            here = ahead.pop()
            if here not in piece:
                piece.add(here)
                ahead.extend(beside[here])
        left -= piece
        largest = max(largest, piece, key=len)
    return largest
