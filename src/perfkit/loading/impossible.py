"""A lazy load outside of a greenlet: what was asked for, for how many it is missing, and what to write instead."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Result
from sqlalchemy.exc import MissingGreenlet, StatementError
from sqlalchemy.orm import ORMExecuteState, RelationshipProperty

from perfkit.errors import CannotLoadLazily
from perfkit.sqla import loads, private
from perfkit.sqla.siblings import Runs


class _Step(NamedTuple):
    """One relation on the way, and the option that a statement needs for it."""

    option: str
    entity: str
    key: str


def answered_or_refused(execution: ORMExecuteState) -> Result[Any] | None:
    """None where a lazy load can be sent; else what another listener answers it with, or the error that says more."""
    if private.in_greenlet() or not loads.dialect_of(execution).is_async:
        return None
    question = loads.asked(execution, beside_others=True)
    if question is None:
        return None
    listeners = private.listeners_left(execution)
    if not loads.are_others(listeners):
        for each in listeners:
            each(execution)  # ours, who note it, and one of whom may say it first
        raise _cannot(question, Runs())
    try:
        return execution.invoke_statement()
    except CannotLoadLazily:
        raise
    except (MissingGreenlet, StatementError) as error:
        if not isinstance(error, MissingGreenlet) and not isinstance(error.orig, MissingGreenlet):
            raise
        raise _cannot(question, Runs()) from error


def refuse_outside_of_a_greenlet(question: loads.Asked, runs: Runs) -> None:
    """Raise what says more than SQLAlchemy's error, where that would come: nothing has been sent yet."""
    if not private.in_greenlet() and loads.dialect_of(question.execution).is_async:
        raise _cannot(question, runs)


def _cannot(question: loads.Asked, runs: Runs) -> CannotLoadLazily:
    others = sum(1 for each in runs.siblings(question.session, question.state) if question.is_unloaded(each, each.dict))
    steps = _steps_to(question.state)
    what, cls = question.what, question.state.class_
    if isinstance(what, RelationshipProperty):
        steps = [*steps, _Step("selectinload", what.parent.class_.__name__, what.key)]
        names: list[str] = []
        first = what.key
    else:
        names = sorted(what.names.intersection(what.mapper.column_attrs.keys()) or what.names)
        first = names[0]
    root = steps[0].entity if steps else cls.__name__
    last = [names[0]] if len(names) == 1 else [f"({', '.join(names)})"] if names else []
    path = ".".join([root, *(step.key for step in steps), *last])
    fix = f".options({_options(steps, [f'undefer({cls.__name__}.{name})' for name in names])})"
    instead = f"or await it alone: `{_awaited(cls, first)}`"
    if names and question.state.expired:
        fix = f"await session.refresh({_small(cls)})"
        instead = "or keep what was loaded: `async_sessionmaker(…, expire_on_commit=False)`"
    return CannotLoadLazily(path=path, siblings=others, fix=fix, instead=instead)


def _options(steps: list[_Step], undeferred: list[str]) -> str:
    chain = ".".join([f"{step.option}({step.entity}.{step.key})" for step in steps])
    if not undeferred:
        return chain
    return ", ".join(undeferred) if not chain else f"{chain}.options({', '.join(undeferred)})"


def _awaited(cls: type, name: str) -> str:
    if hasattr(cls, "awaitable_attrs"):
        return f"await {_small(cls)}.awaitable_attrs.{name}"
    return f"await session.run_sync(lambda _: {_small(cls)}.{name})"


def _small(cls: type) -> str:
    return cls.__name__[:1].lower() + cls.__name__[1:]


def _steps_to(state: Any) -> list[_Step]:
    """The relations that led from what a statement selects to `state`, as far as SQLAlchemy has noted them.

    What the statement loads along them by an option stays as it is: two options for one relation are refused.
    """
    if not state.load_options:
        return []
    said = {parts[1::2] for parts in private.strategies_in(state.load_options)}
    led = tuple(each for each in state.load_path.path if isinstance(each, RelationshipProperty))
    return [
        _Step("defaultload" if led[: place + 1] in said else "selectinload", each.parent.class_.__name__, each.key)
        for place, each in enumerate(led)
    ]
