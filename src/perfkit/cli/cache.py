"""`perfkit cache`: the servers of a deployment, and what a service has left in them."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from itertools import groupby, islice, zip_longest
from typing import Annotated, Any

from sqlalchemy.ext.asyncio import AsyncSession

from perfkit.cache import Cache, FunctionStats, Rechecked, inventory
from perfkit.cache.cells import change_of
from perfkit.cache.doctor import Finding, Level, examine_database, examine_store
from perfkit.cli.terminal import AsJson, Console, Table, console, plain, told, typer
from perfkit.errors import CacheDeclarationError

cache = typer.Typer(help="Cached queries.", no_args_is_help=True)

SHOWN = 2_000  # characters of a value
SIGNS = {
    Level.OK: "[green]ok     [/]",
    Level.NOTE: "[cyan]note   [/]",
    Level.WARNING: "[yellow]warning[/]",
    Level.PROBLEM: "[bold red]problem[/]",
}


@cache.command()
def doctor(
    store: Annotated[str | None, typer.Option("--cache", metavar="URL", help="redis://…, redis+cluster://…")] = None,
    database: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="SQLAlchemy's URL with a sync driver; may be repeated.")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(metavar="NAME", help="The cache's, if the user has rights to its keys alone.")
    ] = None,
    mark_hold: Annotated[float, typer.Option(metavar="SECONDS", min=0.001, help="The policy's mark_hold.")] = 10.0,
    idle_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.001, help="The policy's idle_timeout, if it has one.")
    ] = None,
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
            findings += examine_store(store, mark_hold_s=mark_hold, namespace=namespace)
    except CacheDeclarationError as wrong:
        raise typer.BadParameter(str(wrong), param_hint="--cache") from None
    for url in database or ():
        findings += examine_database(url, mark_hold_s=mark_hold, idle_timeout_s=idle_timeout)
    if as_json:
        typer.echo(json.dumps([asdict(each) | {"level": each.level.name.lower()} for each in findings], indent=2))
    else:
        _show(findings)
    worst = max(finding.level for finding in findings)
    raise typer.Exit({Level.WARNING: 1, Level.PROBLEM: 2}.get(worst, 0))


def _show(findings: list[Finding]) -> None:
    out = console()
    for subject, its in groupby(findings, key=lambda finding: finding.subject):
        out.print(f"\n[bold]{plain(subject)}[/]", soft_wrap=True)
        told = list(its)
        for finding, following in zip_longest(told, told[1:]):
            out.print(f"  {SIGNS[finding.level]}  {plain(finding.text)}", soft_wrap=True)
            if finding.advice and (following is None or finding.advice != following.advice):
                out.print(f"           [dim]{plain(finding.advice)}[/]", soft_wrap=True)
    out.print()


Store = Annotated[str, typer.Option("--cache", metavar="URL", help="redis://…, redis+cluster://…")]
Namespace = Annotated[str, typer.Option("--namespace", metavar="NAME", help="The cache's namespace.")]


@cache.command()
def stats(store: Store, namespace: Namespace, as_json: AsJson = False) -> None:
    """What each function has in Redis or Valkey, and what it has saved in the processes that are connected to it."""
    with told():
        found = inventory.functions_in(store, namespace)
    if as_json:
        typer.echo(json.dumps([_as_plain(each) for each in found], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("function", "entries", "bytes", "calls", "hits", "a load", "saved"):
        table.add_column(name, justify="left" if name == "function" else "right")
    for each in found:
        table.add_row(plain(each.function), f"{each.entries:,}", f"{each.bytes:,}", *_worth(each.stats))
    out = console()
    if found:
        out.print(table)
    entries, size = sum(each.entries for each in found), sum(each.bytes for each in found)
    out.print(
        f"{entries:,} entries of {sum(each.entries > 0 for each in found)} functions, {size:,} bytes in "
        f"{plain(repr(namespace))}"
    )
    if any(each.stats is None for each in found):
        out.print("–: no process has reported yet; each does with one of its calls in 15 seconds", soft_wrap=True)
    for each in found:
        if each.stats is not None and each.stats.advice:
            out.print(f"[yellow]{plain(each.function)}[/]: {plain(each.stats.advice)}", soft_wrap=True)


def _worth(stats: FunctionStats | None) -> tuple[str, str, str, str]:
    """How often it was called, the part that were hits, and what that was worth; dashes where nobody has said."""
    if stats is None:
        return "–", "–", "–", "–"
    load = "–" if stats.load_ms is None else f"{stats.load_ms:,.1f} ms"
    return f"{stats.calls:,}", f"{stats.hit_ratio:.0%}", load, f"{stats.saved_s:,.1f} s"


def _as_plain(found: inventory.StoredFunction) -> dict[str, Any]:
    """For JSON; of the totals those that the table has, None where nobody has said."""
    stats = found.stats
    told = {name: getattr(stats, name, None) for name in ("calls", "hits", "hit_ratio", "load_ms", "saved_s", "advice")}
    return {"function": found.function, "entries": found.entries, "bytes": found.bytes, **told}


@cache.command()
def ls(
    store: Store,
    namespace: Namespace,
    function: Annotated[str, typer.Option(metavar="TEXT", help="Only functions with this in their names.")] = "",
    limit: Annotated[int, typer.Option(metavar="COUNT", min=1, help="Stop after so many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List entries: key, bytes, and how long they still live. With --json one line for each."""
    out, shown = console(), 0
    with told():
        for each in inventory.entries_in(store, namespace):
            if function not in each.function:
                continue
            if shown == limit:
                typer.echo(f"and more: these are {limit}, --limit gives others", err=True)
                break
            shown += 1
            if as_json:
                typer.echo(json.dumps(asdict(each)))
            else:
                ends = "never ends" if each.ends_in_s is None else f"{each.ends_in_s:,.0f} s left"
                out.print(f"{plain(each.key)}  [dim]{each.bytes:,} bytes, {ends}[/]", soft_wrap=True)
    if not shown and not as_json:
        out.print(_nothing_found(namespace, function))


