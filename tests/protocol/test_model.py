"""The promise, checked in every state that readers, writers and accidents can bring about; and each rule taken away.

What is stepped is production code (automata.py); the world around it is a model (world.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest

from perfkit.cache import Policy, cells, proof, read
from perfkit.cache.arrears import Arrears
from perfkit.cache.call import Call
from perfkit.cache.flights import Flights
from perfkit.cache.keeping import Keeping
from perfkit.cache.near import Held, Near
from perfkit.cache.proof import Proof
from perfkit.cache.read import Bearing, Kept, Named, Ports, Question
from perfkit.cache.reasons import Reason
from perfkit.cache.store import Store
from perfkit.cache.worth import Tally
from perfkit.cache.write import Announced, Writer
from perfkit.errors import CommitRefused
from tests.protocol.automata import AskedStore, AskedWaiting, Automaton, Op, Process, Shared, TurnedClock
from tests.protocol.world import (
    CHANGED,
    ENTRY,
    HOLD_S,
    TICK_S,
    Assumed,
    Chances,
    Explored,
    TellsReaders,
    World,
    explore,
)

TABLE, ROW = b"bins", b"bins#1"
LEASE_S = TICK_S
LONG_HOLD_S = 4 * LEASE_S


class MsgPacking:
    def pack(self, value: object) -> bytes:
        packed: bytes = msgpack.packb(value)
        return packed

    def unpack(self, raw: bytes) -> object:
        return msgpack.unpackb(raw)


class OneRow:
    """A result that depends on ROW, as only the result can tell."""

    def found_in(self, value: Any) -> Named:
        return Named((ROW,), (ROW,))


class Forgetful:
    """Learns nothing from one call to the next."""

    def at(self, tags: tuple[bytes, ...]) -> Named:
        return Named(tags, tags)

    def remember(self, tags: tuple[bytes, ...]) -> None:
        pass


class Observed:
    """One load that turns out to read ROW, and captures it just before, as `cache.observe` does."""

    is_late = False

    def __init__(self) -> None:
        self.captured: dict[bytes, Any] = {}
        self._before: set[bytes] = set()
        self.unfit: Reason | None = None

    def begin(self, captured: Mapping[bytes, Any]) -> None:
        self.captured, self._before, self.unfit = dict(captured), set(captured), None

    async def before_statement(self, store: Store) -> None:
        if ROW not in self.captured:
            seen = await store.ensure((ROW,))
            version = read.version_of(seen.values[0], seen.epochs[0])
            if version is None:
                self.unfit = Reason.MARKED
            else:
                self.captured[ROW] = version

    def bearing(self, known: Sequence[bytes]) -> Bearing:
        return Bearing((ROW,), (self.captured[ROW],))

    @property
    def was_foreseen(self) -> bool:
        return ROW in self._before


def question(names: tuple[bytes, ...], *, guarded: bool = False, learned: bool = False, guess: bool = True) -> Question:
    if not guarded and not learned:
        return Question(ENTRY, Named(names, names), Keeping(60_000, 1_000))
    expected = Named((ROW,), (ROW,)) if guess else Named((), ())
    plain = Question(ENTRY, Named((), ()), Keeping(60_000, 1_000), expected=expected, extra=Forgetful())
    return plain._replace(guards=(TABLE,), finding=OneRow()) if guarded else plain


def readers(asked: Question, count: int, *, split: bool, snapshot: bool = False, learned: bool = False) -> Automaton:
    """`count` readers who share a process; `snapshot`: in a transaction that reads from one, begun before."""

    async def load() -> int:
        found: int = await Op("load", *(["snapshot"] if snapshot else []))
        return found

    async def reader(ports: Ports) -> int | None:
        if snapshot:
            await Op("snapshot")
        observed = Observed()

        async def watched_load() -> int:
            if not Observed.is_late:
                await observed.before_statement(ports.store)
            value = await load()
            if Observed.is_late:
                await observed.before_statement(ports.store)
            return value

        def may_keep(value: Any) -> Reason | None:
            return Reason.SNAPSHOT if snapshot else observed.unfit

        its = asked._replace(observing=observed) if learned else asked
        answer = await read.read(its, watched_load if learned else load, may_keep, MsgPacking(), ports)
        value: int = answer.value
        return None if snapshot else value  # what it gets is its own affair; what it leaves is not

    def make() -> Process:
        flights = Flights()
        ports = Ports(AskedStore(split=split), AskedWaiting(), flights, Arrears(), clock=TurnedClock())
        return Process([reader(ports) for _ in range(count)], lambda: Shared(frozenset(flights.landed())))

    return Automaton(make)


class HeldCall(Call):
    """A call as `Call.read` answers it, of a function that loads the row."""

    def __init__(self, declared: Any, asked: Question, ports: Ports) -> None:
        self.declared, self.question, self.ports = declared, asked, ports
        self.proof = Proof(declared, asked.key, (), ports, None)

    async def load(self) -> int:
        found: int = await Op("load")
        return found

    def may_keep(self, value: Any) -> Reason | None:
        return None


def holders(asked: Question, count: int, *, lease_s: float, split: bool) -> Automaton:
    """`count` readers who share a process that holds results, each believed for `lease_s`."""

    async def reader(declared: Any, ports: Ports, found: dict[int, Held | None], me: int) -> int:
        await Op("begin")
        call = HeldCall(declared, asked, ports)
        found[me] = call.proof.held  # another may be held by the time that it is proven again
        answer = call.proof.believed() or await call.read()
        found[me] = None
        value: int = answer.value
        return value

    def make() -> Process:
        clock, flights, near = TurnedClock(), Flights(), Near()
        near.now = clock.monotonic
        ports = Ports(AskedStore(split=split), AskedWaiting(), flights, Arrears(), clock=clock)
        packing = MsgPacking()
        declared = SimpleNamespace(
            pack=packing.pack,
            unpack=packing.unpack,
            lease_s=lambda ports: lease_s,
            runtime=SimpleNamespace(near=near, cells=lambda tags: tags),
            policy=SimpleNamespace(tenant=None),
            keeping=asked.keeping,
            codec=packing,
            tally=Tally("a row"),
        )

        def hear(news: object) -> None:
            if news == CHANGED:
                near.changed()
            else:
                clock.now_s += TICK_S

        found: dict[int, Held | None] = dict.fromkeys(range(count))

        def of(held: Held | None) -> Any:
            if held is None:
                return None
            left_s = max(0.0, held.until - clock.now_s) if held.generation is near.generation else 0.0
            return held.value, held.versions, left_s

        def shared() -> Shared:
            all_held = (near.find(ENTRY), *found.values())
            versions = tuple(version for held in all_held if held is not None for version in held.versions)
            return Shared((frozenset(flights.landed()), *map(of, all_held)), versions)

        return Process([reader(declared, ports, found, me) for me in range(count)], shared, hear)

    return Automaton(make)


def writer(names: tuple[bytes, ...], policy: Policy, *, split: bool) -> Automaton:
    """A transaction that changes what `names` cover, and commits. What it shares: how often it has said `changed`."""

    async def program(said: list[None]) -> str:
        clock = TurnedClock()
        store = AskedStore(split=split, clock=clock, hears_late=policy.mode == "committed")
        writer = Writer(
            names,
            policy=policy,
            store=store,
            arrears=Arrears(),
            clock=clock,
            waiting=AskedWaiting(clock),
            changed=lambda: said.append(None),
        )
        if policy.mode == "ttl":
            await Op("send")
            return str((await Op("outcome"))[0]).replace("visible", "returned")
        try:
            await writer.mark()
        except CommitRefused:
            return "refused"
        await Op("send")
        outcome, _ = await Op("outcome")
        await writer.end(is_certain=outcome != "unknown")
        return "returned" if outcome == "visible" else "raised"

    def make() -> Process:
        said: list[None] = []
        return Process([program(said)], lambda: Shared(len(said)))

    return Automaton(make)


class Plan:
    """How many of whom, under which chances."""

    def __init__(
        self,
        *,
        processes: tuple[int, ...] = (1,),
        writers: int = 1,
        warm: bool = True,
        names: tuple[bytes, ...] = (ROW,),
        writes: tuple[bytes, ...] = (),
        split: bool = False,
        guarded: bool = False,
        guess: bool = True,
        learned: bool = False,
        snapshot: bool = False,
        mode: str = "strict",
        on_mark_failure: str = "veto",
        lease_s: float | None = None,
        told_by: TellsReaders = "nobody",
        waits: bool = False,
        is_bounded: bool = False,
        assumed: Assumed = Assumed(),  # noqa: B008 - immutable
        **chances: int,
    ) -> None:
        """`processes`: how many readers there are in each. `names`: on what they depend; `writes`: what changes.

        `lease_s`: readers hold results, and believe them for so long; `told_by` whom they are told of changes, and
        whether each writer `waits` for LEASE_S. `is_bounded`: a read may get what was current at the last tick.
        """
        self.lease_s, self.told_by, self.is_bounded = lease_s, told_by, is_bounded
        self.hold_s = LONG_HOLD_S if waits else HOLD_S
        self.writes = writes
        self.processes, self.writers, self.warm, self.names = processes, writers, warm, names
        self.split, self.guarded, self.guess, self.snapshot = split, guarded, guess, snapshot
        self.learned = learned
        self.assumed, self.chances = assumed, Chances(**chances)
        self.policy = Policy(
            mode=mode,  # type: ignore[arg-type]
            mark_hold=self.hold_s,
            on_mark_failure=on_mark_failure if mode == "strict" else "proceed",  # type: ignore[arg-type]
            l1=LEASE_S if waits else "auto",
            writer_waits=waits,
        )

    def explore(self, **options: Any) -> Explored:
        names = (TABLE, ROW) if self.guarded else self.names
        asked = question(names, guarded=self.guarded, learned=self.learned, guess=self.guess)
        counts = sorted(set(self.processes))
        if self.lease_s is None:
            kinds = [readers(asked, count, split=self.split, learned=self.learned) for count in counts]
        else:
            kinds = [holders(asked, count, lease_s=self.lease_s, split=self.split) for count in counts]
        processes = [counts.index(count) for count in self.processes]
        if self.snapshot:
            processes.append(len(kinds))
            kinds.append(readers(asked, 1, split=self.split, snapshot=True))
        world = World(
            names,
            kinds,
            writer(self.writes or names, self.policy, split=self.split),
            readers(asked, 1, split=False, learned=self.learned),
            assumed=self.assumed,
            mark_loss=True,
            hold_s=self.hold_s,
            told_by=self.told_by,
            is_timed=self.lease_s is not None and 0 < self.lease_s < inf,
            is_bounded=self.is_bounded,
        )
        return explore(world, world.begin(processes, self.writers, self.chances, warm=self.warm), **options)


VALIDATED: dict[str, Any] = {"lease_s": 0.0}
LEASED: dict[str, Any] = {"lease_s": LEASE_S}
WAITED_FOR: dict[str, Any] = {"lease_s": LEASE_S, "waits": True}
IN_ONE_PROCESS: dict[str, Any] = {"lease_s": inf, "told_by": "the store"}

STRICT: dict[str, Plan] = {
    "three readers and three writers, one killed at any step": Plan(processes=(1, 1, 1), writers=3, deaths=1),
    "three readers in one process, two writers": Plan(processes=(3,), writers=2),
    "two readers in one process and one in another, two writers": Plan(processes=(2, 1), writers=2),
    "nothing is there at first": Plan(processes=(1, 1), writers=2, warm=False),
    "cells read one by one": Plan(processes=(1, 1), writers=2, names=(TABLE, ROW), split=True),
    "two writers, killed at any step": Plan(processes=(1, 1), writers=2, deaths=2, ticks=2),
    "a killed writer, cells read one by one": Plan(processes=(1, 1), names=(TABLE, ROW), split=True, deaths=1, ticks=2),
    "outcomes unknown and refused": Plan(processes=(1, 1), writers=2, unknowns=1, refusals=1, ticks=2),
    "clean cells evicted beside a killed writer": Plan(processes=(1, 1), writers=2, evictions=1, deaths=1, ticks=2),
    "a restart or a promotion": Plan(processes=(1, 1), writers=2, syncs=1, returns=1),
    "a promotion beside a killed writer": Plan(processes=(1, 1), writers=1, syncs=1, returns=1, deaths=1, ticks=2),
    "answers lost": Plan(processes=(1, 1), writers=2, losses=1, ticks=2),
    "answers lost beside a killed writer": Plan(processes=(1,), writers=2, losses=2, deaths=1, ticks=2),
    "marks that come late": Plan(processes=(1, 1), writers=2, ticks=3),
    "rows named by the result": Plan(processes=(1, 1), writers=2, guarded=True, split=True),
    "rows named by the result, not guessed": Plan(processes=(1, 1), writers=2, guarded=True, guess=False, warm=False),
    "rows named by the result, a killed writer": Plan(processes=(1, 1), guarded=True, deaths=1, ticks=2, evictions=1),
    "rows named by the result in one process": Plan(processes=(2,), writers=2, guarded=True),
    "learned, and not foreseen": Plan(processes=(1, 1), writers=2, learned=True, guess=False, warm=False),
    "learned, cells read one by one": Plan(processes=(1, 1), writers=2, learned=True, split=True),
    "learned in one process": Plan(processes=(2,), writers=2, learned=True, guess=False, warm=False),
    "learned, a killed writer": Plan(processes=(1, 1), learned=True, guess=False, deaths=1, ticks=2, evictions=1),
    "learned, a restart or a promotion": Plan(processes=(1, 1), learned=True, guess=False, syncs=1, returns=1),
    "validated": Plan(processes=(2, 1), writers=2, **VALIDATED),
    "validated, cells read one by one": Plan(processes=(2,), names=(TABLE, ROW), split=True, **VALIDATED),
    "validated, a killed writer": Plan(processes=(2,), deaths=1, ticks=2, evictions=1, **VALIDATED),
    "validated, a restart or a promotion": Plan(processes=(2,), syncs=1, returns=1, **VALIDATED),
    "validated, answers lost": Plan(processes=(2,), losses=1, ticks=2, **VALIDATED),
    "leased, and writers wait": Plan(processes=(2,), writers=2, ticks=2, **WAITED_FOR),
    "leased in two processes, and writers wait": Plan(processes=(2, 1), ticks=2, **WAITED_FOR),
    "leased, and a waiting writer is killed": Plan(processes=(2,), deaths=1, ticks=4, **WAITED_FOR),
    "leased, writers wait, a promotion": Plan(processes=(2,), ticks=1, syncs=1, returns=1, **WAITED_FOR),
    "leased, writers wait, answers lost": Plan(processes=(2,), ticks=2, losses=1, **WAITED_FOR),
    "all in one process": Plan(processes=(2,), writers=3, **IN_ONE_PROCESS),
    "all in one process, outcomes unknown": Plan(
        processes=(2,), unknowns=1, refusals=1, ticks=2, evictions=1, **IN_ONE_PROCESS
    ),
    "a snapshot beside": Plan(processes=(1,), writers=2, snapshot=True, deaths=1, ticks=2),
}


@pytest.mark.parametrize("plan", STRICT.values(), ids=STRICT)
def test_strict_is_never_stale(plan):
    """Not visibly, not after an acknowledgement, and not when all is at rest: in no state that can be reached."""
    explored = plan.explore()

    assert explored.stale == {}
    assert explored.states > 300


def test_a_lease_is_stale_for_no_longer_than_it_lasts():
    """And it is, for as long: what others commit is seen when the lease is over."""
    beside: dict[str, Any] = {"processes": (2,), "writers": 2, "ticks": 2, **LEASED}

    assert set(Plan(**beside).explore().stale) <= {"V", "A"} != set()
    assert Plan(**beside, is_bounded=True).explore().stale == {}


def test_what_a_process_with_leases_has_committed_itself_it_sees_at_once():
    """When commit() has returned; not yet between COMMIT and bump."""
    plan = Plan(processes=(2,), writers=2, ticks=1, told_by="writers", **LEASED)

    assert set(plan.explore(until=_never).stale) == {"V"}


BESIDE: dict[str, Any] = {"processes": (1, 1), "writers": 2, "mode": "committed"}
COMMITTED: dict[str, Plan] = {
    "a mark on its way while COMMIT is": Plan(**BESIDE),
    "no mark, cells read one by one": Plan(**BESIDE, names=(TABLE, ROW), split=True),
    "nothing is there at first": Plan(**BESIDE, warm=False),
    "refused": Plan(**BESIDE, refusals=1),
    "clean cells evicted": Plan(**{**BESIDE, "writers": 1}, evictions=1, ticks=2),
    "a restart or a promotion": Plan(**{**BESIDE, "writers": 1}, syncs=1, returns=1),
    "rows named by the result": Plan(**BESIDE, guarded=True),
    "learned, and not foreseen": Plan(**BESIDE, learned=True, guess=False, warm=False),
    "validated": Plan(**{**BESIDE, "processes": (2,)}, **VALIDATED),
}


@pytest.mark.parametrize("plan", COMMITTED.values(), ids=COMMITTED)
def test_committed_is_stale_only_between_commit_and_bump(plan):
    """A read that starts after commit() returned is right, and so is what remains."""
    explored = plan.explore(until=_never)

    assert set(explored.stale) == {"V"}


def test_committed_is_right_after_one_lost_answer():
    """Of the mark, of the bump, or of a reader's: the writer asks again, or its readers know that a bump is owed."""
    explored = Plan(**BESIDE, losses=1).explore(until=_never)

    assert set(explored.stale) == {"V"}


