"""What a return annotation promises: the classes behind it, and a text that changes when they do.

Both walk the annotation in the same way: through generic aliases, unions, `Annotated`, `NewType`, type variables and
type aliases, and into the fields of every dataclass, pydantic model, NamedTuple and TypedDict on the way.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from perfkit.codec.own import OWN
from perfkit.errors import UnresolvedAnnotation
from perfkit.sqla.entities import is_mapped, layout_of


def types_in(annotation: object) -> frozenset[type]:
    """The dataclasses, pydantic models, NamedTuples, Enums and mapped classes reachable from `annotation`.

    Mapped classes are among them so that a `Codec` can refuse them at once.

        >>> import dataclasses, enum
        >>> class Kind(enum.Enum):
        ...     GLASS = 1
        >>> @dataclasses.dataclass
        ... class Bin:
        ...     kind: Kind
        >>> sorted(found.__name__ for found in types_in(dict[int, list[Bin]] | None))
        ['Bin', 'Kind']

    Raises:
        UnresolvedAnnotation: a forward reference leads nowhere, often one under `if TYPE_CHECKING`.
    """
    return frozenset(found for found in _walk(annotation) if isinstance(found, type) and is_listed(found))


def shape_of(annotation: object) -> str:
    """`annotation` and the layout of every class behind it, as one line of text; the same in every process.

    It changes when a field is added, renamed, moved or given another type, and when the members of an Enum change.

        >>> import enum
        >>> class Kind(enum.Enum):
        ...     GLASS = 1
        ...     PAPER = 2
        >>> shape_of(list[Kind]).replace(__name__, "wm")
        'list[wm:Kind]; wm:Kind(GLASS=1,PAPER=2)'

    Raises:
        UnresolvedAnnotation: as `types_in`.
    """
    definitions = {_definition(found) for found in _walk(annotation)} - {None}
    return "; ".join([_text(annotation), *sorted(map(str, definitions))])


def name_of(cls: type) -> str:
    """`module:qualified name`, what a class is called in keys and in bytes."""
    return f"{cls.__module__}:{cls.__qualname__}"


def is_pydantic(cls: type) -> bool:
    """True for a pydantic model; does not import pydantic to find out."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(cls, pydantic.BaseModel)


def is_namedtuple(cls: type) -> bool:
    """True for what `typing.NamedTuple` and `collections.namedtuple` make, and for their subclasses."""
    return issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple)


def is_listed(cls: type) -> bool:
    """Whether a `Codec` can be made with it."""
    return cls in OWN or issubclass(cls, enum.Enum) or _is_record(cls) or is_mapped(cls)


def _is_record(cls: type) -> bool:
    return dataclasses.is_dataclass(cls) or is_namedtuple(cls) or is_pydantic(cls)


def _walk(annotation: object) -> Iterable[object]:
    """`annotation` and everything it is made of, each once."""
    seen: list[object] = []
    known: set[int] = set()
    waiting = [annotation]
    while waiting:
        here = waiting.pop()
        if id(here) in known:
            continue
        known.add(id(here))
        seen.append(here)  # also keeps it alive, so that its id stays its own
        waiting.extend(_parts(here))
    return seen


def _parts(annotation: Any) -> Iterable[object]:
    if isinstance(annotation, str | typing.ForwardRef):
        name = annotation if isinstance(annotation, str) else annotation.__forward_arg__
        raise UnresolvedAnnotation(
            f"the annotation {name!r} is still text: give the class itself, or resolve it with typing.get_type_hints()."
        )
    if isinstance(annotation, typing.TypeVar):
        return [*annotation.__constraints__, annotation.__bound__]
    if isinstance(annotation, typing.NewType):
        return [annotation.__supertype__]
    if _is_named(annotation):
        return [annotation.__value__]
    if isinstance(annotation, list | tuple):
        return annotation
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return [annotation.__origin__]
    if origin is typing.Literal:
        return [type(value) for value in typing.get_args(annotation)]
    if origin is not None:
        return [origin, *typing.get_args(annotation)]
    if isinstance(annotation, type) and not is_mapped(annotation) and not issubclass(annotation, enum.Enum):
        return _fields(annotation).values()
    return ()


