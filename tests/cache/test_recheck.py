"""`cache.verify`: entries that lie in a store, compared with what the database says."""

from __future__ import annotations

import asyncio
import enum
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from perfkit.cache.recheck import _arguments
from perfkit.errors import CacheDeclarationError
from tests.cache.test_dependencies import Counting
from tests.cache.test_entities import Fleet, Truck, everything
from tests.cache.test_verify import behind


class Colour(enum.Enum):
    RED = 1


class Trucks:
    """A class with cached methods."""


@pytest.fixture
def fleet(tmp_path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path / "fleet.db", Counting())
    yield fleet
    fleet.close()


ARGUMENTS: list[Any] = [
    1,
    -1,
    2.5,
    None,
    True,
    "a,b=(c):d'\"",
    b"x",
    [1, "x"],
    (1, 2),
    {"a": 1, "b": None},
    Decimal("1.50"),
    UUID(int=7),
    date(2020, 1, 2),
    datetime(2020, 1, 2, 3, tzinfo=UTC),
    timedelta(seconds=3),
    Colour.RED,
    Trucks,
]


@pytest.mark.parametrize("value", ARGUMENTS, ids=repr)
def test_arguments_are_read_back_from_the_key(fleet, value):
    """Whatever they are, as long as their text leads back to them."""
    seen: list[Any] = []

    @fleet.cache.query()
    def plate(session: Session, first: Any, *, given: Any = None, **more: Any) -> str:
        seen.append((first, given, more))
        return session.scalars(select(Truck.plate).where(Truck.id == 1)).one()

    with fleet.session() as session:
        plate(session, value, given=7, other="x")
        key = fleet.cache.key_of(plate, session, value, given=7, other="x")

    found = fleet.cache.verify([key], sessions=lambda: Session(fleet.engine))

    assert (found.right, found.done) == (1, 1)
    assert seen[0] == seen[1]


def test_what_is_not_what_the_database_says_is_named(fleet, caplog):
    """Values and entities; what was changed through perfkit is only out of date."""

    @fleet.cache.query()
    def total(session: Session, depot_id: int) -> float:
        return session.scalar(select(func.sum(Truck.price)).where(Truck.depot_id == depot_id)) or 0

    @fleet.cache.query(entities=True)
    def trucks(session: Session) -> Any:
        return session.scalars(everything()).unique().all()

    with fleet.session() as session:
        keys = [fleet.cache.key_of(total, session, number) for number in (1, 2)]
        keys += [fleet.cache.key_of(trucks, session)]

    def fill() -> None:
        for call in (lambda s: total(s, 1), lambda s: total(s, 2), trucks):
            with fleet.session() as session:
                call(session)

    told: list[int] = []
    fill()
    found = fleet.cache.verify(
        keys, sessions=lambda: Session(fleet.engine), progress=lambda each: told.append(each.done)
    )
    assert (found.right, found.violations, told) == (3, (), [1, 2, 3])

    behind(fleet, "UPDATE trucks SET price = 1 WHERE id = 3")
    found = fleet.cache.verify(keys, sessions=lambda: Session(fleet.engine))
    assert (found.right, found.violations) == (1, (keys[0], keys[2]))
    assert "nothing was written that perfkit saw" in caplog.text
    assert fleet.cache.verify(keys, sessions=lambda: Session(fleet.engine)).right == 3  # they were loaded anew

    with fleet.session() as session:
        session.get_one(Truck, 3).price = Decimal(2)
        session.commit()
    assert fleet.cache.verify(keys, sessions=lambda: Session(fleet.engine)).out_of_date == 3


def test_what_cannot_be_called_from_here_is_skipped(fleet):
    """Another function, another tenant, arguments without a way back, an async function; and what raises has failed."""
    tenant = "a"

    @fleet.cache.query(tenant=lambda: tenant)
    def mine(session: Session, number: int) -> int:
        return session.scalar(select(func.count()).select_from(Truck)) or 0

    @fleet.cache.query()
    def raising(session: Session, numbers: set[int]) -> int:
        raise RuntimeError

    with fleet.session() as session:
        mine(session, 1)
        good = fleet.cache.key_of(mine, session, 1)
        odd = fleet.cache.key_of(raising, session, {1})
        long = fleet.cache.key_of(mine, session, 10**200)
    assert fleet.cache.verify([good], sessions=lambda: Session(fleet.engine)).right == 1
    tenant = "b"
    keys = [good, odd, long, "", "fleet:v:x", good.replace("mine", "other"), f"{good},number=1"]
    found = fleet.cache.verify(keys, sessions=lambda: Session(fleet.engine))
    assert (found.skipped, found.done) == (7, 7)
    function = mine.__module__ + "." + mine.__qualname__
    back = "its arguments cannot be read back from the key, or the tenant or the database is another one"
    here = "no function of this process has such keys: it is not imported, or has changed"
    assert found.skips[:2] == (f"{function}: {back}", f"{function.replace('.mine', '.raising')}: {back}")
    assert f"{function.replace('mine', 'other')}: {here}" in found.skips


