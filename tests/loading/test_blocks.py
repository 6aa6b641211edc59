"""Blocks and decorators: what cannot work says so, and one object may be entered by many."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from sqlalchemy import create_engine, event, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from perfkit.loading import autobatch, detect
from tests.batching.models import Bin, Customer, fill


@pytest.fixture
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool)
    fill(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def sent(engine):
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    return statements


@pytest.mark.parametrize("block", [detect, autobatch, autobatch.always, autobatch.off], ids=lambda each: each.__name__)
def test_a_decorator_without_brackets_says_how_it_is_written(block):
    """What Python says by itself counts arguments."""
    with pytest.raises(TypeError, match=r"write `@(detect|autobatch|autobatch\.off)\(\)`"):

        @block
        def handler() -> None: ...


@pytest.mark.parametrize("block", [detect(), autobatch(), autobatch.off()], ids=["detect", "autobatch", "off"])
def test_what_does_not_run_when_it_is_called_is_refused(block):
    """Generators, classes, and what is no function."""

    def generator():
        yield

    for unfit in (generator, Customer, 3):
        with pytest.raises(TypeError, match="statements run"):
            block(unfit)


@pytest.mark.parametrize(
    "make", [lambda: detect(min_parents=2.5), lambda: detect(min_parents="2"), lambda: autobatch(max_batch="9")]
)
def test_a_number_is_a_number(make):
    """And not something that fails where it is compared."""
    with pytest.raises(TypeError, match="must be a whole number"):
        make()


async def test_one_detector_may_watch_several_tasks_at_once():
    """Each leaves its own window, in whatever order they end."""
    engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
    async with engine.begin() as connection:
        await connection.run_sync(lambda sync: Bin.metadata.create_all(sync))
    shared, turns = detect(), [asyncio.Event(), asyncio.Event()]
    seen = {}

    async def job(name: int, before: int) -> None:
        with shared as window:
            turns[name].set()
            await turns[1].wait()
            async with AsyncSession(engine) as session:
                for number in range(before):
                    await session.get(Customer, number + 1)
            seen[name] = window
        assert not window._is_open

    await asyncio.gather(job(0, 1), job(1, 3))

    assert [[each.statements for each in seen[name].findings] for name in (0, 1)] == [[], [3]]
    await engine.dispose()


def test_off_is_for_functions_that_are_awaited_too(engine, sent):
    """A decorator of a plain context manager would end before they begin."""

    @autobatch.off()
    async def names() -> int:
        with Session(engine) as session:
            bins = session.scalars(select(Bin).where(Bin.customer_id.is_not(None)).limit(4)).all()
            sent.clear()
            return len({each.customer.name for each in bins})

    with autobatch():
        asked = asyncio.run(names())

    assert len(sent) == asked > 1


def test_blocks_may_end_in_any_order(engine, sent):
    """The outer first: the inner one goes on, and ends to what was before both."""
    outer, inner = autobatch(), autobatch.off()
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    with Session(engine) as session:
        bins = session.scalars(select(Bin).where(Bin.customer_id.is_not(None))).all()
        sent.clear()
        assert {each.customer.name for each in bins[:8]}
    assert len(sent) > 1
    inner.__exit__(None, None, None)


def test_a_block_that_is_left_elsewhere_warns(engine):
    """As a sync dependency is, whose two halves run in two contexts of two threads."""
    block = autobatch()
    contextvars.copy_context().run(block.__enter__)

    with pytest.warns(RuntimeWarning, match="left in another context"):
        block.__exit__(None, None, None)