def test_committed_leaves_an_old_entry_when_a_writer_is_killed_before_its_bump():
    """Until its ttl."""
    explored = Plan(**BESIDE, deaths=1).explore(until=_never)

    assert set(explored.stale) == {"V", "P"}


def test_ttl_promises_nothing_before_its_end():
    """What has become visible is acknowledged at once there, and old entries stay."""
    assert set(Plan(processes=(1,), writers=2, mode="ttl").explore(until=_never).stale) == {"A", "P"}


def test_a_commit_that_goes_on_without_its_mark_is_as_good_as_committed():
    """`on_mark_failure="proceed"`, and one lost answer."""
    explored = Plan(processes=(1, 1), losses=1, on_mark_failure="proceed").explore(until=_never)

    assert set(explored.stale) == {"V"}


@pytest.mark.parametrize(
    "plan",
    [
        Plan(deaths=1, ticks=2, assumed=Assumed(commits_in_time=False)),
        Plan(syncs=1, returns=1, deaths=1, assumed=Assumed(marks_survive=False)),
    ],
    ids=["a commit that outlives its mark", "a mark that is lost before its commit"],
)
def test_the_limits_of_strict_are_where_the_promises_say(plan):
    """Without what the protocol takes for granted, stale reads come about."""
    assert plan.explore().stale != {}


