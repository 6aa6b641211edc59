"""The loop that a statement ran in, as lines of source: what somebody has to look at first."""

from __future__ import annotations

import ast
import linecache
from functools import lru_cache

from perfkit.sqla.origin import Origin, Stack

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_MOST = 8  # lines of a loop that are shown; more hide what they are shown for


def source_of(stack: Stack) -> list[str]:
    """The application's line, and the innermost loop in which it, or a caller of it, stands.

    Nothing where there is no source; a loop that is not there is left out.
    """
    places = list(stack.places)
    for place in places:
        if (loop := _loop_at(place)) is None:
            continue
        lines = _shown(place, range(loop[0], loop[1] + 1))
        return lines if place is places[0] else [*_line(places[0]), f"called in a loop by {place}", *lines]
    return _line(places[0])


def _line(place: Origin) -> list[str]:
    return _shown(place, range(place.line, place.line + 1))


def _loop_at(place: Origin) -> tuple[int, int] | None:
    """First and last line of the innermost loop whose repeated part has the line."""
    around = [lines for lines in _loops(place.file) if lines[1] <= place.line <= lines[2]]
    if not around:
        return None
    begin, _, end = max(around, key=lambda lines: (lines[1], -lines[2]))
    return begin, end


@lru_cache(maxsize=64)
def _loops(file: str) -> tuple[tuple[int, int, int], ...]:
    """Of each loop in `file`: its first line, the first one that is repeated, the last one."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return ()
    found: list[tuple[int, int, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.AsyncFor | ast.While):
            body = node.lineno if isinstance(node, ast.While) else node.body[0].lineno
            found.append((node.lineno, body, node.body[-1].end_lineno or body))
        elif isinstance(node, _COMPREHENSIONS):
            found.append((node.lineno, node.lineno, node.end_lineno or node.lineno))
    return tuple(found)


def _shown(place: Origin, lines: range) -> list[str]:
    """The first line of `lines`, the one of `place`, and as many others as fit, with their numbers."""
    near = [
        number for number in lines if len(lines) <= _MOST or number == lines[0] or abs(number - place.line) < _MOST // 2
    ]
    texts = {number: linecache.getline(place.file, number).rstrip() for number in near}
    if not any(texts.values()):
        return []
    indent = min(len(text) - len(text.lstrip()) for text in texts.values() if text)
    width = len(str(near[-1]))
    shown: list[str] = []
    for before, number in zip([near[0], *near], near, strict=False):
        if number > before + 1:
            shown.append(f"    {'':>{width}} │ …")
        sign = ">" if number == place.line else " "
        shown.append(f"  {sign} {number:>{width}} │ {texts[number][indent:]}".rstrip())
    return shown
