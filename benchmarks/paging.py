"""Pages: what a deep one reads and takes beside the first, OFFSET, sqlakeyset and fastapi-pagination; an export.

The table has 5 million rows, with `--quick` 200,000. Every contender gives 50 entities and whether more follow.
sqlakeyset and fastapi-pagination, whose cursors are sqlakeyset's and whose count is off, have no way over NULLs.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlakeyset import select_page
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from benchmarks.exporting import exports
from benchmarks.jobs import ORDERINGS, filled, ordered, position_at
from benchmarks.plot import drawn
from benchmarks.rounds import show
from benchmarks.walking import SIZE, walks
from perfkit.paging.cursor import Position
from perfkit.paging.explain import MAX_BUFFERS, MAX_FILTERED, cost_of
from perfkit.paging.kept import planned
from perfkit.paging.keyset import fetch
from tools import services

ROWS, FEW_ROWS = 5_000_000, 200_000
DEPTHS = (0.0002, 0.02, 0.2, 0.5, 0.7002, 0.98)  # of the rows; NULLs begin at 0.7, or end at 0.3
NULLABLE = [name for name in ORDERINGS if "priority" in name]
PLOT = Path(__file__).resolve().parent.parent / "docs/explanation/pages.svg"


def run(*, quick: bool) -> dict[str, Any]:
    """Print and return what is measured, by its name; the plot of the documentation is drawn unless it is quick."""
    rows, rounds = (FEW_ROWS, 3) if quick else (ROWS, 9)
    with services.running() as up:
        if up.postgres_url is None:
            print("No PostgreSQL to be had: nothing is measured.", file=sys.stderr)
            return {}
        with filled(up.postgres_url, rows) as engine:
            reads = _reads(engine, rows)
            client = show("A page of 50 entities, another filter each time", walks(engine, rows, rounds))
            deep = _deep(engine, rows, 3)
            exported = show(f"An export of {rows // 5:,} rows", exports(engine, rows // 5, 3 if quick else 5))
    if not quick:
        PLOT.write_text(drawn(deep, rows))
        print(f"Drawn: {PLOT.name}")
    return {"rows": rows, "reads": reads, "client": client, "deep": deep, "export": exported}


def _reads(engine: Engine, rows: int) -> list[dict[str, Any]]:
    """Buffers and filtered rows of pages at every depth, forward and backward; the worst of each ordering is shown."""
    found: list[dict[str, Any]] = []
    title = f"What a page reads, at any depth of {rows:,} rows (worst of each ordering)"
    table = Table(title=title, title_justify="left")
    for column in ("ordering", "buffers", "rows filtered", "statements"):
        table.add_column(column, justify="left" if column == "ordering" else "right")
    with Session(engine) as session:
        for name in ORDERINGS:
            made = planned(session, ordered(name))
            for depth in (int(rows * share) for share in DEPTHS):
                start = position_at(session, name, depth)
                for backward in (False, True):
                    cost = cost_of(session, made, start, SIZE, backward=backward)
                    told = {"buffers": cost.buffers, "filtered": cost.filtered, "statements": cost.statements}
                    found.append({"ordering": name, "depth": depth, "backward": backward, **told})
            own = [each for each in found if each["ordering"] == name]
            worst = [max(each[what] for each in own) for what in ("buffers", "filtered", "statements")]
            table.add_row(name, *map(str, worst))
    Console(width=100).print(table)
    over = [each for each in found if each["buffers"] > MAX_BUFFERS or each["filtered"] > MAX_FILTERED]
    limits = f"{MAX_BUFFERS} buffers or {MAX_FILTERED} filtered rows"
    print(f"{len(found)} pages, {len(over)} above {limits}", *over, sep="\n")
    return found


def _deep(engine: Engine, rows: int, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of a page at each depth, by contender; none of those that cannot."""
    found: list[dict[str, Any]] = []
    for name in ("created, id", "status, created DESC, id", "priority, id"):
        table = Table(
            title=f"Milliseconds of a page (lower quartile), by {name}, over {rows:,} rows", title_justify="left"
        )
        table.add_column("rows before it")
        ways = _ways(engine, name)
        for way in ways:
            table.add_column(way, justify="right")
        with Session(engine) as session:
            positions = {depth: position_at(session, name, depth) for depth in (0, *(int(rows * d) for d in DEPTHS))}
        for depth, position in positions.items():
            took = {way: _milliseconds(once, position, depth, rounds) for way, once in ways.items()}
            found += [{"ordering": name, "depth": depth, "way": way, "ms": ms} for way, ms in took.items()]
            table.add_row(f"{depth:,}", *(f"{ms:.2f}" for ms in took.values()))
        Console(width=100).print(table)
    return found


Way = Callable[[Position, int], Any]


def _ways(engine: Engine, name: str) -> dict[str, Way]:
    def ours(position: Position, depth: int) -> Any:
        with Session(engine) as session:
            made = planned(session, ordered(name))
            return fetch(session, made, position if depth else None, SIZE + 1, backward=False)

    def by_offset(position: Position, depth: int) -> Any:
        with Session(engine) as session:
            return session.scalars(ordered(name).offset(depth).limit(SIZE + 1)).all()

    def sqlakeyset(position: Position, depth: int) -> Any:
        with Session(engine) as session:
            return select_page(session, ordered(name), per_page=SIZE, after=tuple(position.values) if depth else False)

    ways: dict[str, Way] = {"perfkit": ours, "OFFSET": by_offset}
    return ways if name in NULLABLE else {**ways, "sqlakeyset": sqlakeyset}


def _milliseconds(once: Way, position: Position, depth: int, rounds: int) -> float:
    """The lower quartile of some rounds, which a busy machine moves least; of more if all take less than a second."""
    once(position, min(depth, 1))  # connected and compiled
    times: list[float] = []
    while len(times) < rounds or (len(times) < rounds * 8 and sum(times) < 1_000):
        began = time.perf_counter()
        once(position, depth)
        times.append((time.perf_counter() - began) * 1e3)
    return round(statistics.quantiles(times, n=4)[0], 3)
