"""Bumps that are owed: paid as soon as they can be, and not taken for paid before."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from typing import Any

import pytest

from perfkit.cache import MemoryStore
from perfkit.cache.arrears import Arrears
from perfkit.cache.policy import Mode, Policy
from perfkit.cache.store import Heard
from perfkit.cache.write import Writer
from perfkit.clock import FrozenClock
from perfkit.errors import StoreDown
from perfkit.waiting import run_now

CELLS = [b"t:t:{bins}:bins", b"t:t:{bins}:bins#1"]
LONG_S = 30


class Suspended:
    def __await__(self) -> Generator[None, None, None]:
        yield


class Moody(MemoryStore):
    """A store that refuses bumps until it is told to take them, and runs something inside each."""

    def __init__(self) -> None:
        super().__init__()
        self.takes = False
        self.inside: Any = lambda: None
        self.taken = threading.Event()

    async def bump(self, cells: Sequence[bytes], writer: bytes) -> None:
        self.inside()
        if not self.takes:
            raise StoreDown("not now")
        await super().bump(cells, writer)
        self.taken.set()


def test_a_thread_pays_when_nobody_reads_any_more():
    """It tries again and again, and ends when nothing is owed."""
    store, arrears = Moody(), Arrears()
    tried = threading.Event()
    store.inside = tried.set
    arrears.use(store)

    arrears.add(CELLS)
    assert tried.wait(LONG_S)
    store.takes = True
    assert store.taken.wait(LONG_S)

    while arrears:
        pass
    assert all(value is not None and value.startswith(b"c") for value in store.read_now(CELLS).values)


def test_what_is_being_paid_is_owed_until_it_is_paid():
    """A reader that looked meanwhile would take the old entry for valid."""
    store, arrears = Moody(), Arrears()
    seen: list[bool] = []
    store.takes = True
    store.inside = lambda: seen.append(bool(arrears))
    arrears.add(CELLS)

    run_now(arrears.settle(store))

    assert (seen, bool(arrears)) == ([True], False)


def test_what_is_changed_again_while_it_is_paid_stays_owed():
    """The bump that is under way may have been taken before that change."""
    store, arrears = Moody(), Arrears()
    store.takes = True
    arrears.add(CELLS)

    def change_again() -> None:
        store.inside = lambda: seen.append(bool(arrears))
        arrears.add(CELLS[:1])

    seen: list[bool] = []
    store.inside = change_again

    run_now(arrears.settle(store))

    assert (seen, bool(arrears)) == ([True], False)


def test_nothing_is_tried_after_leaving():
    """The owed ones stay owed, for whoever connects again."""
    store, arrears = Moody(), Arrears()
    arrears.use(store)
    arrears.leave()
    store.takes = True

    arrears.add(CELLS)

    assert arrears._thread is None
    arrears.use(store)
    assert store.taken.wait(LONG_S)


def test_a_store_that_only_suspends_is_left_to_the_readers():
    """The thread ends; it says nothing, and nothing is lost."""

    class Suspending(Moody):
        async def bump(self, cells: Sequence[bytes], writer: bytes) -> None:
            await Suspended()

    arrears = Arrears()
    arrears.use(Suspending())
    arrears.add(CELLS)

    assert arrears._thread is not None
    arrears._thread.join(LONG_S)
    assert arrears


def test_a_failed_payment_stays_owed():
    """And is said to the reader who made it."""
    store, arrears = Moody(), Arrears()
    arrears.add(CELLS)

    with pytest.raises(StoreDown):
        run_now(arrears.settle(store))

    assert arrears


class Posting(Moody):
    """A store that takes bumps on their way, and others not at all; and a mark, if it `hears` of it."""

    def __init__(self, *, hears: bool = True) -> None:
        super().__init__()
        self.hears = hears
        self.posted: list[Sequence[bytes]] = []

    async def post_mark(self, cells: Sequence[bytes], writer: bytes, hold_ms: int) -> Heard:
        async def heard() -> None:
            if not self.hears:
                raise StoreDown("no answer")
            await self.mark(cells, writer, hold_ms)

        return heard

    async def post_bump(self, cells: Sequence[bytes], writer: bytes) -> None:
        self.posted.append(cells)


@pytest.mark.parametrize(
    ("mode", "hears", "is_posted"), [("strict", True, True), ("committed", True, True), ("committed", False, False)]
)
def test_only_a_bump_under_a_mark_is_not_waited_for(mode: Mode, hears: bool, is_posted: bool):
    """Who reads after commit() must not find the old version: does nothing stand until the bump arrives, it is owed."""
    store, arrears = Posting(hears=hears), Arrears()
    writer = Writer(CELLS, policy=Policy(mode=mode), store=store, arrears=arrears, clock=FrozenClock())

    run_now(writer.mark())
    was_bumped = run_now(writer.end(is_certain=True))

    assert (store.posted, was_bumped, bool(arrears)) == ([tuple(CELLS)] * is_posted, is_posted, not is_posted)


class Told(Posting):
    """One that says in which order things happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    async def post_mark(self, cells: Sequence[bytes], writer: bytes, hold_ms: int) -> Heard:
        self.order.append("sent")

        async def heard() -> None:
            self.order.append("heard")

        return heard


