"""Types and values that the tests of the codec share, at the top of a module so that annotations resolve."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr
from sqlalchemy import Row, result_tuple

T = TypeVar("T")


class Kind(enum.Enum):
    GLASS = "glass"
    PAPER = ("paper", 2)
    CARTON = GLASS


class Status(enum.StrEnum):
    ACTIVE = "active"
    RETIRED = "retired"


class Weekday(enum.IntEnum):
    MONDAY = 0
    SUNDAY = 6


class Access(enum.Flag):
    KEY = enum.auto()
    LIFT = enum.auto()
    RAMP = enum.auto()


class Rights(enum.IntFlag):
    READ = 4
    WRITE = 2


class Spot(NamedTuple):
    lon: float
    lat: float
    note: object = None


@dataclass
class Bin:
    id: int
    kind: object
    tags: Any = ()


@dataclass
class GlassBin(Bin):
    colour: object = None


@dataclass(frozen=True)
class Frozen:
    id: object
    spot: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Slotted:
    id: object
    bins: object


@dataclass(slots=True)
class OneSlot:
    only: object


@dataclass
class Nothing:
    pass


@dataclass
class Counted(Generic[T]):
    """Its `__init__` cannot be called with its fields, and calling it is counted."""

    id: T
    doubled: Any = field(init=False)
    made = 0

    def __post_init__(self) -> None:
        type(self).made += 1
        self.doubled = (self.id, self.id)
        self.beside = "not a field"


class Stop(BaseModel):
    id: Any
    bins: Any = ()


class OpenStop(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
    id: Any = 0
    _seen: Any = PrivateAttr(default=None)


def open_stop(extra: object, seen: object) -> OpenStop:
    stop = OpenStop(note=extra)
    stop._seen = seen
    return stop


def rows(pairs: Sequence[tuple[object, object]]) -> list[Row[Any]]:
    make = result_tuple(["id", "name"])
    return [make(pair) for pair in pairs]


ZONES = [
    None,
    UTC,
    timezone(timedelta(hours=-3, minutes=-30)),
    timezone(timedelta(0, 7200), "EET"),
    ZoneInfo("Europe/Helsinki"),
]
TYPES = [
    Kind,
    Status,
    Weekday,
    Access,
    Rights,
    Spot,
    Bin,
    GlassBin,
    Frozen,
    Slotted,
    OneSlot,
    Nothing,
    Counted,
    Stop,
    OpenStop,
]

zones = st.sampled_from(ZONES)
folds = st.integers(0, 1)
text = st.text(st.characters(codec=None, exclude_categories=()))
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    text,
    st.binary(),
    st.builds(lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold), st.datetimes(), zones, folds),
    st.dates(),
    st.builds(lambda clock, zone, fold: clock.replace(tzinfo=zone, fold=fold), st.times(), zones, folds),
    st.timedeltas(),
    st.decimals(),
    st.sampled_from([Decimal("-0.00"), Decimal("sNaN12"), Decimal("1E+999999"), Decimal("Infinity")]),
    st.uuids(),
    st.sampled_from(
        [*Kind, *Status, *Weekday, *Access, *Rights, Access(0), Access.KEY | Access.RAMP, Rights(7), ~Access.KEY]
    ),
)


# composites have short names; Hypothesis warns of the 31 kB that all of this would be in a report
@st.composite
def scalar(draw: st.DrawFn) -> Any:
    return draw(_scalars)


@st.composite
def key(draw: st.DrawFn) -> Any:
    """A scalar that equals itself: a Decimal NaN is refused among keys, and tested for that elsewhere."""
    value = draw(_scalars)
    return None if isinstance(value, Decimal) and value.is_nan() else value


hashables = st.recursive(
    key(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(Frozen, inner, inner),
        st.builds(Spot, st.floats(), st.floats(), inner),
    ),
    max_leaves=4,
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(hashables, inner, max_size=4),
        st.sets(hashables, max_size=4),
        st.builds(Bin, st.integers(), inner, inner),
        st.lists(st.builds(Bin, st.integers(), inner), max_size=4),
        st.builds(GlassBin, st.integers(), inner, inner, inner),
        st.builds(Slotted, id=inner, bins=inner),
        st.builds(OneSlot, inner),
        st.builds(Nothing),
        st.builds(Counted, inner),
        st.builds(Stop, id=inner),
        st.builds(Stop, id=inner, bins=inner),
        st.builds(open_stop, inner, inner),
        st.builds(rows, st.lists(st.tuples(inner, inner), max_size=3)),
    )


_values = st.recursive(scalar() | hashables, _containers, max_leaves=12)


@st.composite
def any_value(draw: st.DrawFn) -> Any:
    return draw(_values)


def same(one: Any, other: Any) -> bool:
    """Equal, of the same types all the way down, in the same order; nan is nan and 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return math.copysign(1, one) == math.copysign(1, other) and (one == other or (one != one and other != other))
    if isinstance(one, Decimal):
        return one.as_tuple() == other.as_tuple()
    if isinstance(one, datetime | time):
        return one.isoformat() == other.isoformat() and one.fold == other.fold and _same_zone(one.tzinfo, other.tzinfo)
    if isinstance(one, enum.Enum):
        return one is other
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and all(any(same(mine, theirs) for theirs in other) for mine in one)
    if isinstance(one, Row) and one._fields != other._fields:
        return False
    if isinstance(one, list | tuple | Row):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, BaseModel):
        return all(same(getattr(one, name), getattr(other, name)) for name in _MODEL_STATE)
    if is_dataclass(one):
        names = [found.name for found in fields(one)]
        mine, theirs = (getattr(it, "__dict__", None) for it in (one, other))
        return same(mine, theirs) and all(same(getattr(one, name), getattr(other, name)) for name in names)
    return one == other if isinstance(one, int | str | bytes | date | timedelta | UUID | None) else False


_MODEL_STATE = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")


def _same_zone(one: Any, other: Any) -> bool:
    if isinstance(one, timezone):
        return type(other) is timezone and (one.utcoffset(None), one.tzname(None)) == (
            other.utcoffset(None),
            other.tzname(None),
        )
    return one is other
