"""Every statement that a piece of code runs, on whatever engine, seen just before it runs."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, event


class Watcher(Protocol):
    """Who wants to see statements. Called inside the engine's event: in a greenlet for async engines."""

    def before_statement(self, connection: Connection, context: Any, sql: str) -> None: ...


_users: set[object] = set()  # as long as there is one, the listener stays
_watchers: ContextVar[tuple[Watcher, ...]] = ContextVar("perfkit_watchers", default=())


class Watching:
    """Inside, `watchers` see the statements of this context, of tasks that it starts, and of no other thread."""

    __slots__ = ("_before", "_watchers")

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def __enter__(self) -> None:
        self._before = _watchers.set((*_watchers.get(), *self._watchers))

    def __exit__(self, *_: object) -> None:
        _watchers.reset(self._before)


def watchers() -> tuple[Watcher, ...]:
    """Who watches this context, outermost first."""
    return _watchers.get()


def watch_nothing() -> None:
    """In this context nobody watches any more."""
    _watchers.set(())


def watch_engines() -> Callable[[], None]:
    """Begin to see statements, of all engines there are or will be. Returns the function that stops it."""
    user = object()
    _users.add(user)
    if not event.contains(Engine, "before_cursor_execute", _before_cursor_execute):
        event.listen(Engine, "before_cursor_execute", _before_cursor_execute)

    def take_away() -> None:
        _users.discard(user)
        if not _users:
            event.remove(Engine, "before_cursor_execute", _before_cursor_execute)

    return take_away


def _before_cursor_execute(
    connection: Connection, cursor: Any, sql: str, parameters: Any, context: Any, executemany: bool
) -> None:
    for watcher in _watchers.get():
        watcher.before_statement(connection, context, sql)
