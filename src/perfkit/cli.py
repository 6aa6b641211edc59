"""The command `perfkit`.

perfkit cache doctor --cache redis://… --database postgresql+psycopg://…
"""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby
from typing import Annotated

from perfkit.cache.doctor import Finding, Level, examine_database, examine_store
from perfkit.errors import CacheDeclarationError, MissingExtra

try:
    import typer
    from rich.console import Console
    from rich.markup import escape
except ModuleNotFoundError as missing:
    raise MissingExtra("the perfkit command", package=missing.name or "typer", extra="cli") from missing

app = typer.Typer(help="perfkit: fast SQLAlchemy services whose answers stay right.", no_args_is_help=True)
cache = typer.Typer(help="Cached queries.", no_args_is_help=True)
app.add_typer(cache, name="cache")

SIGNS = {
    Level.OK: "[green]ok     [/]",
    Level.NOTE: "[cyan]note   [/]",
    Level.WARNING: "[yellow]warning[/]",
    Level.PROBLEM: "[bold red]problem[/]",
}


@app.callback()
def main() -> None:
    """Keep `cache` a word of its own while it is the only one."""


@cache.command()
def doctor(
    store: Annotated[str | None, typer.Option("--cache", metavar="URL", help="redis://…, redis+cluster://…")] = None,
    database: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="SQLAlchemy's URL with a sync driver; may be repeated.")
    ] = None,
    mark_hold: Annotated[float, typer.Option(metavar="SECONDS", help="The policy's mark_hold.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, for machines.")] = False,
) -> None:
    """Ask the servers of a deployment what they keep of the strict promise.

    Ends with 0 if there is nothing to do, 1 with warnings, 2 with problems.
    """
    if store is None and not database:
        raise typer.BadParameter("give --cache URL, --database URL or both")
    findings: list[Finding] = []
    try:
        if store is not None:
            findings += examine_store(store, mark_hold_s=mark_hold)
    except CacheDeclarationError as wrong:
        raise typer.BadParameter(str(wrong), param_hint="--cache") from None
    for url in database or ():
        findings += examine_database(url, mark_hold_s=mark_hold)
    if as_json:
        typer.echo(json.dumps([asdict(each) | {"level": each.level.name.lower()} for each in findings], indent=2))
    else:
        _show(findings)
    worst = max(finding.level for finding in findings)
    raise typer.Exit({Level.WARNING: 1, Level.PROBLEM: 2}.get(worst, 0))


def _show(findings: list[Finding]) -> None:
    console = Console(highlight=False)
    for subject, its in groupby(findings, key=lambda finding: finding.subject):
        console.print(f"\n[bold]{escape(subject)}[/]", soft_wrap=True)
        for finding in its:
            console.print(f"  {SIGNS[finding.level]}  {escape(finding.text)}", soft_wrap=True)
            if finding.advice:
                console.print(f"           [dim]{escape(finding.advice)}[/]", soft_wrap=True)
    console.print()