@pytest.mark.parametrize("mode", ["strict", "committed"])
def test_what_else_is_to_do_is_done_while_the_mark_is_on_its_way(mode: Mode):
    """In strict its answer is waited for before COMMIT: that wait is time to be used."""
    store = Told()
    writer = Writer(CELLS, policy=Policy(mode=mode), store=store, arrears=Arrears(), clock=FrozenClock())

    run_now(writer.mark(lambda: store.order.append("meanwhile")))
    store.order.append("COMMIT")
    run_now(writer.end(is_certain=True))

    before, after = (["heard"], []) if mode == "strict" else ([], ["heard"])
    assert store.order == ["sent", "meanwhile", *before, "COMMIT", *after]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("mode", ["strict", "committed"])
def test_what_is_raised_while_the_mark_is_on_its_way_takes_it_back(mode: Mode, error: type[BaseException]):
    """Somebody's handler of log records may raise: no COMMIT is sent, so nobody has to wait for the mark's deadline."""
    store = Told()
    writer = Writer(CELLS, policy=Policy(mode=mode), store=store, arrears=Arrears(), clock=FrozenClock())

    def fail() -> None:
        raise error("meanwhile")

    with pytest.raises(error, match="meanwhile"):
        run_now(writer.mark(fail))

    assert store.order == ["sent", "heard"]
    assert store.posted == [tuple(CELLS)]


@pytest.mark.parametrize("hears", [True, False])
def test_in_committed_an_unknown_outcome_leaves_the_mark_or_is_owed(hears: bool):
    """A bump now would let a reader keep the old row, if the commit becomes visible later."""
    store, arrears = Posting(hears=hears), Arrears()
    writer = Writer(CELLS, policy=Policy(mode="committed"), store=store, arrears=arrears, clock=FrozenClock())

    run_now(writer.mark())
    was_bumped = run_now(writer.end(is_certain=False))

    assert (store.posted, was_bumped, bool(arrears)) == ([], False, not hears)


def test_after_a_commit_that_took_its_time_the_bump_is_waited_for():
    """The server may have restarted meanwhile, and have no mark any more that stands until the bump arrives."""
    store, clock = Posting(), FrozenClock()
    writer = Writer(CELLS, policy=Policy(), store=store, arrears=Arrears(), clock=clock)

    run_now(writer.mark())
    clock.tick(0.2)
    run_now(writer.end(is_certain=True))

    assert store.posted == []


def test_who_leaves_tries_once_more(caplog):
    """A store that is back by then is told."""
    store, arrears = Moody(), Arrears()
    arrears.use(store)
    arrears.add(CELLS)

    store.takes = True
    arrears.leave()

    assert (bool(arrears), caplog.messages) == (False, [])


@pytest.mark.parametrize("of_ones_own", [False, True])
def test_what_is_left_behind_is_told_to_who_reads_the_log(caplog, of_ones_own):
    """Others go on to be answered from before these commits: nobody else knows of them."""

    class Suspending(Moody):
        async def bump(self, cells: Sequence[bytes], writer: bytes) -> None:
            await Suspended()

    arrears = Arrears()
    arrears.use(Suspending() if of_ones_own else Moody())
    arrears.add(CELLS)

    arrears.leave()

    assert bool(arrears)
    (message,) = caplog.messages
    assert message.startswith("the store was not told of 2 cells")


ENDING = """
import atexit, sys
from perfkit.cache.arrears import Arrears
from tests.cache.test_arrears import CELLS, Moody

class Awaited(Moody):
    async def bump(self, cells, writer):
        await super().bump(cells, writer)
        print("told of", len(cells))

store, arrears = Awaited(), Arrears()
arrears.use(store)
arrears._left.set()  # no thread does it
arrears.add(CELLS)
atexit.register(setattr, store, "takes", sys.argv[1] == "back")
"""


@pytest.mark.parametrize(("store", "said"), [("back", "told of 2\n"), ("away", "")])
def test_a_process_that_ends_tries_once_more(store, said):
    """It did not crash: what it knows and nobody else does need not go with it."""
    ended = subprocess.run(
        [sys.executable, "-c", ENDING, store],
        env={"PYTHONPATH": ":".join(sys.path)},
        timeout=2 * LONG_S,
        check=True,
        capture_output=True,
        text=True,
    )

    assert ended.stdout == said
    assert ("was not told of 2 cells" in ended.stderr) is (store == "away")
