"""N+1 in the requests of a WSGI application: a window over each.

    app.wsgi_app = DetectMiddleware(app.wsgi_app, report=reports.log)

A server calls the application, takes the body piece by piece and closes it, and may do each on another thread. So all
of it runs in one context of its own, in which the window is open until the body has ended.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import ExitStack
from contextvars import Context, copy_context
from typing import Any

from perfkit.integrations.requests import HEADER, Filter, Requests
from perfkit.loading import reports
from perfkit.loading.detect import Report

__all__ = ["DetectMiddleware"]

Environ = MutableMapping[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


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

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if not self._requests.are_watched():
            return self.app(environ, start_response)
        context = copy_context()
        return context.run(self._watched, context, environ, start_response)

    def counts(self) -> dict[str, int]:
        """How many requests were `watched`, how many of them came `with_findings`, how often that had `failures`."""
        return self._requests.counts()

    def _watched(self, context: Context, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        routes: list[str | None] = []
        with ExitStack() as stack:
            window = stack.enter_context(self._requests.window(lambda: next(iter(routes), None)))

            def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
                routes.append(route_of(environ))  # Flask takes its request out of it when it returns
                value = self._requests.header_of(window) if window is not None and self._requests.header else None
                return start_response(status, [*headers, (HEADER, value)] if value else headers, *error)

            body = self.app(environ, start)
            if _is_there(body, environ):
                return body
            return _Body(body, context, stack.pop_all())


class _Body:
    """A response that is still being made, in the context of its window, which ends with its last piece.

    It ends with `close` where a client went away before, and with the garbage collector where a server forgets that.
    """

    def __init__(self, body: Iterable[bytes], context: Context, window: ExitStack) -> None:
        self._body, self._context, self._window = body, context, window
        self._pieces: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._context.run(self._next)

    def close(self) -> None:
        self._context.run(self._close)

    def __del__(self) -> None:
        self._context.run(self._window.close)

    def _next(self) -> bytes:
        if self._pieces is None:
            self._pieces = iter(self._body)
        try:
            return next(self._pieces)
        except StopIteration:
            self._window.close()
            raise

    def _close(self) -> None:
        with self._window:
            if close := getattr(self._body, "close", None):
                close()


def _is_there(body: Iterable[bytes], environ: Environ) -> bool:
    """Whether no code runs for the body any more: servers take the length of a list, and send a file by themselves."""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(body, list | tuple) or (isinstance(wrapper, type) and isinstance(body, wrapper))


def route_of(environ: Environ) -> str | None:
    """`GET /bins/<int:bin_id>`, if the framework left its request in the environment, as Flask does; else None."""
    rule = getattr(getattr(environ.get("werkzeug.request"), "url_rule", None), "rule", None)
    return f"{environ.get('REQUEST_METHOD', '')} {rule}".strip() if isinstance(rule, str) else None
