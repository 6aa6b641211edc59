"""Every error perfkit raises.

PerfkitError
├── WouldSuspend (RuntimeError)        a blocking caller met a step that has to wait for an event loop
├── MissingExtra (ImportError)         an optional package is not installed
├── CodecError
│   ├── Unpackable (TypeError)         a value of a type that cannot be kept
│   ├── UnresolvedAnnotation (TypeError)     a return annotation names a class that is not there
│   └── Unreadable (ValueError)        bytes that nobody here packed
├── SpatialError
│   └── GeometryError (ValueError)     coordinates, a distance or a geometry that cannot be meant
├── LoadingError
│   ├── NPlusOneFound                  something was loaded one by one where that was to be an error
│   ├── BaselineError (ValueError)     a file of known findings that cannot be read
│   ├── LoadingDeclarationError (ValueError)     an ignore rule that cannot work
│   │   └── UnknownPath                a path names a class, a table or an attribute that does not exist
│   ├── CannotLoadLazily (MissingGreenlet)   an attribute was asked for where nothing can be awaited
│   ├── ProfileFileError (ValueError)  a file of learned profiles that cannot be read
│   └── ProfileError (ValueError)      a profile that cannot work as declared
│       └── UnknownAttribute (AttributeError)    a profile names what its class does not have
├── PagingError
│   ├── PagingDeclarationError (ValueError)     a page size, an ordering, a secret or a statement that cannot be paged
│   │   └── NotUniqueOrder             nothing shows that the ORDER BY tells every two rows apart
│   ├── InvalidCursor (ValueError)     a cursor that was not made here, for this ordering, scope and filter
│   ├── OffsetTooDeep (ValueError)     a page number beyond max_offset
│   └── NotSeekable (AssertionError)   a page that reads more rows than its own; raised in tests
└── CacheError
    ├── CacheDeclarationError (ValueError)   a policy, tag, key or decorator that cannot work; raised at start-up
    │   ├── UnknownTag                 a tag names a table or a parameter that does not exist
    │   └── UnkeyableArgument (TypeError)    an argument that no key can be made of
    ├── StoreDown                      Redis or Valkey did not answer; reads are answered from the database
    ├── LoadTimeout (TimeoutError)     a function took longer than its hard_timeout
    └── CommitRefused                  a write that must not be committed, by policy or because its mark is too old
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy.exc import MissingGreenlet

__all__ = [
    "BaselineError",
    "CacheDeclarationError",
    "CacheError",
    "CannotLoadLazily",
    "CodecError",
    "CommitRefused",
    "GeometryError",
    "InvalidCursor",
    "LoadTimeout",
    "LoadingDeclarationError",
    "LoadingError",
    "MissingExtra",
    "NPlusOneFound",
    "NPlusOneWarning",
    "NotSeekable",
    "NotUniqueOrder",
    "OffsetTooDeep",
    "PagingDeclarationError",
    "PagingError",
    "PerfkitError",
    "ProfileError",
    "ProfileFileError",
    "SpatialError",
    "StoreDown",
    "UnkeyableArgument",
    "UnknownAttribute",
    "UnknownPath",
    "UnknownTag",
    "Unpackable",
    "Unreadable",
    "UnresolvedAnnotation",
    "WouldSuspend",
]


class PerfkitError(Exception):
    """Root of everything perfkit raises."""


class WouldSuspend(PerfkitError, RuntimeError):
    """A step that was to finish at once had to wait for an event loop: a bug in perfkit or in a store given to it."""


class MissingExtra(PerfkitError, ImportError):
    """A part of perfkit was imported whose optional package is not installed."""

    def __init__(self, part: str, *, package: str, extra: str) -> None:
        super().__init__(f"{part} needs {package}: pip install 'perfkit[{extra}]'", name=package)
        self.package = package
        self.extra = extra


class CodecError(PerfkitError):
    """A value or its bytes could not be converted."""


class Unpackable(CodecError, TypeError):
    """A value of a type that cannot be kept; the message names its path and what to return in its place.

    `path` is where it stands, as in `result['bins'][3].owner`, and `found` its type; both None if a class was refused
    before there was a value.
    """

    def __init__(self, message: str, *, path: str | None = None, found: type | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.found = found


class UnresolvedAnnotation(CodecError, TypeError):
    """A return annotation, or a field of a class in it, names a class that does not exist where it stands."""


class Unreadable(CodecError, ValueError):
    """Bytes from outside that nobody here packed; to the cache they are a miss."""


class SpatialError(PerfkitError):
    """Anything `perfkit.spatial` raises."""


class GeometryError(SpatialError, ValueError):
    """Coordinates off the Earth, a negative distance, or something that is no geometry."""


class LoadingError(PerfkitError):
    """Anything `perfkit.loading` raises."""


class ProfileError(LoadingError, ValueError):
    """A profile that cannot work as declared; the message begins with the place in it."""


class ProfileFileError(LoadingError, ValueError):
    """A file of learned profiles that cannot be read; `path` is the file, `why` what is wrong with it."""

    def __init__(self, path: object, why: str) -> None:
        super().__init__(f"{path}: cannot be read: {why}")
        self.path = path
        self.why = why


class UnknownAttribute(ProfileError, AttributeError):
    """A profile names an attribute that its class does not have; `near` is what may have been meant, or None."""

    def __init__(self, where: str, cls: type, name: str, *, near: str | None, because: str = "") -> None:
        advice = because or (f"Did you mean {near!r}?" if near else "")
        super().__init__(f"{where}: {cls.__name__} has no attribute {name!r}. {advice}".rstrip())
        self.where = where
        self.cls = cls
        self.name = name
        self.near = near


class CannotLoadLazily(LoadingError, MissingGreenlet):
    """An attribute of an AsyncSession's object is not loaded, and was asked for outside of `await`.

    `path` leads to it from what the statement selected, as far as is known; `siblings` is how many others of the same
    statement have not got it either; `fix` is what to write in the statement, or instead of the access.
    """

    def __init__(self, *, path: str, siblings: int, fix: str, instead: str) -> None:
        also = f", nor is it for {siblings} other{'s' * (siblings > 1)} that came with it" if siblings else ""
        super().__init__(f"{path} is not loaded{also}, and cannot be loaded without await: write `{fix}`, {instead}.")
        self.path = path
        self.siblings = siblings
        self.fix = fix


class NPlusOneFound(LoadingError):
    """Something was loaded one by one, too often or for nothing; `findings` says what, where and how to end it."""

    def __init__(self, findings: Iterable[Any]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n" + "\n\n".join(map(str, self.findings)))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.findings,)


class BaselineError(LoadingError, ValueError):
    """A baseline that cannot be read; `file` is its path."""

    def __init__(self, file: str, wrong: str) -> None:
        super().__init__(f"{file}: {wrong}")
        self.file = file
        self.wrong = wrong

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.file, self.wrong)


class LoadingDeclarationError(LoadingError, ValueError):
    """An ignore rule that cannot work as declared."""


class UnknownPath(LoadingDeclarationError):
    """A path names a class, a table or an attribute that does not exist; `nearest` is one that does, if any is near."""

    def __init__(self, path: str, wrong: str, nearest: str | None) -> None:
        super().__init__(f"{path!r}: {wrong}" + (f"; do you mean {nearest!r}?" if nearest else ""))
        self.path = path
        self.wrong = wrong
        self.nearest = nearest

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.wrong, self.nearest)


class PagingError(PerfkitError):
    """Anything `perfkit.paging` raises."""


class PagingDeclarationError(PagingError, ValueError):
    """A size, an ordering, a secret or a statement that no page can be made of."""


class NotUniqueOrder(PagingDeclarationError):
    """Nothing shows that the ORDER BY tells every two rows apart, so a cursor could lose or repeat some."""

    def __init__(self, keys: Sequence[str], missing: Sequence[str]) -> None:
        super().__init__(
            f"ORDER BY {', '.join(keys) or 'nothing'} can tie: add {', '.join(missing)}, "
            f"or pass assume_unique=True if no two rows share these values."
        )
        self.keys = tuple(keys)
        self.missing = tuple(missing)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.keys, self.missing)


class InvalidCursor(PagingError, ValueError):
    """A cursor that was not made here, for this ordering, scope and filter; it never reached the database.

    To the caller of an API it is a 400. The reason is for the log, and the same for what was edited and what was
    signed by somebody else.
    """


class OffsetTooDeep(PagingError, ValueError):
    """A page number beyond `max_offset`: the database would read and throw away all rows before it."""

    def __init__(self, offset: int, max_offset: int) -> None:
        # without the offset: a caller chooses its digits, and Python refuses to show more than 4,300
        super().__init__(f"more than max_offset={max_offset} rows are before the page: page by cursor, with keyset().")
        self.offset = offset
        self.max_offset = max_offset

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.offset, self.max_offset)


class NotSeekable(PagingError, AssertionError):
    """The deepest page of a statement reads more than itself; `advice` is the index that is missing, or None."""

    def __init__(self, buffers: int, filtered: int, advice: str | None) -> None:
        super().__init__(
            f"the deepest page reads {buffers} buffers and throws away {filtered} rows: "
            f"{advice or 'its keys are of several tables or expressions, which no single index of columns serves'}"
        )
        self.buffers = buffers
        self.filtered = filtered
        self.advice = advice

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.buffers, self.filtered, self.advice)


class CacheError(PerfkitError):
    """Anything the cache raises."""


class CacheDeclarationError(CacheError, ValueError):
    """A policy, tag, key or decorated function that cannot work as declared."""


class UnknownTag(CacheDeclarationError):
    """A tag names a table or a parameter that does not exist, so no write would ever reach it."""


class UnkeyableArgument(CacheDeclarationError, TypeError):
    """An argument of a cached function that no key can be made of."""


class StoreDown(CacheError):
    """The store did not answer, or refused; callers see it only where they asked for the store by name."""


class LoadTimeout(CacheError, TimeoutError):
    """A cached function took longer than its `hard_timeout`; its load goes on."""


class CommitRefused(CacheError):
    """The transaction was not committed, because committing it could have left old answers in the cache."""


class NotCached(RuntimeWarning):
    """A cached function whose results are not kept: for what it reads or writes, or because nobody watches its engine.

    It points to the function, so that filters can go by its module.
    """


class NPlusOneWarning(RuntimeWarning):
    """Something was loaded one by one, too often or for nothing, where that was to be a warning."""
