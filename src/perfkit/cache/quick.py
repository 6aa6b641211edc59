"""The way of a hit that asks nobody, compiled for each function from its signature.

    def count_of(session, kind="glass"):
        try:
            held = table[(session.__class__, session.bind, kind, type(kind))]
            if held.generation is near.generation and …:
                return held.value
        except Exception:
            pass
        return slow(session, kind)

`table` leads from arguments as they are to what is held (`cache.near`), with no text made of
them. Values that are equal and yet differ (1, True and 1.0) are told apart by their types; those of which that is not
enough (0.0 and -0.0, decimals, aware times) are never put into the table, and neither are sessions whose database
cannot be told from their `bind`. A session in a transaction goes the slow way, where its transaction is looked at.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from datetime import date
from enum import Enum
from types import NoneType
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from perfkit.cache.keys import header
from perfkit.cache.near import ATTENTION, Near
from perfkit.clock import SYSTEM
from perfkit.sqla.rows import is_uuid

_BY_TYPE = frozenset({NoneType, bool, int, str, bytes, date})

_BODY = """\
{keyword}def {name}({declared}):
    try:
{sessions}        __held = __table[({values})]
        if (
            __held.generation is __near.generation
            and __now() < __held.until
            and not __attention.count{idle}
        ):
            __held.hits += 1
            if __held.renew is None:
                return __held.value
            return __held.renew(__held.value)
    except __Exception:
        pass  # it is not there, cannot be hashed, or is no session: the slow way says so if anything is wrong with it
    return {wait}__slow({passed})
"""


class Quick:
    """The quick way into one function: its table, and how arguments become names in it."""

    def __init__(self, function: Callable[..., Any], signature: inspect.Signature, *, is_wanted: bool = True) -> None:
        self.table: dict[Any, Any] = {}
        self._function, self._signature = function, signature
        parameters = signature.parameters.values()
        self._sessions = {p.name: kind for p in parameters if (kind := _session_kind(p)) is not None}
        self.is_possible = is_wanted and all(p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)

    @property
    def session_names(self) -> list[str]:
        """The parameters that are sessions."""
        return list(self._sessions)

    def wrapper(
        self, slow: Callable[..., Any], near: Near, tenant: Callable[[], object] | None = None
    ) -> Callable[..., Any]:
        """A function of the same signature that answers from the table, and calls `slow` where it cannot."""
        if not self.is_possible:
            return slow
        declared, scope = header(self._signature)
        sessions, values, passed, idle = [], [], [], []
        if tenant is not None:
            values += ["*__of(__tenant())"]
        for parameter in self._signature.parameters.values():
            name = parameter.name
            passed.append(f"{name}={name}" if parameter.kind is parameter.KEYWORD_ONLY else name)
            kind = self._sessions.get(name)
            if kind is None:
                values += [name, f"__type({name})"]
                continue
            sync = name
            if kind is AsyncSession:
                sync = f"__sync_{name}"
                sessions.append(f"        {sync} = {name}.sync_session\n")
                values.append(f"{name}.__class__")
            values += [f"{sync}.__class__", f"{sync}.bind"]
            idle += [f"not {sync}.in_transaction()", f"not {sync}.binds"]
        called = self._function.__name__ if self._function.__name__.isidentifier() else "function"
        is_async = inspect.iscoroutinefunction(self._function)
        source = _BODY.format(
            keyword="async " if is_async else "",
            wait="await " if is_async else "",
            name=called,
            declared=declared,
            sessions="".join(sessions),
            values="".join(f"{each}, " for each in values),
            idle="".join(f" and {each}" for each in idle),
            passed=", ".join(passed),
        )
        scope |= {
            "__name__": __name__,  # so that a warning or a line of a caller is not taken for one of the caller's own
            "__table": self.table,
            "__near": near,
            "__attention": ATTENTION,
            "__now": SYSTEM.monotonic,
            "__slow": slow,
            "__tenant": tenant,
            "__of": _of_tenant,
            "__type": type,
            "__Exception": Exception,
        }
        exec(compile(source, f"<a hit of {self._function.__qualname__}>", "exec"), scope)  # noqa: S102 - names only
        made: Callable[..., Any] = scope[called]
        return made

    def name_of(self, values: Sequence[Any], *tenant: object) -> tuple[Any, ...] | None:
        """What these arguments are called in the table; None if they cannot be told from others there.

        `tenant` and its type come first, where a function asks for one.
        """
        if not self.is_possible:
            return None
        found: list[Any] = [*tenant]
        for name, value in zip(self._signature.parameters, values, strict=True):
            kind = self._sessions.get(name)
            if kind is not None:
                sync = value
                if kind is AsyncSession:
                    if not isinstance(value, AsyncSession):
                        return None
                    sync = value.sync_session
                    found.append(type(value))
                if not _is_plain(sync):
                    return None
                found += [type(sync), sync.bind]
            elif type(value) in _BY_TYPE or _is_told_by_type(value):
                found += [value, type(value)]
            else:
                return None
        return tuple(found)


def _is_told_by_type(value: Any) -> bool:
    """Whether it is the same as any that is equal and of the same type; for types that are not in _BY_TYPE."""
    kind = type(value)
    return isinstance(value, Enum | type) or (kind is float and bool(value)) or is_uuid(kind)


def _of_tenant(tenant: object) -> tuple[object, type]:
    return tenant, type(tenant)


def _is_plain(session: Any) -> bool:
    """Whether its `bind` says where it reads, and what SQL it sends there."""
    return (
        isinstance(session, Session)
        and type(session).get_bind is Session.get_bind
        and not session.binds
        and isinstance(session.bind, Engine)
    )


def _session_kind(parameter: inspect.Parameter) -> type | None:
    annotation = parameter.annotation
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    name = name.rpartition(".")[2]
    if "AsyncSession" in name:
        return AsyncSession
    if "Session" in name or (annotation is parameter.empty and parameter.name == "session"):
        return Session
    return None
