"""What the handlers of all aggregates do: look up, check what is referred to, apply a change."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from perfkit.loading import EagerProfile
from wastemgmt.api.errors import conflict, not_found
from wastemgmt.models.base import Base, Kept
from wastemgmt.schemas import Change

M = TypeVar("M", bound=Kept)


async def found(session: AsyncSession, model: type[M], key: int) -> M:
    """The row, to be changed or referred to.

    Raises:
        Refused: 404.
    """
    row = await model.get(session, key)
    if row is None:
        raise not_found(model.__name__.lower(), key)
    return row


async def shown(session: AsyncSession, model: type[M], key: int, profile: type[EagerProfile]) -> M:
    """The row with what the profile loads, to be looked at.

    Raises:
        Refused: 404.
    """
    row: M | None = await model.shown(session, key, profile)
    if row is None:
        raise not_found(model.__name__.lower(), key)
    return row


async def must_exist(session: AsyncSession, **keys: tuple[type[Kept], int | None]) -> None:
    """Returns if each of the rows that a request refers to is there.

    Raises:
        Refused: 409, naming the field.
    """
    for field, (model, key) in keys.items():
        if key is not None and await model.get(session, key) is None:
            raise conflict(f"{field}: there is no {model.__name__.lower()} {key}.")


async def all_must_exist(session: AsyncSession, **keys: tuple[type[Kept], Sequence[int]]) -> None:
    """`must_exist` for many rows of a table, in one statement.

    Raises:
        Refused: 409, naming the field and the first that is not there.
    """
    for field, (model, wanted) in keys.items():
        there = await model.among(session, wanted)
        for key in wanted:
            if key not in there:
                raise conflict(f"{field}: there is no {model.__name__.lower()} {key}.")


async def changed(session: AsyncSession, row: M, change: Change, *, without: Collection[str] = (), **more: Any) -> M:
    """The row with the fields that were sent, flushed; `more` goes over them, and not those in `without`.

    Raises:
        Refused: 409, if it is not at the version that the client read.
    """
    if row.version != change.version:
        raise conflict(f"It is at version {row.version} now, not {change.version}: read it again.")
    sent = change.model_dump(exclude_unset=True, exclude={"version", *without, *more})
    for field, value in {**sent, **more}.items():
        setattr(row, field, value)
    return await saved(session, row)


B = TypeVar("B", bound=Base | Kept)


async def saved(session: AsyncSession, row: B) -> B:
    """The row, written and read back with what the database adds."""
    session.add(row)
    await session.flush()
    await session.refresh(row)
    return row
