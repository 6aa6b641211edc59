"""The middleware for WSGI: a window over each request, wherever the server takes its body from."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import SimpleNamespace
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest

from perfkit.errors import NPlusOneFound
from perfkit.integrations.wsgi import DetectMiddleware
from perfkit.loading import reports
from perfkit.loading.reports.plain import subject
from tests.integrations.shop import filled_engine, one_by_one, together

N_PLUS_ONE = [("lazy_load", "Bin.customer")]
PLAIN = [("Content-Type", "text/plain")]


@pytest.fixture
def engine():
    engine = filled_engine()
    yield engine
    engine.dispose()


@pytest.fixture
def told():
    return []


@pytest.fixture
def report(told):
    return lambda findings: told.append((subject(), [(str(each.kind), each.path) for each in findings]))


@pytest.fixture
def app(engine):
    """Answers at once, or piece by piece, or breaks."""

    def stream(environ):
        yield b"first "
        yield str(one_by_one(engine)).encode()

    def app(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/bins/3":
            environ["werkzeug.request"] = SimpleNamespace(url_rule=SimpleNamespace(rule="/bins/<int:size>"))
            body = [str(one_by_one(engine)).encode()]
        elif path == "/streamed":
            body = stream(environ)
        elif path == "/broken":
            one_by_one(engine)
            raise RuntimeError("broken")
        else:
            body = [str(together(engine)).encode()]
        start_response("200 OK", PLAIN)
        environ["werkzeug.request"] = None  # as Flask does
        return body

    return app


def call(app, path, **environ):
    """Status, headers and body, as a server would send them."""
    given = {"PATH_INFO": path, **environ}
    setup_testing_defaults(given)
    started = []
    body = app(given, lambda status, headers, *error: started.append((status, headers)) or (lambda data: None))
    try:
        content = b"".join(body)
    finally:
        if hasattr(body, "close"):
            body.close()
    ((status, headers),) = started
    return status, dict(headers), content


def test_the_report_gets_what_a_request_did_and_its_route(app, told, report):
    """The template that Flask leaves in the environment."""
    watched = DetectMiddleware(app, report=report)

    assert call(watched, "/bins/3") == ("200 OK", dict(PLAIN), b"[1, 2, 3, 4, 5]")
    call(watched, "/fine")

    assert told == [("GET /bins/<int:size>", N_PLUS_ONE)]
    assert watched.counts() == {"watched": 2, "with_findings": 1, "failures": 0}


def test_a_body_is_watched_to_its_last_piece(app, told, report):
    """It runs after the application has returned; without a route nobody knows whose it is."""
    _, _, body = call(DetectMiddleware(app, report=report), "/streamed")

    assert body == b"first [1, 2, 3, 4, 5]"
    assert told == [(None, N_PLUS_ONE)]


def test_each_piece_may_be_taken_on_another_thread(app, told, report):
    """As servers do that run WSGI beside an event loop."""
    watched = DetectMiddleware(app, report=report)
    given = {"PATH_INFO": "/streamed"}
    setup_testing_defaults(given)

    def elsewhere(function, *args):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(copy_context().run, function, *args).result()

    body = elsewhere(watched, given, lambda *started: None)
    pieces = [elsewhere(next, body), elsewhere(next, body)]
    elsewhere(body.close)

    assert b"".join(pieces) == b"first [1, 2, 3, 4, 5]"
    assert told == [(None, N_PLUS_ONE)]


def test_a_body_that_is_left_early_is_closed_and_told(app, told, report):
    """A client may go away."""
    closed = []

    class Body:
        def __iter__(self):
            yield b"first"
            yield b"second"

        def close(self):
            closed.append(True)

    watched = DetectMiddleware(lambda environ, start: app(environ, start) and Body(), report=report)
    given = {"PATH_INFO": "/bins/3"}
    setup_testing_defaults(given)
    body = watched(given, lambda *started: None)

    assert next(iter(body)) == b"first"
    assert told == []
    body.close()

    assert closed == [True]
    assert told == [("GET /bins/<int:size>", N_PLUS_ONE)]


def test_a_body_that_nobody_closes_is_told_when_it_has_ended(engine, app, told, report):
    """As some clients for tests leave it; of one that was left early, nothing stays open."""
    watched = DetectMiddleware(app, report=report)
    given = {"PATH_INFO": "/streamed"}
    setup_testing_defaults(given)

    list(watched(given, lambda *started: None))
    left = watched(given, lambda *started: None)
    next(left)
    del left
    one_by_one(engine)

    assert told == [(None, N_PLUS_ONE)]


def test_nothing_is_watched_after_a_request(engine, app, told, report):
    """The thread goes on with other work."""
    call(DetectMiddleware(app, report=report), "/fine")

    one_by_one(engine)

    assert told == []


def test_the_header_is_for_those_who_ask_for_it(app, report):
    """And for what was found before the body begins."""
    shown, hidden = DetectMiddleware(app, report=report, header=True), DetectMiddleware(app, report=report)

    assert call(shown, "/bins/3")[1]["Perfkit-Findings"] == "1 (lazy_load Bin.customer)"
    assert call(shown, "/streamed")[1]["Perfkit-Findings"] == "0"
    assert "Perfkit-Findings" not in call(hidden, "/bins/3")[1]


def test_a_file_is_left_to_the_server(report):
    """Which may have a faster way to send it than piece by piece."""

    def files(environ, start_response):
        start_response("200 OK", PLAIN)
        return environ["wsgi.file_wrapper"](io.BytesIO(b"all of it"))

    given = {"wsgi.file_wrapper": FileWrapper}
    setup_testing_defaults(given)

    assert type(DetectMiddleware(files, report=report)(given, lambda *started: None)) is FileWrapper


def test_what_a_handler_raises_goes_on_and_its_findings_are_told(app, told, report):
    """The error of the request is the one that counts."""
    with pytest.raises(RuntimeError, match="broken"):
        call(DetectMiddleware(app, report=reports.several(report, reports.fail)), "/broken")

    assert told == [(None, N_PLUS_ONE)]


def test_a_report_that_fails_breaks_no_request(app):
    """Only `reports.fail` does, which is meant."""

    def broken(findings):
        raise OSError("the collector is down")

    watched = DetectMiddleware(app, report=broken)

    assert call(watched, "/bins/3")[0] == call(watched, "/streamed")[0] == "200 OK"
    assert watched.counts()["failures"] == 2
    with pytest.raises(NPlusOneFound):
        call(DetectMiddleware(app, report=reports.fail), "/bins/3")


def test_a_sample_of_the_requests_is_watched(app, told, report):
    """The others go straight through."""
    draws = iter([0.5, 0.05])
    watched = DetectMiddleware(app, report=report, sample=0.1, draw=lambda: next(draws))

    call(watched, "/bins/3")
    call(watched, "/bins/3")

    assert len(told) == watched.counts()["watched"] == 1


@pytest.mark.parametrize("path", ["/bins/3", "/streamed"])
def test_the_specification_is_kept(app, report, path):
    """PEP 3333, as the validator of the standard library reads it, on both sides of the middleware."""
    checked = validator(DetectMiddleware(validator(app), report=report, header=True))

    status, _, _ = call(checked, path, SCRIPT_NAME="", QUERY_STRING="")

    assert status == "200 OK"
