"""Bumps that the store could not be told of yet.

A commit whose tags are not known to be marked (the store was down, or was asked too late) and whose bump
failed leaves old entries looking valid. This process knows: until the bump has gone through, its own
reads go to the database, and each of them tries to settle first; so does a thread, for a process that reads no more.
A process that ends, and a cache that is closed, tries once more and says what it leaves behind.
Other processes see the old entries until then; that is what "committed", and
`on_mark_failure="proceed"`, promise and no more.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Sequence
from itertools import islice
from weakref import WeakSet

from perfkit.cache.cells import new_writer
from perfkit.cache.store import Store
from perfkit.errors import StoreDown, WouldSuspend
from perfkit.forks import lock_of
from perfkit.waiting import run_now

_log = logging.getLogger("perfkit.cache")

BATCH = 500
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


class Arrears:
    """The cells that are owed a bump. Owns that set, and the thread that settles it while there is a `store`."""

    def __init__(self) -> None:
        self._owed: dict[bytes, object] = {}
        self._store: Store | None = None
        self._thread: threading.Thread | None = None
        self._lock = lock_of(self)
        self._left = threading.Event()

    def __bool__(self) -> bool:
        return bool(self._owed)

    def use(self, store: Store) -> None:
        """Settle by itself over `store`, which must be one that blocks."""
        self._store, self._left = store, threading.Event()
        _indebted.add(self)
        self._begin()

    def leave(self) -> None:
        """Try a last time, and stop settling by itself. What is owed still, is told to who reads the log."""
        store, self._store = self._store, None
        self._left.set()
        if not self._owed or store is None:
            return
        try:
            run_now(self.settle(store))
        except (StoreDown, WouldSuspend) as trouble:
            _log.warning(
                "the store was not told of %d cells that commits of this process have changed (%s): who has results "
                "from before keeps them until they expire, unless somebody bumps their tags",
                len(self._owed),
                trouble,
            )

    def add(self, cells: Sequence[bytes]) -> None:
        debt = object()
        for cell in cells:
            self._owed[cell] = debt
        self._begin()

    async def settle(self, store: Store) -> None:
        """Bump all that is owed.

        Raises:
            StoreDown: some of it is owed still.
        """
        while batch := list(islice(self._owed.copy().items(), BATCH)):
            await store.bump([cell for cell, _ in batch], new_writer())
            for cell, debt in batch:
                # owed until it is paid, and what was added again while we waited was changed again
                if self._owed.get(cell) is debt:
                    self._owed.pop(cell, None)

    def _begin(self) -> None:
        with self._lock:
            if self._owed and self._store is not None and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(
                    target=self._keep_trying, args=(self._store, self._left), name="perfkit-arrears", daemon=True
                )
                self._thread.start()

    def _keep_trying(self, store: Store, left: threading.Event) -> None:
        pause_s = FIRST_PAUSE_S
        while not left.wait(pause_s):
            try:
                run_now(self.settle(store))
            except StoreDown:
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            except WouldSuspend:
                return  # a store of the user's own, for event loops only: readers settle
            with self._lock:
                if not self._owed:
                    self._thread = None
                    return


_indebted: WeakSet[Arrears] = WeakSet()


@atexit.register
def _leave_all() -> None:
    for each in list(_indebted):
        each.leave()