def _nothing_found(namespace: str, function: str) -> str:
    of = f" of functions with {function!r} in their names" if function else ""
    return f"no entries{plain(of)} in {plain(repr(namespace))}"


@cache.command("show")
def show_entry(
    store: Store, key: Annotated[str, typer.Argument(metavar="KEY", help="As `ls` gives it.")], as_json: AsJson = False
) -> None:
    """Show one entry: age, tags and whether they are current, and its value. Ends with 1 if there is none."""
    with told():
        found = inventory.show(store, key)
    if found is None:
        typer.echo("there is no such entry", err=True)
        raise typer.Exit(1)
    if as_json:
        typer.echo(json.dumps(asdict(found) | {"is_current": found.is_current}, indent=2))
        return
    out = console()
    out.print(f"[bold]{plain(found.key)}[/]", soft_wrap=True)
    if found.age_s is not None:
        state = "[green]current[/]" if found.is_current else "[yellow]out of date[/]"
        out.print(f"  {state}, loaded {found.age_s:,.1f} s ago in {found.load_ms or 0:,.1f} ms")
    out.print(f"  {found.kind}, {found.bytes:,} bytes")
    for tag in found.tags:
        out.print(f"  depends on {plain(tag.tag)}: {tag.state} {change_of(tag.version, tag.now)}", soft_wrap=True)
    value = found.value if len(found.value) <= SHOWN else f"{found.value[:SHOWN]}…"
    out.print(f"  {plain(value)}", soft_wrap=True)


@cache.command()
def invalidate(
    store: Store,
    namespace: Namespace,
    tags: Annotated[
        list[str],
        typer.Argument(metavar="TAG", help="Tables, rows such as bins#7, names of your own, or '*'."),
    ],
    as_json: AsJson = False,
) -> None:
    """Make everything that depends on these tags out of date, in all processes, at once."""
    with told():
        bumped = inventory.bump(store, namespace, tags)
    if as_json:
        typer.echo(json.dumps({"out_of_date": bumped}))
        return
    console().print(f"out of date: all that depends on {plain(', '.join(bumped))}", soft_wrap=True)


@cache.command()
def verify(
    setup: Annotated[
        str, typer.Argument(metavar="MODULE:FUNCTION", help="Gives (cache, sessions), connected and watching.")
    ],
    store: Store,
    function: Annotated[str, typer.Option(metavar="TEXT", help="Only functions with this in their names.")] = "",
    limit: Annotated[int, typer.Option(metavar="COUNT", min=1, help="Stop after so many.")] = 1_000,
    as_json: AsJson = False,
) -> None:
    """Load entries again, and compare them with what was kept. Ends with 1 if one was not what the database says."""
    with told():
        made, sessions = _set_up(setup)
        found = inventory.entries_in(store, made.namespace)
        keys = islice((each.key for each in found if function in each.function), limit)
        with Console(stderr=True).status("looking") as status:

            def progress(so_far: Rechecked) -> None:
                status.update(f"{so_far.done:,} looked at, {len(so_far.violations):,} wrong")

            if isinstance(sessions(), AsyncSession):
                result = asyncio.run(made.averify(keys, sessions=sessions, progress=progress))
            else:
                result = made.verify(keys, sessions=sessions, progress=progress)
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=2))
    elif not result.done:
        console().print(_nothing_found(made.namespace, function))
    else:
        out = console()
        for key in result.violations:
            out.print(f"[bold red]wrong[/]  {plain(key)}", soft_wrap=True)
        out.print(
            f"{result.right:,} right, {len(result.violations):,} wrong, {result.out_of_date:,} out of date, "
            f"{result.skipped:,} that cannot be called from here, {result.failed:,} that failed",
            soft_wrap=True,
        )
        for skip in result.skips:
            out.print(f"cannot be called  {plain(skip)}", soft_wrap=True)
        if result.failure:
            out.print(f"the first that failed  {plain(result.failure)}", soft_wrap=True)
    raise typer.Exit(1 if result.violations else 0)


def _at(wrong: Exception) -> str:
    """The line of the service that raised it, or that imports what is not there."""
    files = [(each.filename, each.lineno) for each in traceback.extract_tb(wrong.__traceback__)[1:]]
    own = [each for each in files if not each[0].startswith("<") and each[0] != importlib.__file__]
    return f", at {own[-1][0]}:{own[-1][1]}" if own else ""


def _no_set_up(why: str) -> typer.BadParameter:
    return typer.BadParameter(why, param_hint="MODULE:FUNCTION")


def _set_up(name: str) -> tuple[Cache, Callable[[], Any]]:
    module, _, function = name.partition(":")
    if not module or not function:
        raise _no_set_up(f"{name!r} names no function: give its module, a colon and its name")
    sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), function)()
    except Exception as wrong:  # noqa: BLE001 - the service's own: exit status 1 would say that an entry is wrong
        raise _no_set_up(f"{name!r} gives no (cache, sessions): {type(wrong).__name__}: {wrong}{_at(wrong)}") from None
    match found:
        case Coroutine():
            found.close()
            raise _no_set_up(f"{name!r} is async: name a plain function, which gives (cache, sessions)")
        case (Cache() as made, sessions) if callable(sessions):
            return made, sessions
    raise _no_set_up(f"{name!r} gives {found!r}, and no (cache, sessions)")
