"""Bumps that the store could not be told of yet.

A commit whose tags were not marked (the store was down, or the mode does not mark) and whose bump
failed leaves old entries looking valid. This process knows: until the bump has gone through, its own
reads go to the database, and each of them tries to settle first. Other processes see the old entries
until then; that is what the modes without a mark, and `on_mark_failure="proceed"`, promise and no more.
"""

from __future__ import annotations

from collections.abc import Sequence

from perfkit.cache.cells import new_writer
from perfkit.cache.store import Store

BATCH = 500


class Arrears:
    """The cells that are owed a bump. Owns that set."""

    def __init__(self) -> None:
        self._owed: dict[bytes, None] = {}

    def __bool__(self) -> bool:
        return bool(self._owed)

    def add(self, cells: Sequence[bytes]) -> None:
        for cell in cells:
            self._owed[cell] = None

    async def settle(self, store: Store) -> None:
        """Bump all that is owed.

        Raises:
            StoreDown: some of it is owed still.
        """
        while batch := list(self._owed)[:BATCH]:
            # what is added again while we wait was changed again: taken out before, it stays in
            for cell in batch:
                self._owed.pop(cell, None)
            try:
                await store.bump(batch, new_writer())
            except BaseException:
                self.add(batch)
                raise
