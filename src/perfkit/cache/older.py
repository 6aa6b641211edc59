"""Results that are no longer current, for those who said how old one may be.

    stale        a change was made, or its time is up: served for so long, while one load renews it
    fail safe    the database does not answer, or not in time: served for so long, and said so

Both count from when the result was last known to be current *in this process*, by the rate of its own clock: when it
was loaded, or when the store was last asked for its versions and they were the same. So the bound holds whatever
became of messages and other machines' clocks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from perfkit.cache.apart import Apart, Loaded, load_apart
from perfkit.cache.call import Call
from perfkit.cache.read import Filled, Hit, Older, Why
from perfkit.cache.reasons import Reason
from perfkit.errors import LoadTimeout

RETRY_S = 1.0  # after a failure, for so long nobody tries again who has an older result
_DEAD_STATES = ("08", "53", "57P")  # SQLSTATE classes: connection, resources, shutdown

_log = logging.getLogger("perfkit.cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class OlderAnswer:
    """That a call was answered by an older result, current at the latest `age_s` seconds before.

    `why` is `"stale"` where one is served while it is loaded again, and `"rescued"` where the database did not answer.
    """

    function: str
    why: Why
    age_s: float


_noting: ContextVar[tuple[list[OlderAnswer], ...]] = ContextVar("perfkit_older", default=())


@contextmanager
def noting_older() -> Iterator[list[OlderAnswer]]:
    """The older answers of this context, as they are given."""
    noted: list[OlderAnswer] = []
    before = _noting.set((*_noting.get(), noted))
    try:
        yield noted
    finally:
        _noting.reset(before)


async def answered(call: Call) -> Loaded | Older:
    """The answer to a call whose function may be answered by older results, or within a time.

    Raises:
        LoadTimeout: it took longer than the function's `hard_timeout`.
        whatever the function raises
    """
    found = await call.renewed()
    if found is not None:
        return found
    limits = call.declared.limits
    age_s = _age_within(call, limits.stale_s)
    if age_s is not None:
        found = await call.looked_up()
        if found is not None:
            return found
        began = load_apart(call, refresh=False)
        if began is not None:
            return _older(call, "stale", age_s)
        with call.proof.refreshing() as is_mine:
            return await _loaded(call) if is_mine else _older(call, "stale", age_s)
    return await _loaded(call)


async def _loaded(call: Call) -> Loaded | Older:
    limits = call.declared.limits
    age_s = _age_within(call, limits.fail_safe_s)
    if age_s is not None and call.proof.has_just_failed():
        return _older(call, "rescued", age_s)
    try:
        return await _in_time(call, age_s)
    except Exception as error:
        age_s = _age_within(call, limits.fail_safe_s)
        if age_s is None or not is_dead(error):
            raise
        call.proof.failed(RETRY_S)
        _log.warning("%s: answered by a result of %.1f s ago: %s", call.declared.keys.name, age_s, error)
        return _older(call, "rescued", age_s)


async def _in_time(call: Call, age_s: float | None) -> Loaded | Older:
    limits = call.declared.limits
    within_s = limits.hard_s
    if limits.soft_s is not None and age_s is not None and age_s + limits.soft_s <= limits.fail_safe_s:
        within_s = limits.soft_s  # it is still young enough when that is over
    if within_s is None:
        return await call.asked()
    apart = load_apart(call, refresh=False)
    if not isinstance(apart, Apart):
        if apart is None:
            call.declared.warn_timeless()
        return await call.asked()
    try:
        with call.waiting():
            answer = await call.ports.waiting.outcome(apart.future, within_s)
    except TimeoutError as late:
        if apart.future.done() and apart.future.exception() is late:
            raise
        if (age_s := _age_within(call, limits.fail_safe_s)) is not None:
            return _older(call, "rescued", age_s)
        raise LoadTimeout(
            f"{call.declared.keys.name} took longer than its hard_timeout of {within_s:g} s. The load goes on, and its "
            f"result is kept if it comes."
        ) from None
    if isinstance(answer, Reason):
        return answer
    if apart.is_own and isinstance(answer, Hit):
        return answer
    if apart.is_own and isinstance(answer, Filled) and not call.declared.has_entities:
        return answer._replace(is_apart=True)
    # what another loaded is not the caller's own, and neither are entities: their session is closed by now
    if answer.kept is None or not answer.kept.payload:
        return await call.asked()
    value = call.codec.unpack(answer.kept.payload)
    if apart.is_own and isinstance(answer, Filled):
        return answer._replace(value=value, is_apart=True)
    return Filled(value, None, shared=True, kept=answer.kept)


def _age_within(call: Call, limit_s: float) -> float | None:
    age_s = call.proof.age_s() if limit_s else None
    return None if age_s is None or age_s > limit_s else age_s


def _older(call: Call, why: Why, age_s: float) -> Older:
    value, kept = call.proof.as_it_was()
    return Older(value, kept, why, age_s)


def note(function: str, older: Older) -> None:
    """Tell those who want to know of older answers."""
    for noted in _noting.get():
        noted.append(OlderAnswer(function=function, why=older.why, age_s=older.age_s))


def is_dead(error: BaseException) -> bool:
    """Whether it says that the database cannot be reached, is overloaded or takes too long, and not what is asked."""
    if isinstance(error, OperationalError | InterfaceError | DisconnectionError | PoolTimeout | OSError | LoadTimeout):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return str(getattr(error, "sqlstate", None) or "").startswith(_DEAD_STATES)
