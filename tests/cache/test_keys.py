"""When two calls are one, and when they are not."""

from __future__ import annotations

import dataclasses
import enum
import functools
import gc
import inspect
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr

from perfkit import Cache
from perfkit.cache.keys import binder, text_of
from perfkit.errors import CacheDeclarationError, UnkeyableArgument


class Bits(enum.IntFlag):
    READ = 4


@dataclasses.dataclass
class Point:
    x: int


class Secretive(Point):
    def __init__(self, x: int, y: int) -> None:
        super().__init__(x)
        self.y = y


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, 1.0, "", "1", "None", b"1", "a,b", "'"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2)
    ),
    max_leaves=6,
)


def exact(value: Any) -> Any:
    """The value with the type of each part, so that == is as strict as a key."""
    if isinstance(value, dict):
        return dict, [(exact(key), exact(each)) for key, each in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [exact(each) for each in value]
    return type(value), value


@given(plain, plain)
def test_texts_are_equal_when_values_and_types_are(one, other):
    """Neither more often nor less."""
    assert (text_of(one) == text_of(other)) == (exact(one) == exact(other))


KINDS = [inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY]


@st.composite
def signatures(draw: st.DrawFn) -> inspect.Signature:
    kinds = sorted(draw(st.lists(st.sampled_from(KINDS), max_size=4)))
    parameters: list[inspect.Parameter] = []
    optional = False
    for number, kind in enumerate(kinds):
        may_be = kind is inspect.Parameter.KEYWORD_ONLY or not optional
        has_default = draw(st.booleans()) or not may_be
        optional = has_default if kind is not inspect.Parameter.KEYWORD_ONLY else optional
        default = f"default {number}" if has_default else inspect.Parameter.empty
        parameters.append(inspect.Parameter("abcd"[number], kind, default=default))
    if draw(st.booleans()):
        parameters.insert(
            sum(kind is not inspect.Parameter.KEYWORD_ONLY for kind in kinds),
            inspect.Parameter("rest", inspect.Parameter.VAR_POSITIONAL),
        )
    if draw(st.booleans()):
        parameters.append(inspect.Parameter("named", inspect.Parameter.VAR_KEYWORD))
    return inspect.Signature(parameters)


@given(signatures(), st.lists(st.integers(), max_size=4), st.dictionaries(st.sampled_from("abcde"), st.integers()))
def test_arguments_are_bound_as_python_binds_them(signature, args, kwargs):
    """And refused where Python refuses them."""
    # Signature.bind refuses f(a=0) for f(a=1, /, **named); Python does not
    assume(not any(p.kind is p.POSITIONAL_ONLY and p.name in kwargs for p in signature.parameters.values()))
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        with pytest.raises(TypeError):
            binder(signature, "f")(*args, **kwargs)
        return
    bound.apply_defaults()

    assert binder(signature, "f")(*args, **kwargs) == tuple(bound.arguments.values())


def test_bits_without_a_name_are_told_apart():
    """Their name is None, each of them."""
    assert len({text_of(Bits(value)) for value in (0, 4, 8, 16, 12)}) == 5


def test_a_class_that_inherits_from_a_dataclass_is_refused():
    """Its fields are not all that it holds."""
    with pytest.raises(UnkeyableArgument, match="inherits from a dataclass"):
        text_of(Secretive(1, 2))


class Wish(BaseModel):
    model_config = ConfigDict(extra="allow")
    kind: str = "glass"
    sizes: list[int] = []
    _origin: str = PrivateAttr("here")


class Other(Wish):
    pass


def test_models_of_pydantic_are_told_apart_by_all_that_they_hold():
    """Their fields, which of them were given, what they allow besides, what is private to them, and their class."""
    elsewhere = Wish()
    elsewhere._origin = "there"
    wishes = [Wish(), Wish(kind="glass"), Wish(kind="paper"), Wish(sizes=[1]), Wish(more=1), elsewhere, Other()]

    assert len({text_of(each) for each in wishes}) == len(wishes)
    assert text_of(Wish(kind="paper", sizes=[2])) == text_of(Wish(sizes=[2], kind="paper"))
    with pytest.raises(UnkeyableArgument, match=r"builtins\.object has no text"):
        text_of(Wish(more=object()))


def test_a_model_whose_properties_were_read_is_the_same_argument():
    """What they gave lies beside the fields."""

    class Lazy(BaseModel):
        size: int

        @functools.cached_property
        def twice(self) -> int:
            return 2 * self.size

    wish = Lazy(size=2)
    before = text_of(wish)
    assert wish.twice == 4
    assert text_of(wish) == before


def test_functions_of_one_factory_have_their_own_entries(small):
    """They share name and code, and differ in what they close over."""

    def made(kind: str) -> Any:
        @small.cache.query(tags="bins")
        def what() -> str:
            return kind

        return what

    glass, paper = made("glass"), made("paper")

    assert [glass(), paper(), glass(), paper()] == ["glass", "paper", "glass", "paper"]
    assert small.cache.stats().hits == 2


def test_functions_of_one_factory_that_cannot_be_told_apart_are_refused():
    """Rather than given each other's results."""
    cache = Cache("twins")

    def made(kind: object, version: int = 0) -> Any:
        @cache.query(tags="bins", version=version)
        def what() -> str:
            return repr(kind)

        return what

    made(object())

    with pytest.raises(CacheDeclarationError, match="declared a second time"):
        made(object())
    made(object(), version=1)


def made_here(kind: str) -> Any:
    """Classes of one name, which no module has."""

    @dataclasses.dataclass
    class Filter:
        limit: int

        @property
        def kind(self) -> str:
            return kind

    class Size(enum.Enum):
        SMALL = kind

    return {"class": Filter, "dataclass": Filter(1), "enum": Size.SMALL, "type()": type("Point", (), {"kind": kind})}


@pytest.mark.parametrize("what", ["class", "dataclass", "enum", "type()"])
def test_classes_of_one_name_are_told_apart(what):
    """They shared their keys, so that one got the other's results. A class that a module has keeps its name."""
    one, other = made_here("a")[what], made_here("b")[what]

    assert text_of(one) == text_of(one)
    assert text_of(one) != text_of(other)
    assert text_of(Point) == f"{__name__}.Point"


def test_a_class_that_is_gone_takes_its_name_with_it():
    """The next one that is made in its place does not get its results."""
    one = text_of(made_here("a")["class"])
    gc.collect()

    assert text_of(made_here("a")["class"]) != one
