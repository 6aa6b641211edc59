"""Cursors: a position in an ordering as text that nobody else can make.

    base64url of [version: 1][what codec.sealed makes of (side, values), and of a total if one is carried]

It is sealed under the name of its ordering, of the scope (a tenant, a user) and, if asked, of the statement's filter:
what was made for one of them is nothing for another, and so is what somebody edited. It is text of the 64 letters of
base64url, in the one spelling that encodes its bytes.

Values are readable for who has the cursor, unless it is encrypted.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from enum import IntEnum
from hashlib import sha256
from os import urandom
from typing import Any, Final

from perfkit.codec import Codec
from perfkit.codec.sealed import Seal
from perfkit.errors import InvalidCursor, PagingDeclarationError, Unpackable, Unreadable

VERSION: Final = b"\x01"
MAX_CHARACTERS: Final = 65_536  # longer text is refused unread


class Side(IntEnum):
    """Where a position is: at a row, or between it and its neighbour."""

    AT = 0
    BEFORE = 1
    AFTER = 2


@dataclass(frozen=True, slots=True)
class Memo:
    """A total that a cursor carries: of which rows and which way of counting, how many, of which kind, since when."""

    of: bytes
    value: int
    kind: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Position:
    """A place in an ordering: the keys of a row, and the side of it."""

    values: tuple[Any, ...]
    side: Side = Side.AT
    memo: Memo | None = None


class Cursors:
    """Makes and reads cursors. The first of `secrets` signs, any of them is believed.

    To change a secret, put the new one in front, and take the old one away when its cursors may die. With `encrypt`,
    which needs `perfkit[crypto]`, nobody but us can read the values in a cursor.

    Without `secrets` a secret is made for this process and those it forks: another worker, and this one after a
    restart, refuses its cursors.

    Raises:
        PagingDeclarationError: a secret of less than 16 bytes.
        MissingExtra: `encrypt`, and `cryptography` is not installed.
    """

    def __init__(self, secrets: Sequence[bytes | str] | None = None, *, encrypt: bool = False) -> None:
        given = [urandom(32)] if secrets is None else secrets
        if not isinstance(given, bytes | str):
            given = [each.encode() if isinstance(each, str) else each for each in given]
        try:
            self._seal = Seal(given, encrypts=encrypt, purpose="cursors")  # type: ignore[arg-type]
        except ValueError as wrong:
            raise PagingDeclarationError(str(wrong)) from None

    def write(self, position: Position, name: bytes) -> str:
        """The text of a position in the ordering `name`.

        Raises:
            PagingDeclarationError: a key is of a type that no cursor can hold, or too long.
        """
        values = tuple(map(_portable, position.values))
        memo = () if position.memo is None else (list(astuple(position.memo)),)
        try:
            body = _CODEC.pack([int(position.side), *values, *memo])
        except Unpackable as unpackable:
            raise PagingDeclarationError(f"a key of the ordering cannot stand in a cursor: {unpackable}") from None
        text = urlsafe_b64encode(VERSION + self._seal.close(name, body)).rstrip(b"=").decode()
        if len(text) > MAX_CHARACTERS:
            raise PagingDeclarationError(
                f"a row's keys make a cursor of {len(text)} characters, and {MAX_CHARACTERS} are allowed: "
                "order by something shorter, such as a part of the text."
            )
        return text

    def read(self, text: object, name: bytes, width: int) -> Position:
        """The position in the ordering `name`, of `width` keys, that a text stands for.

        Raises:
            InvalidCursor: it was not made here, or not for this ordering. There is no other exception.
        """
        raw = _decoded(text)
        if raw[:1] != VERSION:
            raise InvalidCursor("the cursor has a version that is not known here")
        try:
            body = _CODEC.unpack(self._seal.open(name, raw[1:]))
        except Unreadable:
            raise InvalidCursor("the cursor was not made here, or not for this ordering, scope and filter") from None
        if not isinstance(body, list) or len(body) - width not in (1, 2) or body[0] not in tuple(Side):
            raise InvalidCursor("the cursor is of another ordering")
        memo = Memo(*body[-1]) if len(body) - width == 2 else None
        return Position(tuple(body[1 : width + 1]), Side(body[0]), memo)


_CODEC = Codec()


def _decoded(text: object) -> bytes:
    if not isinstance(text, str) or not text or len(text) > MAX_CHARACTERS or not text.isascii():
        raise InvalidCursor("the cursor is not one of ours")
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise InvalidCursor("the cursor is not one of ours") from None
    # b64decode skips strange letters and does not look at the last bits: only one spelling is good
    if urlsafe_b64encode(raw).rstrip(b"=") != text.encode():
        raise InvalidCursor("the cursor is not one of ours")
    return raw


def _portable(value: Any) -> Any:
    """A value as the codec takes it: what drivers give as subclasses and views, as what they stand for."""
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    kind: Any = next((kind for kind in (bool, int, str, bytes) if isinstance(value, kind)), None)
    return value if kind is None or type(value) is kind else kind(value)


def name_of(*parts: bytes) -> bytes:
    """A name of several parts, none of which can pass for another."""
    return sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()
