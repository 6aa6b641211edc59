"""Whoever can write to the store can write anything: the answer is `Unreadable`, at once and in little memory."""

from __future__ import annotations

import random
import struct
import tracemalloc
from dataclasses import make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pytest
import shapely
from geoalchemy2 import WKBElement, WKTElement
from hypothesis import example, given
from hypothesis import strategies as st
from msgpack import ExtType

from perfkit.codec import Codec
from perfkit.codec.layout import MAX_BATCHES
from perfkit.errors import Unreadable
from tests.codec.mutation import mutate
from tests.codec.samples import (
    TYPES,
    Access,
    Bin,
    Counted,
    Frozen,
    Kind,
    OneSlot,
    Rights,
    Slotted,
    Spot,
    Status,
    Stop,
    open_stop,
    rows,
)

codec = Codec(TYPES)


def good_payloads(of: Codec) -> list[bytes]:
    """Bytes of values that use everything the format has."""
    helsinki = ZoneInfo("Europe/Helsinki")
    odd = Bin(1, 2)
    odd.beside = [Kind.PAPER]
    values = [
        {"a": [1, 2.5, None, b"x", "ä", True, -(2**40), 2**100]},
        [Decimal("-1.50E+7"), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 7, 1, 3, tzinfo=helsinki)],
        [date(2026, 1, 1), time(2, tzinfo=timezone(timedelta(0, 3600), "x")), UUID(int=5), timedelta(-1, 5)],
        (Kind.GLASS, Status.ACTIVE, Access.KEY | Access.LIFT, Rights.READ, {(1, (2,)): frozenset({3})}, {4, 5}),
        [Bin(number, Kind.GLASS) for number in range(3)],
        [Slotted(id=1, bins=[OneSlot(Frozen(1, Spot(24.9, 60.2)))]), Counted(1), odd],
        [Stop(id=1), Stop(id=2, bins=[1]), open_stop({"x": 1}, (2,))],
        rows([(1, "a"), (2, "b")]),
        [WKBElement(shapely.to_wkb(shapely.Point(1, 2)), 4326), WKTElement("POINT(1 2)", 4326)],
        [shapely.box(0, 0, 1, 1), shapely.GeometryCollection([shapely.Point(1, 2), shapely.MultiPoint([(1, 2)])])],
        [shapely.LinearRing([(0, 0), (1, 0), (1, 1)])],
    ]
    return [of.pack(value) for value in values]


GOOD = good_payloads(codec)


def read_or_refuse(raw: bytes) -> None:
    """Any answer is fine, any exception but one is not."""
    try:
        codec.unpack(raw)
    except Unreadable:
        return


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x01", b"\x02"]))
@example(b"", b"")
@example(b"", b"\x02")
def test_any_bytes_are_read_or_refused(raw, start):
    """Noise, also behind either first byte."""
    read_or_refuse(start + raw)


@pytest.mark.parametrize("seed", range(5))
def test_good_bytes_spoilt_are_read_or_refused(seed):
    """Five times 2,000 mutations of payloads that use every part of the format."""
    dice = random.Random(seed)

    for _ in range(2_000):
        read_or_refuse(mutate(dice.choice(GOOD), GOOD, dice))


def test_every_cut_of_good_bytes_is_refused():
    """A value that lost its end is never taken for a shorter one."""
    cuts = [raw[:end] for raw in GOOD for end in range(len(raw))]

    for cut in cuts:
        with pytest.raises(Unreadable):
            codec.unpack(cut)


def test_good_bytes_with_more_behind_them_are_refused():
    """Two entries written over each other are none."""
    for raw in GOOD:
        with pytest.raises(Unreadable):
            codec.unpack(raw + b"\x00")


def ext(code: int, data: bytes) -> bytes:
    return b"\x01" + msgpack.packb(ExtType(code, data))


def objects(*batches: tuple[int, object, list], root: object) -> bytes:
    parts = [[number, kind, msgpack.packb(made)] for number, kind, made in batches]
    return b"\x02" + msgpack.packb([*parts, msgpack.packb(root)])


def ref(number: int, place: int) -> ExtType:
    return ExtType(1, struct.pack(">HH", number, place))


def span(number: int, first: int, count: int) -> ExtType:
    return ExtType(2, struct.pack(">HHI", number, first, count))


TUPLE = 0
ONE_PAIR = (0, TUPLE, [[1, 2]])