def _never(stale: dict[str, Any]) -> bool:
    return False


# ---- each rule taken away once

Mutation = Callable[[pytest.MonkeyPatch], None]


def a_mark_that_was_sent_has_arrived(patch: pytest.MonkeyPatch) -> None:
    async def hear(self: Writer) -> None:
        if self._heard is not None:
            self.announced = Announced.MARKED

    patch.setattr(Writer, "_hear", hear)


def without_mark(patch: pytest.MonkeyPatch) -> None:
    async def mark(self: Writer) -> None:
        return None

    patch.setattr(Writer, "mark", mark)


def one_writer_in_a_cell(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cells, "_others", lambda cell, me, now_ms: b"")


def bump_of_an_unknown_outcome(patch: pytest.MonkeyPatch) -> None:
    async def end(self: Writer, *, is_certain: bool) -> bool:
        return await self.bump()

    patch.setattr(Writer, "end", end)


def late_marks_are_good_enough(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Writer, "_is_too_old", lambda self, mark_ms: False)


def versions_without_epoch(patch: pytest.MonkeyPatch) -> None:
    _versions(patch, lambda cell, epoch: cell if cell and cell.startswith(cells.CLEAN) else None)


def a_missing_cell_is_a_version(patch: pytest.MonkeyPatch) -> None:
    real, nothing = cells.version_of, cells.CLEAN + bytes(cells.NONCE_BYTES)
    _versions(patch, lambda cell, epoch: nothing + epoch if cell is None else real(cell, epoch))


