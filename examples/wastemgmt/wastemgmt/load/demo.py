"""The demo: load the city, drive the same requests without and with the cache, show both, and go on serving."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
from rich.console import Console
from rich.live import Live
from rich.table import Table
from sqlalchemy import make_url

from wastemgmt import migrate
from wastemgmt.database import make_engine
from wastemgmt.load.deep import Deep, measure
from wastemgmt.load.drive import Answers, Driver, collections_in
from wastemgmt.load.figures import Figures, figures_of, table_of
from wastemgmt.load.plan import ROUTE_STATISTICS, Planned, requests
from wastemgmt.load.service import Service
from wastemgmt.seed import CannotSeed, seed

NOTES = (
    "Latencies count from when a request was due; with so few of a kind, its p95 is nearly its slowest. What is not\n"
    "cached gets faster, too: it no longer waits for a processor that computes the same statistics again and again.\n"
    "The last page of collections is read from the database, cached in neither run; {before:,} are before it."
)
HINTS = """\
  curl -i {url}/api/routes/statistics        X-Query-Count is 0 from the second time on
  curl -i '{url}/api/bins?order=waiting'     the Link header leads to the next page and to the last
Perfkit-Findings says what an answer loaded one by one: nothing, as it is. Ctrl-C ends the service."""
REQUESTS, PER_S, BURST = 72, 8.0, 96
TITLE = "The same {count} requests at {per_s:.0f} a second, then {burst} as fast as they go; writes go on."


@dataclass(frozen=True, slots=True)
class Place:
    """Where the demo's data and cache live."""

    database_url: str
    cache_url: str
    name: str


def run(*, headless: bool = False, json_file: Path | None = None) -> None:
    """Both runs, the table, and then the service with the cache on, until Ctrl-C or at once if `headless`."""
    if json_file is not None and not json_file.parent.is_dir():
        raise CannotSeed(f"--json {json_file}: there is no folder {json_file.parent}.")
    console = Console(width=None if os.isatty(1) else 110)
    with tempfile.TemporaryDirectory(prefix="wastemgmt-demo-") as folder:
        place = _place(Path(folder))
        console.print(f"[bold]perfkit demo[/]: waste management in the centre of Helsinki, on {place.name}")
        _load(place, console)
        fresh = _keep(place)
        try:
            before, after, deep = _both_runs(place, fresh, console)
            console.print(f"\n{NOTES.format(before=deep.rows_before)}")
            if json_file is not None:
                _write(json_file, place, before, after)
            if not headless:
                _serve(place, console)
        finally:
            if make_url(place.database_url).get_backend_name() == "postgresql":
                asyncio.run(migrate.downgrade(place.database_url))


def _place(folder: Path) -> Place:
    """What WASTEMGMT_DEMO_… names; else SQLite in a folder that goes with the demo, and a cache in the process.

    Never the service's own settings: the demo empties what it is given.
    """
    url = os.environ.get("WASTEMGMT_DEMO_DATABASE_URL") or f"sqlite:///{folder / 'city.sqlite3'}"
    cache_url = os.environ.get("WASTEMGMT_DEMO_CACHE_URL") or "memory://"
    database = {"sqlite": "SQLite", "postgresql": "PostgreSQL with PostGIS"}[make_url(url).get_backend_name()]
    cache = "an in-process cache" if cache_url == "memory://" else f"{cache_url.partition(':')[0]} as its cache"
    return Place(url, cache_url, f"{database} and {cache}")


def _load(place: Place, console: Console) -> None:
    with console.status("loading the city"):
        asyncio.run(migrate.upgrade(place.database_url))
        report = asyncio.run(_seed(place.database_url, reset=False))
    rows = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in report.items())
    console.print(f"{rows} (© OpenStreetMap contributors)")


async def _seed(url: str, *, reset: bool) -> dict[str, int]:
    engine = make_engine(url)
    try:
        return (await seed(engine, reset=reset)).rows
    finally:
        await engine.dispose()


