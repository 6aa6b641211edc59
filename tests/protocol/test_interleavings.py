"""The production coroutines, stepped through every order of their awaits, with and without crashes.

Each rule of the protocol is also taken away once: the same exploration must then find a stale read. What is
proved here is small and complete; stress on real servers is elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import pytest

from perfkit.cache import Policy, cells, read
from perfkit.cache.arrears import Arrears
from perfkit.cache.flights import Flights, NoLanding
from perfkit.cache.policy import Reason
from perfkit.cache.read import Ports, Question
from perfkit.cache.write import Writer
from tests.protocol.stepping import Actor, Step, SteppedStore, SteppedWaiting, TurnedClock, explore, finish

CELL = b"pk:t:{bins}:bins"
QUESTION = Question(b"pk:v:name:42", (b"bins",), (CELL,), 60_000, 1_000_000)
HOLD_S = 10.0


class MsgPacking:
    def pack(self, value: object) -> bytes:
        packed: bytes = msgpack.packb(value)
        return packed

    def unpack(self, raw: bytes) -> object:
        return msgpack.unpackb(raw)


class World:
    """One row, one entry, one tag; and a record of who read what when."""

    def __init__(self, *, mode: str = "strict", warm: bool = False, split: bool = False) -> None:
        """`warm`: an entry and its cell are there; else only the cell."""
        self.clock = TurnedClock()
        self.store = SteppedStore(self.clock, split=split)
        self.ports = Ports(self.store, SteppedWaiting(), Flights(), Arrears())
        self.policy = Policy(mode=mode, mark_hold=HOLD_S)  # type: ignore[arg-type]
        self.row = 0
        self.turn = 0
        self.stale: list[str] = []
        finish(self.reader())
        if not warm:
            finish(self.store.drop([QUESTION.key]))

    async def load(self) -> int:
        await Step()
        return self.row

    async def reader(self, *, elsewhere: bool = False) -> int:
        """A read that must not be older than what was visible when it started; `elsewhere` is another process."""
        visible = self.row
        ports = self.ports._replace(flights=Flights()) if elsewhere else self.ports
        answer = await read.read(QUESTION, self.load, lambda: None, MsgPacking(), ports)
        value: int = answer.value
        if value < visible:
            self.stale.append(f"read {value} although {visible} was visible before")
        return value

    async def reads(self, count: int) -> None:
        """One reader after another, on one connection as it were."""
        for _ in range(count):
            await self.reader()

    def writer(self) -> Writer:
        return Writer([CELL], policy=self.policy, store=self.store, arrears=self.ports.arrears, clock=self.clock)

    async def write(self, value: int) -> None:
        writer = self.writer()
        await writer.mark()
        await Step()
        self.row = max(self.row, value)  # the commit becomes visible
        await writer.bump()

    async def write_with_unknown_outcome(self, value: int) -> None:
        """COMMIT is sent, the connection breaks, the server makes it visible later, before the deadline."""
        writer = self.writer()
        await writer.mark()
        await Step()
        writer.give_up()
        await Step()
        self.row = value

    def check(self) -> None:
        """Afterwards: nothing older than the row may be left, now or once every deadline has passed."""
        if self.ports.flights.open():
            self.stale.append("a flight stayed open")
        finish(self.reader())
        self.clock.now_s += HOLD_S + 1
        finish(self.reader())
        finish(self.reader())


Plan = Callable[[World], list[Actor]]


def writes(world: World, value: int, *, dies_after: int | None = None) -> Actor:
    """A writer about to mark."""
    return Actor(world.write(value), dies_after=dies_after, primed=True)


def writes_into_the_dark(world: World, value: int) -> Actor:
    """A writer who never learns what became of its commit."""
    return Actor(world.write_with_unknown_outcome(value), primed=True)


def stale_reads(plan: Plan, *, warm: bool, mode: str = "strict", split: bool = False) -> tuple[int, list[str]]:
    """How many orders there are, and what went wrong in the first of them in which anything did."""
    found: list[str] = []

    def start() -> tuple[list[Actor], Callable[[], bool]]:
        world = World(mode=mode, warm=warm, split=split)

        def check() -> bool:
            world.check()
            found.extend(world.stale)
            return bool(found)

        return plan(world), check

    return explore(start), found


@pytest.mark.parametrize(("warm", "split"), [(False, False), (True, True)])
def test_two_readers_beside_a_writer_never_get_the_older_row(warm: bool, split: bool) -> None:
    """The heart of the promise, in every order: fills that race, and hits whose cells are read one by one."""
    orders, stale = stale_reads(lambda w: [writes(w, 1), Actor(w.reader()), Actor(w.reader())], warm=warm, split=split)

    assert (stale, orders > 1_000) == ([], True)


def test_a_cold_store_and_a_writer_begin_together() -> None:
    """No entry and no cell: the reader's own version and the writer's mark meet."""

    def plan(world: World) -> list[Actor]:
        world.store.inner.clear()
        return [writes(world, 1), Actor(world.reads(2))]

    _, stale = stale_reads(plan, warm=False)

    assert stale == []


def test_two_writers_do_not_publish_for_each_other() -> None:
    """The first to finish must not declare the other's change published."""
    orders, stale = stale_reads(lambda w: [writes(w, 1), writes(w, 2), Actor(w.reader())], warm=True)

    assert (stale, orders > 1_000) == ([], True)