BOMBS = {
    "a list said to be four billion long": b"\x01\xdd\xff\xff\xff\xff",
    "a text said to be four billion long": b"\x01\xdb\xff\xff\xff\xff",
    "lists in lists": b"\x01" + b"\x91" * 100_000,
    "long lists in long lists": b"\x01" + (b"\xdd" + struct.pack(">I", 99_000)) * 1_000 + b"\xc0" * 99_000,
    "maps in keys of maps": b"\x01" + b"\x81" * 100_000,
    "a list as a key": b"\x01\x81\x90\x00",
    "an unknown ext code": ext(99, b"x"),
    "msgpack's own timestamp": b"\x01\xc7\x0c\xff" + b"\xff" * 12,
    "a decimal that is none": ext(9, b"1E+99999999999999999999"),
    "a date that is none": ext(12, b"2026-02-30"),
    "a zone outside its folder": ext(11, b"2026-01-01T00:00:00|0|../../../etc/passwd"),
    "a zone by absolute path": ext(11, b"2026-01-01T00:00:00|0|/etc/localtime"),
    "a zone that is a folder": ext(11, b"2026-01-01T00:00:00|0|Europe"),
    "a zone that is no zone": ext(11, b"2026-01-01T00:00:00|0|Europe/Atlantis"),
    "a fixed zone of 30 hours": ext(11, b"2026-01-01T00:00:00|0|000000010000546000000000|"),
    "a fold of 2": ext(11, b"2026-01-01T00:00:00|2|"),
    "too long a time": ext(15, struct.pack(">iii", 2**31 - 1, 0, 0)),
    "a UUID of 15 bytes": ext(16, b"x" * 15),
    "a member of no Enum": ext(3, b"12345678GLASS"),
    "a flag of no class": ext(4, b"123456781"),
    "a point without its end": ext(26, b"o" + shapely.to_wkb(shapely.Point(1, 2))[:-1]),
    "collections in collections": ext(26, b"o" + (b"\x01" + struct.pack("<II", 7, 1)) * 200_000),
    "a geometry with four billion parts": ext(26, b"o\x01" + struct.pack("<II", 4, 2**32 - 1)),
    "a reference without objects": ext(1, b"\0\0\0\0"),
    "a batch of no known kind": objects((0, b"12345678", [[1]]), root=ref(0, 0)),
    "a batch of an unhashable kind": objects((0, [[]], [[1]]), root=ref(0, 0)),
    "an object that is not there": objects(ONE_PAIR, root=ref(0, 1)),
    "an object used twice": objects(ONE_PAIR, root=[ref(0, 0), ref(0, 0)]),
    "a span used twice": objects(ONE_PAIR, root=[span(0, 0, 1), span(0, 0, 1)]),
    "a span beyond its batch": objects(ONE_PAIR, root=span(0, 0, 2)),
    "a set of lists": objects((0, 1, [[[1]]]), root=ref(0, 0)),
    "a row with a value too many": objects((0, ["id"], [[1, 2]]), root=ref(0, 0)),
    "a row with a nameless column": objects((0, [7], [[1]]), root=ref(0, 0)),
    "more batches than there may be": objects(*[(0, TUPLE, [[]])] * (MAX_BATCHES + 1), root=ref(0, 0)),
}


@pytest.mark.parametrize("raw", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused(raw):
    """Each lie alone."""
    with pytest.raises(Unreadable):
        codec.unpack(raw)


@pytest.mark.parametrize("cls", [Bin, Frozen, Slotted, OneSlot, Spot, Stop], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("change", [-1, 1])
def test_an_instance_with_a_field_more_or_less_is_refused(cls, change):
    """The number of fields is checked for every instance."""
    form = codec._forms[cls]
    width = len(form.fields) + change

    with pytest.raises(Unreadable):
        codec.unpack(objects((0, form.name, [[None] * width]), root=ref(0, 0)))


def test_bytes_of_a_class_with_other_fields_are_refused():
    """An entry of the version before is a miss, not an instance with its fields moved."""
    old = make_dataclass("Bin", ["id", "kind"], namespace={"__module__": __name__})
    new = make_dataclass("Bin", ["id", "colour"], namespace={"__module__": __name__})
    raw = Codec([old]).pack(old(1, 2))

    with pytest.raises(Unreadable):
        Codec([new]).unpack(raw)


@pytest.mark.parametrize("name", ["long lists in long lists", "lists in lists", "a geometry with four billion parts"])
def test_a_bomb_takes_no_more_than_its_length_allows(name):
    """Lists in each other, 1,024 at most, are each set aside as long as the bytes allow, and hardly touched."""
    raw = BOMBS[name]
    tracemalloc.start()

    with pytest.raises(Unreadable):
        codec.unpack(raw)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_100 * 8 * len(raw)
