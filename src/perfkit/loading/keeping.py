"""The file of learned profiles: JSON that people read, in an order that stays, and that is never half written.

A file is not trusted: whatever is in it, it is either what this module writes or an error that says what is wrong.
Several processes may save into one file: each adds what it has counted since it last read it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path as FilePath
from typing import Any

from perfkit.errors import ProfileFileError
from perfkit.files import write_whole
from perfkit.loading.evidence import Path, Place, Seen, Usage

VERSION = 1
MAX_BYTES = 32 * 1024 * 1024  # all places with all of their paths have about 22 MB
MAX_COUNT = 10**12

Book = dict[Place, Usage]

_NAMES = {
    "entity": re.compile(r"[\w.]{1,300}:[\w.<>]{1,300}"),
    "function": re.compile(r"[\w.]{1,300}:[\w.<>]{1,300}"),
    "callers": re.compile(r"[0-9a-f]{0,16}"),
}
_PATH = re.compile(r"[^\W\d]\w*(\[\])?(\.[^\W\d]\w*(\[\])?){0,20}")
_COUNTS = tuple(each.name for each in fields(Seen))


def read(path: str | FilePath) -> Book:
    """What a file says; nothing, if there is none.

    Raises:
        ProfileFileError: it is not a file of learned profiles, or somebody has broken it.
    """
    try:
        with FilePath(path).open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as wrong:
        raise ProfileFileError(path, str(wrong)) from None
    if len(raw) > MAX_BYTES:
        raise ProfileFileError(path, f"it has more than {MAX_BYTES} bytes")
    try:
        return _book(json.loads(raw))
    except (ValueError, RecursionError) as wrong:  # a JSONDecodeError and a UnicodeDecodeError are ones, too
        raise ProfileFileError(path, str(wrong)) from None


def write(path: str | FilePath, book: Mapping[Place, Usage]) -> None:
    """Replace the file in one step; the same profiles are the same bytes.

    Names that `read` would refuse are left out: such as those of classes that were made with brackets in them.
    """
    profiles = [
        {
            **place._asdict(),
            "runs": usage.runs,
            "paths": {
                text: asdict(seen)
                for each, seen in sorted(usage.paths.items())
                if _PATH.fullmatch(text := ".".join(each))
            },
        }
        for place, usage in sorted(book.items(), key=lambda item: item[0])
        if all(pattern.fullmatch(getattr(place, name)) for name, pattern in _NAMES.items())
    ]
    text = json.dumps({"version": VERSION, "profiles": profiles}, indent=1, ensure_ascii=False) + "\n"
    write_whole(FilePath(path), text)


def copied(book: Mapping[Place, Usage]) -> Book:
    """The same as values of its own; threads may go on counting meanwhile."""
    return {
        place: Usage(usage.runs, {path: replace(seen) for path, seen in list(usage.paths.items())})
        for place, usage in list(book.items())
    }


def added(there: Book, mine: Book, before: Book) -> Book:
    """`there`, with what `mine` counts more than it did `before`; what was forgotten since is gone.

    What somebody took out of the file comes back only when it is counted again.
    """
    found = copied(there)
    for place, usage in mine.items():
        old = before.get(place)
        if old == usage:
            continue
        old, into = old or Usage(), found.setdefault(place, Usage())
        into.runs = max(0, into.runs + usage.runs - old.runs)
        for path in old.paths.keys() - usage.paths.keys():
            into.paths.pop(path, None)
        for path, seen in usage.paths.items():
            if seen != (was := old.paths.get(path, Seen())):
                its = into.paths.setdefault(path, Seen())
                for name in _COUNTS:
                    setattr(its, name, max(0, getattr(its, name) + getattr(seen, name) - getattr(was, name)))
    return found


def _book(found: Any) -> Book:
    if not isinstance(found, dict) or found.get("version") != VERSION or not isinstance(found.get("profiles"), list):
        raise ValueError(f"it is no file of learned profiles of version {VERSION}")
    book: Book = {}
    for number, each in enumerate(found["profiles"]):
        where = f"profile {number}"
        if not isinstance(each, dict) or set(each) != {*_NAMES, "runs", "paths"}:
            raise ValueError(f"{where} has not the keys {', '.join([*_NAMES, 'runs', 'paths'])}")
        for name, pattern in _NAMES.items():
            if not isinstance(each[name], str) or not pattern.fullmatch(each[name]):
                raise ValueError(f"{where}: {name} is {each[name]!r:.100}")
        if not isinstance(each["paths"], dict):
            raise ValueError(f"{where}: paths is no object")
        place = Place(each["entity"], each["function"], each["callers"])
        paths = {_path(text, where): _seen(counts, f"{where}, {text!r:.100}") for text, counts in each["paths"].items()}
        book[place] = Usage(_count(each["runs"], where), paths)
    return book


def _path(text: str, where: str) -> Path:
    if not _PATH.fullmatch(text):
        raise ValueError(f"{where}: {text!r:.100} is no path")
    return tuple(text.split("."))


def _seen(counts: Any, where: str) -> Seen:
    if not isinstance(counts, dict) or set(counts) != set(_COUNTS):
        raise ValueError(f"{where} has not the counts {', '.join(_COUNTS)}")
    return Seen(**{name: _count(value, where) for name, value in counts.items()})


def _count(value: Any, where: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"{where}: {value!r:.100} is no count")
    return value