def a_mark_is_a_version(patch: pytest.MonkeyPatch) -> None:
    real = cells.version_of
    of_a_mark = cells.CLEAN + bytes([9] * cells.NONCE_BYTES)
    _versions(patch, lambda cell, epoch: of_a_mark + epoch if cell == cells.DIRTY else real(cell, epoch))


def _versions(patch: pytest.MonkeyPatch, version_of: Any) -> None:
    patch.setattr(cells, "version_of", version_of)
    patch.setattr(read, "version_of", version_of)
    patch.setattr(proof, "version_of", version_of)


def flights_by_key_alone(patch: pytest.MonkeyPatch) -> None:
    real = Flights.join

    async def join(self: Flights, key: Any, lead: Any, waiting: Any, **options: Any) -> Any:
        return await real(self, key[0], lead, waiting)

    patch.setattr(Flights, "join", join)


def capture_after_the_load(patch: pytest.MonkeyPatch) -> None:
    real = read._load_and_keep

    async def load_and_keep(
        question: Question, versions: Any, load: Any, may_keep: Any, packing: Any, ports: Ports
    ) -> Any:
        value = await ports.waiting.call(load)
        now = await read._ensure(question.before_load, ports.store)

        async def again() -> Any:
            return value

        return await real(question, now or versions, again, may_keep, packing, ports)

    patch.setattr(read, "_load_and_keep", load_and_keep)


