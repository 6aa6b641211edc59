"""`perfkit profiles`: what a service has learned to load, seen, compared, tidied up and made into code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path as FilePath
from typing import Annotated, Any

from perfkit.cli.terminal import AsJson, Table, console, plain, told, typer
from perfkit.errors import ProfileFileError
from perfkit.files import alone_with
from perfkit.loading import keeping
from perfkit.loading.as_code import code_of
from perfkit.loading.evidence import Path, Place, Rules, Usage

profiles = typer.Typer(help="Learned profiles.", no_args_is_help=True)

File = Annotated[FilePath, typer.Argument(metavar="FILE", help="As LearnedProfiles keeps it.")]
Named = Annotated[str, typer.Option("--function", metavar="TEXT", help="Only functions with this in their names.")]
RULES = Rules()


@profiles.command()
def show(file: File, function: Named = "", as_json: AsJson = False) -> None:
    """What each function uses of what it asks for, and what is loaded with it."""
    with told():
        book = _only(_read(file), function)
    if as_json:
        typer.echo(json.dumps([_described(place, usage) for place, usage in sorted(book.items())], indent=2))
        return
    out = console()
    for place, usage in sorted(book.items()):
        out.print(
            f"[bold]{plain(_name(place))}[/]  [dim]{plain(place.callers)}, {_counted(usage.runs, 'run')}[/]",
            soft_wrap=True,
        )
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
        for path, seen in sorted(usage.paths.items()):
            table.add_row(plain(".".join(path)), *_figures(usage, path, seen.used, seen.loads))
        if usage.paths:
            out.print(table)
    eager = sum(len(RULES.worthy(usage)) for usage in book.values())
    out.print(f"{_counted(len(book), 'function')}, eager: {_counted(eager, 'path')}", soft_wrap=True)


@profiles.command()
def diff(before: File, after: File, as_json: AsJson = False) -> None:
    """What is loaded eagerly by one file and not by the other. Ends with 1 if there is any."""
    with told():
        old, new = _eager(_read(before)), _eager(_read(after))
    changes = [(sign, *each) for sign, those in (("-", old - new), ("+", new - old)) for each in those]
    changes.sort(key=lambda change: (change[1:], change[0]))
    if as_json:
        keys = ("change", *Place._fields, "path")
        found = [dict(zip(keys, (sign, *place, ".".join(path)), strict=True)) for sign, place, path in changes]
        typer.echo(json.dumps(found, indent=2))
    else:
        out = console()
        for sign, place, path in changes:
            colour = "green" if sign == "+" else "red"
            out.print(f"[{colour}]{sign} {plain(_name(place))}  {plain('.'.join(path))}[/]", soft_wrap=True)
        if not changes:
            out.print("no difference in what is loaded eagerly")
    raise typer.Exit(1 if changes else 0)


@profiles.command()
def export(
    file: File,
    function: Named = "",
    as_code: Annotated[bool, typer.Option("--as-code", help="As source; the only way there is so far.")] = False,
) -> None:
    """Print what is loaded eagerly as classes of `EagerProfile`."""
    if not as_code:
        raise typer.BadParameter("code is all that it exports so far: add --as-code", param_hint="--as-code")
    with told():
        book = _only(_read(file), function)
    typer.echo(code_of(book, RULES), nl=False)


@profiles.command()
def prune(
    file: File,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and leave the file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Forget paths that are not worth loading after all the runs there were, and functions of which none is left."""
    with told(), alone_with(file):
        book = _read(file)
        gone = [(place, path) for place, usage in sorted(book.items()) for path in sorted(_idle(usage))]
        for place, path in gone:
            del book[place].paths[path]
        empty = [place for place, usage in sorted(book.items()) if not usage.paths]
        if not dry_run and (gone or empty):
            keeping.write(file, {place: usage for place, usage in book.items() if usage.paths})
    if as_json:
        found = {
            "paths": [{**place._asdict(), "path": ".".join(path)} for place, path in gone],
            "functions": [place._asdict() for place in empty],
        }
        typer.echo(json.dumps(found, indent=2))
        return
    out = console()
    for place, path in gone:
        out.print(f"{plain(_name(place))}  {plain('.'.join(path))}", soft_wrap=True)
    verb = "would forget" if dry_run else "forgot"
    out.print(
        f"{verb} {_counted(len(gone), 'path')}, and {_counted(len(empty), 'function')} without any", soft_wrap=True
    )


def _read(file: FilePath) -> keeping.Book:
    if not file.exists():
        raise ProfileFileError(file, "there is no such file")
    return keeping.read(file)


def _only(book: keeping.Book, function: str) -> keeping.Book:
    return {place: usage for place, usage in book.items() if function in place.function}


def _name(place: Place) -> str:
    return f"{place.entity.rpartition(':')[2]} in {place.function}"


def _described(place: Place, usage: Usage) -> dict[str, Any]:
    paths = {".".join(path): asdict(seen) | {"is": _state(usage, path)} for path, seen in sorted(usage.paths.items())}
    return {**place._asdict(), "runs": usage.runs, "paths": paths}


def _figures(usage: Usage, path: Path, used: int, loads: int) -> Iterator[str]:
    told_by = max(1, usage.runs - usage.paths[path].eager)
    colour = {"eager": "green", "unused": "yellow"}.get(state := _state(usage, path), "dim")
    yield f"[{colour}]{state}[/]"
    yield f"used in {min(1.0, used / told_by):.0%} of {told_by:,}"
    yield _counted(loads, "lazy load")


def _state(usage: Usage, path: Path) -> str:
    """`eager`, `unused` (withheld and never missed), `seldom` used, or `new`: too few runs to say."""
    if path in RULES.worthy(usage):
        return "eager"
    if usage.paths[path].withheld >= RULES.unused:
        return "unused"
    return "new" if usage.runs < RULES.runs else "seldom"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _eager(book: keeping.Book) -> set[tuple[Place, Path]]:
    return {(place, path) for place, usage in book.items() for path in RULES.worthy(usage)}


def _idle(usage: Usage) -> list[Path]:
    return [path for path in usage.paths if usage.runs >= RULES.runs and not RULES.is_worth(usage, path)]
