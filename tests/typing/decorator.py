"""Read by mypy and pyright, never run: a cached function keeps its type, whatever kind it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, assert_type

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from perfkit import Cache, Policy
from perfkit.cache import Explanation, Peeked, cached

cache = Cache("typing", Policy(mode="strict", ttl=900))


@cache.query(tags="bins")
def plain(session: Session, key: int, *, name: str = "") -> dict[str, int]:
    return {}


@cache.query
def without_brackets(session: Session, key: int) -> dict[str, int]:
    return {}


@cache.query(tags=("bins", "teams"), ttl=60)
async def suspending(session: AsyncSession, key: int) -> list[str]:
    return []


class Board:
    @cache.query(tags="bins")
    def own(self, key: int) -> int:
        return key

    @classmethod
    @cache.query(tags="bins")
    async def of_class(cls, session: AsyncSession, key: int | None = None) -> str:
        return ""

    @staticmethod
    @cache.query(tags="bins")
    def free(key: int) -> bytes:
        return b""


async def uses(session: Session, asession: AsyncSession, table: Table) -> None:
    assert_type(plain(session, 1, name="x"), dict[str, int])
    assert_type(without_brackets(session, 1), dict[str, int])
    assert_type(await suspending(asession, 1), list[str])
    assert_type(Board().own(1), int)
    assert_type(await Board.of_class(asession, key=1), str)
    assert_type(Board.free(1), bytes)

    assert_type(cache.refresh(plain, session, 1), dict[str, int])
    assert_type(await cache.refresh(suspending, asession, key=1), list[str])
    assert_type(await cache.refresh(Board.of_class, asession), str)
    assert_type(cache.drop(plain, session, 1), bool)
    assert_type(cache.drop(suspending, asession, 1), Awaitable[bool])
    assert_type(cache.key_of(Board.free, 1), str)
    assert_type(cache.peek(Board.free, 1), Peeked[bytes] | None)
    assert_type(await cache.peek(Board.of_class, asession, key=1), Peeked[str] | None)
    assert_type(cache.explain(plain, session, 1), Explanation)
    assert_type(await cache.explain(Board.of_class, asession), Explanation)
    assert_type(cache.bypass(plain, session, 1), dict[str, int])
    assert_type(await cache.bypass(Board.of_class, asession), str)

    assert_type(cache.get(session, Board, 1), Board | None)
    assert_type(await cache.get(asession, Board, (1, "x")), Board | None)
    assert_type(cache.get_many(session, Board, [1, 2]), dict[int, Board])
    assert_type(await cache.get_many(asession, Board, {"a"}), dict[str, Board])
    assert_type(session.scalars(select(table.c.id).options(cached(ttl=60))).all(), Sequence[Any])

    # three mistakes that a type checker must see; an unused ignore would be one, too
    plain(session, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cache.refresh(plain, session, 1, nam="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await Board.of_class(session)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


made: Callable[[int], bytes] = Board.free
