"""Evidence: how often a relationship was used after a query, and from when on it is worth loading eagerly.

A *place* is an entity and the function that asked for it. Of each place the runs are counted, and for each path in how
many of them it was used. A run in which the path was eager says nothing of its use; those in which it was withheld do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from perfkit.errors import ProfileError

Path = tuple[str, ...]
"""Names from the entity on; those of collections end in `[]`."""

MAX_DEPTH = 6  # steps of a path: further on, it is a walk along a list or a tree
MAX_SEEN = 30  # paths of one place
OLD = 1_000  # runs after which all counts of a place are halved, so that habits can change


class Place(NamedTuple):
    """An entity, as `module:name`, the function that asked, and a hash of who called that."""

    entity: str
    function: str
    callers: str


@dataclass(slots=True)
class Seen:
    """Of one path: runs in which it was used, lazy loads in all of them, runs in which it was eager.

    `withheld` counts the runs in a row in which it was not loaded although it is worth it, and nobody missed it.
    `failed` counts the lazy loads that asyncio made impossible.
    """

    used: int = 0
    loads: int = 0
    eager: int = 0
    withheld: int = 0
    failed: int = 0


@dataclass(slots=True)
class Usage:
    """Of one place: its runs, and what was used in them."""

    runs: int = 0
    paths: dict[Path, Seen] = field(default_factory=dict)

    def grow_old(self) -> None:
        """Give what comes more weight than what was, once there is enough."""
        if self.runs >= OLD:
            self.runs //= 2
            for seen in list(self.paths.values()):
                for each in fields(seen):
                    setattr(seen, each.name, (getattr(seen, each.name) + 1) // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When a path is worth loading, and when nobody uses it any more.

    runs
        So many of a place before anything is loaded for it.
    share
        Of the runs that tell, the part in which a path must have been used.
    paths
        The most that one statement gets; each is a statement more.
    withhold
        The part of runs in which one of them is not loaded, to see whether it is missed. Not under an async engine,
        where a miss would be an error.
    unused
        Withheld so often and never missed: it is forgotten.

    Raises:
        ProfileError: a value that cannot work.
    """

    runs: int = 3
    share: float = 0.5
    paths: int = 6
    withhold: float = 0.01
    unused: int = 20

    def __post_init__(self) -> None:
        for name in ("runs", "paths", "unused"):
            if not isinstance(value := getattr(self, name), int) or value < 1:
                raise ProfileError(f"{name}={value!r}: must be 1 or more.")
        for name in ("share", "withhold"):
            if not 0.0 <= (value := getattr(self, name)) <= 1.0:
                raise ProfileError(f"{name}={value!r}: must be a part of runs, from 0 to 1.")

    def is_worth(self, usage: Usage, path: Path) -> bool:
        """Whether the next run is better off with it. What asyncio made impossible is, at once."""
        seen = usage.paths[path]
        if seen.withheld >= self.unused:
            return False
        if seen.failed:
            return True
        told = usage.runs - seen.eager
        return usage.runs >= self.runs and 0 < seen.used >= self.share * told

    def worthy(self, usage: Usage) -> tuple[Path, ...]:
        """The paths that are loaded, most used first and each after those it goes on from."""
        found = [path for path in list(usage.paths) if self.is_worth(usage, path)]
        found.sort(key=lambda path: (-usage.paths[path].used - usage.paths[path].failed, len(path), path))
        return tuple(sorted(found[: self.paths], key=lambda path: (len(path), path)))

    def prune(self, usage: Usage) -> list[Path]:
        """Forget what was withheld and not missed, with all that goes on from there; returns what it was."""
        ends = [path for path, seen in list(usage.paths.items()) if seen.withheld >= self.unused]
        gone = sorted({path for path in list(usage.paths) if goes_on_from(path, ends)})
        for path in gone:
            usage.paths.pop(path, None)
        return gone


def goes_on_from(path: Path, others: Iterable[Path]) -> bool:
    """Whether `path` is one of `others`, or begins with one."""
    return any(path[: len(each)] == each for each in others)
