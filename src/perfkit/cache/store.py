"""The port to the memory that readers and writers share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol, cast, runtime_checkable

from perfkit.clock import Clock


class Seen(NamedTuple):
    """What a store held under each key, and for each the epoch of the server's life in which it said so."""

    values: Sequence[bytes | None]
    epochs: Sequence[bytes]


@runtime_checkable
class Store(Protocol):
    """Where entries and tag cells live. Keys are whole keys, of either kind.

    Each method is one atomic step per key (`mark`, `bump` and `ensure` per cell) and any of them
    may be repeated. All raise `StoreDown` when the answer did not come or was a refusal.
    """

    async def read(self, keys: Sequence[bytes]) -> Seen:
        """The bytes under `keys`; None where there are none, and for a cell whose marks all look overdue."""
        ...

    async def ensure(self, cells: Sequence[bytes]) -> Seen:
        """The cells, after giving a new version to those that are missing or long abandoned."""
        ...

    async def put(self, key: bytes, entry: bytes, ttl_ms: int) -> None:
        """Keep `entry` for `ttl_ms` milliseconds, or for less."""
        ...

    async def mark(self, cells: Sequence[bytes], writer: bytes, hold_ms: int) -> None:
        """Make `cells` dirty for `writer`, until it bumps them or `hold_ms` have passed."""
        ...

    async def bump(self, cells: Sequence[bytes], writer: bytes) -> None:
        """Take `writer` out of `cells`; those that no other writer holds get a new version."""
        ...

    async def drop(self, keys: Sequence[bytes]) -> int:
        """Forget entries; how many there were."""
        ...


class Sealed(NamedTuple):
    """An entry on its way to the store."""

    key: bytes
    entry: bytes
    ttl_ms: int


Heard = Callable[[], Awaitable[None]]
"""Waits for what a store says to what it was sent before."""


class PostingStore(Store, Protocol):
    """A store that is told first and listened to later, or not at all.

    Where a mark stands until a bump arrives, nobody need wait for that bump.
    """

    async def post_mark(self, cells: Sequence[bytes], writer: bytes, hold_ms: int) -> Heard | None:
        """Send off `mark`. What it returns is called once, and raises StoreDown where `mark` would; None: not here.

        Raises:
            StoreDown: it could not be sent.
        """
        ...

    async def post_bump(self, cells: Sequence[bytes], writer: bytes) -> None:
        """Send off `bump`. Whether it arrived is not told; if it did not, the mark runs out by itself.

        Raises:
            StoreDown: it could not be sent.
        """
        ...


def posting(store: Store) -> PostingStore | None:
    """`store`, if it is such a one; asked at each commit, where `isinstance` with a protocol takes longer than that."""
    return cast(PostingStore, store) if hasattr(store, "post_mark") else None


@runtime_checkable
class BatchStore(Store, Protocol):
    """A store that takes several entries at once; others are given them one by one."""

    async def put_all(self, entries: Sequence[Sealed]) -> None:
        """`put` for each."""
        ...


async def put_all(entries: Sequence[Sealed], store: Store) -> None:
    """Keep all of these.

    Raises:
        StoreDown
    """
    if isinstance(store, BatchStore):
        if entries:
            await store.put_all(entries)
        return
    for each in entries:
        await store.put(*each)


@runtime_checkable
class InstantStore(Store, Protocol):
    """A store that never waits: a hit is answered before a coroutine is made. It is all there is: of one process."""

    clock: Clock

    def read_now(self, keys: Sequence[bytes]) -> Seen:
        """`read`, at once."""
        ...

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` whenever a cell is marked or bumped, before that returns. Returns what ends it."""
        ...


@runtime_checkable
class ClaimingStore(Store, Protocol):
    """A store through which processes agree on one of them; `single_flight="cluster"` needs one."""

    async def claim(self, key: bytes, holder: bytes, hold_ms: int) -> bool:
        """Whether `holder` has `key` now, for at most `hold_ms`: nobody had it, or it itself."""
        ...

    async def release(self, key: bytes, holder: bytes) -> None:
        """Give `key` back, if `holder` has it."""
        ...