def what_a_snapshot_says_is_kept(patch: pytest.MonkeyPatch) -> None:
    real = read._load_and_keep

    async def load_and_keep(question: Any, versions: Any, load: Any, may_keep: Any, packing: Any, ports: Any) -> Any:
        return await real(question, versions, load, lambda value: None, packing, ports)

    patch.setattr(read, "_load_and_keep", load_and_keep)


def guard_not_looked_at_again(patch: pytest.MonkeyPatch) -> None:
    async def find(question: Question, versions: Any, bearing: Any, found: Named, store: Any) -> Any:
        captured = await read._ensure(found.cells, store)
        return Reason.MARKED if captured is None else Bearing((ROW,), captured)

    patch.setattr(read, "_find", find)


def guard_looked_at_before_the_rows(patch: pytest.MonkeyPatch) -> None:
    async def find(question: Question, versions: Any, bearing: Any, found: Named, store: Any) -> Any:
        now = await store.read(question.guards)
        if tuple(map(cells.version_of, now.values, now.epochs)) != versions[-1:]:
            return Reason.OVERTAKEN
        captured = await read._ensure(found.cells, store)
        return Reason.MARKED if captured is None else Bearing((ROW,), captured)

    patch.setattr(read, "_find", find)


def one_tag_of_two_is_enough(patch: pytest.MonkeyPatch) -> None:
    real = read.judge

    def judge(question: Question, seen: Any, packing: Any) -> Any:
        found = real(question, seen, packing)
        raw = seen.values[0]
        if raw is not None and not isinstance(found, read.Hit):
            entry = read.unseal(raw, max_bytes=1_000)
            if entry.versions[0] == cells.version_of(seen.values[1], seen.epochs[1]):
                return read.Hit(
                    packing.unpack(entry.payload), Kept(entry.payload, Bearing(entry.tags, entry.versions), 0)
                )
        return found

    patch.setattr(read, "judge", judge)


