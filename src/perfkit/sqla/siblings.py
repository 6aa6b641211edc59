"""Siblings: the objects that one statement loaded, in the order in which it did.

SQLAlchemy numbers its loads and writes the number on each object (`InstanceState.runid`). The identity map keeps the
order in which objects came, so whoever was loaded last stands at its end, and a look backwards can stop at the first
object of an older load. Each object is passed by once, however often somebody asks: N objects that were loaded one by
one cost N steps and not N².

Held are states, which do not keep their objects alive, and of the last loads only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from itertools import takewhile
from typing import Any

from sqlalchemy.orm import InstanceState, Session

from perfkit.sqla import private

MAX_RUNS = 64  # loads of more than one object that are remembered, per session

State = InstanceState[Any]


class Group:
    """The objects of one load."""

    __slots__ = ("places", "states")

    def __init__(self, states: list[State]) -> None:
        self.states = states
        self.places = {state: place for place, state in enumerate(states)}

    def around(self, state: State) -> Iterator[State]:
        """All others that are still there: those behind `state` first, and then those before it."""
        place = self.places[state]
        for each in (*self.states[place + 1 :], *self.states[:place]):
            if each.obj() is not None:
                yield each


class Runs:
    """Which objects of a session belong together. Owned by one session, which one thread uses at a time."""

    __slots__ = ("_groups", "_newest")

    def __init__(self) -> None:
        self._groups: OrderedDict[float, Group] = OrderedDict()
        self._newest = 0.0

    def siblings(self, session: Session, state: State) -> Iterator[State]:
        """The others that the load of `state` brought; none for one that came alone."""
        run = private.run_of(state)
        if run is None:
            return iter(())
        group = self._groups.get(run)
        if (group is None and run > self._newest) or (group is not None and state not in group.places):
            self._look(session, run)
            group = self._groups.get(run)
        if group is None or state not in group.places:
            return iter(())
        return group.around(state)

    def _look(self, session: Session, wanted: float) -> None:
        """Note who has come since the last look, and who of `wanted` is there now."""
        stop = min(self._newest, wanted)
        found: dict[float, list[State]] = {}
        # a refresh gives an object that stands far ahead a new number: its next neighbour ends the look
        for state in _until_older(session, stop):
            run = private.run_of(state)
            if run is not None:
                found.setdefault(run, []).append(state)
        self._newest = max(self._newest, wanted, *found)
        for run, states in found.items():
            if len(states) > 1:
                states.reverse()
                self._groups[run] = Group(states)
        while len(self._groups) > MAX_RUNS:
            self._groups.popitem(last=False)


def _until_older(session: Session, stop: float) -> list[State]:
    try:
        return list(takewhile(partial(_is_not_older, stop), private.newest_first(session)))
    except RuntimeError:  # one of them was collected meanwhile
        return [state for state in reversed(session.identity_map.all_states()) if _is_not_older(stop, state)]


def _is_not_older(stop: float, state: State) -> bool:
    run = private.run_of(state)
    return run is None or run >= stop