@pytest.mark.parametrize("dies_after", [0, 1, 2])
@pytest.mark.parametrize("warm", [False, True])
def test_a_writer_killed_at_any_step_leaves_no_old_entry(warm: bool, dies_after: int) -> None:
    """A mark without a bump keeps readers at the database, and what was kept before it never matches again."""
    _, stale = stale_reads(lambda w: [writes(w, 1, dies_after=dies_after), Actor(w.reads(3))], warm=warm, split=True)

    assert stale == []


@pytest.mark.parametrize("dies_after", [2, 3])
def test_a_reader_killed_at_any_step_harms_nobody(dies_after: int) -> None:
    """It is of another process, whose flights nobody here waits for; what it kept is valid or does not match."""
    _, stale = stale_reads(
        lambda w: [
            writes(w, 1),
            Actor(w.reader(elsewhere=True), dies_after=dies_after),
            Actor(w.reader()),
        ],
        warm=False,
    )

    assert stale == []


@pytest.mark.parametrize("warm", [False, True])
def test_a_commit_that_becomes_visible_after_its_error_leaves_no_old_entry(warm: bool) -> None:
    """An outcome that nobody knows is not bumped."""
    _, stale = stale_reads(lambda w: [writes_into_the_dark(w, 1), Actor(w.reads(3))], warm=warm, split=True)

    assert stale == []


@pytest.mark.parametrize("warm", [False, True])
def test_lost_cells_are_misses(warm: bool) -> None:
    """Eviction of a clean cell at any moment."""

    async def evict(world: World) -> None:
        await Step()
        world.store.inner.evict_clean(CELL)

    _, stale = stale_reads(lambda w: [writes(w, 1), Actor(evict(w)), Actor(w.reads(2))], warm=warm)

    assert stale == []


def test_committed_mode_is_stale_only_between_commit_and_bump() -> None:
    """What `committed` does not promise happens, and what it promises holds: nothing is stale once bumped."""
    _, beside = stale_reads(lambda w: [writes(w, 1), Actor(w.reads(2))], warm=True, mode="committed")
    late: list[str] = []

    async def then_read(world: World) -> None:
        await world.write(1)
        world.stale.clear()
        await world.reads(2)
        late.extend(world.stale)

    stale_reads(lambda w: [Actor(then_read(w)), Actor(w.reader())], warm=True, mode="committed")

    assert beside != []
    assert late == []


# ---- each rule taken away once


def without_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    async def mark(self: Writer) -> None:
        return None

    monkeypatch.setattr(Writer, "mark", mark)


def flights_by_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Flights.join

    async def join(self: Flights, key: Any, lead: Any, waiting: Any) -> Any:
        return await real(self, key[0], lead, waiting)

    monkeypatch.setattr(Flights, "join", join)


def capture_after_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    real = read._load_and_keep

    async def load_and_keep(
        question: Question, versions: Any, load: Any, may_keep: Any, packing: Any, ports: Ports
    ) -> tuple[Any, tuple[bytes | NoLanding, Reason | None]]:
        value = await ports.waiting.call(load)
        now = await read._ensure(question, ports.store)

        async def again() -> Any:
            return value

        return await real(question, now or versions, again, may_keep, packing, ports)

    monkeypatch.setattr(read, "_load_and_keep", load_and_keep)


def one_writer_in_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "_others", lambda cell, me, now_ms: b"")


def missing_cells_begin_at_the_same_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "fresh", lambda: b"c000000000")


def loads_under_a_mark_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    real = cells.version_of

    def version_of(cell: bytes | None, epoch: bytes) -> Any:
        if cell is not None and cell.startswith(cells.DIRTY):
            return cell + epoch
        return real(cell, epoch)

    monkeypatch.setattr(read, "version_of", version_of)


def unknown_outcomes_are_bumped(monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(self: Writer) -> None:
        finish(self.bump())

    monkeypatch.setattr(Writer, "give_up", give_up)


MUTANTS: Sequence[tuple[Callable[[pytest.MonkeyPatch], None], Plan, bool]] = [
    (without_mark, lambda w: [writes(w, 1), Actor(w.reads(2))], True),
    (flights_by_key_alone, lambda w: [writes(w, 1), Actor(w.reader()), Actor(w.reader())], False),
    (capture_after_the_load, lambda w: [writes(w, 1), Actor(w.reads(2))], False),
    (
        one_writer_in_a_cell,
        lambda w: [writes(w, 1), writes(w, 2), Actor(w.reads(2))],
        True,
    ),
    (missing_cells_begin_at_the_same_version, lambda w: [writes(w, 1), Actor(w.reads(2))], True),
    (
        loads_under_a_mark_are_kept,
        lambda w: [writes(w, 1), Actor(w.reader()), Actor(w.reader())],
        False,
    ),
    (
        unknown_outcomes_are_bumped,
        lambda w: [writes_into_the_dark(w, 1), Actor(w.reads(2))],
        False,
    ),
]


@pytest.mark.parametrize(("mutate", "plan", "warm"), MUTANTS, ids=lambda part: getattr(part, "__name__", ""))
def test_the_exploration_notices_a_missing_rule(
    mutate: Callable[[pytest.MonkeyPatch], None], plan: Plan, warm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rule is there because without it somebody reads the older row."""
    mutate(monkeypatch)

    _, stale = stale_reads(plan, warm=warm)

    assert stale != []