def writers_do_not_wait(patch: pytest.MonkeyPatch) -> None:
    async def sleep(self: AskedWaiting, duration_s: float) -> None:
        return None

    patch.setattr(AskedWaiting, "sleep", sleep)


def a_lease_from_the_answer_on(patch: pytest.MonkeyPatch) -> None:
    real = Proof._prove

    def prove(self: Proof, held: Any) -> None:
        self._asked_s = self._declared.runtime.near.now()
        real(self, held)

    patch.setattr(Proof, "_prove", prove)


def proven_under_the_generation_of_the_answer(patch: pytest.MonkeyPatch) -> None:
    real = Proof._prove

    def prove(self: Proof, held: Any) -> None:
        self._generation = self._declared.runtime.near.generation
        real(self, held)

    patch.setattr(Proof, "_prove", prove)


def nothing_changes_at_the_end(patch: pytest.MonkeyPatch) -> None:
    async def bump(self: Writer) -> bool:
        await self._store.bump(self.cells, self._name)
        return True

    patch.setattr(Writer, "bump", bump)


def what_is_held_is_not_compared(patch: pytest.MonkeyPatch) -> None:
    async def renewed(self: Proof) -> Any:
        await self._ports.store.read(self.cells())
        return self._hit(self.held) if self.held is not None else None

    patch.setattr(Proof, "renewed", renewed)


