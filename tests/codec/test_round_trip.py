"""Whatever goes in comes out: equal, and of the same types all the way down."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from decimal import Decimal
from types import MemberDescriptorType
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pytest
from hypothesis import given
from sqlalchemy import NullPool, create_engine, text

from perfkit.codec import Codec, scalars
from tests.codec.samples import (
    TYPES,
    Access,
    Bin,
    Counted,
    Frozen,
    Kind,
    OpenStop,
    Slotted,
    Spot,
    Stop,
    any_value,
    rows,
    same,
)

codec = Codec(TYPES)


@given(any_value())
def test_any_value_comes_back_as_it_was(value):
    """Every type the codec takes, in every nesting."""
    back = codec.unpack(codec.pack(value))

    assert same(back, value)


@given(any_value())
def test_another_process_reads_it_too(value):
    """Nothing in the bytes depends on the codec object that wrote them, or on the order its types were given in."""
    back = Codec(reversed(TYPES)).unpack(codec.pack(value))

    assert same(back, value)


def test_a_zone_by_name_comes_back_as_the_same_object():
    """ZoneInfo compares by identity, and arithmetic between two zones differs from arithmetic within one."""
    before = datetime(2026, 10, 25, 3, 30, fold=1, tzinfo=ZoneInfo("Europe/Helsinki"))

    after = codec.unpack(codec.pack(before))

    assert (after.tzinfo is before.tzinfo, after.fold, after) == (True, 1, before)


def test_utc_comes_back_as_the_constant():
    """Code may say `moment.tzinfo is timezone.utc`."""
    after = codec.unpack(codec.pack([datetime(2026, 1, 1, tzinfo=UTC)]))

    assert after[0].tzinfo is UTC


def test_an_instance_is_restored_without_its_init():
    """`__post_init__` has run for the instance that was packed; what it did is state, and is kept."""
    before = Counted(4)
    made = Counted.made

    after = codec.unpack(codec.pack(before))

    assert (after, after.doubled, after.beside) == (before, (4, 4), "not a field")
    assert Counted.made == made


def test_a_field_never_set_stays_unset():
    """A dataclass with a gap in its state comes back with the same gap."""
    before = Bin(1, 2)
    del before.kind

    after = codec.unpack(codec.pack(before))

    assert vars(after) == {"id": 1, "tags": ()}


def test_a_model_keeps_what_was_set_and_what_is_private():
    """`model_dump(exclude_unset=True)` answers as before."""
    usual, private = Stop(id=1), OpenStop(id=2, note="x")
    private._seen = (1, 2)

    after, after_private = codec.unpack(codec.pack([usual, private]))

    assert (after, after.model_dump(exclude_unset=True)) == (usual, {"id": 1})
    assert (after_private, after_private._seen, after_private.model_extra) == (private, (1, 2), {"note": "x"})


def test_rows_of_a_query_keep_their_names():
    """Attributes, `_mapping` and comparison with tuples, without the result."""
    with create_engine("sqlite://", poolclass=NullPool).connect() as connection:
        before = connection.execute(text("select 1 as id, 'glass' as kind union select 2, 'paper'")).all()

    after = codec.unpack(codec.pack(before))

    assert after == before == [(1, "glass"), (2, "paper")]
    assert (after[1].kind, dict(after[0]._mapping), after[0]._fields) == (
        "paper",
        {"id": 1, "kind": "glass"},
        ("id", "kind"),
    )


def test_a_hundred_thousand_objects_need_more_than_one_batch():
    """A batch holds 65,536 rows; the next ones go into another."""
    before = {
        "all": [Spot(number, 0.5) for number in range(100_000)],
        "pairs": [(1, number) for number in range(70_000)],
    }

    assert codec.unpack(codec.pack(before)) == before


def test_objects_of_one_kind_at_different_heights_stay_in_order():
    """A list of one class whose members hold different things refers to several batches."""
    before = [Bin(1, None), Bin(2, Bin(3, (Bin(4, Kind.GLASS),))), Bin(5, (1,)), Bin(6, frozenset({Frozen(1, (2,))}))]

    assert same(codec.unpack(codec.pack(before)), before)


def test_shared_parts_come_back_as_equal_parts():
    """An object in two places is packed twice; nothing is aliased afterwards."""
    shared = Bin(1, [1])

    one, two = codec.unpack(codec.pack((shared, shared)))

    assert (one, two, one is two) == (shared, shared, False)


def test_plain_values_are_plain_msgpack():
    """Nothing is added to a value that msgpack can carry alone, but the byte that says so."""
    value = {"bins": [1, 2.5, None, "x", b"y", True]}

    assert codec.pack(value) == b"\x01" + msgpack.packb(value)


def test_the_same_list_of_objects_costs_one_reference():
    """40 instances: one batch and one reference, so about as many bytes as their values."""
    bins = [Slotted(id=number, bins=None) for number in range(40)]

    assert len(codec.pack(bins)) < len(msgpack.packb([[number, None] for number in range(40)])) + 40


def test_flags_that_have_no_name_come_back():
    """A combination of members is no member; it travels by value."""
    assert codec.unpack(codec.pack(Access.KEY | Access.LIFT)) is Access.KEY | Access.LIFT


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**4000])
def test_ints_of_any_size(number):
    """Around the edges of 64 bits, and far beyond them."""
    assert codec.unpack(codec.pack([number, True, Decimal(1)])) == [number, True, Decimal(1)]


def test_nothing_of_pickle_is_in_the_bytes():
    """A value that only pickle could carry is refused, rather than carried."""
    with pytest.raises(TypeError):
        codec.pack(pickle.Pickler)


def test_rows_of_different_queries_in_one_list():
    """Each kind of row has its own names."""
    before = [*rows([(1, 2)]), (1, 2), *rows([(3, 4)])]

    assert same(codec.unpack(codec.pack(before)), before)


@pytest.mark.parametrize("number", [0, 1, 0x12345678123456781234567812345678, 2**128 - 1])
@pytest.mark.parametrize("slots", [MemberDescriptorType, property])
def test_a_uuid_comes_back_as_python_makes_one(monkeypatch, slots, number):
    """Whether its slots are filled, or Python keeps it otherwise and is asked."""
    monkeypatch.setattr(scalars, "MemberDescriptorType", slots)
    made = UUID(int=number)

    for back in (scalars._uuid_reader()(made.bytes), codec.unpack(codec.pack(made))):
        assert (back, hash(back), repr(back), back.is_safe) == (made, hash(made), repr(made), made.is_safe)
        assert pickle.dumps(back) == pickle.dumps(made)
        assert {back: 1}[made] == 1
