"""How a case of the corpus is written, and how a fix is pasted into it.

A case is a small program. It is given a session, and a `Fix` that changes nothing the first time; the second time it
pastes what the finding said: options are appended to the statements that the program passes through it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy
from sqlalchemy import orm
from sqlalchemy.orm import Session

from perfkit.loading import Kind
from tests.loading import models

NAMES: dict[str, Any] = {
    **vars(sqlalchemy),
    **vars(orm),
    **vars(models),
    **models.Base.metadata.tables,
}


class Paste(Enum):
    """Where the text of a fix belongs."""

    OPTIONS = "after the statement"
    STATEMENT = "in place of the loop: what it gives must contain what the loop gave"
    SESSION = "in place of the session"
    RELOAD = "before the loop"
    INSTEAD = "in place of the statement"
    DECORATOR = "above the function"
    COMPILES = "in the model: it compiles"


@dataclass(frozen=True)
class Fix:
    """The text of a fix, or nothing yet."""

    text: str = ""

    def __call__(self, statement: Any, **variables: Any) -> Any:
        if self.text.startswith(".options("):
            return eval(f"statement{self.text}", {**NAMES, **variables, "statement": statement})
        if self.text.startswith("select("):
            return eval(self.text, {**NAMES, **variables})
        return statement

    def reload(self, session: Session, ids: list[Any]) -> list[Any]:
        """Runs the statement of the fix before the loop, and holds on to what it loads."""
        return eval(self.text, {**NAMES, "session": session, "ids": ids}) if self.text else []


@dataclass(frozen=True)
class Case:
    """A program, and what is to be found in it: nothing if `kind` is None."""

    run: Callable[..., Any]
    kind: Kind | None = None
    path: str = ""
    paste: Paste = Paste.OPTIONS

    @property
    def name(self) -> str:
        return self.run.__name__


def registry() -> tuple[list[Case], Callable[..., Any], Callable[..., Any]]:
    """A list of cases, and the two decorators that fill it."""
    cases: list[Case] = []

    def finds(kind: Kind, path: str, paste: Paste = Paste.OPTIONS) -> Callable[..., Any]:
        def note(run: Callable[..., Any]) -> Callable[..., Any]:
            cases.append(Case(run, kind, path, paste))
            return run

        return note

    def quiet(run: Callable[..., Any]) -> Callable[..., Any]:
        cases.append(Case(run))
        return run

    return cases, finds, quiet
