"""The protocol, writing side: mark, COMMIT, bump, or leave the mark to its deadline.

    mark     every cell of what the transaction changed, before COMMIT is sent: from here on readers go
             to the database and keep nothing
    COMMIT   the database's own
    bump     a new version for each cell, once the outcome is certain, whichever it is; where the cells have been
             marked, a moment ago, it is sent and not waited for: until it arrives, readers go to the database

A mark is sent on its way, and its answer read later. In "strict" that is before the COMMIT; what else there is to do
is done meanwhile. In "committed" nothing need be known before the COMMIT: the answer, which has come while the database
was at work, is read after it, and what stands between commit() and its return is no round trip.

When the outcome is not certain (the connection broke inside COMMIT, the process was killed) there is no
bump. The commit may become visible later, and a new version now would let a reader keep the old row under
it. The mark stands until its deadline instead, which must lie after the last moment at which the commit
can become visible.

This file knows no client, loop, thread or session. Proof: tests/protocol/.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum

from perfkit.cache.arrears import Arrears
from perfkit.cache.cells import new_writer
from perfkit.cache.policy import Policy
from perfkit.cache.store import Heard, Store, posting
from perfkit.clock import SYSTEM, Clock
from perfkit.errors import CommitRefused, StoreDown
from perfkit.waiting import Blocking, Waiting

# After that the server may have restarted, or have been replaced, and have lost the mark: then only an answer tells
# that the bump has arrived there. Redis 7.0, empty, took 10 to 39 ms from SIGKILL to its next answer, on loopback.
POSTED_WITHIN_S = 0.01


class Announced(Enum):
    """How a transaction's changes stand in the store."""

    NOT_YET = "not announced"
    MARKED = "marked"
    REFUSED = "the commit was refused"
    UNMARKED = "the store could not be told before the commit, or has not said so yet"


class Writer:
    """One transaction's announcement, from just before COMMIT to just after. Owns its name in the cells."""

    def __init__(
        self,
        cells: Sequence[bytes],
        *,
        policy: Policy,
        store: Store,
        arrears: Arrears,
        clock: Clock = SYSTEM,
        waiting: Waiting | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`changed` is called before the first step and after the last: what this process holds is proven no more."""
        self._waiting, self._changed = waiting or Blocking(), changed
        self.cells = tuple(cells)
        self.announced = Announced.NOT_YET
        self._name = new_writer()
        self._began_s = 0.0
        self._heard: Heard | None = None
        self._posting = posting(store)
        self._policy, self._store, self._arrears, self._clock = policy, store, arrears, clock

    async def mark(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Announce that the cells are about to change. Returns when COMMIT may be sent.

        `meanwhile` is called while the mark is on its way: what it takes costs the commit nothing. What it raises is
        raised, once the mark has been taken back.

        Raises:
            CommitRefused: COMMIT must not be sent: the store was not reached and the policy vetoes, or so
                much time has gone by that the mark may be over before the commit is visible. What was marked is
                taken back.
        """
        self._changed()
        self._began_s = self._clock.monotonic()
        marking = self.cells, self._name, self._policy.mark_hold_ms
        if self._policy.mode != "strict":
            self.announced = Announced.UNMARKED
            if self._posting is not None:
                with suppress(StoreDown):
                    self._heard = await self._posting.post_mark(*marking)
            await self._use_the_wait(meanwhile)
            return
        try:
            if self._posting is not None:
                self._heard = await self._posting.post_mark(*marking)
            await self._use_the_wait(meanwhile)
            heard, self._heard = self._heard, None
            await (self._store.mark(*marking) if heard is None else heard())
        except StoreDown as down:
            if self._policy.on_mark_failure == "veto":
                self.announced = Announced.REFUSED
                await self._take_back()  # of several servers, one may have taken it
                raise CommitRefused(
                    f"the cache could not be told of this commit ({down}), and on_mark_failure is 'veto': nothing was "
                    f"committed. Try again, or choose 'proceed'."
                ) from down
            self.announced = Announced.UNMARKED
            return
        self.announced = Announced.MARKED
        if self._policy.wait_ms:
            # leases that were granted before the mark are over then, and none is granted under it
            await self._waiting.sleep(self._policy.wait_ms / 1000)
        took_ms = self._lasts_s() * 1000
        if self._is_too_old(took_ms):
            self.announced = Announced.REFUSED
            await self._take_back()
            raise CommitRefused(
                f"marking took {took_ms:.0f} ms of the {self._policy.mark_hold_ms} ms that a mark holds: nothing was "
                f"committed. Look at the store's latency, or raise mark_hold."
            )

    async def _use_the_wait(self, meanwhile: Callable[[], None]) -> None:
        try:
            meanwhile()
        except BaseException:
            await self.bump()  # no COMMIT is sent, and the answer to the mark may not stay on its connection
            raise

    async def end(self, *, is_certain: bool) -> bool:
        """The COMMIT has come back; whether the cells have their new versions. `is_certain`: of what became of it."""
        if is_certain:
            return await self.bump()
        try:
            await self._hear()
        finally:
            self.give_up()
        return False

    async def bump(self) -> bool:
        """Give the cells their new versions; whether the store took them, or is on its way to. The outcome is certain.

        A mark that is not taken back runs out by itself; without a mark the bump stays owed.
        """
        try:
            await self._hear()
            if self._posting is not None and self._is_marked_lately():
                # while a mark stands nobody is answered from before it: it need not be known when the bump arrives
                await self._posting.post_bump(self.cells, self._name)
            else:
                await self._store.bump(self.cells, self._name)
        except StoreDown:
            self.give_up()
            return False
        except BaseException:
            self.give_up()  # cancelled while it waited for the answer
            raise
        self._changed()
        return True

    async def _hear(self) -> None:
        """Whether the mark that is on its way has arrived."""
        if self._heard is not None:
            with suppress(StoreDown):
                await self._heard()
                self.announced = Announced.MARKED

    def _is_marked_lately(self) -> bool:
        return self.announced is Announced.MARKED and self._lasts_s() < POSTED_WITHIN_S

    def _lasts_s(self) -> float:
        return self._clock.monotonic() - self._began_s

    def _is_too_old(self, mark_ms: float) -> bool:
        # the other half of the hold is for COMMIT to become visible in
        return mark_ms > self._policy.mark_hold_ms / 2

    async def _take_back(self) -> None:
        with suppress(StoreDown):  # then it runs out by itself
            await self._store.bump(self.cells, self._name)

    def give_up(self) -> None:
        """The outcome is not certain: leave the mark to its deadline. Without a mark, a bump is owed."""
        if self.announced is not Announced.MARKED:
            self._arrears.add(self.cells)
        self._changed()
