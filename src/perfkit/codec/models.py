"""pydantic models: their whole state out and in, by the attributes pydantic documents.

Not `model_construct`, which fills in defaults and calls `model_post_init`; and not validation, which coerces, may
refuse what `model_construct` once allowed, and costs a second time. The instance that was packed had been validated,
or its owner had wanted it otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from perfkit.codec.forms import Form, Row, named, stamp_of

_put = object.__setattr__


def model_form(cls: type[BaseModel]) -> Form:
    """Values and which of them were set; loose also extra fields and private attributes, all with their names."""
    names = tuple(cls.model_fields)
    return Form(
        name=stamp_of(cls, names, "pydantic"),
        take=_take_usual(names),
        make=_make_usual(cls, names),
        fields=(*names, "model_fields_set"),
        loose=Form(name=stamp_of(cls, names, "pydantic loose"), take=_take_loose, make=_make_loose(cls)),
    )


def _take_usual(names: tuple[str, ...]) -> Callable[[Any], Row | None]:
    expected, everything = list(names), set(names)

    def take(model: Any) -> Row | None:
        state = model.__dict__
        if list(state) != expected or model.__pydantic_extra__ is not None or model.__pydantic_private__ is not None:
            return None
        chosen = model.__pydantic_fields_set__
        return [*state.values(), None if chosen == everything else sorted(chosen)]

    return take


def _make_usual(cls: type[BaseModel], names: tuple[str, ...]) -> Callable[[Any], object]:
    width = len(names) + 1

    def make(row: Any) -> object:
        if len(row) != width:
            raise ValueError(f"{cls.__qualname__} has {width - 1} fields")
        return _model(cls, dict(zip(names, row, strict=False)), names if row[-1] is None else row[-1], None, None)

    return make


def _take_loose(model: Any) -> Row:
    return [model.__dict__, sorted(model.__pydantic_fields_set__), model.__pydantic_extra__, model.__pydantic_private__]


def _make_loose(cls: type[BaseModel]) -> Callable[[Any], object]:
    def make(row: Any) -> object:
        state, chosen, extra, private = row
        return _model(cls, named(state), chosen, extra and named(extra), private and named(private))

    return make


def _model(cls: type[BaseModel], state: object, chosen: Any, extra: object, private: object) -> object:
    if type(chosen) not in (list, tuple) or not all(type(name) is str for name in chosen):
        raise ValueError("fields that were set without names")
    made = cls.__new__(cls)
    _put(made, "__dict__", state)
    _put(made, "__pydantic_fields_set__", set(chosen))
    _put(made, "__pydantic_extra__", extra)
    _put(made, "__pydantic_private__", private)
    return made
