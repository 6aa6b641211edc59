"""Production coroutines as automata that are learned by running them.

A protocol coroutine awaits nothing but its ports, so what it does next follows from what its ports have answered so
far. A *node* is such a history of one process: it knows, for each of the coroutines that share the process, which
operation it asks for next or what it has returned. A history that was met before costs a dictionary look-up; a new one
is learned by running the coroutines anew and telling them the same answers. What the model checker steps through is
thereby the code that is shipped, and nothing written for the purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Hashable, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, NamedTuple, TypeVar

from perfkit.cache.store import Heard, Seen
from perfkit.errors import StoreDown

T = TypeVar("T")

DOWN = "down"  # the answer of a store that gave none
_ALL = -1


class Op:
    """One operation that a coroutine asks for; awaiting it gives the world's answer."""

    def __init__(self, *words: Any) -> None:
        self._words = words

    def __await__(self) -> Generator[tuple[Any, ...], Any, Any]:
        return (yield self._words)


class TurnedClock:
    """Time that stands still until a test turns it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return int(self.now_s * 1000)


class AskedStore:
    """A store of which each command is an operation; `split`: one for each key, as on several servers."""

    def __init__(self, *, split: bool, clock: TurnedClock | None = None, hears_late: bool = False) -> None:
        """With a `clock`, an answer comes with the seconds that it took, and the clock is turned by them.

        `hears_late`: between sending a mark and hearing of it a writer asks for something. Else both are one operation,
        since nobody can tell when, in between, it was done.
        """
        self._split, self._clock, self._hears_late = split, clock, hears_late

    async def read(self, keys: Sequence[bytes]) -> Seen:
        return await self._values("read", keys)

    async def ensure(self, cells: Sequence[bytes]) -> Seen:
        return await self._values("ensure", cells)

    async def put(self, key: bytes, entry: bytes, ttl_ms: int) -> None:
        await self._each("put", [key], entry)

    async def mark(self, cells: Sequence[bytes], writer: bytes, hold_ms: int) -> None:
        await self._each("mark", cells, hold_ms)

    async def bump(self, cells: Sequence[bytes], writer: bytes) -> None:
        await self._each("bump", cells)

    async def post_mark(self, cells: Sequence[bytes], writer: bytes, hold_ms: int) -> Heard | None:
        if self._split:
            return None  # as of a cluster
        if self._hears_late:
            await self._each("ahead", cells, hold_ms)

        async def heard() -> None:
            if self._hears_late:
                await self._each("heard", cells)
            else:
                await self.mark(cells, writer, hold_ms)

        return heard

    async def post_bump(self, cells: Sequence[bytes], writer: bytes) -> None:
        await self._each("post", cells)

    async def drop(self, keys: Sequence[bytes]) -> int:
        raise AssertionError("no protocol drops")

    async def _values(self, what: str, keys: Sequence[bytes]) -> Seen:
        answers = await self._each(what, keys)
        return Seen([value for value, _ in answers], [epoch for _, epoch in answers])

    async def _each(self, what: str, keys: Sequence[bytes], *more: Any) -> list[Any]:
        found: list[Any] = []
        for group in [[key] for key in keys] if self._split else [keys]:
            answer = await Op(what, tuple(group), *more)
            if self._clock is not None:
                answer, took_s = answer
                self._clock.now_s += took_s
            if answer == DOWN:
                raise StoreDown("no answer")
            found += answer
        return found


class AskedWaiting:
    """Waits by letting others go on; never impatient. With a `clock`, it is turned by what a sleep took."""

    def __init__(self, clock: TurnedClock | None = None) -> None:
        self._clock = clock

    async def call(self, load: Callable[[], Any]) -> Any:
        return await load()

    async def outcome(self, future: Future[T], patience_s: float) -> T:
        while not future.done():
            await Op("wait", future)
        return future.result()

    async def sleep(self, duration_s: float) -> None:
        answer = await Op("sleep", duration_s)
        if self._clock is not None:
            self._clock.now_s += answer[1]


class Member(NamedTuple):
    """One coroutine of a process: what it asks for next (None when it has ended), and what it has returned.

    `heard` is what it was told so far; `is_free` False while it waits for another member.
    """

    op: tuple[Any, ...] | None
    result: Any
    heard: tuple[Hashable, ...]
    is_free: bool


class Shared(NamedTuple):
    """What the coroutines of a process share, told apart by `state`; `versions` are those that it remembers."""

    state: Hashable = None
    versions: tuple[bytes, ...] = ()


class Node(NamedTuple):
    """A process after one history."""

    members: tuple[Member, ...]
    path: tuple[tuple[int, Hashable], ...]
    shared: Shared

    @property
    def has_ended(self) -> bool:
        return all(member.op is None for member in self.members)


class Process(NamedTuple):
    """Coroutines that share something. `shared` is what of it is no future of theirs but will decide what they do.

    `hear` is called when the world tells all of them something at once.
    """

    coroutines: Sequence[Coroutine[Any, Any, Any]]
    shared: Callable[[], Shared] = lambda: Shared()
    hear: Callable[[Hashable], None] = lambda what: None


class Automaton:
    """The histories of one process, as far as they were met. `make` gives it, fresh."""

    def __init__(self, make: Callable[[], Process]) -> None:
        self._make = make
        self._ids: dict[Hashable, int] = {}
        self._after: dict[tuple[int, int, Hashable], int] = {}
        self.nodes: list[Node] = []
        self.start = self._learn(())

    def after(self, node: int, member: int, answer: Hashable) -> int:
        """The node that follows when the world tells a member `answer`."""
        known = self._after.get((node, member, answer))
        if known is None:
            known = self._learn((*self.nodes[node].path, (member, answer)))
            self._after[node, member, answer] = known
        return known

    def after_news(self, node: int, news: Hashable) -> int:
        """The node that follows when all members hear of something, between two of their own steps."""
        return self.after(node, _ALL, news)

    def _learn(self, path: tuple[tuple[int, Hashable], ...]) -> int:
        coroutines, shared, hear = self._make()
        contexts = [copy_context() for _ in coroutines]
        ops: list[tuple[Any, ...] | None] = []
        results: list[Any] = [None] * len(coroutines)
        heard: list[list[Hashable]] = [[] for _ in coroutines]
        for coroutine, context in zip(coroutines, contexts, strict=True):
            ops.append(context.run(coroutine.send, None))
        for member, answer in path:
            if member == _ALL:
                hear(answer)
                for answers in heard:  # when it came is part of the history of who has begun
                    if answers:
                        answers.append(answer)
                continue
            heard[member].append(answer)
            try:
                ops[member] = contexts[member].run(coroutines[member].send, answer)
            except StopIteration as end:
                ops[member], results[member] = None, end.value
        members = tuple(map(_member, ops, results, heard))
        met = members, shared()
        for coroutine, context in zip(coroutines, contexts, strict=True):
            context.run(coroutine.close)
        # two orders in which the members heard the same things, and ask for the same now, are one history
        node = self._ids.get(met)
        if node is None:
            node = self._ids[met] = len(self.nodes)
            self.nodes.append(Node(members, path, met[1]))
        return node


def _member(op: tuple[Any, ...] | None, result: Any, heard: list[Hashable]) -> Member:
    if op is None:
        return Member(None, result, (), True)
    if op[0] == "wait":
        done = op[1].done()
        return Member(("wait", str(op[1].result()) if done else ""), None, tuple(heard), done)
    return Member(op, None, tuple(heard), True)
