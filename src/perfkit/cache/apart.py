"""A call's load on sessions of its own, which goes on when its caller has left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from perfkit.cache.call import Call, ask
from perfkit.cache.read import Filled, Hit
from perfkit.cache.reasons import Reason
from perfkit.sqla.private import in_greenlet
from perfkit.sqla.sessions import CARRIED
from perfkit.sqla.spare import spare_of
from perfkit.waiting import run_now

Loaded = Hit | Filled | Reason
Then = Callable[[Call, Filled], Awaitable[None]]


class Apart(NamedTuple):
    """A load in the background. `is_own`: it was begun for this call, who alone gets the value itself."""

    future: Future[Loaded]
    is_own: bool


class Busy(NamedTuple):
    """As many loads are under way as may be."""


def load_apart(call: Call, *, refresh: bool, then: Then | None = None) -> Apart | Busy | None:
    """Begin to load what `call` asks for, or join the one who has begun. None: no session can be made for it.

    `refresh`: in any case; else only if it is not there. `then` is awaited after a load that this began, as part of it.
    """
    background, key = call.declared.runtime.background, (call.question.key, refresh)
    running = background.running(key)
    if running is not None:
        return Apart(running, is_own=False)
    if call.declared.stays or (in_greenlet() and not call.declared.suspends):
        return None
    its = _with_spares(call)
    if its is None:
        return None
    spares, args, kwargs = its

    async def load() -> Loaded:
        asked = ask(call.declared, args, kwargs, refresh=refresh)
        if not isinstance(asked, Call):
            return asked
        answer = await (asked.refill() if refresh else asked.read())
        if isinstance(answer, Filled):
            asked.declared.count_refresh(answer, asked.took())
            if then is not None:
                await then(asked, answer)
        return answer

    async def load_later() -> Loaded:
        try:
            return await load()
        finally:
            for spare in spares:
                assert isinstance(spare, AsyncSession)
                await spare.close()

    def load_now() -> Loaded:
        try:
            return run_now(load())
        finally:
            for spare in spares:
                assert isinstance(spare, Session)
                spare.close()

    began = background.start_task(key, load_later) if call.declared.suspends else background.start(key, load_now)
    return Busy() if began is None else Apart(*began)


def _with_spares(call: Call) -> tuple[list[Session | AsyncSession], tuple[Any, ...], dict[str, Any]] | None:
    """Its arguments with a new session in the place of each one; None if that cannot be done."""
    spares: list[Session | AsyncSession] = []
    wanted = AsyncSession if call.declared.suspends else Session

    def swapped(value: Any) -> Any:
        if not isinstance(value, CARRIED):
            return value
        spare = spare_of(value)
        if not isinstance(spare, wanted):
            raise LookupError
        spares.append(spare)
        return spare

    try:
        args = tuple(map(swapped, call.args))
        kwargs = {name: swapped(value) for name, value in call.kwargs.items()}
    except LookupError:
        return None
    return spares, args, kwargs
