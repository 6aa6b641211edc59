"""Every error as problem+json (RFC 9457), and in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.orm.exc import StaleDataError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from perfkit.errors import CommitRefused

MEDIA_TYPE = "application/problem+json"
log = structlog.get_logger()


class Problem(BaseModel):
    """What went wrong, as RFC 9457 has it."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no bin 42."])
    instance: str = Field(examples=["/api/bins/42"])
    errors: list[dict[str, Any]] | None = Field(default=None, description="What is wrong with which field.")


class Refused(HTTPException):
    """An answer other than the one that was asked for."""


def not_found(what: str, key: int) -> Refused:
    """The answer for a row that is not there."""
    return Refused(404, f"There is no {what} {key}.")


def conflict(detail: str) -> Refused:
    """The answer for a change that does not fit what is there."""
    return Refused(409, detail)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses=`: the problems that an operation may answer with. 422, 500 and 503 always may be."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({*statuses, 422, 500, 503})
    }


def answer(
    request: Request,
    status: int,
    detail: str,
    *,
    errors: list[dict[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A problem, as a response."""
    problem = Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request.url.path,
        errors=errors,
    )
    return JSONResponse(problem.model_dump(exclude_none=True), status, dict(headers or {}), media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem; those that nobody expects are answered in `guarding`."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        headers = {**(error.headers or {}), **(_allowed(request) if error.status_code == 405 else {})}
        return answer(request, error.status_code, error.detail, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [{"field": ".".join(map(str, each["loc"])), "problem": each["msg"]} for each in error.errors()]
        return answer(request, 422, "The request is not valid; see errors.", errors=errors)

    @app.exception_handler(StaleDataError)
    async def stale(request: Request, error: StaleDataError) -> JSONResponse:
        return answer(request, 409, "Somebody else has changed it since it was read: read it again.")

    @app.exception_handler(IntegrityError)
    async def broken(request: Request, error: IntegrityError) -> JSONResponse:
        unique = "unique" in str(error.orig).lower()
        detail = "There is one of that name already." if unique else "It refers to something that does not exist."
        return answer(request, 409, detail)

    @app.exception_handler(CommitRefused)
    @app.exception_handler(OperationalError)
    @app.exception_handler(InterfaceError)
    @app.exception_handler(NoConnectionFree)
    @app.exception_handler(ConnectionError)
    async def unavailable(request: Request, error: Exception) -> JSONResponse:
        log.warning("database unavailable", error=str(error))
        detail = "The database cannot answer at the moment; nothing was changed."
        return answer(request, 503, detail, headers={"Retry-After": "1"})


def _allowed(request: Request) -> dict[str, str]:
    """An Allow header with the methods of the request's path; Starlette names those of the first handler on it only."""
    template = getattr(request.scope.get("route"), "path", None)
    methods = request.app.openapi()["paths"].get(template)
    return {"Allow": ", ".join(sorted(method.upper() for method in methods))} if methods else {}
