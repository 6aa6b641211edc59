"""Measure perfkit: `python -m benchmarks [NAME …] [--json FILE] [--quick] [--pinned]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import cache, eviction, loading, mixed, paging, precision, stale

BENCHMARKS = {
    "cache": cache.run,
    "eviction": eviction.run,
    "loading": loading.run,
    "mixed": mixed.run,
    "paging": paging.run,
    "precision": precision.run,
    "stale": stale.run,
}


def main() -> None:
    """Run the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure perfkit against floors and peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: does it run, not how fast")
    parser.add_argument("--pinned", action="store_true", help="cache: the client on a core of its own (Linux)")
    options = parser.parse_args()
    runs: dict[str, Callable[..., dict[str, Any]]] = dict(BENCHMARKS)
    if options.pinned:
        runs["cache"] = partial(cache.run, pinned=True)
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}")
    figures = {name: runs[name](quick=options.quick) for name in options.names or BENCHMARKS}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":  # its own processes import it, too
    main()
