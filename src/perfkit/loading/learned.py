"""Learned profiles: what the functions of a running service use is loaded eagerly from then on.

For each entity and the function that asks for it, the relationships that are used are counted; after three runs, those
used in at least half of them are loaded with the objects, by one statement each. Now and then one of them is withheld,
to see whether it is missed. Nothing of this changes a result: what is not eager is lazy.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Any

from sqlalchemy.orm import Session

from perfkit.errors import ProfileError, ProfileFileError
from perfkit.files import alone_with
from perfkit.loading import keeping
from perfkit.loading.evidence import Rules
from perfkit.loading.learning import Learner, Mode
from perfkit.sqla.private import run_number
from perfkit.sqla.traversals import watch_traversals


class UnreadableProfiles(RuntimeWarning):
    """A file of learned profiles could not be read: it is kept beside, and replaced by what this process knows."""


class LearnedProfiles:
    """Profiles in a file, learned and applied while a service runs.

    mode
        `"suggest"`: only learn; `perfkit profiles show` says what it would do. `"if_empty"`: apply them to statements
        that have no loader options of their own for the entity. `"on"`: add them to what a statement says, which wins.
    rules
        From when on a path is loaded, and until when.
    chance
        Gives numbers from 0 to 1 and decides what is withheld.

    A file that cannot be read is a warning, `UnreadableProfiles`, and stays as `….broken`. The file is written by
    `save` and `close` only; several processes may share one.

    Raises:
        ProfileError: no such mode.
    """

    def __init__(
        self,
        path: str | FilePath,
        *,
        mode: Mode = "suggest",
        rules: Rules | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        if mode not in ("suggest", "if_empty", "on"):
            raise ProfileError(f"mode={mode!r}: must be 'suggest', 'if_empty' or 'on'.")
        self._path = FilePath(path)
        self._learner = Learner(self._read({}), mode, Rules() if rules is None else rules, chance)
        self._before = keeping.copied(self._learner.book)
        self._stop: list[Callable[[], None]] = []

    def watch(self, sessions: Any = Session) -> None:
        """Begin to learn from `sessions`, a session class or factory: all sessions, async ones too, without it."""
        if not run_number():
            warnings.warn("learned profiles are off: this SQLAlchemy does not number its runs", RuntimeWarning, 2)
            return
        self._stop.append(watch_traversals(sessions, self._learner))

    def save(self) -> None:
        """Add what was learned since the last time to the file."""
        mine = keeping.copied(self._learner.book)
        with alone_with(self._path):
            keeping.write(self._path, keeping.added(self._read(self._before), mine, self._before))
        self._before = mine

    def close(self) -> None:
        """Learn no more, and save."""
        for stop in self._stop:
            stop()
        self._stop.clear()
        self.save()

    def _read(self, otherwise: keeping.Book) -> keeping.Book:
        try:
            return keeping.read(self._path)
        except ProfileFileError as wrong:
            warnings.warn(f"{wrong}; it is kept beside, and replaced", UnreadableProfiles, 3)
            if self._path.is_file():
                self._path.replace(self._path.with_name(f"{self._path.name}.broken"))
            return otherwise
