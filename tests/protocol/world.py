"""The world of the model: a row, a store that loses things, transactions, time, and every order of all that.

One row, an entry that holds its value, and the cells that the entry depends on. A state is a tuple; `explore` visits
every state that can be reached, once. Readers are alike, and so are writers: states that differ only in who is
who count as one. Nonces are numbers, the smallest that nobody remembers; deadlines are the seconds that are left.

What may happen beside the steps of the processes is bounded by a number each (`Chances`): a process is killed, a clean
cell is evicted, the store comes back empty or from what a replica or a snapshot knew, an answer is lost after or
before the command ran, a COMMIT is refused or its outcome unknown, and time goes by. What the protocol assumes is
a condition on these events, and can be taken away (`Assumed`): that is how the limits of the promise are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import pytest

from perfkit.cache import cells as cell_states
from perfkit.cache.entries import Entry as Stored
from perfkit.cache.entries import seal, unseal
from tests.protocol.automata import DOWN, Automaton, Member

NOW_MS = 1_000_000
LIFE_MS = 600_000
HOLD_S = 10
TICK_S = 6  # more than half of a hold: two of them outlive it, and one makes a mark too old to commit under
ENTRY = b"entry"
LOST = "lost"
ASLEEP = "asleep"  # what a writer that waits for time to pass waits for
TICK, CHANGED = "a tick", "changed"  # what readers hear of who hold results

TellsReaders = Literal["nobody", "writers", "the store"]
Cell = tuple[str, Any] | None  # ("c", nonce) | ("d", ((writer, seconds left), …))
Entry = tuple[bytes, tuple[tuple[int, int], ...], tuple[bytes, ...]] | None  # payload, (nonce, epoch)…, tags


class Held(NamedTuple):
    """What a store holds."""

    cells: tuple[Cell, ...]
    entry: Entry


class Reading(NamedTuple):
    """Readers that share a process. For each, what was visible, and what acknowledged, when it began (or -1)."""

    kind: int
    node: int
    visible: tuple[int, ...]
    acknowledged: tuple[int, ...]
    snapshot: int


class Writing(NamedTuple):
    """A transaction. `answer` is one that has not arrived yet, `late` the ticks since its command was executed.

    `ahead` is a mark that was sent and has not arrived: whose cells, and for how long. LOST: its connection broke.
    """

    node: int
    answer: Hashable
    late: int
    commit: str  # "" not sent, "sent", "visible", "aborted"
    value: int
    is_dead: bool
    ahead: tuple[tuple[bytes, ...], int] | str | None = None


class Chances(NamedTuple):
    """How often what may happen."""

    deaths: int = 0
    evictions: int = 0
    syncs: int = 0  # a replica or a snapshot catches up
    returns: int = 0  # it becomes the store
    losses: int = 0  # of an answer, with or without its command
    refusals: int = 0  # of a COMMIT by the database
    unknowns: int = 0  # outcomes
    ticks: int = 0


class Assumed(NamedTuple):
    """What the protocol takes for granted of the world. See docs/promises.md, limits of strict."""

    commits_in_time: bool = True
    marks_survive: bool = True


class State(NamedTuple):
    """All there is."""

    held: Held
    replica: Held
    epoch: int
    row: int
    earlier: int  # the row at the last tick
    acknowledged: int
    readings: tuple[Reading, ...]
    writings: tuple[Writing, ...]
    chances: Chances


class Stale(NamedTuple):
    """A read of an older value than was visible (V), or acknowledged (A), when it began; P: when all is at rest."""

    kind: str
    story: tuple[str, ...]


class World:
    """The rules by which states follow each other. `names` are the cells; the entry's key is ENTRY."""

    def __init__(
        self,
        names: tuple[bytes, ...],
        readers: list[Automaton],
        writer: Automaton,
        probe: Automaton,
        *,
        assumed: Assumed = Assumed(),  # noqa: B008 - immutable
        mark_loss: bool = False,
        hold_s: int = HOLD_S,
        told_by: TellsReaders = "nobody",
        is_timed: bool = False,
        is_bounded: bool = False,
    ) -> None:
        """`told_by`: who tells the readers' processes of changes. `is_timed`: to them it matters how time goes by.

        `is_bounded`: a read may get what was current at the last tick.
        """
        self._hold_s, self._told_by, self._is_timed, self._is_bounded = hold_s, told_by, is_timed, is_bounded
        self._names = names
        self._readers, self._writer, self._probe = readers, writer, probe
        self._assumed = assumed
        self._rests: dict[Any, int] = {}
        self._mark_loss = mark_loss  # the mark's own answer may be lost, too: asks for on_mark_failure="veto"

    # ---- where it begins, and every next state

    def begin(self, processes: Sequence[int], writers: int, chances: Chances, *, warm: bool) -> State:
        """With readers of these kinds. `warm`: the entry and its cells are there; else nothing is."""
        held = Held(tuple(None for _ in self._names), None)
        readings = tuple(
            Reading(kind, reader.start, (-1,) * len(m), (-1,) * len(m), 0)
            for kind in processes
            for reader in [self._readers[kind]]
            for m in [reader.nodes[reader.start].members]
        )
        writings = tuple(Writing(self._writer.start, None, 0, "", 0, False) for _ in range(writers))
        state = State(held, held, 0, 0, 0, 0, readings, writings, chances)
        return state._replace(held=self._probed(state)[1]) if warm else state

    def successors(self, state: State) -> Iterator[tuple[str, State | Stale]]:
        """Every state that may follow, with what happens in between; or the stale read that happens."""
        for i, reading in enumerate(state.readings):
            if not i or reading != state.readings[i - 1]:  # what one of two alike does, the other need not do, too
                yield from self._reading_steps(state, i, reading)
        for i, writing in enumerate(state.writings):
            yield from self._writing_steps(state, i, writing)
            yield from self._commit_steps(state, i, writing)
            if writing.ahead not in (None, LOST):
                yield f"the mark of writer {i} arrives", self._arrived(state, i, writing)
        yield from self._accidents(state)

    def stale_at_rest(self, state: State) -> bool:
        """Whether a read gets an older value when no writer is at work any more, now or when all deadlines are over.

        Readers may still be: each of them may have died just there.
        """
        if not all(writing.is_dead and writing.commit != "sent" for writing in state.writings):
            return False  # something does go on
        place = state.held, state.epoch, state.row
        if place not in self._rests:
            value, held = self._probed(state)
            later = state._replace(held=held)
            for _ in range(-(-self._hold_s // TICK_S)):
                later = _later(later)
            after, held = self._probed(later)
            again, _ = self._probed(later._replace(held=held))
            self._rests[place] = min(value, after, again)
        return self._rests[place] < state.row

    # ---- processes

    def _reading_steps(self, state: State, i: int, reading: Reading) -> Iterator[tuple[str, State | Stale]]:
        automaton = self._readers[reading.kind]
        node = automaton.nodes[reading.node]
        for m, member in enumerate(node.members):
            if member.op is None or not member.is_free:
                continue
            if m and not member.heard and not _has_begun(node.members[m - 1]):
                continue  # they are alike, so they may as well begin in order
            for answer, held, what, chances in self._answers(state, member.op, reading.snapshot, writer=None):
                begun = reading
                if not member.heard:
                    begun = reading._replace(
                        visible=_put(reading.visible, m, state.earlier if self._is_bounded else state.row),
                        acknowledged=_put(reading.acknowledged, m, state.acknowledged),
                    )
                follows = begun._replace(node=automaton.after(reading.node, m, answer))
                after = automaton.nodes[follows.node]
                label = f"reader {i}.{m} {what}"
                if member.op[0] == "snapshot":
                    follows = follows._replace(snapshot=state.row)
                if after.members[m].op is None:
                    value = after.members[m].result
                    if value is not None and value < begun.visible[m]:
                        kind = "A" if value < begun.acknowledged[m] else "V"
                        yield label, Stale(kind, (f"gets {value} although {begun.visible[m]} was visible",))
                        continue
                    follows = follows._replace(
                        visible=_put(follows.visible, m, -1), acknowledged=_put(follows.acknowledged, m, -1)
                    )
                readings = _without(state.readings, i) if after.has_ended else _put(state.readings, i, follows)
                yield label, state._replace(held=held, readings=readings, chances=chances)

    def _writing_steps(self, state: State, i: int, writing: Writing) -> Iterator[tuple[str, State | Stale]]:
        member = self._writer.nodes[writing.node].members[0]
        if writing.is_dead or member.op is None:
            return
        chances = state.chances
        if chances.deaths:
            dead = writing._replace(is_dead=True, node=self._writer.start, answer=None, late=0)
            yield f"writer {i} dies", _with(state, i, dead, chances=_less(state, "deaths"))
        if writing.answer is not None:
            if self._must_sleep(writing):
                return
            told = writing._replace(answer=None, late=0)
            yield from self._told(state, i, told, (writing.answer, writing.late * TICK_S))
        elif member.op[0] == "send":
            yield from self._told(state, i, writing._replace(commit="sent"), ((), 0), f"writer {i} sends COMMIT")
        elif member.op[0] == "ahead":
            sent = writing._replace(ahead=(member.op[1], member.op[2]))
            yield from self._told(state, i, sent, ((), 0), f"writer {i} sends its mark")
            if chances.losses:
                less = state._replace(chances=_less(state, "losses"))
                yield from self._told(less, i, writing, (DOWN, 0), f"writer {i} cannot send its mark")
        elif member.op[0] == "heard":
            if writing.ahead is None:
                yield from self._told(state, i, writing, ((), 0))
            elif writing.ahead == LOST:
                yield from self._told(state, i, writing._replace(ahead=None), (DOWN, 0), f"writer {i} is cut off")
            if chances.losses and writing.ahead != LOST:  # whether it has arrived by now, or will, or never
                less = state._replace(chances=_less(state, "losses"))
                yield from self._told(less, i, writing, (DOWN, 0), f"writer {i} does not hear of its mark")
                if writing.ahead is not None:
                    yield from self._told(less, i, writing._replace(ahead=None), (DOWN, 0), f"the mark of {i} is lost")
        elif member.op[0] == "outcome":
            if writing.commit != "sent":
                yield from self._told(state, i, writing, (writing.commit, 0))
            if chances.unknowns:
                lost = state._replace(chances=_less(state, "unknowns"))
                yield from self._told(lost, i, writing, ("unknown", 0), f"writer {i} loses its connection")
        else:
            for answer, held, what, left in self._answers(state, member.op, 0, writer=i):
                waits = writing._replace(answer=answer, late=0)
                follows = _with(state, i, waits, held=held, chances=left)
                if self._told_by == "the store":
                    follows = self._spread(follows, CHANGED)
                yield f"writer {i} {what}", follows

    def _arrived(self, state: State, i: int, writing: Writing) -> State:
        assert writing.ahead is not None
        _, held = self._executed(state, "mark", list(writing.ahead), i)
        return _with(state, i, writing._replace(ahead=None), held=held)

    def _told(
        self, state: State, i: int, writing: Writing, answer: Hashable, what: str = ""
    ) -> Iterator[tuple[str, State]]:
        after = self._writer.after(writing.node, 0, answer)
        follows = writing._replace(node=after)
        member = self._writer.nodes[after].members[0]
        acknowledged = state.acknowledged
        if member.op is None:
            if member.result == "returned":
                acknowledged = max(acknowledged, writing.value)
            follows = follows._replace(node=self._writer.start, is_dead=True)
        elif member.op[0] == "sleep":
            follows = follows._replace(answer=ASLEEP)
        elif member.op[0] == "post":  # commit() returns, and what was posted arrives later or never
            acknowledged = max(acknowledged, writing.value)
        if self._told_by == "writers" and self._is_news(writing.node, after):
            state = self._spread(state, CHANGED)
        yield what or f"writer {i} hears {answer}", _with(state, i, follows, acknowledged=acknowledged)

    def _must_sleep(self, writing: Writing) -> bool:
        op = self._writer.nodes[writing.node].members[0].op
        return writing.answer == ASLEEP and op is not None and writing.late * TICK_S < op[1]

    def _is_news(self, before: int, after: int) -> bool:
        """Whether this process's readers are told of changes on the way from one node of the writer to another."""
        was, now = self._writer.nodes[before], self._writer.nodes[after]
        if was.members[0].op is not None and was.members[0].op[0] == "post":
            return False  # they were told when it was sent
        is_posted = now.members[0].op is not None and now.members[0].op[0] == "post"
        return is_posted or was.shared != now.shared

    def _spread(self, state: State, news: Hashable) -> State:
        """Let every process of readers hear of something."""
        readings = tuple(
            reading._replace(node=self._readers[reading.kind].after_news(reading.node, news))
            for reading in state.readings
        )
        return state._replace(readings=readings)

    def _commit_steps(self, state: State, i: int, writing: Writing) -> Iterator[tuple[str, State]]:
        if writing.commit != "sent":
            return
        row = state.row + 1
        yield f"commit {i} becomes visible", _with(state, i, writing._replace(commit="visible", value=row), row=row)
        if state.chances.refusals:
            refused = writing._replace(commit="aborted")
            yield f"commit {i} is refused", _with(state, i, refused, chances=_less(state, "refusals"))

    def settled(self, state: State) -> State:
        """`state` after all steps of writers that nobody can tell from not having been made yet.

        Hearing an answer is one, unless time or a failover may come before it; sending COMMIT is one, unless the
        writer may die before it; hearing the outcome is one, unless the connection may break, or the writer tells
        readers of it.
        """
        chances = state.chances
        mark_may_be_late = bool(chances.ticks or chances.returns)
        for i in range(len(state.writings)):
            while True:
                writing = state.writings[i]
                member = self._writer.nodes[writing.node].members[0]
                if writing.is_dead or member.op is None:
                    break
                heard = writing.answer is not None and not (mark_may_be_late and member.op[0] == "mark")
                heard = heard and not self._must_sleep(writing)
                sent = writing.answer is None and member.op[0] == "send" and not chances.deaths
                told = member.op[0] == "outcome" and writing.commit != "sent" and not chances.unknowns
                told = told and self._told_by != "writers"
                if not (heard or sent or told):
                    break
                steps = self._writing_steps(state._replace(chances=Chances()), i, writing)
                ((_, follows),) = steps
                assert isinstance(follows, State)
                state = follows._replace(chances=chances)
        return state

    # ---- the store

    def _answers(
        self, state: State, op: tuple[Any, ...], snapshot: int, *, writer: int | None
    ) -> Iterator[tuple[Hashable, Held, str, Chances]]:
        """What an operation may be answered, what the store holds then, and which chances are left."""
        what, *words = op
        if what == "load":
            yield (snapshot if words else state.row), state.held, "loads", state.chances
            return
        if what in ("wait", "snapshot", "begin"):
            yield None, state.held, what, state.chances
            return
        answer, held = self._executed(state, what, words, writer)
        named = f"{what} {b' '.join(words[0]).decode()}"
        yield answer, held, named, state.chances
        if state.chances.losses and (what != "mark" or self._mark_loss):
            less = _less(state, "losses")
            yield DOWN, held, f"{named}, answer lost", less
            yield DOWN, state.held, f"{named}, never arrives", less

    def _executed(self, state: State, what: str, words: list[Any], writer: int | None) -> tuple[Hashable, Held]:
        held, epoch = state.held, b"e%d" % state.epoch
        keys: tuple[bytes, ...] = words[0]
        if what == "read":
            return tuple([(self._value(held, key), epoch) for key in keys]), held
        if what == "put":
            return (), held._replace(entry=_parse_entry(words[1]))
        cells = list(held.cells)
        for key in keys:
            place = self._names.index(key)
            if what == "ensure":
                cells[place] = _ensured(cells[place], self._free_nonce(state, cells))
            elif what == "mark":
                cells[place] = _marked(cells[place], writer, words[1])
            else:
                cells[place] = _bumped(cells[place], writer, self._free_nonce(state, cells))
        held = held._replace(cells=tuple(cells))
        if what == "ensure":
            return tuple([(self._value(held, key), epoch) for key in keys]), held
        return (), held

    def _value(self, held: Held, key: bytes) -> bytes | None:
        if key == ENTRY:
            return None if held.entry is None else _render_entry(held.entry)
        cell = held.cells[self._names.index(key)]
        if cell is None or cell[0] == "c":
            return _render(cell)
        # who has marked it is nothing to a reader; whether all that is over is
        return None if all(left <= 0 for _, left in cell[1]) else cell_states.DIRTY

    def _free_nonce(self, state: State, cells: list[Cell]) -> int:
        used = {cell[1] for cell in (*cells, *state.replica.cells) if cell is not None and cell[0] == "c"}
        for entry in (state.held.entry, state.replica.entry):
            used.update(nonce for nonce, _ in entry[1]) if entry else None
        for reading in state.readings:
            used |= self._nonces(reading.kind, reading.node)
        nonce = 1
        while nonce in used:
            nonce += 1
        return nonce

    def _nonces(self, kind: int, node: int) -> frozenset[int]:
        its = self._readers[kind].nodes[node]
        heard = _nonces_in(tuple(member.heard for member in its.members))
        return heard.union(map(_nonce_of, its.shared.versions))

    # ---- accidents and time

    def _accidents(self, state: State) -> Iterator[tuple[str, State]]:
        chances = state.chances
        if chances.evictions:
            for i, cell in enumerate(state.held.cells):
                if cell is not None and cell[0] == "c":
                    held = state.held._replace(cells=_put(state.held.cells, i, None))
                    yield "a clean cell is evicted", state._replace(held=held, chances=_less(state, "evictions"))
        if chances.syncs and state.replica != state.held:
            yield "the replica catches up", state._replace(replica=state.held, chances=_less(state, "syncs"))
        if chances.returns and self._may_return(state):
            after = state._replace(held=state.replica, epoch=state.epoch + 1, chances=_less(state, "returns"))
            cut = tuple(map(_cut, state.writings))
            yield "the replica becomes the store", after._replace(writings=cut)
            if any(map(self._is_posting, cut)):
                gone = tuple(
                    w._replace(is_dead=True, node=self._writer.start) if self._is_posting(w) else w for w in cut
                )
                yield "the replica becomes the store, and what was posted is lost", after._replace(writings=gone)
        if chances.ticks and self._may_tick(state):
            later = _later(state)._replace(chances=_less(state, "ticks"))
            yield "time goes by", self._spread(later, TICK) if self._is_timed else later

    def _may_tick(self, state: State) -> bool:
        return not self._assumed.commits_in_time or not any(self._is_committing(w) for w in state.writings)

    def _may_return(self, state: State) -> bool:
        if not self._assumed.marks_survive:
            return True
        lost = [_marks(state.held, i) - _marks(state.replica, i) for i in range(len(state.writings))]
        return not any(
            marks and (self._is_committing(writing) or writing.answer == ASLEEP)
            for writing, marks in zip(state.writings, lost, strict=True)
        )

    def _is_posting(self, writing: Writing) -> bool:
        op = self._writer.nodes[writing.node].members[0].op
        return not writing.is_dead and op is not None and op[0] == "post"

    def _is_committing(self, writing: Writing) -> bool:
        """Between the answer to its mark and the moment from which its commit is visible, or never will be."""
        op = self._writer.nodes[writing.node].members[0].op
        ready = not writing.is_dead and op is not None and op[0] == "send"
        return ready or writing.commit == "sent"

    # ---- at rest

    def _probed(self, state: State) -> tuple[int, Held]:
        """What one more reader gets, alone, and what the store holds after it."""
        node = self._probe.start
        while (op := self._probe.nodes[node].members[0].op) is not None:
            answer, held, _, _ = next(self._answers(state._replace(readings=()), op, 0, writer=None))
            state = state._replace(held=held)
            node = self._probe.after(node, 0, answer)
        value: int = self._probe.nodes[node].members[0].result
        return value, state.held


class Explored(NamedTuple):
    """How many states there are, and the first stale read of each kind, with how it came to be."""

    states: int
    stale: dict[str, tuple[str, ...]]


def explore(world: World, begin: State, *, until: Callable[[dict[str, Any]], bool] = bool) -> Explored:
    """Visit every state that can be reached from `begin`, or until the stale reads found are enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cell_states, "fresh", lambda: _clean(_nonce[0]))
        for each in (_parse_entry, _render_entry, _nonces_in):
            each.cache_clear()
        seen = {canonical(begin)}
        ahead: list[tuple[State, Any]] = [(canonical(begin), None)]
        stale: dict[str, tuple[str, ...]] = {}
        while ahead and not until(stale):
            state, trail = ahead.pop()
            if world.stale_at_rest(state):
                stale.setdefault("P", (*_told_back(trail), "and at rest a read is stale"))
            for what, follows in world.successors(state):
                if isinstance(follows, Stale):
                    stale.setdefault(follows.kind, (*_told_back(trail), what, *follows.story))
                    continue
                canon = canonical(world.settled(follows))
                if canon not in seen:
                    seen.add(canon)
                    ahead.append((canon, (what, trail)))
        return Explored(len(seen), stale)


def canonical(state: State) -> State:
    """The one of all states like this that stands for them: readers and writers in order, and named by it."""
    readings = tuple(sorted(state.readings))
    order = sorted(range(len(state.writings)), key=lambda i: _rank(state, i))
    if order == list(range(len(order))):
        return state if readings == state.readings else state._replace(readings=readings)
    new = {old: new for new, old in enumerate(order)}
    return state._replace(
        readings=readings,
        writings=tuple(state.writings[old] for old in order),
        held=_renamed(state.held, new),
        replica=_renamed(state.replica, new),
    )


def _rank(state: State, writer: int) -> tuple[Any, ...]:
    node, answer, *others, ahead = state.writings[writer]
    marks = sorted(_marks(state.held, writer)), sorted(_marks(state.replica, writer))
    return (node, repr(answer), others, repr(ahead), *marks)


def _renamed(held: Held, new: dict[int, int]) -> Held:
    return held._replace(
        cells=tuple(
            cell if cell is None or cell[0] == "c" else ("d", tuple(sorted((new[w], left) for w, left in cell[1])))
            for cell in held.cells
        )
    )


def _marks(held: Held, writer: int) -> set[tuple[int, int]]:
    return {
        (i, left)
        for i, cell in enumerate(held.cells)
        if cell is not None and cell[0] == "d"
        for w, left in cell[1]
        if w == writer
    }


def _told_back(trail: Any) -> list[str]:
    story: list[str] = []
    while trail is not None:
        what, trail = trail
        story.append(what)
    return story[::-1]


def _has_begun(member: Member) -> bool:
    return member.op is None or bool(member.heard)


def _cut(writing: Writing) -> Writing:
    """Its connection broke: if it waits for an answer, it hears that there is none."""
    if writing.answer not in (None, ASLEEP):
        writing = writing._replace(answer=DOWN)
    return writing if writing.ahead is None else writing._replace(ahead=None if writing.is_dead else LOST)


def _later(state: State) -> State:
    return state._replace(
        earlier=state.row,
        held=_aged(state.held),
        replica=_aged(state.replica),
        writings=tuple(w._replace(late=w.late + 1) if w.answer is not None else w for w in state.writings),
    )


def _aged(held: Held) -> Held:
    return held._replace(
        cells=tuple(
            cell if cell is None or cell[0] == "c" else ("d", tuple((w, max(0, left - TICK_S)) for w, left in cell[1]))
            for cell in held.cells
        )
    )


def _put(items: tuple[Any, ...], i: int, item: Any) -> tuple[Any, ...]:
    return (*items[:i], item, *items[i + 1 :])


def _without(items: tuple[Any, ...], i: int) -> tuple[Any, ...]:
    return items[:i] + items[i + 1 :]


def _with(state: State, i: int, writing: Writing, **other: Any) -> State:
    if writing.is_dead and writing.commit != "sent":  # what else became of it is nothing to anybody
        writing = writing._replace(commit="", value=0)
    return state._replace(writings=_put(state.writings, i, writing), **other)


def _less(state: State, chance: str) -> Chances:
    return state.chances._replace(**{chance: getattr(state.chances, chance) - 1})


# ---- cells and entries, as bytes for the code that is shipped and as values for us

_nonce = [0]


def _clean(nonce: int) -> bytes:
    return cell_states.CLEAN + nonce.to_bytes(cell_states.NONCE_BYTES, "big")


def _render(cell: Cell) -> bytes | None:
    if cell is None:
        return None
    kind, content = cell
    if kind == "c":
        return _clean(content)
    return cell_states.DIRTY + b"".join(_name(w) + b"%013d" % (NOW_MS + left * 1000) for w, left in content)


def _parse(raw: bytes) -> Cell:
    if raw.startswith(cell_states.CLEAN):
        return "c", int.from_bytes(raw[1:], "big")
    size = cell_states.WRITER_BYTES + cell_states.DEADLINE_DIGITS
    marks = [raw[at : at + size] for at in range(1, len(raw), size)]
    return "d", tuple(sorted((int(m[:12]), (int(m[12:]) - NOW_MS) // 1000) for m in marks))


def _name(writer: int) -> bytes:
    return b"%012d" % writer


def _marked(cell: Cell, writer: int | None, hold_ms: int) -> Cell:
    assert writer is not None
    return _parse(cell_states.marked(_render(cell), _name(writer), NOW_MS + hold_ms, NOW_MS))


def _bumped(cell: Cell, writer: int | None, nonce: int) -> Cell:
    assert writer is not None
    _nonce[0] = nonce
    return _parse(cell_states.bumped(_render(cell), _name(writer), NOW_MS))


def _ensured(cell: Cell, nonce: int) -> Cell:
    _nonce[0] = nonce
    return _parse(cell_states.ensured(_render(cell), NOW_MS))


@lru_cache(maxsize=100_000)
def _parse_entry(raw: bytes) -> Entry:
    entry = unseal(raw, max_bytes=1_000)
    return entry.payload, tuple((_nonce_of(v), int(v[11:] or b"0")) for v in entry.versions), entry.tags


@lru_cache(maxsize=100_000)
def _render_entry(entry: Entry) -> bytes:
    assert entry is not None
    payload, versions, tags = entry
    versions_now = tuple(_version(nonce, epoch) for nonce, epoch in versions)
    return seal(Stored(payload, tags, versions_now, at_ms=NOW_MS, life_ms=LIFE_MS))


def _version(nonce: int, epoch: int) -> Any:
    return cell_states.version_of(_clean(nonce), b"e%d" % epoch)


def _nonce_of(version: bytes) -> int:
    return int.from_bytes(version[1 : 1 + cell_states.NONCE_BYTES], "big")


@lru_cache(maxsize=100_000)
def _nonces_in(heard: tuple[tuple[Hashable, ...], ...]) -> frozenset[int]:
    """Every nonce in what a process was told: cells, and entries with their versions."""
    found: set[int] = set()
    for answers in heard:
        for answer in answers:
            for value in answer if isinstance(answer, tuple) else ():
                raw = value[0] if isinstance(value, tuple) and value else None
                if not isinstance(raw, bytes) or raw == cell_states.DIRTY:
                    continue
                if raw.startswith(cell_states.CLEAN):
                    found.add(_nonce_of(raw))
                else:
                    entry = _parse_entry(raw)
                    found.update(nonce for nonce, _ in entry[1]) if entry else None
    return frozenset(found)
