"""How many statements a request ran, and how long they took: response headers that the demo reads.

X-Query-Count: 6
Server-Timing: app;dur=141.2, db;dur=127.8
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(slots=True)
class Spent:
    """What one request has asked of the database so far."""

    queries: int = 0
    database_s: float = 0.0


_spent: ContextVar[Spent | None] = ContextVar("wastemgmt_spent", default=None)


class CountQueries:
    """ASGI middleware. Tasks that a request starts count for it: they inherit its context."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        spent, began = Spent(), time.perf_counter()

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                took_ms = (time.perf_counter() - began) * 1000
                timing = f"app;dur={took_ms:.1f}, db;dur={spent.database_s * 1000:.1f}"
                counted = [(b"x-query-count", str(spent.queries).encode()), (b"server-timing", timing.encode())]
                message["headers"] = [*message.get("headers", ()), *counted]
            await send(message)

        before = _spent.set(spent)
        try:
            await self._app(scope, receive, send_counted)
        finally:
            _spent.reset(before)


def count_on(engine: AsyncEngine) -> None:
    """Count the statements of `engine` for the request that runs them."""
    event.listen(engine.sync_engine, "before_cursor_execute", _before)
    event.listen(engine.sync_engine, "after_cursor_execute", _after)


def _before(connection: Any, cursor: Any, sql: str, parameters: Any, context: Any, executemany: bool) -> None:
    context.began_at = time.perf_counter()


def _after(connection: Any, cursor: Any, sql: str, parameters: Any, context: Any, executemany: bool) -> None:
    spent = _spent.get()
    if spent is not None:
        spent.queries += 1
        spent.database_s += time.perf_counter() - context.began_at
