"""What is shown of a run, beside the targets of the plan that this service grew from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from wastemgmt.load.drive import Answers
from wastemgmt.load.plan import KINDS, NEARBY, STATISTICS


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One run. Latencies in milliseconds from when a request was due; None where nothing came back yet."""

    p95_ms: float | None
    p95_of_ms: dict[str, float | None]
    statistics_mean_ms: float | None
    spatial_mean_ms: float | None
    queries_per_request: float | None
    hit_ratio: float | None
    requests: int
    errors: int
    stale: int
    requests_per_s: float | None = None
    memory_mb: float | None = None
    deep_page_ms: float | None = None
    """A page far in: by OFFSET in the run without perfkit, by keyset() in the other."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def figures_of(answers: Answers, *, requests_per_s: float | None = None, memory_mb: float | None = None) -> Figures:
    """The figures of what has come back so far."""
    every = [latency for latencies in answers.latencies_ms.values() for latency in latencies]
    statistics = [latency for kind in STATISTICS for latency in answers.latencies_ms[kind]]
    count = answers.count()
    return Figures(
        p95_ms=percentile(every, 95),
        p95_of_ms={kind: percentile(answers.latencies_ms[kind], 95) for kind in KINDS},
        statistics_mean_ms=_mean(statistics),
        spatial_mean_ms=_mean(answers.latencies_ms[NEARBY]),
        queries_per_request=round(answers.queries / count, 2) if count else None,
        hit_ratio=round(answers.remembered / answers.statistics, 4) if answers.statistics else None,
        requests=count,
        errors=answers.errors,
        stale=answers.stale,
        requests_per_s=requests_per_s,
        memory_mb=memory_mb,
    )


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest value that `percent` of all do not exceed."""
    if not values:
        return None
    return round(sorted(values)[math.ceil(len(values) * percent / 100) - 1], 1)


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 1) if values else None


def _ms(value: float | None) -> str:
    return "…" if value is None else f"{value:,.1f} ms"


def _number(value: float | None) -> str:
    return "…" if value is None else f"{value:,.1f}"


def _percent(value: float | None) -> str:
    return "…" if value is None else f"{value:.0%}"


def _megabytes(value: float | None) -> str:
    return "…" if value is None else f"{value:,.0f} MB"


DEEP = "last page of collections: OFFSET, keyset"

Row = tuple[str, str, Callable[[Figures], str], Callable[[Figures], bool] | None]


def _row_of(kind: str) -> Row:
    return f"  {kind}, p95", "", lambda figures: _ms(figures.p95_of_ms[kind]), None


ROWS: list[Row] = [
    ("API, p95", "< 200 ms", lambda f: _ms(f.p95_ms), lambda f: (f.p95_ms or 0) < 200),
    *map(_row_of, KINDS),
    ("statistics, mean", "", lambda f: _ms(f.statistics_mean_ms), None),
    ("queries per request", "", lambda f: _number(f.queries_per_request), None),
    ("statistics from the cache", "> 90 %", lambda f: _percent(f.hit_ratio), lambda f: (f.hit_ratio or 0) > 0.9),
    ("spatial query, mean", "< 50 ms", lambda f: _ms(f.spatial_mean_ms), lambda f: (f.spatial_mean_ms or 0) < 50),
    ("requests a second, 8 clients", "", lambda f: _number(f.requests_per_s), None),
    (DEEP, "", lambda f: _ms(f.deep_page_ms), None),
    ("memory of the service", "< 2 GB", lambda f: _megabytes(f.memory_mb), lambda f: (f.memory_mb or 0) < 2048),
    ("statistics older than a commit", "0", lambda f: str(f.stale), lambda f: f.stale == 0),
    ("errors", "0", lambda f: str(f.errors), lambda f: f.errors == 0),
]


def table_of(before: Figures | None, after: Figures | None, *, title: str) -> Table:
    """Both runs beside each other; figures that meet their target are green."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for heading in ("target", "without cache", "with perfkit", "ratio"):
        table.add_column(heading, justify="right")
    for name, target, text, meets in ROWS:
        cells = [_cell(figures, text, meets) for figures in (before, after)]
        table.add_row(name, target, *cells, _ratio(before, after, text))
    return table


def _cell(figures: Figures | None, text: Callable[[Figures], str], meets: Callable[[Figures], bool] | None) -> str:
    if figures is None:
        return ""
    shown = text(figures)
    if meets is None or shown == "…":
        return shown
    return f"[green]{shown}[/]" if meets(figures) else f"[yellow]{shown}[/]"


def _ratio(before: Figures | None, after: Figures | None, text: Callable[[Figures], str]) -> str:
    if before is None or after is None:
        return ""
    try:
        old, new = (float(text(figures).split()[0].replace(",", "")) for figures in (before, after))
    except ValueError:
        return ""
    return f"{new / old:.2f} ×" if old and new != old else ""
