"""Interleaved rounds: what slows the machine for a while slows every contender alike."""

from __future__ import annotations

import asyncio
import gc
import platform
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

Once = Callable[[], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Something that is called many times. `calls` is how often in one round."""

    name: str
    floor: str
    once: Once
    calls: int
    suspends: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Microseconds of one call (median of the rounds), and how many times its floor (median and quartiles)."""

    name: str
    floor: str
    micros: float
    ratio: float
    ratio_low: float
    ratio_high: float


def measure(contenders: list[Contender], *, rounds: int) -> list[Figure]:
    """Time every contender once in each round; ratios are taken inside a round."""
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    with asyncio.Runner() as runner:
        for contender in contenders:
            runner.run(_spend(contender, max(1, contender.calls // 10)))  # warm up
        gc.collect()
        gc.disable()
        try:
            for _ in range(rounds):
                for contender in contenders:
                    times[contender.name].append(runner.run(_spend(contender, contender.calls)))
        finally:
            gc.enable()
    return [_figure(contender, times) for contender in contenders]


async def _spend(contender: Contender, calls: int) -> float:
    """Microseconds a call."""
    once = contender.once
    began = time.perf_counter()
    if contender.suspends:
        suspending: Callable[[], Awaitable[Any]] = once
        for _ in range(calls):
            await suspending()
    else:
        for _ in range(calls):
            once()
    return (time.perf_counter() - began) / calls * 1e6


def _figure(contender: Contender, times: dict[str, list[float]]) -> Figure:
    own = times[contender.name]
    ratios = sorted(mine / floor for mine, floor in zip(own, times[contender.floor], strict=True))
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
    return Figure(
        name=contender.name,
        floor=contender.floor,
        micros=round(statistics.median(own), 2),
        ratio=round(statistics.median(ratios), 2),
        ratio_low=round(low, 2),
        ratio_high=round(high, 2),
    )


def show(title: str, figures: list[Figure]) -> list[dict[str, Any]]:
    """Print the table; the same as plain data."""
    table = Table(title=f"{title}\nCPython {platform.python_version()}, {platform.machine()}", title_justify="left")
    table.add_column("")
    table.add_column("µs a call", justify="right")
    table.add_column("× its floor", justify="right")
    table.add_column("middle half", justify="right")
    table.add_column("floor")
    for figure in figures:
        own = figure.name == figure.floor
        table.add_row(
            f"[bold]{figure.name}[/]" if figure.name.startswith("perfkit") else figure.name,
            f"{figure.micros:.2f}",
            "1" if own else f"{figure.ratio:.2f}",
            "" if own else f"{figure.ratio_low:.2f} to {figure.ratio_high:.2f}",
            "" if own else figure.floor,
        )
    Console(width=100).print(table)
    return [asdict(figure) for figure in figures]
