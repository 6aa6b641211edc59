"""N+1 in the requests of an ASGI application: a window over each.

    app.add_middleware(DetectMiddleware, report=reports.log)

A window is open until the last byte of the response is sent, so that what a streaming response or a background task
loads is seen too; the header can only tell of what was found before the first. Websockets and lifespan pass through.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from perfkit.integrations.requests import HEADER, Filter, Requests
from perfkit.loading import Window, reports
from perfkit.loading.detect import Report

__all__ = ["DetectMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class DetectMiddleware:
    """`app`, with its requests watched.

    `report` gets the findings of each request that has some, `left` says which count, such as `Ignores(…).left`.
    `header` adds `Perfkit-Findings` to responses: for development, since it tells of the code. `sample` is the part of
    the requests to watch; the others cost nothing. `draw` gives a number from 0 to 1.
    """

    def __init__(
        self,
        app: Application,
        *,
        report: Report = reports.log,
        left: Filter | None = None,
        header: bool = False,
        sample: float = 1.0,
        min_parents: int = 2,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.app = app
        self._requests = Requests(
            report=report, left=left, header=header, sample=sample, min_parents=min_parents, draw=draw
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._requests.are_watched():
            await self.app(scope, receive, send)
            return
        root = scope.get("root_path", "")
        with self._requests.window(lambda: route_of(scope, root)) as window:
            shown = window is not None and self._requests.header
            await self.app(scope, receive, self._with_header(send, window) if shown and window else send)

    def counts(self) -> dict[str, int]:
        """How many requests were `watched`, how many of them came `with_findings`, how often that had `failures`."""
        return self._requests.counts()

    def _with_header(self, send: Send, window: Window) -> Send:
        async def send_with_header(message: Message) -> None:
            if message["type"] == "http.response.start" and (value := self._requests.header_of(window)):
                headers = [*message.get("headers", ()), (HEADER.lower().encode(), value.encode("ascii"))]
                message = {**message, "headers": headers}
            await send(message)

        return send_with_header


def route_of(scope: Scope, root: str) -> str | None:
    """`GET /bins/{bin_id}`, if the framework left its route in the scope, as FastAPI and Starlette do; else None.

    `root` is the root path that the request came with: mounted applications add theirs.
    """
    template = getattr(scope.get("route"), "path", None)
    if not isinstance(template, str):
        return None
    mounted = str(scope.get("root_path", "")).removeprefix(root)
    return f"{scope.get('method', '')} {mounted}{template}".strip()
