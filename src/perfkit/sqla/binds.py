"""The values of an execution, each with its role: is it what a row equals, a list, a bound, or a page?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import Column, TextClause
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BindParameter
from sqlalchemy.sql.visitors import iterate

from perfkit.sqla.private import mapped_classes
from perfkit.sqla.wording import Role, Value, wording_of


class Given(NamedTuple):
    """One value that an execution was given, or that stands in its text."""

    role: Role
    column: Column[Any] | str
    value: Any


class Bind(NamedTuple):
    """What a bind of a compiled statement is for. `column` is the one it is compared with, if it is one's."""

    role: Role
    column: Any


_RANGES = frozenset(
    {
        *(operators.lt, operators.le, operators.gt, operators.ge, operators.between_op),
        *(operators.like_op, operators.ilike_op, operators.startswith_op, operators.contains_op, operators.endswith_op),
    }
)
_seen: WeakKeyDictionary[Any, dict[str, Bind]] = WeakKeyDictionary()


def given_to(compiled: Any, parameters: Any, sql: str) -> dict[str, Given]:
    """The values of one execution by a name or place that executions of the same statement share."""
    if compiled is None:
        return _in_text(wording_of(sql).values, parameters)
    binds = _seen.get(compiled)
    if binds is None:
        binds = _seen[compiled] = _binds_of(compiled)
    values: Mapping[str, Any] = parameters[0] if parameters else {}
    found = {
        name: Given(bind.role, "" if bind.column is None else bind.column, value_of(values, name))
        for name, bind in binds.items()
    }
    literals = [each for each in wording_of(compiled.string).values if each.literal is not None]
    return found | _in_text(literals, None)


def _of_value(role: Role, value: Any) -> Role:
    """`= ANY(array)` is a list."""
    return Role.MEMBER if role is Role.EQUAL and isinstance(value, tuple) else role


def value_of(values: Mapping[str, Any], name: str) -> Any:
    """Of one bind; all of a list that SQLAlchemy has made a bind of each of."""
    if name in values:
        return _comparable(values[name])
    several: list[Any] = []
    while (key := f"{name}_{len(several) + 1}") in values:
        several.append(_comparable(values[key]))
    return tuple(several)


def _comparable(value: Any) -> Any:
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(map(_comparable, value))
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value


def _binds_of(compiled: Any) -> dict[str, Bind]:
    names: Mapping[Any, str] = getattr(compiled, "bind_names", {})
    statement = getattr(compiled, "statement", None)
    found = dict.fromkeys(names.values(), Bind(Role.OTHER, None))
    texts = False
    for element in () if statement is None else iterate(statement):
        if isinstance(element, TextClause):
            texts = True
        elif isinstance(element, BinaryExpression):
            role = _role(element.operator)
            for side, other in ((element.left, element.right), (element.right, element.left)):
                for bind in _binds_beneath(side):
                    if bind in names and found[names[bind]].role is Role.OTHER:
                        found[names[bind]] = Bind(role, _column_in(other))
    if texts:
        placed: Sequence[str] = getattr(compiled, "positiontup", None) or ()
        for each in wording_of(compiled.string).values:
            name = each.name if each.place is None else placed[each.place] if each.place < len(placed) else None
            if name in found and found[name].role is Role.OTHER:
                found[name] = Bind(each.role, each.column)
    return found


def _role(operator: Any) -> Role:
    if operator in (operators.eq, operators.is_, operators.is_not_distinct_from):
        return Role.EQUAL
    if operator is operators.in_op:
        return Role.MEMBER
    return Role.RANGE if operator in _RANGES else Role.OTHER


def _binds_beneath(element: Any) -> Iterator[Any]:
    """Binds that are compared here: also those in a function or a cast, and not those of a subquery."""
    if isinstance(element, BindParameter):
        yield element
    elif not isinstance(element, BinaryExpression) and not getattr(element, "is_select", False):
        for child in element.get_children():
            if not getattr(child, "is_select", False):
                yield from _binds_beneath(child)


def _column_in(element: Any) -> Column[Any] | None:
    if isinstance(element, Column):
        return element
    return next((each for each in iterate(element) if isinstance(each, Column)), None)


def _in_text(values: Sequence[Value], parameters: Any) -> dict[str, Given]:
    """Lists count as one value, however long they are."""
    found: dict[str, Given] = {}
    for (is_list, column), several in groupby(values, key=lambda each: (each.role is Role.MEMBER, each.column)):
        read = [(each.role, _comparable(_value_in_text(each, parameters))) for each in several]
        if is_list:
            read = [(Role.MEMBER, tuple(value for _, value in read))]
        for role, value in read:
            found[f"value {len(found)}"] = Given(role, column, value)
    return found


def _value_in_text(each: Value, parameters: Any) -> Any:
    if each.literal is not None:
        return each.literal
    if isinstance(parameters, Mapping):
        return parameters.get(each.name or "")
    if parameters and each.place is not None and each.place < len(parameters):
        return parameters[each.place]
    return None


def mapper_of(table: Any) -> Mapper[Any] | None:
    """The class that is mapped to `table`, the base one if there are several; None if there is none."""
    mappers: list[Mapper[Any]] = [found for cls in mapped_classes() if (found := _mapper(cls)) is not None]
    return next((each for each in mappers if each.local_table is table and each.inherits is None), None) or next(
        (each for each in mappers if each.local_table is table), None
    )


def _mapper(cls: type) -> Mapper[Any] | None:
    found: Mapper[Any] | None = getattr(cls, "__mapper__", None)
    return found
