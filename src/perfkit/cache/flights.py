"""Single flight: one load per (key, versions) in this process, whoever waits.

The versions are part of what is waited for. A reader that starts after a commit sees other
versions, and must not be handed what a load from before that commit found.

What can go wrong with waiting for others, and what is done about it:

    the leader is cancelled             its followers fly again; one of them leads
    the leader's load fails             the failure may be the leader's own (a broken session, a pool
                                        without room): each follower loads for itself
    a load calls itself                 it would wait for itself: it loads again instead
    two loads wait for each other       the one that would close the circle loads for itself
    the leader needs a connection that  no follower waits longer than `patience_s`
    its followers hold
    the leader never lands: its loop    who has waited that long lets the next caller lead
    was closed, its database hangs
    the leader needs the event loop     a caller that would block it loads for itself (`waiting.Blocking`)
    the leader lands while a caller is  the caller is told to look again (`NoLanding.JUST_LANDED`), once
    between its look and its join
    the process is forked               the leader is not in the child: no load is under way there
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import Future
from contextvars import ContextVar
from enum import Enum
from typing import TypeVar

from perfkit.clock import SYSTEM
from perfkit.forks import begin_anew_after_a_fork
from perfkit.waiting import Waiting

T = TypeVar("T")
Landing = TypeVar("Landing")


class NoLanding(Enum):
    """Why there is nothing to share."""

    CANCELLED = "the leader was cancelled"
    FAILED = "the leader's load failed, or what it found is not for others"
    GAVE_UP = "waited too long, or waiting would never have ended"
    JUST_LANDED = "a load of the same was under way when the caller looked, and is over: its result is in the store"


class Flight:
    """One load that is under way. `landing` is made by the first who waits for it: most loads have no followers."""

    __slots__ = ("began_s", "landing", "waits_for")

    def __init__(self) -> None:
        self.began_s = SYSTEM.monotonic()
        self.landing: Future[object] | None = None
        self.waits_for: set[Flight] = set()


RECENT = 1024  # landings that are remembered

_leading: ContextVar[tuple[Flight, ...]] = ContextVar("perfkit_leading", default=())


def lead_nothing() -> None:
    """In this context no load is under way: what it waits for, nobody else can be waiting for because of it."""
    _leading.set(())


class Flights:
    """The loads of one cache in this process. Owns them and a lock that is never held while anybody waits."""

    def __init__(self, *, patience_s: float = 5.0) -> None:
        self._landed: dict[Hashable, int] = {}  # the latest, oldest first: the how-manieth landing it was
        self.landings = 0
        self._patience_s = patience_s
        self._begin_anew()
        begin_anew_after_a_fork(self._begin_anew)

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Hashable, Flight] = {}

    async def join(
        self,
        key: Hashable,
        lead: Callable[[], Awaitable[tuple[T, Landing | NoLanding]]],
        waiting: Waiting,
        *,
        since: int | None = None,
    ) -> tuple[T, None] | tuple[None, Landing | NoLanding]:
        """What `lead` gives its caller, or what another caller's `lead` of the same `key` gave to share.

        `lead` answers with its own value and with what followers may have. One of the two parts of the
        answer is None; a `NoLanding` tells a follower to load for itself. With `since`, how many `landings` there
        had been before the caller looked for the result, it may be told that this one was among those since.
        """
        while True:
            with self._lock:
                flight = self._open.get(key)
                if flight is None:
                    if since is not None and self._landed.get(key, 0) > since:
                        return None, NoLanding.JUST_LANDED
                    flight = self._open[key] = Flight()
                    break
                mine = _leading.get()
                if _circular(flight, mine):
                    return None, NoLanding.GAVE_UP
                for own in mine:
                    own.waits_for.add(flight)
                if flight.landing is None:
                    flight.landing = Future()
                ahead = flight.landing
            landing = await self._follow(key, flight, ahead, mine, waiting)
            if landing is not NoLanding.CANCELLED:
                return None, landing  # type: ignore[return-value]
        return await self._lead(key, flight, lead), None

    def open(self) -> int:
        """How many loads are under way."""
        with self._lock:
            return len(self._open)

    def landed(self) -> list[Hashable]:
        """The latest loads that have ended, oldest first."""
        with self._lock:
            return list(self._landed)

    async def _lead(
        self, key: Hashable, flight: Flight, lead: Callable[[], Awaitable[tuple[T, Landing | NoLanding]]]
    ) -> T:
        outcome: object = NoLanding.CANCELLED
        outer = _leading.set((*_leading.get(), flight))
        try:
            value, outcome = await lead()
            return value
        except Exception:
            outcome = NoLanding.FAILED
            raise
        finally:
            _leading.reset(outer)
            with self._lock:
                if self._open.get(key) is flight:  # else it was overdue, or this is a child that was forked inside
                    del self._open[key]
                if outcome is not NoLanding.CANCELLED:
                    self._remember(key)
                landing = flight.landing  # whoever finds the flight, finds it before this
            if landing is not None:
                landing.set_result(outcome)

    def _remember(self, key: Hashable) -> None:
        self.landings += 1
        self._landed.pop(key, None)
        self._landed[key] = self.landings
        if len(self._landed) > RECENT:
            del self._landed[next(iter(self._landed))]

    async def _follow(
        self, key: Hashable, flight: Flight, landing: Future[object], mine: tuple[Flight, ...], waiting: Waiting
    ) -> object:
        try:
            return await waiting.outcome(landing, self._patience_s)
        except TimeoutError:
            if SYSTEM.monotonic() - flight.began_s >= self._patience_s:
                self._overdue(key, flight)
            return NoLanding.GAVE_UP
        finally:
            with self._lock:
                for own in mine:
                    own.waits_for.discard(flight)

    def _overdue(self, key: Hashable, flight: Flight) -> None:
        with self._lock:
            if self._open.get(key) is flight:
                del self._open[key]


def _circular(flight: Flight, mine: tuple[Flight, ...]) -> bool:
    """Whether `flight` waits, at however many removes, for a load that this caller leads."""
    seen: set[Flight] = set()
    ahead = [flight]
    while ahead:
        here = ahead.pop()
        if here in mine:
            return True
        if here not in seen:
            seen.add(here)
            ahead.extend(here.waits_for)
    return False
