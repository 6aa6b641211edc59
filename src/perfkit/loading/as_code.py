"""Learned profiles as declared ones: source that compiles, imports the models, and can be edited from then on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from keyword import iskeyword

from perfkit.loading.evidence import Path, Place, Rules, Usage

HEAD = '"""Profiles that were learned from a running service, by `perfkit profiles export`."""'


def code_of(book: Mapping[Place, Usage], rules: Rules) -> str:
    """A module with a class for each place that has something worth loading; of the others, nothing."""
    found = {place: paths for place, usage in sorted(book.items()) if (paths := _sayable(rules.worthy(usage)))}
    made = {place: paths for place, paths in found.items() if "<locals>" not in place.entity}
    names = _entity_names(made)
    classes = dict(zip(made, _class_names(made, names), strict=True))
    lines = [HEAD, "", *_imports(made, names)]
    for place, paths in made.items():
        lines += ["", "", f"class {classes[place]}(EagerProfile, entity={names[place.entity]}):"]
        lines += [f'    """What {place.function} uses; seen in {book[place].runs} runs."""', ""]
        lines += [f"    {name} = {text}" for name, text in _tree(paths)]
    for place in found.keys() - made.keys():
        lines += ["", f"# {place.entity} is made inside a function, and cannot be imported."]
    return "\n".join(lines) + "\n"


def _sayable(paths: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(path for path in paths if not any(iskeyword(each.removesuffix("[]")) for each in path))


def _tree(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    further: dict[str, list[Path]] = {}
    for path in paths:
        further.setdefault(path[0], []).extend([path[1:]] if path[1:] else [])
    for step, rest in further.items():
        inner = ", ".join(f"{name}={text}" for name, text in _tree(rest))
        yield step.removesuffix("[]"), f"{'many' if step.endswith('[]') else 'one'}({inner})"


def _imports(made: Mapping[Place, Sequence[Path]], names: Mapping[str, str]) -> Iterator[str]:
    steps = {each for paths in made.values() for path in paths for each in path}
    verbs = [
        name for name, ending in (("many", True), ("one", False)) if any(s.endswith("[]") == ending for s in steps)
    ]
    if made:
        yield f"from perfkit.loading import {', '.join(['EagerProfile', *verbs])}"
    for entity in dict.fromkeys(sorted(place.entity for place in made)):
        module, _, qualname = entity.partition(":")
        outer, used = qualname.partition(".")[0], names[entity].partition(".")[0]
        yield f"from {module} import {outer}" + ("" if outer == used else f" as {used}")


def _entity_names(places: Iterable[Place]) -> dict[str, str]:
    """How each entity is called in the module: by its own name, with a number if another has it."""
    found: dict[str, str] = {}
    taken: dict[str, str] = dict.fromkeys(("EagerProfile", "one", "many"), "")
    for entity in dict.fromkeys(sorted(place.entity for place in places)):
        module, _, qualname = entity.partition(":")
        outer, dot, inner = qualname.partition(".")
        name = _free(outer, taken, f"{module}:{outer}")
        found[entity] = f"{name}{dot}{inner}"
    return found


def _class_names(places: Iterable[Place], names: Mapping[str, str]) -> Iterator[str]:
    """By entity and function: `BinOfPage` for what `Bin.page` asks."""
    taken: dict[str, str] = {name.partition(".")[0]: "" for name in names.values()}
    for place in places:
        function = place.function.rpartition(":")[2].replace("<locals>", "").rpartition(".")[2]
        words = [word.capitalize() for word in re.split(r"[\W_]+", function) if word]
        entity = place.entity.rpartition(":")[2].rpartition(".")[2]
        yield _free(f"{entity}Of{''.join(words) or 'Module'}", taken, repr(place))


def _free(name: str, taken: dict[str, str], owner: str) -> str:
    """`name`, or with the first number that makes it nobody else's."""
    number, found = 1, name
    while taken.get(found, owner) != owner:
        number += 1
        found = f"{name}{number}"
    taken[found] = owner
    return found