def a_statement_captured_after_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Observed, "is_late", True)


def followers_share_what_was_not_foreseen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Observed, "was_foreseen", True)


MUTANTS: list[tuple[Mutation, Plan]] = [
    (without_mark, Plan()),
    (one_writer_in_a_cell, Plan(processes=(1, 1), writers=2)),
    (bump_of_an_unknown_outcome, Plan(unknowns=1, ticks=2)),
    (late_marks_are_good_enough, Plan(processes=(1, 1), ticks=2)),
    (versions_without_epoch, Plan(syncs=1, returns=1)),
    (a_missing_cell_is_a_version, Plan(warm=False, processes=(1, 1), evictions=1)),
    (a_mark_is_a_version, Plan(processes=(1, 1))),
    (flights_by_key_alone, Plan(processes=(2,), warm=False)),
    (capture_after_the_load, Plan(warm=False)),
    (what_a_snapshot_says_is_kept, Plan(snapshot=True)),
    (guard_not_looked_at_again, Plan(guarded=True, warm=False)),
    (guard_looked_at_before_the_rows, Plan(guarded=True, warm=False)),
    (a_statement_captured_after_it, Plan(learned=True, guess=False, warm=False)),
    (followers_share_what_was_not_foreseen, Plan(processes=(2,), learned=True, guess=False, warm=False)),
    (what_is_held_is_not_compared, Plan(processes=(2,), **VALIDATED)),
    (a_mark_is_a_version, Plan(processes=(2,), **VALIDATED)),
    (versions_without_epoch, Plan(processes=(2,), syncs=1, returns=1, **VALIDATED)),
    (writers_do_not_wait, Plan(processes=(2,), ticks=2, **WAITED_FOR)),
    (a_lease_from_the_answer_on, Plan(processes=(2,), warm=False, ticks=2, **WAITED_FOR)),
    (a_lease_from_the_answer_on, Plan(processes=(2,), warm=False, ticks=2, is_bounded=True, **LEASED)),
    (proven_under_the_generation_of_the_answer, Plan(processes=(2,), warm=False, **IN_ONE_PROCESS)),
    (one_tag_of_two_is_enough, Plan(names=(TABLE, ROW), writes=(ROW,))),
]


@pytest.mark.parametrize(("mutation", "plan"), MUTANTS, ids=lambda value: getattr(value, "__name__", ""))
def test_without_a_rule_a_stale_read_comes_about(monkeypatch, mutation, plan):
    """So the rule is needed, and the checker sees what it is there for."""
    mutation(monkeypatch)

    assert plan.explore().stale != {}


def test_committed_needs_to_hear_of_its_mark(monkeypatch):
    """What was posted after it says nothing of when either arrives."""
    a_mark_that_was_sent_has_arrived(monkeypatch)

    assert "A" in Plan(**BESIDE).explore(until=_never).stale


def test_without_a_word_at_the_end_a_process_does_not_see_its_own_commit(monkeypatch):
    """What was proven between the beginning of a mark and its arrival would be believed on."""
    nothing_changes_at_the_end(monkeypatch)
    plan = Plan(processes=(2,), told_by="writers", **LEASED)

    assert "A" in plan.explore(until=_never).stale
