"""Keys: a function and the arguments of one call, as text that is the same in every process.

    wm:v:wastemgmt.models.route.Route.statistics:6f1c02a94be1@09d2f1c2:cls=…Route,organization_id=7

The parts: namespace, qualified name, stamp, database, arguments by name with their types (7 and "7" differ). The
stamp is a digest of the function's signature, the shape of its result, its own code and what it closes over, so that
two functions made by one factory differ, and a process that
runs another release never reads this one's entries; `version=` changes it by hand, for changes in
functions that this one calls. Sessions and connections are carried: of them, only which database they read is
part of the key.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from secrets import token_hex
from types import CellType, CodeType, NoneType
from typing import Any
from urllib.parse import quote
from uuid import UUID
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import sessionmaker

from perfkit.codec.shapes import is_pydantic
from perfkit.errors import CacheDeclarationError, UnkeyableArgument
from perfkit.sqla.entities import is_mapped
from perfkit.sqla.rows import is_uuid
from perfkit.sqla.sessions import CARRIED

READABLE = 120  # characters of arguments; longer ones keep their beginning and get a digest

Bind = Callable[..., tuple[Any, ...]]

_SIGNS: dict[object, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


class KeyMaker:
    """The keys of one function. Immutable once made; `bind` gives the values that `text_of` and `carried` take.

    Raises:
        CacheDeclarationError: not a function of which one call gives one result.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        if not inspect.isfunction(function):
            raise CacheDeclarationError(
                f"@cache.query got {function!r}: decorate a function, below @classmethod, @staticmethod or @property."
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise CacheDeclarationError(
                f"{function.__qualname__} is a generator: its result is gone once it is read. Return a list."
            )
        self.name = f"{function.__module__}.{function.__qualname__}"
        self.signature = inspect.signature(function)
        self.parameters = tuple(self.signature.parameters)
        self.bind = binder(self.signature, function.__name__)
        self.closed_over = closed_over(function)

    def text_of(self, values: Sequence[Any]) -> str:
        """The arguments as text.

        Raises:
            UnkeyableArgument: one of them is of a type that has no text of its own.
        """
        parts: list[str] = []
        for name, value in zip(self.parameters, values, strict=True):
            if not is_carried(value):
                parts.append(f"{name}={self._text(name, value)}")
        text = ",".join(parts)
        return text if len(text) <= READABLE else shortened(text)

    def _text(self, parameter: str, value: object) -> str:
        write = _INSTANT.get(type(value))
        if write is not None:
            return write(value)
        try:
            return text_of(value)
        except RecursionError:
            why = "it contains itself"
        except UnkeyableArgument as error:
            why = str(error)
        raise UnkeyableArgument(
            f"{self.name}: no key can be made of {parameter}={_brief(value)}: {why}. {_advice(parameter, value)}"
        )

    def stamp(self, shape: str, version: int | str, code: CodeType) -> str:
        """A digest of all by which two releases of the function may differ."""
        digest = blake2b(digest_size=6)
        for part in (str(self.signature), shape, repr(version), *self.closed_over):
            digest.update(part.encode(errors="surrogatepass") + b"\0")
        _digest_code(code, digest.update)
        return digest.hexdigest()


def binder(signature: inspect.Signature, name: str) -> Bind:
    """A function that takes what the signature takes and returns the values in the order of its parameters.

    Compiled from the signature, because `Signature.bind` costs 2.5 µs a call and this 0.15 (three arguments,
    Python 3.11). Wrong arguments raise the TypeError that the function itself would raise.
    """
    values = "".join(f"{parameter}, " for parameter in signature.parameters)
    return _compiled(signature, name, f"({values})")


def told_all(condition: Callable[..., bool], signature: inspect.Signature, name: str) -> Callable[..., bool]:
    """`condition`, called with every argument of a call in the order of the signature, defaults included.

    Raises:
        CacheDeclarationError: it cannot be called so.
    """
    kinds = [(parameter.name, parameter.kind) for parameter in signature.parameters.values()]
    by_name = {each: None for each, kind in kinds if kind is inspect.Parameter.KEYWORD_ONLY}
    at_places = [each for each, kind in kinds if each not in by_name and kind not in _SIGNS]
    try:
        inspect.signature(condition).bind(*at_places, **by_name)
    except ValueError:  # one in C, which says nothing of itself
        pass
    except TypeError as wrong:
        raise CacheDeclarationError(
            f"{name}: when= is called with all arguments of the function, ({', '.join(signature.parameters)}): {wrong}."
        ) from None
    passed = [f"{each}={each}" if each in by_name else f"{_SIGNS.get(kind, '')}{each}" for each, kind in kinds]
    return _compiled(signature, name, f"__condition({', '.join(passed)})", __condition=condition)


def _compiled(signature: inspect.Signature, name: str, answer: str, **known: object) -> Callable[..., Any]:
    declared, scope = header(signature)
    called = name if name.isidentifier() else "function"
    scope |= known
    exec(f"def {called}({declared}): return {answer}", scope)  # noqa: S102 - names of a signature only
    made: Callable[..., Any] = scope[called]
    return made


def header(signature: inspect.Signature) -> tuple[str, dict[str, Any]]:
    """The parameters of `signature` as source, and what its names for the defaults stand for."""
    scope: dict[str, Any] = {f"__default_{i}": p.default for i, p in enumerate(signature.parameters.values())}
    declared: list[str] = []
    seen_keyword_only = False
    parameters = list(signature.parameters.values())
    for i, parameter in enumerate(parameters):
        kind = parameter.kind
        if kind is parameter.VAR_POSITIONAL:
            declared.append(f"*{parameter.name}")
            seen_keyword_only = True
            continue
        if kind is parameter.VAR_KEYWORD:
            declared.append(f"**{parameter.name}")
            continue
        if kind is parameter.KEYWORD_ONLY and not seen_keyword_only:
            declared.append("*")
            seen_keyword_only = True
        declared.append(parameter.name if parameter.default is parameter.empty else f"{parameter.name}=__default_{i}")
        follows = parameters[i + 1].kind if i + 1 < len(parameters) else None
        if kind is parameter.POSITIONAL_ONLY and follows is not parameter.POSITIONAL_ONLY:
            declared.append("/")
    return ", ".join(declared), scope


def text_of(value: object) -> str:
    """`value` with its type, as text; equal text means that no function of the text can tell two values apart.

    Raises:
        UnkeyableArgument: the type has no such text.
    """
    write = _PLAIN.get(type(value))
    if write is not None:
        return write(value)
    if is_uuid(type(value)):
        return repr(value)
    if isinstance(value, Enum):
        # bits of a Flag that nobody has named have no name
        return f"{_name(type(value))}.{value.name if value.name is not None else text_of(value.value)}"
    if isinstance(value, type):
        return _name(value)
    identity = getattr(value, "cache_identity", None)
    if identity is not None and is_mapped(type(value)):
        raise UnkeyableArgument("it is an entity: what it has loaded may be older than the result, and no tag says so")
    if identity is not None:
        return f"{_name(type(value))}({text_of(identity())})"
    if dataclasses.is_dataclass(value):
        if "__dataclass_fields__" not in vars(type(value)):
            raise UnkeyableArgument(f"{_name(type(value))} inherits from a dataclass and is none: it may hold more")
        fields = [f"{f.name}={text_of(getattr(value, f.name))}" for f in dataclasses.fields(value)]
        return f"{_name(type(value))}({','.join(fields)})"
    if is_pydantic(type(value)):
        return f"{_name(type(value))}({','.join(_parts_of_model(value))})"
    raise UnkeyableArgument(f"{type(value).__module__}.{type(value).__qualname__} has no text of its own")


def _parts_of_model(value: Any) -> Iterator[str]:
    """All by which two models of one class differ: also which fields were given, for `exclude_unset` tells."""
    fields = type(value).model_fields
    yield from (f"{name}={text_of(getattr(value, name))}" for name in fields)
    unset = [name for name in fields if name not in value.model_fields_set]
    for sign, rest in (("-", unset), ("+", value.__pydantic_extra__), ("_", value.__pydantic_private__)):
        if rest:
            yield f"{sign}={text_of(rest)}"


def closed_over(function: Callable[..., Any]) -> tuple[str, ...]:
    """What the function uses of the one around it, as far as it has a text; the names of the rest."""
    found: list[str] = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found.append(f"{name}={text_of(cell.cell_contents)}")
        except (UnkeyableArgument, RecursionError, ValueError):  # ValueError: nothing is in it yet
            found.append(name)
    return tuple(found)


def closes_over_the_same(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether two functions of the same code share every object that they close over."""
    return all(
        _held(mine) is _held(its) for mine, its in zip(one.__closure__ or (), other.__closure__ or (), strict=True)
    )


def _held(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # nothing is in it yet
        return cell


def tenant_text(tenant: object) -> str:
    """The part of a key that tells tenants apart; as distinct as they are, whatever characters they have.

    Raises:
        UnkeyableArgument: it is no text, number or UUID.
    """
    if tenant is None:
        return ""
    if type(tenant) not in (str, int) and not is_uuid(type(tenant)):
        raise UnkeyableArgument(f"tenant {tenant!r}: must be a str, an int, a UUID or None.")
    return f"!{type(tenant).__name__}={quote(str(tenant), safe='', errors='surrogatepass')}"


def digest(text: str) -> str:
    """Eight characters that tell `text` from others of its kind, of which there are few."""
    return blake2b(text.encode(errors="surrogatepass"), digest_size=4).hexdigest()


def shortened(text: str) -> str:
    """The beginning of `text` and a digest of all of it."""
    return f"{text[: READABLE - 34]}~{blake2b(text.encode(errors='surrogatepass'), digest_size=16).hexdigest()}"


def _name(kind: type) -> str:
    """Where the class is found; one that is not found there has a name of its own in each process."""
    known = _names.get(kind)
    if known is None:
        known = f"{kind.__module__}.{kind.__qualname__}"
        found: Any = sys.modules.get(kind.__module__)
        for part in kind.__qualname__.split("."):
            found = getattr(found, part, None)
        if found is not kind:
            known += f"~{token_hex(8)}"
        _names[kind] = known
    return known


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _sequence(opening: str, closing: str) -> Callable[[Any], str]:
    return lambda values: f"{opening}{','.join([text_of(value) for value in values])}{closing}"


def _set(name: str) -> Callable[[Any], str]:
    return lambda values: f"{name}({','.join(sorted(text_of(value) for value in values))})"


def _mapping(values: Mapping[Any, Any]) -> str:
    # in its own order: a function may depend on it
    return f"dict({','.join([f'{text_of(key)}:{text_of(value)}' for key, value in values.items()])})"


def _zoned(value: datetime | time) -> str:
    if value.tzinfo is not None and type(value.tzinfo) not in (timezone, ZoneInfo):
        raise UnkeyableArgument(f"its time zone is a {_name(type(value.tzinfo))}; use zoneinfo or datetime.timezone")
    return repr(value)


_PLAIN: dict[type, Callable[[Any], str]] = {
    **dict.fromkeys((NoneType, bool, int, float, str, bytes, Decimal, UUID, date, timedelta), repr),
    datetime: _zoned,
    time: _zoned,
    list: _sequence("[", "]"),
    tuple: _sequence("(", ")"),
    set: _set("set"),
    frozenset: _set("frozenset"),
    dict: _mapping,
}
_INSTANT: dict[type, Callable[[Any], str]] = dict.fromkeys((NoneType, bool, int, float, str, bytes), repr)
_names: WeakKeyDictionary[type, str] = WeakKeyDictionary()
_carried: dict[type, bool] = {}  # isinstance with six classes costs 0.5 µs for each argument of each call


def _advice(parameter: str, value: object) -> str:
    if isinstance(value, Engine | AsyncEngine | sessionmaker | async_sessionmaker):
        return "Pass a session or a connection that it has made."
    if is_mapped(type(value)):
        return "Pass its primary key, and load it in the function" + (
            ", which may be a @classmethod that is given the session." if parameter == "self" else "."
        )
    if parameter == "self":
        return (
            "Cache a function or a @classmethod that is given the session; or, if all instances with one id have one "
            "result, give the class a method cache_identity() that returns the id."
        )
    return "Pass plain values, such as an id, or give its class a method cache_identity() that returns one."


def is_carried(value: object) -> bool:
    """Whether `value` is a session or connection: passed on, and no part of a key."""
    kind = type(value)
    known = _carried.get(kind)
    if known is None:
        known = _carried[kind] = isinstance(value, CARRIED)
    return known


def _digest_code(code: CodeType, update: Callable[[bytes], None]) -> None:
    update(code.co_code)
    update(repr(code.co_names).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _digest_code(constant, update)
        elif isinstance(constant, frozenset):
            update(repr(sorted(map(repr, constant))).encode())  # its own order changes from process to process
        else:
            update(repr(constant).encode())