def _keep(place: Place) -> Callable[[], None]:
    """A function that puts the data back as they were loaded."""
    url = make_url(place.database_url)
    if url.get_backend_name() != "sqlite" or url.database is None:

        def seed_again() -> None:
            asyncio.run(_seed(place.database_url, reset=True))

        return seed_again
    file, copy = Path(url.database), Path(f"{url.database}.loaded")
    shutil.copyfile(file, copy)

    def put_back() -> None:
        for leftover in (Path(f"{file}-wal"), Path(f"{file}-shm")):
            leftover.unlink(missing_ok=True)
        shutil.copyfile(copy, file)

    return put_back


def _both_runs(place: Place, put_back: Callable[[], None], console: Console) -> tuple[Figures, Figures, Deep]:
    plan, burst = requests(REQUESTS, per_s=PER_S), requests(BURST, per_s=1)
    title = TITLE.format(count=REQUESTS, per_s=PER_S, burst=BURST)
    shown: list[Figures | None] = [None, None]

    def draw() -> Table:
        return table_of(shown[0], shown[1], title=title)

    with Live(draw(), console=console, refresh_per_second=5, auto_refresh=console.is_terminal) as live:
        for number, cached in enumerate((False, True)):
            put_back()
            log = Path(tempfile.gettempdir()) / f"wastemgmt-demo-{os.getpid()}.log"
            with _service(place, cached=cached, log=log) as service:

                def tell(answers: Answers, number: int = number) -> None:
                    shown[number] = figures_of(answers)
                    live.update(draw())

                shown[number] = asyncio.run(_one_run(service, plan, burst, tell))
                live.update(draw(), refresh=True)
        before, after = shown
        if before is None or after is None:
            raise RuntimeError("a run gave no figures")
        deep = asyncio.run(_deep(place.database_url))
        before, after = replace(before, deep_page_ms=deep.offset_ms), replace(after, deep_page_ms=deep.keyset_ms)
        shown[:] = before, after
        live.update(draw(), refresh=True)
    return before, after, deep


async def _deep(url: str) -> Deep:
    engine = make_engine(url)
    try:
        return await measure(engine)
    finally:
        await engine.dispose()


async def _one_run(
    service: Service, plan: list[Planned], burst: list[Planned], tell: Callable[[Answers], None]
) -> Figures:
    limits = httpx.Limits(max_connections=64)
    async with httpx.AsyncClient(base_url=service.url, timeout=60, limits=limits) as client:
        first = await client.get(ROUTE_STATISTICS.partition(" ")[2])
        await client.get("/api/bins?size=1")  # both runs begin with statements compiled and one entry kept
        driver = Driver(client, collections=collections_in(first.json()))
        answers = await driver.open(plan, tell)
        per_s = await driver.closed(burst)
    return figures_of(answers, requests_per_s=round(per_s, 1), memory_mb=service.memory_mb())


@contextmanager
def _service(place: Place, *, cached: bool, log: Path, detect: bool = False) -> Iterator[Service]:
    try:
        service = Service(
            database_url=place.database_url, cache_url=place.cache_url, cached=cached, log=log, detect=detect
        )
        with service:
            yield service
    finally:
        log.unlink(missing_ok=True)


def _serve(place: Place, console: Console) -> None:
    log = Path(tempfile.gettempdir()) / f"wastemgmt-demo-{os.getpid()}.log"
    with _service(place, cached=True, log=log, detect=True) as service:
        console.print(f"\nThe service goes on, with the cache: [bold]{service.url}/docs[/]")
        console.print(HINTS.format(url=service.url), soft_wrap=True, highlight=False)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            console.print("\nended")


def _write(file: Path, place: Place, before: Figures, after: Figures) -> None:
    content = {"on": place.name, "without_cache": before.as_dict(), "with_perfkit": after.as_dict()}
    file.write_text(json.dumps(content, indent=2) + "\n")
