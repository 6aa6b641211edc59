"""Caches that answer statements, for the sessions whose engines they watch.

What makes a session ask is in `cache.statements`, which is imported only by those who use it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from sqlalchemy import Dialect
from sqlalchemy.orm import Session

from perfkit.cache.policy import Own
from perfkit.cache.runtime import Runtime
from perfkit.errors import UnkeyableArgument, Unpackable
from perfkit.forks import lock_of

MAX_STATEMENTS = 1_000  # that differ in their names or options

Rows = tuple[bool, list[str], list[tuple[Any, ...]]]
"""Whether the caller has to make them unique, the names of the columns, and what is in them."""


class Asked(Protocol):
    """One execution of a statement, as an argument of a cached function."""

    def cache_identity(self) -> object:
        """What it asks for."""
        ...

    def execute(self) -> Rows:
        """The database's answer, in the session that asks."""
        ...


RunStatement = Callable[[Session, Asked], Rows]


class Statements:
    """What one cache does for statements."""

    def __init__(self, runtime: Runtime, declare: Callable[[RunStatement, Own], RunStatement]) -> None:
        """`declare` makes a cached function of one that executes statements."""
        self._runtime, self._declare = runtime, declare
        self._functions: dict[Hashable, RunStatement] = {}
        self._lock = lock_of(self)

    def knows(self, dialect: Dialect) -> bool:
        """Whether the engine with this dialect object is watched."""
        return dialect in self._runtime.watched

    def execute(self, name: str, own: Own, session: Session, asked: Asked) -> Rows:
        """What the statement gives, from the cache or from the database; counted under `name`.

        Raises:
            UnkeyableArgument: names and options are always others, and nobody has room for all of them.
        """
        key: Hashable = (name, *sorted(own.items()))
        function = self._functions.get(key)
        if function is None:
            with self._lock:  # two that come first at once shall not be counted apart
                function = self._functions.get(key) or self._begun(key, name, own)
        try:
            return function(session, asked)
        except Unpackable as wrong:
            raise _of_a_row(name, wrong) from None

    def _begun(self, key: Hashable, name: str, own: Own) -> RunStatement:
        if len(self._functions) >= MAX_STATEMENTS:
            raise UnkeyableArgument(
                f"there have been {MAX_STATEMENTS:,} names and options of statements: make the options once, such as "
                f"the function in stage=, and give names without values"
            )

        def execute(session: Session, asked: Asked) -> Rows:
            return asked.execute()

        execute.__module__, execute.__qualname__ = "cached", name
        function = self._functions[key] = self._declare(execute, own)
        return function


def _of_a_row(name: str, wrong: Unpackable) -> Unpackable:
    """The same, said to who has a statement and no function."""
    found = _IN_A_ROW.match(wrong.path or "")
    if found is None or wrong.found is None:
        return wrong
    return Unpackable(
        f"cached({name!r}): column {found['column']} of row {found['row']} has a {wrong.found.__qualname__}, which "
        f"cannot be kept. Select columns of built-in types, or give cache.query() a function whose annotation names "
        f"the class.",
        path=wrong.path,
        found=wrong.found,
    )


_IN_A_ROW = re.compile(r"result\[2\]\[(?P<row>\d+)\]\[(?P<column>\d+)\]")  # as Rows has it

SERVED: WeakKeyDictionary[object, Statements] = WeakKeyDictionary()
AT_WATCH: list[Callable[[], None]] = []
"""What is called when a cache begins to watch: at start-up, before there is any traffic."""


def serve(cache: object, statements: Statements) -> None:
    """Let `cache` answer statements."""
    SERVED.setdefault(cache, statements)
    for each in AT_WATCH:
        each()
