"""Requests that a test sends to its application in the same process: each is looked at by itself.

A test asks for one bin, changes it and asks again. In one window that is three times the same statement, and nothing
that the application could do better; so what it does for a request is apart. Clients that are not in the list can be
had by `DetectMiddleware` around the application, which does the same.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from perfkit.sqla.executions import apart

CLIENTS = (
    ("httpx", "Client", "send"),  # and the TestClient of Starlette and FastAPI, which is one
    ("httpx", "AsyncClient", "send"),
    ("httpx2", "Client", "send"),
    ("httpx2", "AsyncClient", "send"),
    ("werkzeug.test", "Client", "open"),  # and Flask's
)


@contextmanager
def requests_apart() -> Iterator[None]:
    """Inside, each request of a client in the list is a unit of its own; of those that have been imported."""
    changed: list[tuple[Any, str, Callable[..., Any], Callable[..., Any]]] = []
    for module, name, method in CLIENTS:
        client = getattr(sys.modules.get(module), name, None)
        plain = None if client is None else vars(client).get(method)
        if plain is not None and not hasattr(plain, "perfkit_apart"):
            changed.append((client, method, plain, _each_apart(plain)))
    for client, method, _, wrapped in changed:
        setattr(client, method, wrapped)
    try:
        yield
    finally:
        for client, method, plain, wrapped in changed:
            if vars(client).get(method) is wrapped:  # else the test has put another one there, and knows ours
                setattr(client, method, plain)


def _each_apart(send: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(send):

        @functools.wraps(send)
        async def send_async(*args: Any, **kwargs: Any) -> Any:
            with apart():
                return await send(*args, **kwargs)

        vars(send_async)["perfkit_apart"] = True
        return send_async

    @functools.wraps(send)
    def send_now(*args: Any, **kwargs: Any) -> Any:
        with apart():
            return send(*args, **kwargs)

    vars(send_now)["perfkit_apart"] = True
    return send_now
