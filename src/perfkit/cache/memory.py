"""MemoryStore: the store inside this process.

Complete and of one process: what another process commits does not reach it. Use it for
one-process services, tests and the demo; give a URL of Redis or Valkey to more than one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from os import urandom

from perfkit.cache import cells as cell_states
from perfkit.cache.store import Seen
from perfkit.clock import SYSTEM, Clock
from perfkit.forks import lock_of

MAX_BYTES = 64 * 1024 * 1024
MAX_CELLS = 200_000  # about 40 MB
_OVERHEAD_BYTES = 200  # of an entry in CPython: key, tuple, slot in the dict


class MemoryStore:
    """Entries bounded in bytes and cells bounded in number, least recently used first out.

    A dirty cell is never put out: readers would take the change for published.
    """

    def __init__(self, *, max_bytes: int = MAX_BYTES, max_cells: int = MAX_CELLS, clock: Clock = SYSTEM) -> None:
        self._lock = lock_of(self)
        self.clock = clock
        self._epoch = urandom(8)
        self._entries: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        self._cells: OrderedDict[bytes, bytes] = OrderedDict()
        self._claims: dict[bytes, tuple[bytes, float]] = {}
        self._bytes = 0
        self._max_bytes, self._max_cells = max_bytes, max_cells
        self._listeners: tuple[Callable[[], None], ...] = ()

    def forget_entries(self) -> None:
        """Forget every result; what it knows of writers stays."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` whenever a cell is marked or bumped, before that returns. Returns what ends it."""
        self._listeners = (*self._listeners, changed)

        def leave() -> None:
            self._listeners = tuple(each for each in self._listeners if each is not changed)

        return leave

    async def read(self, keys: Sequence[bytes]) -> Seen:
        return self.read_now(keys)

    def read_now(self, keys: Sequence[bytes]) -> Seen:
        with self._lock:
            return Seen([self._get(key) for key in keys], [self._epoch] * len(keys))

    async def ensure(self, cells: Sequence[bytes]) -> Seen:
        now_ms = self._now_ms()
        with self._lock:
            for cell in cells:
                self._set_cell(cell, cell_states.ensured(self._cells.get(cell), now_ms))
            values = [self._cells[cell] for cell in cells]
            self._shrink()
            return Seen(values, [self._epoch] * len(values))

    async def put(self, key: bytes, entry: bytes, ttl_ms: int) -> None:
        with self._lock:
            self._forget(key)
            self._entries[key] = entry, self.clock.monotonic() + ttl_ms / 1000
            self._bytes += _size(key, entry)
            self._shrink()

    async def mark(self, cells: Sequence[bytes], writer: bytes, hold_ms: int) -> None:
        now_ms = self._now_ms()
        with self._lock:
            for cell in cells:
                self._set_cell(cell, cell_states.marked(self._cells.get(cell), writer, now_ms + hold_ms, now_ms))
            self._changed()
            self._shrink()

    async def bump(self, cells: Sequence[bytes], writer: bytes) -> None:
        now_ms = self._now_ms()
        with self._lock:
            for cell in cells:
                self._set_cell(cell, cell_states.bumped(self._cells.get(cell), writer, now_ms))
            self._changed()
            self._shrink()

    async def claim(self, key: bytes, holder: bytes, hold_ms: int) -> bool:
        now_s = self.clock.monotonic()
        with self._lock:
            its, until_s = self._claims.get(key, (holder, 0.0))
            if its != holder and now_s < until_s:
                return False
            self._claims[key] = holder, now_s + hold_ms / 1000
            return True

    async def release(self, key: bytes, holder: bytes) -> None:
        with self._lock:
            if self._claims.get(key, (b"", 0.0))[0] == holder:
                del self._claims[key]

    async def drop(self, keys: Sequence[bytes]) -> int:
        with self._lock:
            self._changed()
            return sum(self._forget(key) for key in keys)

    def size(self) -> tuple[int, int]:
        """How many entries, and their bytes with what Python adds."""
        with self._lock:
            return len(self._entries), self._bytes

    def clear(self) -> None:
        """Forget everything, as a restarted server would."""
        with self._lock:
            self._entries.clear()
            self._cells.clear()
            self._bytes = 0
            self._epoch = urandom(8)
            self._changed()

    def evict_clean(self, cell: bytes) -> None:
        """Lose a cell, as a full server may; a dirty one stays."""
        with self._lock:
            if self._cells.get(cell, b"").startswith(cell_states.CLEAN):
                del self._cells[cell]

    def _get(self, key: bytes) -> bytes | None:
        cell = self._cells.get(key)
        if cell is not None:
            self._cells.move_to_end(key)
            if cell.startswith(cell_states.DIRTY) and cell_states.is_overdue(cell, self._now_ms()):
                return None
            return cell
        held = self._entries.get(key)
        if held is None:
            return None
        entry, until = held
        if self.clock.monotonic() >= until:
            self._forget(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def _changed(self) -> None:
        for each in self._listeners:
            each()

    def _set_cell(self, key: bytes, cell: bytes) -> None:
        self._cells[key] = cell
        self._cells.move_to_end(key)

    def _forget(self, key: bytes) -> int:
        held = self._entries.pop(key, None)
        if held is None:
            return 0
        self._bytes -= _size(key, held[0])
        return 1

    def _shrink(self) -> None:
        while self._bytes > self._max_bytes:
            self._forget(next(iter(self._entries)))
        for _ in range(len(self._cells) - self._max_cells):
            key, cell = self._cells.popitem(last=False)
            if cell.startswith(cell_states.DIRTY):
                self._cells[key] = cell  # to the young end; tried again another time

    def _now_ms(self) -> int:
        return int(self.clock.monotonic() * 1000)


def _size(key: bytes, entry: bytes) -> int:
    return len(key) + len(entry) + _OVERHEAD_BYTES
