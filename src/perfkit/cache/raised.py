"""Exceptions as results: "there is none" costs a load like any other answer, and can be kept like one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from perfkit.codec import Codec
from perfkit.errors import Unpackable, Unreadable

_VALUE, _ERROR = b"v", b"e"


class Raised(NamedTuple):
    """That the function raised. Kept: what class of those that it declares, and with which arguments."""

    error: Exception


def outcome(value: Any) -> Any:
    """What a caller gets of a result. Raises the exception that it stands for, if it does."""
    if type(value) is Raised:
        raise value.error
    return value


class ErrorCodec:
    """A codec for functions of which some exceptions are kept. One byte in front says what follows."""

    def __init__(self, codec: Codec, errors: Sequence[type[Exception]]) -> None:
        self._codec, self._errors = codec, tuple(errors)

    def pack(self, value: object) -> bytes:
        """Raises: Unpackable."""
        if isinstance(value, Raised):
            kind = self._errors.index(type(value.error))
            return _ERROR + self._codec.pack((kind, value.error.args))
        return _VALUE + self._codec.pack(value)

    def unpack(self, raw: bytes) -> object:
        """Raises: Unreadable."""
        inner = self._codec.unpack(raw[1:])
        if raw[:1] == _VALUE:
            return inner
        if raw[:1] != _ERROR:
            raise Unreadable("neither a result nor an exception")
        try:
            kind, args = cast(tuple[int, tuple[Any, ...]], inner)
            return Raised(self._errors[kind](*args))
        except Exception as strange:
            # the class is the user's, and the arguments may be anybody's
            raise Unreadable(f"no exception can be made of what was kept: {strange}") from strange

    def can_keep(self, error: Exception) -> bool:
        """Whether it is one of those declared, and not of a class below them, with arguments that can be kept."""
        if type(error) not in self._errors:
            return False
        try:
            return isinstance(self.unpack(self.pack(Raised(error))), Raised)
        except (Unpackable, Unreadable):
            return False
