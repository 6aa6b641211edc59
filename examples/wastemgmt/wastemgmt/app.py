"""The application: the only place where things are wired."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from perfkit.integrations import fastapi as pages
from perfkit.integrations.asgi import DetectMiddleware
from perfkit.loading import Finding, check_profiles
from wastemgmt.api import bins, collections, customers, errors, health, organizations, routes, users
from wastemgmt.counting import CountQueries, count_on
from wastemgmt.database import Database
from wastemgmt.guarding import GuardRequests
from wastemgmt.settings import Settings

DESCRIPTION = """
Organizations empty the bins of their customers, along routes on the map of Helsinki.

What is read is remembered by perfkit until a commit changes it; `X-Query-Count` in each answer says how many statements
it took. Lists come in pages that lose no row while others write: follow `next` and `previous`, or the `Link` header.
Every error is `application/problem+json`.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service with these settings, or with those of the environment. It connects when it starts."""
    settings = settings or Settings()
    set_up_logging(settings.log_level)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        database = app.state.database = Database(settings)
        count_on(database.engine)
        try:
            yield
        finally:
            await database.aclose()

    app = FastAPI(
        title="Waste management", version="0.1.0", description=DESCRIPTION, lifespan=lifespan, redirect_slashes=False
    )
    check_profiles()
    errors.install(app)
    pages.install(app)
    if settings.detect:
        app.add_middleware(DetectMiddleware, report=log_findings, header=True)
    app.add_middleware(GuardRequests)
    app.add_middleware(CountQueries)  # the last one is outermost: what fails is counted, too
    for room in (organizations, users, customers, bins, routes, collections, health):
        app.include_router(room.router)
    app.add_api_route("/", lambda: RedirectResponse("/docs"), include_in_schema=False)
    _document_problems(app)
    return app


def log_findings(findings: Sequence[Finding]) -> None:
    """A line for each thing that a request loaded one by one, too often or for nothing, beside the request's id."""
    log = structlog.get_logger()
    for each in findings:
        log.warning(str(each.kind), path=each.path, queries=each.statements, at=str(each.site), fix=each.fix)


def set_up_logging(level: str) -> None:
    """One JSON object a line."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping().get(level.upper(), 20)),
    )


def _document_problems(app: FastAPI) -> None:
    """Add the schema that `problems()` refers to; FastAPI only adds those of models it was given."""
    plain = app.openapi

    def openapi() -> dict[str, object]:
        document = plain()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = errors.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
