"""Around every request: an id for its log lines, a limit on its body, and an answer when nobody else has one.

X-Request-Id: 0b8c7f0e4b0f4f6f9a4d6b1f5f2f7c11

A caller's own id is kept, so that a log can be followed through several services.
"""

from __future__ import annotations

import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wastemgmt.api.errors import Refused, answer

MAX_BODY_BYTES = 1_000_000  # a route of 10,000 points, the largest thing that is accepted, has half of that

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
log = structlog.get_logger()


class GuardRequests:
    """ASGI middleware. What escapes the handlers ends here: logged with the request's id, answered without details."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, began = Headers(scope=scope), time.perf_counter()
        given = headers.get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id, method=scope["method"], path=scope["path"]):
            try:
                await self._app(scope, _limited(receive, headers), send_named)
            except Exception:
                log.exception("request failed")
                if status:  # half an answer is on its way: the server breaks the connection, so that it looks broken
                    raise
                detail = f"Something went wrong on our side; it was written down as {request_id}."
                await answer(Request(scope), 500, detail)(scope, receive, send_named)
            log.debug("answered", status=status, took_ms=round((time.perf_counter() - began) * 1000, 1))


def _limited(receive: Receive, headers: Headers) -> Receive:
    """`receive`, refusing a body that is too long, or says that it will be, in the moment somebody reads it."""
    announced = headers.get("content-length", "")
    received = 0

    async def limited() -> Message:
        nonlocal received
        if announced.isdecimal() and int(announced) > MAX_BODY_BYTES:
            raise _too_long()
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY_BYTES:
            raise _too_long()
        return message

    return limited


def _too_long() -> Refused:
    return Refused(413, f"The body has more than {MAX_BODY_BYTES:,} bytes.")
