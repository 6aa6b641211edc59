"""The plot of benchmarks/paging.py: how long a page takes, by how many rows are before it."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

COLOURS = {"perfkit": "#1b7f4d", "OFFSET": "#b5472f", "sqlakeyset": "#4a6fa5"}


def drawn(figures: list[dict[str, Any]], rows: int) -> str:
    """The plot as SVG; the same for the same figures."""
    mpl.rcParams.update({"svg.hashsalt": "pages", "font.size": 9, "svg.fonttype": "none"})
    orderings = list(dict.fromkeys(each["ordering"] for each in figures))
    figure = Figure(figsize=(9.5, 3.2), layout="constrained")
    all_axes = figure.subplots(1, len(orderings), sharey=True)
    for axes, ordering in zip(all_axes, orderings, strict=True):
        own = [each for each in figures if each["ordering"] == ordering and each["depth"]]
        for way in dict.fromkeys(each["way"] for each in own):
            points = [(each["depth"], each["ms"]) for each in own if each["way"] == way]
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, color=COLOURS[way], label=way)
        axes.set(xscale="log", yscale="log", title=f"ORDER BY {ordering}", xlabel="rows before the page")
        axes.title.set_fontsize(9)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    all_axes[0].set_ylabel(f"ms for 50 of {rows:,} rows")
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r"[ \t]+$", "", written.getvalue(), flags=re.MULTILINE)
