"""Scalars that msgpack has no type for, each as an ext type with a number of its own.

`WRITERS` goes by the exact type of a value: a subclass is another type and would come back as its base.
`READERS` goes by ext code and gets bytes that anybody may have written: a reader returns a value of its type or raises.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import partial
from types import MemberDescriptorType, NoneType
from typing import Any, cast
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

from msgpack import ExtType

Writer = Callable[[Any], ExtType | int]
Reader = Callable[[bytes], object]

NATIVE = frozenset({NoneType, bool, int, float, str, bytes})
"""Types that msgpack itself brings back as they were; ints as far as 64 bits reach."""

# 1 to 4 stand in layout.py
WIDE_INT, DECIMAL, DATETIME, ZONED_DATETIME, DATE, TIME, ZONED_TIME, TIMEDELTA, IDENTIFIER = range(8, 17)
GEOMETRIES = WKB_ELEMENT, WKT_ELEMENT, SHAPE = 24, 25, 26  # read in geometry.py

# ExtType checks its arguments again in Python: 0.64 µs against 0.21 µs for the tuple it is; CPython 3.11, msgpack 1.2
ext: Callable[[tuple[int, bytes]], ExtType] = partial(tuple.__new__, ExtType)

_ZONE_KEY = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_DURATION = struct.Struct(">iii")


class Unfit(Exception):
    """A value of a known type that cannot be kept; the argument is the advice for its owner."""


def write_int(value: int) -> ExtType | int:
    """An int of any size; used once msgpack has refused one in the same value."""
    if -(2**63) <= value < 2**64:
        return value
    return ext((WIDE_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)))


def _read_int(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _write_decimal(value: Decimal) -> ExtType:
    return ext((DECIMAL, str(value).encode()))


def _read_decimal(data: bytes) -> Decimal:
    return Decimal(data.decode("ascii"))


def _write_datetime(value: datetime) -> ExtType:
    zone = value.tzinfo
    if not value.fold and (zone is None or zone is UTC):
        return ext((DATETIME, value.isoformat().encode()))
    return ext((ZONED_DATETIME, _zoned(value, zone)))


def _read_datetime(data: bytes) -> datetime:
    return datetime.fromisoformat(data.decode("ascii"))


def _read_zoned_datetime(data: bytes) -> datetime:
    clock, fold, zone = _unzoned(data)
    return datetime.fromisoformat(clock).replace(fold=fold, tzinfo=zone)


def _write_date(value: date) -> ExtType:
    return ext((DATE, value.isoformat().encode()))


def _read_date(data: bytes) -> date:
    return date.fromisoformat(data.decode("ascii"))


def _write_time(value: time) -> ExtType:
    if value.tzinfo is None and not value.fold:
        return ext((TIME, value.isoformat().encode()))
    return ext((ZONED_TIME, _zoned(value, value.tzinfo)))


def _read_time(data: bytes) -> time:
    return time.fromisoformat(data.decode("ascii"))


def _read_zoned_time(data: bytes) -> time:
    clock, fold, zone = _unzoned(data)
    return time.fromisoformat(clock).replace(fold=fold, tzinfo=zone)


def _zoned(value: datetime | time, zone: tzinfo | None) -> bytes:
    """`clock|fold|zone`, because isoformat() keeps neither the fold nor the name of a zone."""
    clock = value.replace(tzinfo=None).isoformat()
    return f"{clock}|{value.fold}|{_zone_text(zone)}".encode(errors="surrogatepass")


def _unzoned(data: bytes) -> tuple[str, int, tzinfo | None]:
    clock, fold, zone = data.decode(errors="surrogatepass").split("|", 2)
    return clock, int(fold), _zone(zone)


def _zone_text(zone: tzinfo | None) -> str:
    if zone is None:
        return ""
    if type(zone) is timezone:
        offset, name = zone.utcoffset(None), zone.tzname(None)
        named = name != timezone(offset).tzname(None)
        return f"{_duration(offset).hex()}|{f'={name}' if named else ''}"
    if type(zone) is ZoneInfo and zone.key and _ZONE_KEY.fullmatch(zone.key):
        return zone.key
    raise Unfit(f"its zone is a {type(zone).__module__}.{type(zone).__qualname__}; .astimezone(UTC) keeps the moment")


def _zone(text: str) -> tzinfo | None:
    if not text:
        return None
    offset, fixed, name = text.partition("|")
    if fixed:
        gap = _read_timedelta(bytes.fromhex(offset))
        return timezone(gap, name[1:]) if name else timezone(gap)
    # ZoneInfo refuses to leave its folders by itself; this keeps it from opening odd files inside them
    if not _ZONE_KEY.fullmatch(text):
        raise ValueError(f"{text!r} is no time zone")
    return ZoneInfo(text)


def _duration(value: timedelta) -> bytes:
    return _DURATION.pack(value.days, value.seconds, value.microseconds)


def _write_timedelta(value: timedelta) -> ExtType:
    return ext((TIMEDELTA, _duration(value)))


def _read_timedelta(data: bytes) -> timedelta:
    days, seconds, microseconds = _DURATION.unpack(data)
    return timedelta(days, seconds, microseconds)


def write_uuid(value: UUID) -> ExtType:
    """Also takes the subclass that asyncpg hands out, which equals the standard one and comes back as it."""
    return ext((IDENTIFIER, value.bytes))


def _uuid_reader() -> Callable[[bytes], UUID]:
    """`UUID(bytes=…)` in a third of its time, which goes into finding out in which of six ways it was told.

    CPython keeps a UUID in two slots, which are filled here; one that does not is asked as usual.
    """
    slots = [vars(UUID).get(name) for name in ("int", "is_safe")]
    if not all(isinstance(slot, MemberDescriptorType) for slot in slots):
        return lambda data: UUID(bytes=data)
    put_int, put_safety = (cast(Any, slot).__set__ for slot in slots)
    new, from_bytes, unknown = UUID.__new__, int.from_bytes, SafeUUID.unknown

    def read(data: bytes) -> UUID:
        if len(data) != 16:
            raise ValueError("a UUID of other than 16 bytes")
        made = new(UUID)
        put_int(made, from_bytes(data, "big"))
        put_safety(made, unknown)
        return made

    return read


read_uuid = _uuid_reader()


WRITERS: Mapping[type, Writer] = {
    Decimal: _write_decimal,
    datetime: _write_datetime,
    date: _write_date,
    time: _write_time,
    timedelta: _write_timedelta,
    UUID: write_uuid,
}

READERS: Mapping[int, Reader] = {
    WIDE_INT: _read_int,
    DECIMAL: _read_decimal,
    DATETIME: _read_datetime,
    ZONED_DATETIME: _read_zoned_datetime,
    DATE: _read_date,
    TIME: _read_time,
    ZONED_TIME: _read_zoned_time,
    TIMEDELTA: _read_timedelta,
    IDENTIFIER: read_uuid,
}
