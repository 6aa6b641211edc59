"""The public surface of perfkit as text: one line per name, with its signature.

    python -m tools.surface              print it
    python -m tools.surface --write      make it the committed one (tests/architecture/surface.txt)

Public is what the `__all__` of perfkit, of a room, or of a module listed in one of them names, and
the members of public classes that have no leading underscore.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType
from typing import ForwardRef, get_args

COMMITTED = Path(__file__).resolve().parents[1] / "tests/architecture/surface.txt"


def surface(package: ModuleType) -> list[str]:
    """Every public name below `package`, sorted."""
    return sorted(line for door in doors(package) for line in _lines_of_door(door))


def misplaced(package: ModuleType) -> list[str]:
    """Public functions and classes whose `__module__` is not the path by which users import them."""
    modules = {door.__name__ for door in doors(package)}
    listed = [(door.__name__, name, getattr(door, name)) for door in doors(package) for name in door.__all__]
    return sorted(
        f"{door}.{name} says it is from {thing.__module__}"
        for door, name, thing in listed
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__module__ not in modules
    )


def doors(package: ModuleType) -> list[ModuleType]:
    """`package` and every module in it through which public names are reached.

    Of a room without a door, such as that of integrations, each file is one, if it says so.
    """
    rooms = [importlib.import_module(name) for name in _below(package)]
    doorless = [room for room in rooms if not hasattr(room, "__all__") and hasattr(room, "__path__")]
    files = [importlib.import_module(name) for room in doorless for name in _below(room)]
    found = [module for module in (package, *rooms, *files) if hasattr(module, "__all__")]
    inner = [getattr(module, name) for module in found for name in module.__all__]
    return found + [module for module in inner if inspect.ismodule(module) and module not in found]


def _below(package: ModuleType) -> list[str]:
    return [f"{package.__name__}.{entry.name}" for entry in pkgutil.iter_modules(package.__path__)]


def _lines_of_door(door: ModuleType) -> Iterator[str]:
    for name in door.__all__:
        thing, path = getattr(door, name), f"{door.__name__}.{name}"
        home = getattr(thing, "__module__", door.__name__)
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and _is_above(door.__name__, home):
            yield f"{path} is {home}.{thing.__name__}"
        elif inspect.isclass(thing):
            yield from _lines_of_class(path, thing)
        elif callable(thing) and not get_args(thing):
            yield f"{path}{signature(thing)}"
        else:
            yield f"{path}: {'type alias' if get_args(thing) else type(thing).__name__}"


def _lines_of_class(path: str, cls: type) -> Iterator[str]:
    bases = ", ".join(base.__name__ for base in cls.__bases__ if base is not object)
    yield f"{path} is a class({bases})"
    if issubclass(cls, enum.Enum):
        yield from (f"{path}.{member.name} = {member.value!r}" for member in cls)
    elif "__init__" in vars(cls) and not getattr(cls, "_is_protocol", False):  # a protocol is not made
        yield f"{path}{signature(cls.__init__)}"
    for name, member in vars(cls).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            yield f"{path}.{name}: property{_returned(member.fget)}"
        elif isinstance(member, (classmethod, staticmethod)):
            yield f"{path}.{name}{signature(member.__func__)} {type(member).__name__}"
        elif inspect.isfunction(member):
            yield f"{path}.{name}{signature(member)}"
    yield from (f"{path}.{name}: {text}" for name, text in _attributes(cls))


def _attributes(cls: type) -> Iterator[tuple[str, str]]:
    """Annotated ones; those of a dataclass stand in its signature."""
    annotations = {} if is_dataclass(cls) else vars(cls).get("__annotations__", {})
    yield from ((name, _text_of(annotation)) for name, annotation in annotations.items() if not name.startswith("_"))


class AsWritten(str):
    """An annotation that shows itself without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def signature(function: object) -> str:
    """Parameters and result as the source writes them; addresses of defaults are left out."""
    if not callable(function):
        return ""
    found = inspect.signature(function)
    parameters = [one.replace(annotation=_as_written(one.annotation)) for one in found.parameters.values()]
    text = str(found.replace(parameters=parameters, return_annotation=_as_written(found.return_annotation)))
    prefix = " async " if inspect.iscoroutinefunction(function) else ""
    return prefix + re.sub(r" at 0x[0-9a-f]+", "", text)


def _as_written(annotation: object) -> object:
    return annotation if annotation is inspect.Signature.empty else AsWritten(_text_of(annotation))


def _text_of(annotation: object) -> str:
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _is_above(door: str, home: str) -> bool:
    """Whether `door` passes on what `home`, another door below it, offers."""
    return home.startswith(f"{door}.") and hasattr(sys.modules.get(home), "__all__")


def _returned(function: object) -> str:
    return signature(function).partition(")")[2] if function is not None else ""


if __name__ == "__main__":
    import perfkit

    text = "\n".join(surface(perfkit)) + "\n"
    if "--write" in sys.argv[1:]:
        COMMITTED.write_text(text)
    else:
        print(text, end="")
