"""Which classes a return annotation leads to, and the text of what they look like."""

from __future__ import annotations

import enum
import subprocess
import sys
import typing
from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar

import pytest
from pydantic import BaseModel
from sqlalchemy import Row
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from typing_extensions import TypeAliasType

from perfkit.codec import Codec, shape_of, types_in
from perfkit.errors import Unpackable, UnresolvedAnnotation

T = TypeVar("T")
Kilos = NewType("Kilos", Decimal)


class Kind(enum.Enum):
    GLASS = 1
    PAPER = ("p", 2)


class Base(DeclarativeBase):
    pass


class Owner(Base):
    __tablename__ = "owners"
    id: Mapped[int] = mapped_column(primary_key=True)


class Spot(NamedTuple):
    lon: float
    kind: Kind


class Extra(TypedDict, total=False):
    spot: Spot


@dataclass
class Node:
    name: str
    parts: list[Node]
    extra: Extra | None


@dataclass
class Page(Generic[T]):
    items: Sequence[T]


class Stop(BaseModel):
    spot: Spot | None
    weight: Kilos


class Tree(BaseModel):
    below: list[Tree]


Json = TypeAliasType("Json", "dict[str, Json] | list[Node]")
Plain = TypeAliasType("Plain", dict[str, Spot])

CASES = [
    (None, set()),
    (Any, set()),
    (dict[str, Any], set()),
    (Kind, {Kind}),
    (Literal[Kind.GLASS], {Kind}),
    (Spot | None, {Spot, Kind}),
    (typing.Optional[Spot], {Spot, Kind}),  # noqa: UP045 - the older spelling is another object
    (Node, {Node, Spot, Kind}),
    (tuple[Page[Stop], ...], {Page, Stop, Spot, Kind}),
    (Annotated[list[Stop], "shown"], {Stop, Spot, Kind}),
    (Row[tuple[int, Kind]], {Kind}),
    (Tree, {Tree}),
    (Plain, {Spot, Kind}),
    (dict[Kind, Kilos], {Kind}),
    (list[Owner], {Owner}),
    (typing.Callable[[Spot], Tree], {Spot, Kind, Tree}),
]


@pytest.mark.parametrize(("annotation", "found"), CASES, ids=[str(annotation) for annotation, _ in CASES])
def test_every_class_behind_an_annotation_is_found(annotation, found):
    """Through generics, unions, fields of fields, and in circles."""
    assert types_in(annotation) == found


def test_a_name_that_leads_nowhere_is_said_at_once():
    """Usually an import under TYPE_CHECKING."""
    lost = make_dataclass("Lost", [("owner", "Nobody")], namespace={"__module__": __name__})

    with pytest.raises(UnresolvedAnnotation, match=r":Lost cannot be resolved: name 'Nobody' is not defined\. Import"):
        types_in(list[lost])
    with pytest.raises(UnresolvedAnnotation, match="'Bin' is still text"):
        types_in("Bin")


Inside = TypeVar("Inside")


@dataclass
class Shown(Generic[Inside]):
    """Written here, and public elsewhere."""

    items: list[Inside]
    kind: Kind


def test_a_class_that_is_public_elsewhere_is_understood(monkeypatch):
    """Many libraries say that their classes are of the package; the names of the module below are not in it."""
    monkeypatch.setattr(Shown, "__module__", "string")

    assert types_in(Shown[Plain]) == {Shown, Spot, Kind}
    assert shape_of(Shown[Plain]).startswith("string:Shown[")


def test_a_mapped_class_is_found_so_that_it_can_be_refused():
    """At the declaration, not at the first call."""
    with pytest.raises(Unpackable, match="Owner is an ORM entity"):
        Codec(types_in(list[Owner]))


def test_the_shape_names_every_field_and_member():
    """Readable, as it may end up in a log."""
    told = shape_of(dict[str, Stop | Node | None]).replace(__name__, "m")

    assert told.split("; ") == [
        "dict[str,None|m:Node|m:Stop]",
        "Kilos=decimal:Decimal",
        "m:Extra(spot:m:Spot)",
        "m:Kind(GLASS=1,PAPER=('p', 2))",
        "m:Node(name:str,parts:list[m:Node],extra:None|m:Extra)",
        "m:Spot(lon:float,kind:m:Kind)",
        "m:Stop(spot:None|m:Spot,weight:Kilos)",
    ]


@pytest.mark.parametrize(
    "fields",
    [["a", "b", "c"], ["b", "a"], ["a"], [("a", int), "b"], ["a", "c"]],
    ids=["added", "moved", "removed", "retyped", "renamed"],
)
def test_the_shape_changes_with_the_fields(fields):
    """Each of these would read an old entry wrongly."""

    def shape(names):
        return shape_of(list[make_dataclass("Bin", names, namespace={"__module__": __name__})])

    assert shape(fields) != shape(["a", "b"])
    assert shape(fields) == shape(fields)


def test_the_shape_changes_with_the_members_of_an_enum():
    """Also when a member gets another value: code may compare with that."""
    versions = [{"A": 1}, {"A": 2}, {"A": 1, "B": 2}]

    assert len({shape_of(enum.Enum("Kind", members, module=__name__)) for members in versions}) == 3


def test_the_order_of_a_union_does_not_matter():
    """`typing` hands out whichever was written first in the process."""
    assert shape_of(typing.Union[int, str]) == shape_of(str | int)  # noqa: UP007 - the older spelling is another object
    assert shape_of(list[int | None]) == shape_of(list[typing.Optional[int]])  # noqa: UP045


def test_the_shape_has_no_addresses():
    """An Enum of functions or objects is told by its names."""
    assert shape_of(enum.Enum("Odd", {"A": (object(),)}, module="m")) == "m:Odd; m:Odd(A)"


def test_the_shape_is_the_same_in_another_process():
    """With other hash seeds."""
    program = (
        "from perfkit.codec import shape_of; from tests.codec.test_shapes import Page, Stop;print(shape_of(Page[Stop]))"
    )

    def told(seed):
        world = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed}
        ran = subprocess.run([sys.executable, "-c", program], env=world, check=True, capture_output=True, text=True)
        return ran.stdout.strip()

    assert {told("1"), told("2")} == {shape_of(Page[Stop])}
