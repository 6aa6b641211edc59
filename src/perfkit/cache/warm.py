"""Load before anybody asks: after a deployment, or when Redis has come back empty."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from perfkit.cache.call import Call, ask, took_by
from perfkit.cache.declared import Declared
from perfkit.cache.read import Filled, Hit
from perfkit.cache.reasons import Reason
from perfkit.errors import CacheDeclarationError
from perfkit.waiting import run_now

Arguments = Mapping[str, Any]
_Kind = Literal["loaded", "hits", "skipped", "failed"]
_KINDS: tuple[_Kind, ...] = ("loaded", "hits", "skipped", "failed")

_log = logging.getLogger("perfkit.cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmed:
    """How far a warm-up has come.

    `loaded` are kept now, `hits` were there before, `skipped` could not be kept (`CacheStats.unkept` says why), and
    `failed` raised; the log has the first of those. `total` is None where the calls are not counted beforehand.
    """

    loaded: int = 0
    hits: int = 0
    skipped: int = 0
    failed: int = 0
    total: int | None = None
    took_s: float = 0.0

    @property
    def done(self) -> int:
        return self.loaded + self.hits + self.skipped + self.failed


class WarmUp:
    """One warm-up of one function. Counts, and tells who wants to know."""

    def __init__(
        self,
        declared: Declared,
        bound: tuple[Any, ...],
        calls: Iterable[Arguments],
        progress: Callable[[Warmed], object] | None,
    ) -> None:
        self._declared, self._bound, self._calls, self._progress = declared, bound, calls, progress
        self._total = len(calls) if isinstance(calls, list | tuple | set | dict) else None
        self._counts: Counter[_Kind] = Counter()
        self._began_s = perf_counter()
        names = declared.quick.session_names
        if len(names) != 1:
            raise CacheDeclarationError(
                f"{declared.keys.name} has {len(names)} parameters that are sessions by their annotation, and a "
                f"warm-up gives it one: annotate it as Session or AsyncSession."
            )
        (self._session_name,) = names

    def state(self) -> Warmed:
        counts = {kind: self._counts[kind] for kind in _KINDS}
        return Warmed(**counts, total=self._total, took_s=perf_counter() - self._began_s)

    def run(self, sessions: Callable[[], Session], workers: int) -> Warmed:
        """In threads, each call in a session of its own."""
        _check(sessions, workers)
        with ThreadPoolExecutor(workers, thread_name_prefix="perfkit-warm") as pool:
            waiting = iter(self._calls)
            running = self._submit(pool, sessions, islice(waiting, 2 * workers))
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for each in done:
                    self._note(each.result())
                running |= self._submit(pool, sessions, islice(waiting, len(done)))
        return self.state()

    async def run_later(self, sessions: Callable[[], AsyncSession], workers: int) -> Warmed:
        """In tasks, each call in a session of its own."""
        _check(sessions, workers)
        waiting = iter(self._calls)

        async def work() -> None:
            for arguments in waiting:
                try:
                    async with sessions() as session:
                        asked = ask(self._declared, self._bound, {**arguments, self._session_name: session})
                        answer = await asked.read() if isinstance(asked, Call) else asked
                except Exception as error:  # noqa: BLE001 - one call that fails must not end the others
                    self._note(self._failed(arguments, error))
                else:
                    self._note(self._kind(asked, answer))

        await asyncio.gather(*(work() for _ in range(workers)))
        return self.state()

    def _submit(
        self, pool: ThreadPoolExecutor, sessions: Callable[[], Session], calls: Iterator[Arguments]
    ) -> set[Future[_Kind]]:
        return {pool.submit(self._one, sessions, arguments) for arguments in calls}

    def _one(self, sessions: Callable[[], Session], arguments: Arguments) -> _Kind:
        try:
            with sessions() as session:
                asked = ask(self._declared, self._bound, {**arguments, self._session_name: session})
                return self._kind(asked, run_now(asked.read()) if isinstance(asked, Call) else asked)
        except Exception as error:  # noqa: BLE001 - one call that fails must not end the others
            return self._failed(arguments, error)

    def _kind(self, asked: Call | Hit | Reason, answer: Hit | Filled | Reason) -> _Kind:
        self._declared.count(answer, took_by(asked))
        if isinstance(answer, Hit):
            return "hits"
        return "loaded" if isinstance(answer, Filled) and answer.unkept is None else "skipped"

    def _failed(self, arguments: Arguments, error: Exception) -> _Kind:
        if not self._counts["failed"]:
            _log.warning("warming up %s with %r failed: %s", self._declared.keys.name, dict(arguments), error)
        return "failed"

    def _note(self, kind: _Kind) -> None:
        self._counts[kind] += 1
        if self._progress is not None:
            self._progress(self.state())


def _check(sessions: object, workers: int) -> None:
    """Once, and not in each worker."""
    if not callable(sessions):
        raise CacheDeclarationError(f"sessions={sessions!r}: give what makes a session, such as sessionmaker(engine).")
    if workers < 1:
        raise CacheDeclarationError(f"workers={workers!r}: give 1 or more.")
