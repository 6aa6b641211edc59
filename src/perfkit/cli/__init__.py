"""The command `perfkit`.

perfkit cache doctor --cache redis://… --database postgresql+psycopg://…
perfkit cache stats|ls --cache redis://… --namespace shop
perfkit cache show --cache redis://… KEY
perfkit cache invalidate --cache redis://… --namespace shop bins
perfkit cache verify --cache redis://… shop.ops:cache_and_sessions
perfkit profiles show|export|prune profiles.json
perfkit profiles diff before.json after.json
"""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import Annotated

from perfkit.cli.cache import cache
from perfkit.cli.profiles import profiles
from perfkit.cli.terminal import typer

__all__: list[str] = []  # its surface is the command

app = typer.Typer(help="perfkit: fast SQLAlchemy services whose answers stay right.", no_args_is_help=True)
app.add_typer(cache, name="cache")
app.add_typer(profiles, name="profiles")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"perfkit {version('perfkit')}")
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """perfkit: fast SQLAlchemy services whose answers stay right."""
    # what a service would log of a server that is down, a command says itself
    logging.getLogger("perfkit").addHandler(logging.NullHandler())