def _is_named(annotation: object) -> bool:
    """True for what stands for another annotation: a type variable, a NewType, a `type Name = …` of any flavour."""
    return isinstance(annotation, typing.TypeVar | typing.NewType) or type(annotation).__name__ == "TypeAliasType"


def _fields(cls: type) -> Mapping[str, object]:
    """Name and resolved annotation of everything an instance of `cls` carries; nothing for any other class."""
    if cls in OWN:
        return {}
    if is_pydantic(cls):
        return {name: field.annotation for name, field in cls.model_fields.items()}  # type: ignore[attr-defined]  # a BaseModel, see is_pydantic
    if dataclasses.is_dataclass(cls):
        names = [field.name for field in dataclasses.fields(cls)]
    elif is_namedtuple(cls):
        names = list(cls._fields)  # type: ignore[attr-defined]  # a NamedTuple, see is_namedtuple
    elif typing.is_typeddict(cls):
        names = list(cls.__annotations__)
    else:
        return {}
    try:
        hints = _hints(cls)
    except (NameError, TypeError, AttributeError) as trouble:
        raise UnresolvedAnnotation(
            f"the annotations of {name_of(cls)} cannot be resolved: {trouble}. "
            f"Import what they name at run time, not under TYPE_CHECKING, and define it at the top of a module."
        ) from trouble
    return {name: hints.get(name, Any) for name in names}


def _hints(cls: type) -> Mapping[str, object]:
    """Its annotations, resolved; where the module that it names lacks a name, in the one that it was written in."""
    try:
        return typing.get_type_hints(cls)
    except NameError:
        for each in vars(cls).values():
            if inspect.isfunction(each):  # one that a decorator has put there may be of another module
                with suppress(NameError):
                    return typing.get_type_hints(cls, globalns=each.__globals__, localns={})
        raise


def _definition(found: Any) -> str | None:
    """What stands behind a name that `_text` writes; None if the name says it all."""
    if _is_named(found):
        return f"{found.__name__}={'|'.join(map(_text, _parts(found)))}"
    if not isinstance(found, type):
        return None
    if is_mapped(found):
        return layout_of(found)
    if issubclass(found, enum.Enum):
        inside = [f"{name}{_value_text(member)}" for name, member in found.__members__.items()]
    elif found in OWN:
        inside = list(OWN[found].fields)
    elif _is_record(found) or typing.is_typeddict(found):
        inside = [f"{name}:{_text(kind)}" for name, kind in _fields(found).items()]
    else:
        return None
    return f"{name_of(found)}({','.join(inside)})"


def _text(annotation: Any) -> str:
    """An annotation as text that does not depend on the order in which modules were imported."""
    if annotation is None or annotation is types.NoneType:
        return "None"
    if annotation is Ellipsis:
        return "..."
    if _is_named(annotation):
        return str(annotation.__name__)
    if isinstance(annotation, list | tuple):
        return f"[{','.join(map(_text, annotation))}]"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _text(arguments[0])
    if origin is typing.Literal:
        return f"Literal[{','.join(sorted(map(repr, arguments)))}]"
    if origin in (typing.Union, types.UnionType):
        # typing caches `list[A | B]` by equality, so the order of the members is that of whoever came first
        return "|".join(sorted(map(_text, arguments)))
    if origin is not None:
        return f"{_text(origin)}[{','.join(map(_text, arguments))}]"
    if isinstance(annotation, type):
        return annotation.__qualname__ if annotation.__module__ == "builtins" else name_of(annotation)
    return str(annotation)


def _value_text(member: enum.Enum) -> str:
    """`=value` where the value has a text that is the same everywhere; an object's address has not."""
    plain = isinstance(member.value, str | int | float | bytes | None | tuple) and " at 0x" not in repr(member.value)
    return f"={member.value!r}" if plain else ""