async def test_a_sync_function_is_skipped_where_sessions_are_async(fleet):
    """And the other way round; it says so."""

    @fleet.cache.query()
    def count(session: Session) -> int:
        return session.scalar(select(func.count()).select_from(Truck)) or 0

    with fleet.session() as session:
        key = fleet.cache.key_of(count, session)
    found = await fleet.cache.averify([key], sessions=lambda: AsyncSession(create_async_engine("sqlite+aiosqlite://")))
    assert found.skips[0].endswith(": it is sync, and the sessions are not")


def test_the_first_that_fails_is_named(fleet):
    """With what it raised: the count alone helps nobody."""

    @fleet.cache.query()
    def flaky(session: Session, number: int) -> int:
        if session.info.get("fails"):
            raise LookupError(f"no {number}")
        return session.scalar(select(func.count()).select_from(Truck)) or 0

    with fleet.session() as session:
        keys = [fleet.cache.key_of(flaky, session, number) for number in (1, 2)]
        for number in (1, 2):
            flaky(session, number)
    found = fleet.cache.verify(keys, sessions=lambda: Session(fleet.engine, info={"fails": True}))
    assert (found.failed, found.failure) == (2, f"{keys[0]}: LookupError: no 1")


def test_what_cannot_be_verified_is_refused(fleet):
    """Nothing wrong among nothing looked at would be good news of no worth."""
    with pytest.raises(CacheDeclarationError, match="give a list of keys"):
        fleet.cache.verify("fleet:v:x@y:", sessions=fleet.session)
    fleet.cache.unwatch(fleet.engine)
    with pytest.raises(CacheDeclarationError, match="is not connected, or watches no engine"):
        fleet.cache.verify([], sessions=fleet.session)


def test_a_key_runs_nothing(fleet, tmp_path):
    """It is taken apart, and only what has a text of its own is made of it."""
    mark = tmp_path / "ran"
    texts = [
        f"number=__import__('os').system('touch {mark}')",
        f"number=os.system('touch {mark}')",
        "number=UUID(__import__('os').getcwd())",
        "number=(lambda: 1)()",
        "number=[x for x in (1,)]",
        "number=f'{1}'",
        "*[1]",
        "**{'number': 1}",
        "number=perfkit.cache.Policy()",
        "number=" + "(" * 3000 + ")" * 3000,
        "number=datetime.date(1, 2)",
        "number=Decimal('x')",
        "number=10**10**10",
        "number=antigravity.x.Y",
    ]
    for text in texts:
        assert list(_arguments(f"db:{text}")) == []
    assert not mark.exists()
    assert list(_arguments("db:tenant:number=1")) == [{"number": 1}]
    assert list(_arguments(f"db:number={os.name.__class__.__name__}")) == []


def test_async_functions_are_awaited(tmp_path):
    """In sessions of their own."""
    fleet = Fleet(tmp_path / "fleet.db", Counting())
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/fleet.db")
    fleet.cache.watch(engine)

    @fleet.cache.query()
    async def plates(session: AsyncSession, kind: str = "x") -> list[str]:
        return list(await session.scalars(select(Truck.plate)))

    async def run() -> None:
        async with AsyncSession(engine) as session:
            await plates(session)
            key = fleet.cache.key_of(plates, session)
        found = await fleet.cache.averify([key], sessions=lambda: AsyncSession(engine))
        assert (found.right, found.done) == (1, 1)
        behind(fleet, "UPDATE trucks SET plate = 'Z' WHERE id = 3")
        found = await fleet.cache.averify([key], sessions=lambda: AsyncSession(engine))
        assert found.violations == (key,)
        await engine.dispose()

    asyncio.run(run())
    fleet.close()
