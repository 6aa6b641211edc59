"""How one block of code, or the whole process, wants its lazy loads batched; and what came of it.

The adaptive trigger reads ahead at the first access, as long as what it reads is wanted: of an attribute of which
less than a quarter of what was read ahead was asked for, the second object that asks starts the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary

from perfkit.counters import Counters
from perfkit.sqla.loads import Columns, What

Trigger = Literal["adaptive", "first", "second"]
TRIGGERS: tuple[Trigger, ...] = get_args(Trigger)
ENOUGH = 50  # objects read ahead, before anything is concluded from them
USED_PART = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """How many batches were read, for how many objects; how many of these asked, and were dropped unasked."""

    batches: int = 0
    prefetched: int = 0
    used: int = 0
    dropped: int = 0


_habits: WeakKeyDictionary[Any, tuple[int, int]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Settings:
    """Options that check themselves, and the counters of those who use them."""

    trigger: Trigger = "adaptive"
    max_batch: int = 2000
    tally: Counters[str] = field(default_factory=Counters)

    def __post_init__(self) -> None:
        if self.trigger not in TRIGGERS:
            raise ValueError(f"trigger={self.trigger!r}: one of {', '.join(TRIGGERS)}")
        if not isinstance(self.max_batch, int):
            raise TypeError(f"max_batch={self.max_batch!r}: must be a whole number")
        if self.max_batch < 2:
            raise ValueError(f"max_batch={self.max_batch!r}: a batch is for two objects at least")

    def wanted(self, what: What) -> int:
        """How many objects must ask before a batch is read."""
        if self.trigger == "adaptive":
            prefetched, used = _habits.get(_subject(what), (0, 0))
            return 2 if prefetched >= ENOUGH and used < prefetched * USED_PART else 1
        return 1 if self.trigger == "first" else 2

    def stats(self) -> Stats:
        return Stats(**self.tally.totals())

    @staticmethod
    def learn(what: What, prefetched: int, used: int) -> None:
        """Remember how much of one batch was asked for; older batches weigh less and less."""
        before = _habits.get(_subject(what), (0, 0))
        _habits[_subject(what)] = (before[0] * 7 // 8 + prefetched, before[1] * 7 // 8 + used)


def _subject(what: What) -> Any:
    return what.mapper if isinstance(what, Columns) else what
