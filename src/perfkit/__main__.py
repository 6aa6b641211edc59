"""`perfkit` and `python -m perfkit`: the command line, or which extra it needs."""

from __future__ import annotations

import sys

from perfkit.errors import MissingExtra


def main() -> None:
    """Run the command line."""
    try:
        from perfkit.cli import app
    except MissingExtra as missing:
        sys.exit(str(missing))
    app(prog_name="perfkit")


if __name__ == "__main__":
    main()
