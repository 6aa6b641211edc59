"""One protocol step, three ways to wait.

A protocol is written once, as a coroutine that awaits nothing but its ports. Who calls it
decides which ports it gets, and so how it waits:

    blocking    ports never suspend; `run_now` finishes the coroutine in the calling thread
    asyncio     ports suspend; the caller awaits the coroutine
    greenlet    ports wait underneath the coroutine, through SQLAlchemy's bridge; `run_now` again:
                for the events of an async engine and for sync code under `AsyncSession.run_sync`

This file and `wire.py` are the only ones that know there are three.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Protocol, TypeVar, cast

from perfkit.errors import WouldSuspend
from perfkit.sqla.private import await_in_greenlet, in_greenlet

T = TypeVar("T")


class Waiting(Protocol):
    """How one caller waits."""

    async def call(self, load: Callable[[], T | Awaitable[T]]) -> T:
        """What `load` returns, awaited where the caller is async."""
        ...

    async def outcome(self, future: Future[T], patience_s: float) -> T:
        """What another caller puts into `future`.

        Raises:
            TimeoutError: nobody did within `patience_s`, or waiting here would stop the one who should.
        """
        ...

    async def sleep(self, duration_s: float) -> None:
        """Let so much time go by."""
        ...

    def may_pause(self) -> bool:
        """Whether others can go on while this caller sleeps."""
        ...


class Blocking:
    """A sync caller in an ordinary thread."""

    async def call(self, load: Callable[[], T | Awaitable[T]]) -> T:
        return cast(T, load())

    async def outcome(self, future: Future[T], patience_s: float) -> T:
        if blocks_a_loop() and not future.done():
            # the load we would wait for may need this very loop
            raise TimeoutError
        try:
            return future.result(patience_s)
        except FutureTimeout:
            raise TimeoutError from None

    async def sleep(self, duration_s: float) -> None:
        time.sleep(duration_s)  # noqa: ASYNC251 - only ever run by `run_now`

    def may_pause(self) -> bool:
        return not blocks_a_loop()


class Suspending:
    """A coroutine on an event loop."""

    async def call(self, load: Callable[[], T | Awaitable[T]]) -> T:
        return await cast("Awaitable[T]", load())

    async def outcome(self, future: Future[T], patience_s: float) -> T:
        return await _within(future, patience_s)

    async def sleep(self, duration_s: float) -> None:
        await asyncio.sleep(duration_s)

    def may_pause(self) -> bool:
        return True


class InGreenlet:
    """Sync code that an async engine runs."""

    async def call(self, load: Callable[[], T | Awaitable[T]]) -> T:
        return cast(T, load())

    async def outcome(self, future: Future[T], patience_s: float) -> T:
        return await_in_greenlet(_within(future, patience_s))

    async def sleep(self, duration_s: float) -> None:
        await_in_greenlet(asyncio.sleep(duration_s))

    def may_pause(self) -> bool:
        return True


async def _within(future: Future[T], patience_s: float) -> T:
    # wait() and not wait_for(): one impatient or cancelled waiter must not
    # cancel the future for the others
    wrapped = asyncio.wrap_future(future)
    done, _ = await asyncio.wait([wrapped], timeout=patience_s)
    if not done:
        raise TimeoutError
    return wrapped.result()


def run_now(step: Coroutine[Any, Any, T]) -> T:
    """What `step` returns, finished in this thread.

    Raises:
        WouldSuspend: it awaited something that needs an event loop.
    """
    try:
        step.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    finally:
        step.close()
    name = getattr(step, "__qualname__", "a protocol step")
    raise WouldSuspend(f"{name} awaited an event loop although its caller is not async: pass blocking ports")


def blocks_a_loop() -> bool:
    """True where blocking this thread stops an event loop: sync code called straight from a coroutine."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return not in_greenlet()
