"""The command line: serve, migrate, seed, demo."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from sqlalchemy.exc import ArgumentError, DBAPIError

from wastemgmt.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="A waste-collection service on the map of Helsinki.")


@contextmanager
def told(command: str) -> Iterator[None]:
    """End with status 1 and a line for people, where somebody set something wrongly or a server is not there."""
    from alembic.util import CommandError

    from wastemgmt.seed import CannotSeed

    try:
        yield
    except ValidationError as error:
        wrong = [f"WASTEMGMT_{each['loc'][0]}".upper() + f": {each['msg']}" for each in error.errors()]
        why = "; ".join(wrong)
    except ArgumentError:
        why = "WASTEMGMT_DATABASE_URL is not a URL: say sqlite:///FILE or postgresql://USER@HOST/DATABASE."
    except (DBAPIError, OSError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        why = f"the database of WASTEMGMT_DATABASE_URL cannot be used: {str(cause).strip()}"
    except (CannotSeed, CommandError) as error:
        why = str(error)
    else:
        return
    typer.secho(f"{command}: {why}", fg=typer.colors.RED, err=True)
    raise typer.Exit(1)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Run the service; see /docs."""
    import uvicorn

    with told("serve"):
        settings = Settings()
    uvicorn.run(
        "wastemgmt.app:create_app",
        factory=True,
        host=host or settings.host,
        port=settings.port if port is None else port,
        log_level=settings.log_level.lower(),
        access_log=False,
    )


@app.command()
def migrate(
    to: Annotated[str, typer.Option(help="The revision to stop at.")] = "head",
    down: Annotated[bool, typer.Option(help="Undo, down to --to; 'base' leaves nothing.")] = False,
) -> None:
    """Bring the database to the newest schema."""
    from wastemgmt import migrate as migrations

    with told("migrate"):
        url = Settings().database_url
        asyncio.run(migrations.downgrade(url, to) if down else migrations.upgrade(url, to))
    typer.echo(f"the database is at {to}")


@app.command()
def seed(
    scale: Annotated[int, typer.Option(help="How many cities; one has 10,000 bins.", min=1, max=1000)] = 1,
    reset: Annotated[bool, typer.Option(help="Delete everything that is there first.")] = False,
) -> None:
    """Fill an empty database."""
    from wastemgmt.seed import seed_command

    with told("seed"):
        seed_command(scale, reset)


@app.command()
def demo(
    headless: Annotated[bool, typer.Option(help="Stop when the figures are there.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write the figures to this file.")] = None,
) -> None:
    """Load the data, drive the same requests without and with the cache, show both, and keep serving.

    On a database of its own; never on that of WASTEMGMT_DATABASE_URL.
    """
    from wastemgmt.load.demo import run
    from wastemgmt.load.service import DidNotStart
    from wastemgmt.seed import CannotSeed

    try:
        run(headless=headless, json_file=json)
    except (CannotSeed, DidNotStart) as why:
        typer.secho(f"demo: {why}", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from None
