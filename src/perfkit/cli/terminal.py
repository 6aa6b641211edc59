"""What all commands say their words with: a console, text that is harmless to it, and errors in a line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from perfkit.errors import CacheError, LoadingError, MissingExtra, Unreadable

try:
    import typer
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
except ModuleNotFoundError as missing:
    raise MissingExtra("the perfkit command", package=missing.name or "typer", extra="cli") from missing

__all__ = ["AsJson", "Console", "Table", "console", "plain", "told", "typer"]

AsJson = Annotated[bool, typer.Option("--json", help="JSON, for machines.")]


@contextmanager
def told() -> Iterator[None]:
    """Say what is wrong in a line, and end with 2."""
    try:
        yield
    except (CacheError, LoadingError, Unreadable) as wrong:
        typer.echo(str(wrong), err=True)
        raise typer.Exit(2) from None


def console() -> Console:
    """One without emoji: `:v:` in a key is no hand."""
    return Console(highlight=False, emoji=False)


def plain(text: str) -> str:
    """`text` as it is read: what a store or a file holds may be anybody's, and a terminal obeys what it is shown."""
    return escape("".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text))
