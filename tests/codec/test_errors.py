"""What is said when a value cannot be kept: where it stands, what it is, what to return in its place."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import re
import uuid
from decimal import Decimal

import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from perfkit.codec import Codec
from perfkit.errors import CodecError, Unpackable
from tests.codec.samples import TYPES, Bin, GlassBin, Kind, OpenStop, Slotted, Spot, open_stop

codec = Codec(TYPES)


class Base(DeclarativeBase):
    pass


class Owner(Base):
    __tablename__ = "owners"
    id: Mapped[int] = mapped_column(primary_key=True)


class Elsewhere(dt.tzinfo):
    def utcoffset(self, moment):
        return dt.timedelta(hours=1)


class Odd(enum.Enum):
    ONE = 1


def answer(sql: str, take=lambda result: result):
    engine = create_engine("sqlite://", poolclass=NullPool)
    with engine.connect() as connection:
        return take(connection.execute(text(sql)))


VALUES = "Return built-in types, dataclasses, pydantic models, NamedTuples, Enums or rows."
ENTITY = (
    "It belongs to its session and may load more from it: return its values, as a dataclass, a pydantic model or "
    "the rows of select(Route.id, Route.name); or ask for entities by the return annotation, or by entities=True."
)
DECLARE = "Name its class in the return annotation, which says what results are made of."
HERE = __name__

BASE = "It would come back as its base: return that."
DICT = "It would come back as a dict: return dict(value)."
ONCE = "It can be read once: return list(value)."
ROWS = "It can be read once: return its rows, with .all()."
LABELS = "two of its columns are named a; label them apart."
ZONE = f"its zone is a {HERE}.Elsewhere; .astimezone(UTC) keeps the moment."
Text = type("Text", (str,), {"__module__": "m"})

CASES = [
    (object(), "result", "object", VALUES),
    ({"a": [0, 1, 2, Bin(1, Owner(id=1))]}, "result['a'][3].kind", f"{HERE}.Owner", ENTITY),
    ([Spot(1.0, 2.0, Odd.ONE)], "result[0].note", f"{HERE}.Odd", DECLARE),
    ({1: {(2, Odd.ONE): 3}}, "result[1] key (2, <Odd.ONE: 1>)[1]", f"{HERE}.Odd", DECLARE),
    ((Slotted(id=1, bins={"x": b""}), iter(())), "result[1]", "tuple_iterator", ONCE),
    (collections.OrderedDict(a=1), "result", "collections.OrderedDict", DICT),
    (collections.defaultdict(int), "result", "collections.defaultdict", DICT),
    (collections.deque([1]), "result", "collections.deque", "Return list(value)."),
    ([bytearray(b"x")], "result[0]", "bytearray", "Return bytes(value)."),
    ([memoryview(b"x")], "result[0]", "memoryview", "Return bytes(value)."),
    ([Text("x")], "result[0]", "m.Text", BASE),
    ({"kind": Kind}, "result['kind']", "enum.EnumType", "Return its name."),
    (open_stop(1, {"lock": object()}), "result._seen['lock']", "object", VALUES),
    (answer("select 1 as a"), "result", "sqlalchemy.engine.cursor.CursorResult", ROWS),
    (
        answer("select 1 as a", lambda result: result.mappings().one()),
        "result",
        "sqlalchemy.engine.row.RowMapping",
        "Return dict(mapping).",
    ),
    (answer("select 1 as a, 2 as a", list), "result[0]", "sqlalchemy.engine.row.Row", LABELS),
    ([dt.datetime(2026, 1, 1, tzinfo=Elsewhere())], "result[0]", "datetime.datetime", ZONE),
]


@pytest.mark.parametrize(("value", "path", "kind", "advice"), CASES, ids=[kind for _, _, kind, _ in CASES])
def test_the_message_says_where_what_and_what_instead(value, path, kind, advice):
    """Whole sentences, so that nobody has to look them up."""
    joined = ": " if advice in (LABELS, ZONE) else ". "

    with pytest.raises(Unpackable) as caught:
        codec.pack(value)

    assert str(caught.value) == f"{path}, of type {kind}, cannot be kept{joined}{advice}"


def test_the_facts_are_attributes():
    """An integration need not read English."""
    with pytest.raises(Unpackable) as caught:
        codec.pack({"bins": [Bin(1, object())]})

    assert (caught.value.path, caught.value.found) == ("result['bins'][0].kind", object)
    assert isinstance(caught.value, CodecError)
    assert isinstance(caught.value, TypeError)


def test_a_subclass_that_was_not_declared_is_refused():
    """It would come back as its base, without what it adds."""
    closed = Codec([Bin])

    with pytest.raises(Unpackable, match=r"GlassBin, cannot be kept\. Name its class in the return annotation"):
        closed.pack([Bin(1, 2), GlassBin(1, 2, (), 3)])


@pytest.mark.parametrize("loop", ["list", "dict", "dataclass"])
def test_a_value_that_holds_itself_is_refused(loop):
    """Not a RecursionError, and the path leads to the loop."""
    value = {"list": [], "dict": {}, "dataclass": Bin(1, None)}[loop]
    match value:
        case list():
            value.append({"up": value})
        case dict():
            value["up"] = [value]
        case Bin():
            value.kind = (value,)

    with pytest.raises(Unpackable, match=r"^result.* holds itself: return ids in place of what leads back\.$"):
        codec.pack({"tree": value})


def test_a_value_too_deep_is_refused():
    """100 levels are kept, 101 are not."""
    value: list = []
    for _ in range(99):
        value = [value]

    assert codec.unpack(codec.pack(value)) == value
    with pytest.raises(Unpackable, match="more than 100 levels deep"):
        codec.pack([[value]])


def test_a_field_without_a_value_is_refused_where_there_is_no_dict():
    """A slot that was never set cannot be written by position."""
    empty = object.__new__(Slotted)

    with pytest.raises(Unpackable, match=r"^result\[0\], of type .*\.Slotted, cannot be kept: a field has no"):
        codec.pack([empty])


def test_keys_that_would_become_one_are_refused():
    """Two NaN decimals are two keys, and one in bytes."""
    nan = Decimal("nan")

    with pytest.raises(Unpackable, match="two of its keys cannot be told apart"):
        codec.pack({nan: 1, +nan: 2, nan.copy_abs(): 3})


def test_an_entity_is_refused_as_soon_as_it_is_named():
    """Before there is a value of it."""
    with pytest.raises(Unpackable, match=rf"^{HERE}:Owner is an ORM entity\. {re.escape(ENTITY)}$"):
        Codec([Owner])


def test_a_class_of_no_known_kind_is_refused_as_soon_as_it_is_named():
    """The table is closed when the codec is made."""
    with pytest.raises(Unpackable, match="is no dataclass, pydantic model, NamedTuple or Enum"):
        Codec([uuid.SafeUUID, Elsewhere])


@pytest.mark.parametrize("kind", [enum.Enum, enum.Flag, dataclasses.make_dataclass])
def test_two_classes_that_look_the_same_in_bytes_are_refused(kind):
    """One would come back as the other."""
    twins = [kind("Twin", ["a", "b"]) for _ in range(2)]

    with pytest.raises(Unpackable, match=r"two classes are named \S+:Twin and have the same"):
        Codec(twins)


def test_slots_that_are_no_fields_are_refused():
    """Their state would be lost."""

    @dataclasses.dataclass
    class Half:
        __slots__ = ("a", "hidden")
        a: int

    with pytest.raises(Unpackable, match="has slots that are no fields: hidden"):
        Codec([Half])


def test_models_take_extra_fields_of_known_types_only():
    """An extra field is part of the state as any other."""
    with pytest.raises(Unpackable, match=r"^result\.note, of type object"):
        codec.pack(OpenStop(note=object()))
