"""What goes to a server and what comes back."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from reprlib import Repr
from typing import Any, NamedTuple

import redis
from redis.exceptions import MovedError, NoScriptError, TryAgainError

from perfkit.errors import StoreDown

Word = bytes | str | int

EPOCH_BYTES = 8  # of a replication id of 40 hexadecimal digits
WHO_ARE_YOU: tuple[Word, ...] = ("INFO", "replication")

# RedisError for an answer that is not in the protocol. The rest is what parsers raise at one that only looks as if it
# were: a list as a key of a map, lists a thousand deep, a redirection to port 99999 (tests/cache/test_lies.py).
TROUBLE = (
    redis.RedisError,
    OSError,
    TimeoutError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    RecursionError,
)

_SHORT = Repr()
_SHORT.maxlevel = 2

_log = logging.getLogger("perfkit.wire")
_told: set[str] = set()


class Command(NamedTuple):
    """One command. All its keys live where `key` lives."""

    key: bytes
    words: tuple[Word, ...]


class Answer(NamedTuple):
    """What a server said, and which life of it said so."""

    value: Any
    epoch: bytes


Reply = Answer | redis.ResponseError


class NoScript(StoreDown):
    """The server does not know the script of an EVALSHA: it restarted, or was told to forget."""


class Parted(StoreDown):
    """A command's keys are on two servers, because their slot is moving: ask for one at a time."""


def epoch_in(info: object) -> bytes:
    """The replication id of a master in what INFO replication says, shortened.

    Raises:
        redis.ConnectionError: there is none, so restarts could not be noticed; or it is a replica, which may be behind.
    """
    text = info.encode() if isinstance(info, str) else info
    if not isinstance(text, bytes):
        raise redis.ConnectionError(f"INFO replication answered {shown(info)}")
    fields = {name: value for name, _, value in (line.partition(b":") for line in text.splitlines())}
    if fields.get(b"role", b"master") != b"master":
        raise redis.ConnectionError("the server is a replica, which may be behind: give the address of its master")
    epoch = fields.get(b"master_replid", b"")[:EPOCH_BYTES]
    if not epoch:
        raise redis.ConnectionError("INFO replication names no master_replid; perfkit needs it to notice a restart")
    return epoch


def shown(answer: object) -> str:
    """As much of an answer as a message has room for, however large or deep it is."""
    return _SHORT.repr(answer)


def down(commands: Sequence[Command], trouble: BaseException) -> StoreDown:
    """No answer came, or the connection was refused that should have brought it."""
    said_no = isinstance(trouble, redis.ResponseError | redis.AuthenticationError)
    why = str(trouble) or type(trouble).__name__
    return StoreDown(f"{commands[0].words[0]!s} {'was refused' if said_no else 'got no answer'}: {why}")


def refused(command: Command, refusal: redis.ResponseError) -> StoreDown:
    """The answer was no. What only an operator can mend is logged, once."""
    text = f"{command.words[0]!s} was refused: {type(refusal).__name__} {refusal}"
    if isinstance(refusal, MovedError):
        text += " (it is a node of a cluster: connect to redis+cluster://host:port)"
    kind = (
        NoScript if isinstance(refusal, NoScriptError) else Parted if isinstance(refusal, TryAgainError) else StoreDown
    )
    if kind is StoreDown and (told := f"{command.words[0]!s} {type(refusal).__name__}") not in _told:
        _told.add(told)
        _log.warning("%s: reads go to the database while it is", text)
    return kind(text)
