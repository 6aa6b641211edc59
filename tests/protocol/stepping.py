"""Steps production coroutines through every order of their awaits.

Each port call of an actor is one step. `explore` runs an experiment once for each order in which the actors'
steps can follow each other: it lets the first actor that can go on go on, remembers who else could have, and
comes back for them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Sequence
from concurrent.futures import Future
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar

from perfkit.cache.memory import MemoryStore
from perfkit.cache.store import Seen

T = TypeVar("T")


class Step:
    """One point at which others may go first."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class TurnedClock:
    """Time that stands still until a test turns it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return int(self.now_s * 1000)


class SteppedStore:
    """The memory store; each command is a step. With `split`, reading is one for each key, as on several nodes."""

    def __init__(self, clock: TurnedClock, *, split: bool) -> None:
        self.inner = MemoryStore(clock=clock)
        self._split = split

    async def read(self, keys: Sequence[bytes]) -> Seen:
        if not self._split:
            await Step()
            return await self.inner.read(keys)
        values: list[bytes | None] = []
        epoch = b""
        for key in keys:
            await Step()
            seen = await self.inner.read([key])
            values += seen.values
            epoch = seen.epoch
        return Seen(values, epoch)

    async def ensure(self, cells: Sequence[bytes]) -> Seen:
        await Step()
        return await self.inner.ensure(cells)

    async def put(self, key: bytes, entry: bytes, ttl_ms: int) -> None:
        await Step()
        await self.inner.put(key, entry, ttl_ms)

    async def mark(self, cells: Sequence[bytes], writer: bytes, hold_ms: int) -> None:
        await Step()
        await self.inner.mark(cells, writer, hold_ms)

    async def bump(self, cells: Sequence[bytes], writer: bytes) -> None:
        await Step()
        await self.inner.bump(cells, writer)

    async def drop(self, keys: Sequence[bytes]) -> int:
        await Step()
        return await self.inner.drop(keys)


class SteppedWaiting:
    """Waits by letting others go first; never impatient."""

    async def call(self, load: Callable[[], Any]) -> Any:
        return await load()

    async def outcome(self, future: Future[T], patience_s: float) -> T:
        while not future.done():
            await Blocked(future)
        return future.result()


class Blocked:
    """A point from which an actor cannot go on before a future is done."""

    def __init__(self, future: Future[Any]) -> None:
        self.future = future

    def __await__(self) -> Generator[Future[Any], None, None]:
        yield self.future


@dataclass
class Actor:
    """A coroutine that is stepped, in a context of its own as a task would be."""

    coroutine: Coroutine[Any, Any, Any]
    dies_after: int | None = None
    context: Context = field(default_factory=copy_context)
    steps: int = 0
    done: bool = False
    waits_for: Future[Any] | None = None
    primed: bool = False

    def __post_init__(self) -> None:
        if self.primed:  # to its first step at once: up to there it does nothing that others could see
            self.context.run(self.coroutine.send, None)

    def can_go_on(self) -> bool:
        return not self.done and (self.waits_for is None or self.waits_for.done())

    def go_on(self) -> None:
        if self.dies_after is not None and self.steps >= self.dies_after:
            self.done = True  # killed: nothing of it runs any more, not even a finally
            self.context.run(_abandon, self.coroutine)
            return
        self.steps += 1
        try:
            self.waits_for = self.context.run(self.coroutine.send, None)
        except StopIteration:
            self.done = True


_graveyard: list[Any] = []


def _abandon(coroutine: Coroutine[Any, Any, Any]) -> None:
    # kept, so that its `finally` blocks do not run: a killed process runs none
    _graveyard.append(coroutine)


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run one coroutine to its end, alone."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration as done:
            result: T = done.value
            return result


def explore(start: Callable[[], tuple[list[Actor], Callable[[], bool]]]) -> int:
    """Run the experiment in every order, until its check says True; how many orders there were.

    `start` makes a fresh world and returns its actors and a check for the end.
    """
    count = 0
    ahead: list[list[int]] = [[]]
    while ahead:
        prefix = ahead.pop()
        found, branches = _run(start, prefix)
        count += 1
        if found:
            break
        ahead.extend(branches)
    return count


def _run(
    start: Callable[[], tuple[list[Actor], Callable[[], bool]]], prefix: list[int]
) -> tuple[bool, list[list[int]]]:
    actors, check = start()
    taken: list[int] = []
    branches: list[list[int]] = []
    while True:
        able = [i for i, actor in enumerate(actors) if actor.can_go_on()]
        if not able:
            break
        if len(taken) < len(prefix):
            chosen = prefix[len(taken)]
        else:
            chosen = able[0]
            branches.extend([*taken, other] for other in able[1:])
        taken.append(chosen)
        actors[chosen].go_on()
    assert all(actor.done for actor in actors), f"stuck after {taken}"
    return check(), branches
