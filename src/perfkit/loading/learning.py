"""The learner: which function asks for what, what it uses of it afterwards, and which options its next query gets.

It is told by the door of traversals. Places are found once for each stack; what a statement gets is worked out each
time, from counts, and the options for it are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2s
from typing import Any, Literal

from sqlalchemy import inspect
from sqlalchemy.orm import Mapper

from perfkit.loading.evidence import MAX_DEPTH, MAX_SEEN, Path, Place, Rules, Seen, Usage, goes_on_from
from perfkit.loading.levels import How, Level
from perfkit.loading.levels import Path as Step
from perfkit.loading.options import EAGER, RELATIONSHIPS, Chosen, chosen_of, options_of
from perfkit.sqla.origin import Stack, is_application, module_of, name_of

Mode = Literal["suggest", "if_empty", "on"]

MAX_PLACES = 5_000
MAX_MADE = 10_000  # options kept for statements to come
RAISES = frozenset({"raise", "raise_on_sql"})  # what is loaded beside them would raise, too, where it did not before
OUTER = 3  # functions outside the one that asks, by which two ways to it are told apart


@dataclass(slots=True)
class _Run:
    """One query: what was used after it so far, and what it was not given although that is worth it."""

    usage: Usage
    withheld: Path | None = None
    used: set[Path] = field(default_factory=set)


class Learner:
    """What is known of each place. Owns the counts; lost ones, of two threads at once, are as good as not happened."""

    def __init__(self, book: dict[Place, Usage], mode: Mode, rules: Rules, chance: Callable[[], float]) -> None:
        self.book, self._mode, self._rules, self._chance = book, mode, rules, chance
        self._places: dict[tuple[type, Stack], Usage | None] = {}
        self._made: dict[tuple[type, tuple[Path, ...]], Sequence[Any]] = {}

    def started(
        self, statement: Any, entity: Any, stack: Stack, is_async: Callable[[], bool]
    ) -> tuple[Any, Sequence[Any]]:
        """A run begins: what it is, and what its statement gets."""
        usage = self._usage(inspect(entity).mapper.class_, stack)
        if usage is None:
            return None, ()
        run = _Run(usage)
        paths = self._rules.worthy(usage) if usage.paths and self._mode != "suggest" else ()
        usage.runs += 1
        usage.grow_old()
        if not paths:
            return run, ()
        chosen = chosen_of(statement, entity)
        if (chosen and self._mode == "if_empty") or RAISES & {*chosen.values()}:
            return run, ()
        if self._rules.withhold and self._chance() < self._rules.withhold and not is_async():
            run.withheld = paths[int(self._chance() * len(paths)) % len(paths)]
            usage.paths[run.withheld].withheld += 1
            self._rules.prune(usage)
        return run, self._options(entity, usage, paths, run.withheld, chosen)

    def touched(self, token: Any, path: Path, *, fails: bool) -> None:
        """A relationship of an object of this run is loaded lazily."""
        run: _Run = token
        seen = run.usage.paths.get(path)
        if seen is None:
            if len(path) > MAX_DEPTH or len(run.usage.paths) >= MAX_SEEN:
                return
            seen = run.usage.paths[path] = Seen()
        seen.loads += 1
        seen.failed += fails
        if path not in run.used:
            run.used.add(path)
            seen.used += 1
            if run.withheld == path:
                seen.withheld = 0

    def _usage(self, entity: type, stack: Stack) -> Usage | None:
        try:
            return self._places[entity, stack]
        except KeyError:
            place = place_of(entity, stack)
            usage = None
            if place is not None and (place in self.book or len(self.book) < MAX_PLACES):
                usage = self.book.setdefault(place, Usage())
            if len(self._places) > 2 * MAX_PLACES:
                self._places.clear()
            self._places[entity, stack] = usage
            return usage

    def _options(
        self, entity: Any, usage: Usage, paths: tuple[Path, ...], withheld: Path | None, chosen: Chosen
    ) -> Sequence[Any]:
        taken = [path for path in paths if withheld is None or not goes_on_from(path, [withheld])]
        mapper: Mapper[Any] = inspect(entity).mapper
        applied = tuple(path for path in taken if _can_be_eager(mapper, path, taken, chosen))
        for path in paths:
            if path in usage.paths and path != withheld and (path in applied or path not in taken):
                usage.paths[path].eager += 1
        if chosen or not isinstance(entity, type):
            return _made(entity, mapper, applied, chosen)
        if (entity, applied) not in self._made:
            if len(self._made) > MAX_MADE:
                self._made.clear()
            self._made[entity, applied] = _made(entity, mapper, applied, chosen)
        return self._made[entity, applied]


def place_of(entity: type, stack: Stack) -> Place | None:
    """The innermost function of the application that asks for `entity`; None if there is none.

    Lines are no part of it, so that it stays the same when something is written above; comprehensions are the function
    that they stand in.
    """
    if not stack.frames:
        return None
    code = stack.frames[stack.application][0]
    outer = [name_of(each) for each, _ in stack.frames[stack.application + 1 :] if is_application(each)]
    callers = blake2s("\n".join(outer[:OUTER]).encode(), digest_size=4).hexdigest()
    return Place(f"{entity.__module__}:{entity.__qualname__}", f"{module_of(code)}:{name_of(code)}", callers)


def _can_be_eager(mapper: Mapper[Any], path: Path, others: Sequence[Path], chosen: Chosen) -> bool:
    """Whether the classes still have all of it, it has a beginning that is eager, and the statement leaves it to us."""
    for number, step in enumerate(path):
        name = step.removesuffix("[]")
        keys = tuple(each.removesuffix("[]") for each in path[: number + 1])
        if name not in mapper.relationships or (*keys[:-1], RELATIONSHIPS) in chosen:
            return False
        prop = mapper.relationships[name]
        is_ours = path[: number + 1] in others
        if bool(prop.uselist) != step.endswith("[]") or chosen.get(keys, "selectin") not in EAGER:
            return False
        if not is_ours and keys not in chosen and prop.lazy not in EAGER:
            return False
        mapper = prop.mapper
    return tuple(each.removesuffix("[]") for each in path) not in chosen


def _made(entity: Any, mapper: Mapper[Any], paths: Sequence[Path], chosen: Chosen) -> Sequence[Any]:
    """Options for the paths; what lies between and is eager already is only gone through."""
    if not paths:
        return ()
    through = dict.fromkeys(_between(paths), "selectin")
    return options_of(_level(paths), entity, left_out="mapped", chosen={**through, **chosen})


def _between(paths: Sequence[Path]) -> Iterator[tuple[str, ...]]:
    for path in paths:
        for end in range(1, len(path)):
            if path[:end] not in paths:
                yield tuple(each.removesuffix("[]") for each in path[:end])


def _level(paths: Sequence[Path]) -> Level:
    further: dict[str, list[Path]] = {}
    for path in paths:
        further.setdefault(path[0], []).extend([path[1:]] if path[1:] else [])
    return Level(paths={name.removesuffix("[]"): Step(how_of(name), _level(rest)) for name, rest in further.items()})


def how_of(step: str) -> How:
    """By the brackets of a collection."""
    return How.MANY if step.endswith("[]") else How.ONE
