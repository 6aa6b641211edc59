"""Loads that nobody waits for, or not to their end: in threads for sync functions, as tasks for async ones.

They run in a copy of the caller's context, since a function may read its tenant or its request from there; only what
perfkit itself knows of the caller is left behind: what watches its loads does not watch these.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import Any, TypeVar

from perfkit.cache.flights import lead_nothing
from perfkit.clock import SYSTEM, Clock
from perfkit.forks import begin_anew_after_a_fork
from perfkit.sqla.changes import observe_nothing
from perfkit.sqla.watching import watch_nothing

T = TypeVar("T")

MAX_RUNNING = 4  # of one cache in this process: each takes a connection

LOST_S = 300.0  # after which a load counts as lost: its event loop was closed without ending its tasks

_log = logging.getLogger("perfkit.cache")


class Background:
    """Owns the loads that are under way, one for a key at most, and the threads they run in. A fork has none."""

    def __init__(self, *, max_running: int = MAX_RUNNING, clock: Clock = SYSTEM) -> None:
        self._max_running, self._clock = max_running, clock
        self._begin_anew()
        begin_anew_after_a_fork(self._begin_anew)

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[Hashable, tuple[Future[Any], float]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._threads: ThreadPoolExecutor | None = None

    def start(self, key: Hashable, load: Callable[[], T]) -> tuple[Future[T], bool] | None:
        """Call `load` in a thread, or join who does it for `key`; and whether this began it. None: there is no room."""
        future, is_new = self._enter(key)
        if future is not None and is_new:
            context = _apart()
            with self._lock:
                if self._threads is None:
                    self._threads = ThreadPoolExecutor(self._max_running, thread_name_prefix="perfkit-load")
                try:
                    self._threads.submit(self._run, key, future, context, load)
                except RuntimeError:  # the process ends
                    del self._running[key]
                    return None
        return None if future is None else (future, is_new)

    def start_task(self, key: Hashable, load: Callable[[], Awaitable[T]]) -> tuple[Future[T], bool] | None:
        """The same on the running event loop."""
        future, is_new = self._enter(key)
        if future is not None and is_new:
            task = asyncio.get_running_loop().create_task(self._await(key, future, load), context=_apart())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return None if future is None else (future, is_new)

    def running(self, key: Hashable) -> Future[Any] | None:
        """The load for `key` that is under way."""
        with self._lock:
            future, _ = self._running.get(key, (None, 0.0))
            return future

    def close(self) -> None:
        """Begin nothing more in threads; what runs goes on to its end."""
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False)

    def _enter(self, key: Hashable) -> tuple[Future[Any] | None, bool]:
        now_s = self._clock.monotonic()
        with self._lock:
            for other, (_, began_s) in list(self._running.items()):
                if now_s - began_s > LOST_S:
                    del self._running[other]
            if key in self._running:
                return self._running[key][0], False
            if len(self._running) >= self._max_running:
                return None, False
            future: Future[Any] = Future()
            self._running[key] = future, now_s
            return future, True

    def _leave(self, key: Hashable, future: Future[Any]) -> None:
        with self._lock:
            if self._running.get(key, (None, 0.0))[0] is future:
                del self._running[key]

    def _run(self, key: Hashable, future: Future[T], context: Context, load: Callable[[], T]) -> None:
        try:
            value = context.run(load)
        except BaseException as error:  # noqa: BLE001 - the thread is the pool's, and who waits must be told
            self._failed(key, future, error)
        else:
            self._leave(key, future)
            future.set_result(value)

    async def _await(self, key: Hashable, future: Future[T], load: Callable[[], Awaitable[T]]) -> None:
        try:
            value = await load()
        except BaseException as error:
            self._failed(key, future, error)
            if not isinstance(error, Exception):
                raise
        else:
            self._leave(key, future)
            future.set_result(value)

    def _failed(self, key: Hashable, future: Future[T], error: BaseException) -> None:
        self._leave(key, future)
        _log.warning("a load in the background failed: %s: %s", type(error).__name__, error)
        # who waits for it is not to end with its task
        future.set_exception(error if isinstance(error, Exception) else RuntimeError("a load was cancelled"))


def _apart() -> Context:
    context = copy_context()
    for forget in (watch_nothing, observe_nothing, lead_nothing):
        context.run(forget)
    return context
