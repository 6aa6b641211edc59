"""Entries that lie in a store, compared with what the database says now: their functions are called again.

The arguments are read back from the keys, which have them as text. A key is untrusted like all that a store holds: its
text is only ever taken apart, never run, names lead to what is imported already, and in the end the call must have
that very key again.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from types import ModuleType
from typing import Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from perfkit.cache.call import Call, ask
from perfkit.cache.declared import Declared
from perfkit.cache.reasons import Reason
from perfkit.cache.verify import recheck
from perfkit.errors import CacheError
from perfkit.waiting import run_now

_Kind = Literal["right", "violations", "out_of_date", "skipped", "failed"]
_KINDS: tuple[_Kind, ...] = ("right", "violations", "out_of_date", "skipped", "failed")
_DICT = re.compile(r"\bdict\(([^()]*)\)")  # as keys have it; what is inside a text by chance is found out by the key
_FUNCTION = re.compile(r":[vse]:([^:]+):")
_MAKERS: dict[str, Callable[..., Any]] = {
    "UUID": UUID,
    "Decimal": Decimal,
    "datetime.date": date,
    "datetime.datetime": datetime,
    "datetime.time": time,
    "datetime.timedelta": timedelta,
    "datetime.timezone": timezone,
    "zoneinfo.ZoneInfo": ZoneInfo,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rechecked:
    """What came of it: how many entries were `right`, and which were `violations`, by their keys.

    `out_of_date` were not valid any more, which is as it should be. `skipped` cannot be called again from here: the
    function or its class is not known in this process, an argument has no text that leads back to it, or the tenant is
    another one; `skips` says of each function, once, which it was. `failed` raised; `failure` is the key of the first
    of those, and what it raised.
    """

    right: int = 0
    violations: tuple[str, ...] = ()
    out_of_date: int = 0
    skipped: int = 0
    failed: int = 0
    failure: str = ""
    skips: tuple[str, ...] = ()

    @property
    def done(self) -> int:
        return self.right + len(self.violations) + self.out_of_date + self.skipped + self.failed


class Recheck:
    """One pass over some entries. Counts, and tells who wants to know."""

    def __init__(self, declared: Iterable[Declared], progress: Callable[[Rechecked], object] | None) -> None:
        self._declared = list(declared)
        self._progress = progress
        self._counts: Counter[_Kind] = Counter()
        self._violations: list[str] = []
        self._failure = ""
        self._skips: dict[str, None] = {}

    def state(self) -> Rechecked:
        counts = {kind: self._counts[kind] for kind in _KINDS if kind != "violations"}
        return Rechecked(violations=tuple(self._violations), failure=self._failure, skips=tuple(self._skips), **counts)

    def run(self, keys: Iterable[str], sessions: Callable[[], Session]) -> Rechecked:
        """Those of sync functions, each in a session of its own."""
        for key in keys:
            with sessions() as session:
                self._note(key, run_now(self._one(key, session)))
        return self.state()

    async def run_later(self, keys: Iterable[str], sessions: Callable[[], AsyncSession]) -> Rechecked:
        """Those of async functions."""
        for key in keys:
            async with sessions() as session:
                self._note(key, await self._one(key, session))
        return self.state()

    async def _one(self, key: str, session: Session | AsyncSession) -> _Kind:
        call = self._call(key, session)
        if isinstance(call, str):
            name = _FUNCTION.search(key)
            self._skips[f"{name[1] if name else 'no key of an entry'}: {call}"] = None
            return "skipped"
        try:
            is_right = await recheck(call)
        except Exception as error:  # noqa: BLE001 - one call that fails must not end the others
            self._failure = self._failure or f"{key}: {type(error).__name__}: {error}"
            return "failed"
        return "out_of_date" if is_right is None else "right" if is_right else "violations"

    def _call(self, key: str, session: Session | AsyncSession) -> Call | str:
        """The call that has this key; or why there is none."""
        why = "no function of this process has such keys: it is not imported, or has changed"
        for declared in self._declared:
            at = key.find(f":{declared.prefix}")
            if at < 0:
                continue
            if declared.suspends != isinstance(session, AsyncSession):
                why = f"it is {'async' if declared.suspends else 'sync'}, and the sessions are not"
                continue
            why = "its arguments cannot be read back from the key, or the tenant or the database is another one"
            for arguments in _arguments(key[at + 1 + len(declared.prefix) :]):
                given = {name: value for name, value in arguments.items() if name in declared.keys.parameters}
                missing = [name for name in declared.keys.parameters if name not in given]
                if len(missing) != 1:
                    continue
                try:
                    given[missing[0]] = session
                    args, kwargs = _passed(declared, given)
                    if declared.key_of(args, kwargs).decode(errors="surrogatepass") != key:
                        continue
                    asked = ask(declared, args, kwargs, refresh=True)
                except (CacheError, TypeError, ValueError):
                    continue
                return asked if isinstance(asked, Call) else asked.value if isinstance(asked, Reason) else why
        return why

    def _note(self, key: str, kind: _Kind) -> None:
        self._counts[kind] += 1
        if kind == "violations":
            self._violations.append(key)
        if self._progress is not None:
            self._progress(self.state())


def _passed(declared: Declared, given: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for name, parameter in declared.keys.signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            kwargs |= given[name]
        elif parameter.kind is parameter.VAR_POSITIONAL:
            args += given[name]
        elif parameter.kind is parameter.KEYWORD_ONLY:
            kwargs[name] = given[name]
        else:
            args.append(given[name])
    return tuple(args), kwargs


def _arguments(rest: str) -> Iterator[dict[str, Any]]:
    """What may stand after a key's database and tenant: each reading of it that is a list of arguments."""
    at = rest.find(":")
    while at >= 0:
        try:
            text = _DICT.sub(r"{\1}", rest[at + 1 :])
            call = ast.parse(f"f({text})", mode="eval").body
            if isinstance(call, ast.Call) and not call.args and all(each.arg for each in call.keywords):
                yield {str(each.arg): _value(each.value) for each in call.keywords}
        except (SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, RecursionError):
            pass
        at = rest.find(":", at + 1)


def _value(node: ast.expr) -> Any:
    """Raises: ValueError: it is nothing that can be told from its text."""
    if isinstance(node, ast.Tuple | ast.List):
        parts = [_value(each) for each in node.elts]
        return tuple(parts) if isinstance(node, ast.Tuple) else parts
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {
            _value(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key is not None
        }
    if isinstance(node, ast.Call):
        maker = _MAKERS.get(ast.unparse(node.func))
        if maker is None:
            raise ValueError(ast.unparse(node.func))
        return maker(*map(_value, node.args), **{str(each.arg): _value(each.value) for each in node.keywords})
    if isinstance(node, ast.Attribute | ast.Name):
        return _named(ast.unparse(node))
    return ast.literal_eval(node)


def _named(text: str) -> Any:
    """A class or the member of an Enum, in what is imported already. Raises: ValueError."""
    if text == "datetime.timezone.utc":
        return UTC
    parts = text.split(".")
    for count in range(len(parts) - 1, 0, -1):
        found: Any = sys.modules.get(".".join(parts[:count]))
        for part in parts[count:]:
            found = getattr(found, part, None) if isinstance(found, ModuleType | type) else None
        if isinstance(found, type | Enum):
            return found
    raise ValueError(text)
