"""RedisStore: the store's operations as commands to Redis or Valkey, over any wire."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files

from perfkit.cache.cells import fresh, is_overdue
from perfkit.cache.store import Seen
from perfkit.clock import SYSTEM, Clock
from perfkit.errors import StoreDown
from perfkit.wire import Answer, NoScript, Wire, Word

_SCRIPTS = {
    name: (files("perfkit.cache") / "scripts" / f"{name}.lua").read_bytes() for name in ("ensure", "mark", "bump")
}
_SHAS = {name: hashlib.sha1(script, usedforsecurity=False).hexdigest() for name, script in _SCRIPTS.items()}


class RedisStore:
    """`Store` on one server. Holds no state but its wire."""

    def __init__(self, wire: Wire, *, cell_ttl_ms: int, clock: Clock = SYSTEM) -> None:
        self._wire = wire
        self._clock = clock
        self._cell_ttl_ms = cell_ttl_ms

    async def read(self, keys: Sequence[bytes]) -> Seen:
        answer = await self._wire.run("MGET", *keys)
        seen = _seen(answer, len(keys))
        # By our own clock, which may be wrong: it only decides whether `ensure`,
        # which goes by the server's, is worth the round trip.
        now_ms = self._clock.wall_ms()
        return seen._replace(values=[None if v and is_overdue(v, now_ms) else v for v in seen.values])

    async def ensure(self, cells: Sequence[bytes]) -> Seen:
        answer = await self._script("ensure", cells, self._cell_ttl_ms, *[fresh() for _ in cells])
        return _seen(answer, len(cells))

    async def put(self, key: bytes, entry: bytes, ttl_ms: int) -> None:
        await self._wire.run("SET", key, entry, "PX", ttl_ms)

    async def mark(self, cells: Sequence[bytes], writer: bytes, hold_ms: int) -> None:
        await self._script("mark", cells, writer, hold_ms)

    async def bump(self, cells: Sequence[bytes], writer: bytes) -> None:
        await self._script("bump", cells, writer, self._cell_ttl_ms, *[fresh() for _ in cells])

    async def drop(self, keys: Sequence[bytes]) -> int:
        answer = await self._wire.run("UNLINK", *keys)
        return int(answer.value)

    async def _script(self, name: str, cells: Sequence[bytes], *words: Word) -> Answer:
        try:
            return await self._wire.run("EVALSHA", _SHAS[name], len(cells), *cells, *words)
        except NoScript:
            return await self._wire.run("EVAL", _SCRIPTS[name], len(cells), *cells, *words)


def _seen(answer: Answer, count: int) -> Seen:
    values = answer.value
    if not isinstance(values, list) or len(values) != count or not all(v is None or type(v) is bytes for v in values):
        raise StoreDown(f"the store answered {str(values)[:80]!r} where {count} values were asked for")
    return Seen(values, answer.epoch)
