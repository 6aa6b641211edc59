"""Businesses, streets and collection tours of central Helsinki: `python -m make_data EXTRACT.osm.pbf`."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

from make_data.extract import read
from make_data.tours import plan

DATA = Path(__file__).parent.parent / "wastemgmt" / "data"


def main() -> None:
    """Write customers, streets and tours."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m make_data EXTRACT.osm.pbf")
    city = read(sys.argv[1])
    tours = plan(city)
    write("customers", city.businesses)
    write("streets", {"nodes": city.nodes, "edges": city.edges})
    write("tours", tours)
    print(f"newest object: {city.newest}")


def write(name: str, content: Any) -> None:
    """One file; without a time in it, so that the same content is the same bytes."""
    packed = gzip.compress(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(), mtime=0)
    (DATA / f"{name}.json.gz").write_bytes(packed)
    print(f"{name}: {len(content)} parts, {len(packed):,} bytes")


if __name__ == "__main__":
    main()
