"""Which requests are sent, and when: made from a fixed seed, so that both runs get the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Any

SEED = "demo 6"
ROUTE_STATISTICS, BIN_STATISTICS = "GET /api/routes/statistics", "GET /api/bins/statistics"
NEARBY, BINS, COLLECT = "GET /api/routes/nearby", "GET /api/bins", "POST /api/collections"
KINDS = (ROUTE_STATISTICS, BIN_STATISTICS, NEARBY, BINS, COLLECT)
SHARES = (40, 39, 11, 6, 4)  # a dashboard that many look at, beside drivers who report
PAGE = 50
STATISTICS = frozenset({ROUTE_STATISTICS, BIN_STATISTICS})


class Turn(Enum):
    """Which page of a list somebody asks for."""

    FIRST = "first"
    NEXT = "next"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Planned:
    """One request, and when it is due, in seconds from the start. `turn` is for lists, and not the first page."""

    kind: str
    path: str
    body: dict[str, Any] | None
    due_s: float
    turn: Turn = Turn.FIRST


def requests(count: int, *, per_s: float) -> list[Planned]:
    """`count` requests at random times, `per_s` of them a second on average."""
    dice = Random(SEED)
    made, due_s = [], 0.0
    for _ in range(count):
        due_s += dice.expovariate(per_s)
        kind = dice.choices(KINDS, SHARES)[0]
        turn = _turn(dice.randrange(10_000)) if kind == BINS else Turn.FIRST
        made.append(Planned(kind, *_request(kind, dice), due_s, turn))
    return made


def _turn(of_10_000: int) -> Turn:
    """As people do: seven of ten look at the first page, two turn to the one after what they see, one at the end."""
    return Turn.FIRST if of_10_000 < 7_000 else Turn.NEXT if of_10_000 < 9_000 else Turn.LAST


def _request(kind: str, dice: Random) -> tuple[str, dict[str, Any] | None]:
    path = kind.partition(" ")[2]
    if kind == NEARBY:
        lon, lat = 24.945 + dice.uniform(-0.008, 0.008), 60.168 + dice.uniform(-0.006, 0.006)
        return f"{path}?lon={lon:.6f}&lat={lat:.6f}&radius_m=300", None
    if kind == BINS:
        return f"{path}?size={PAGE}", None
    if kind == COLLECT:
        moment = f"2026-06-30T1{dice.randrange(1, 8)}:{dice.randrange(60):02}:00Z"
        what = {"bin_id": dice.randrange(1, 10_000), "route_id": 1, "status": "blocked", "weight_g": 0}
        return path, {**what, "collected_at": moment, "fill_before_percent": dice.randrange(101)}
    return path, None
