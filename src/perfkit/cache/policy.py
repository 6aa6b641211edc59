"""Policy: what a cache promises, for how long it keeps things, and what it does when its store fails."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Literal

from perfkit.errors import CacheDeclarationError

Mode = Literal["strict", "committed", "ttl"]
L1 = Literal["auto", "off", "validate"] | float | timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Options of a `Cache`, checked when the object is made.

    mode
        `"strict"`: a read that starts after a commit is visible never gets an older value. Costs a writer one
        round trip before COMMIT and one after it.
        `"committed"`: a read that starts after `commit()` returned never gets an older value; between the commit
        and its bump, and after a writer's crash until the TTL, one may. One round trip after COMMIT.
        `"ttl"`: an entry is served until it expires, whatever is written. Costs writers nothing.
    ttl
        Seconds or timedelta for which an entry is kept at most; a query may say its own.
    mark_hold
        Strict only: seconds or timedelta for which a writer's mark keeps readers at the database when the writer
        never reports back (it was killed, or the outcome of its COMMIT is unknown). Must exceed the longest
        time between COMMIT being sent and the change being visible.
    idle_timeout
        Strict only, PostgreSQL and MariaDB: seconds or timedelta after which the database ends a transaction that is
        idle, set on every connection of a watched engine. A process that is stopped between its mark and its COMMIT
        for longer than `mark_hold` can then commit nothing when it goes on. At most half of `mark_hold`. None leaves
        the database's own setting, looks at it once, and logs a warning if that does not bound it.
    on_mark_failure
        Strict only: `"proceed"` commits although the store did not take the mark (counted; the promise is
        `committed` then); `"veto"` refuses the commit with `CommitRefused`.
    max_bytes
        Results whose packed form is larger are returned and not kept.
    l1
        Results kept in the process, in front of the store. `"auto"`: with `memory://`, where they are as strict as the
        store itself; with a server, none. `"off"`: none. `"validate"`: one round trip asks for the versions and not for
        the result; as strict as without. Seconds or timedelta: a *lease*. For so long after the versions were asked
        for, a hit asks nobody; what other processes commit may then be seen so much later, what this one commits at
        once.
    writer_waits
        With a lease: who commits waits for so long between its mark and COMMIT, so that every lease is over before the
        change is visible, and `mode="strict"` keeps its promise. Rows stay locked for that time: for what is read
        often and seldom written, and leases of 10 to 20 ms. All processes must have the same `l1`.
    l1_bytes
        What the results kept in the process may take, with all that Python adds. Those asked for least go first.

    Raises:
        CacheDeclarationError: a value that cannot work.

    >>> from datetime import timedelta
    >>> Policy(ttl=timedelta(minutes=15)).ttl_ms
    900000
    """

    mode: Mode = "strict"
    ttl: float | timedelta = 300.0
    mark_hold: float | timedelta = 10.0
    idle_timeout: float | timedelta | None = None
    on_mark_failure: Literal["proceed", "veto"] = "proceed"
    max_bytes: int = 4 * 1024 * 1024
    l1: L1 = "auto"
    writer_waits: bool = False
    l1_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.mode not in ("strict", "committed", "ttl"):
            raise CacheDeclarationError(f"mode={self.mode!r}: must be 'strict', 'committed' or 'ttl'.")
        if self.on_mark_failure not in ("proceed", "veto"):
            raise CacheDeclarationError(f"on_mark_failure={self.on_mark_failure!r}: must be 'proceed' or 'veto'.")
        if self.max_bytes <= 0:
            raise CacheDeclarationError(f"max_bytes={self.max_bytes!r}: must be above 0.")
        if self.l1_bytes <= 0:
            raise CacheDeclarationError(f"l1_bytes={self.l1_bytes!r}: must be above 0.")
        milliseconds("ttl", self.ttl)
        milliseconds("mark_hold", self.mark_hold)
        self._check_lease()
        if self.idle_timeout_ms is not None and self.idle_timeout_ms > self.mark_hold_ms / 2:
            raise CacheDeclarationError(
                f"idle_timeout={self.idle_timeout!r}: must be at most half of mark_hold={self.mark_hold!r}; the other "
                f"half is for COMMIT itself."
            )

    def _check_lease(self) -> None:
        lease_ms = lease_of("l1", self.l1)
        if not self.writer_waits:
            return
        if lease_ms is None or self.mode != "strict":
            raise CacheDeclarationError(
                f"writer_waits=True with l1={self.l1!r} and mode={self.mode!r}: nobody has a lease to wait for; give "
                f"l1 seconds, and mode='strict'."
            )
        if lease_ms > self.mark_hold_ms / 4:
            raise CacheDeclarationError(
                f"writer_waits=True with l1={self.l1!r}: writers would wait for more than a quarter of mark_hold="
                f"{self.mark_hold!r}, and rows stay locked meanwhile. Give a shorter lease."
            )

    @property
    def wait_ms(self) -> int:
        """For how long a writer waits between its mark and COMMIT."""
        return (lease_of("l1", self.l1) or 0) if self.writer_waits else 0

    @property
    def ttl_ms(self) -> int:
        return milliseconds("ttl", self.ttl)

    @property
    def mark_hold_ms(self) -> int:
        return milliseconds("mark_hold", self.mark_hold)

    @property
    def idle_timeout_ms(self) -> int | None:
        return None if self.idle_timeout is None else milliseconds("idle_timeout", self.idle_timeout)


def lease_of(option: str, l1: L1) -> int | None:
    """The lease that `l1` asks for, in milliseconds; None if it is no duration.

    Raises:
        CacheDeclarationError: it is neither a duration nor one of the words.
    """
    if isinstance(l1, str):
        if l1 not in ("auto", "off", "validate"):
            raise CacheDeclarationError(f"{option}={l1!r}: must be 'auto', 'off', 'validate', or a lease in seconds.")
        return None
    return milliseconds(option, l1)


def milliseconds(option: str, duration: float | timedelta) -> int:
    """`duration` in whole milliseconds.

    Raises:
        CacheDeclarationError: it is no duration of between 1 ms and 10 years.
    """
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, bool) or not isinstance(duration, int | float):
        raise CacheDeclarationError(f"{option}={duration!r}: give seconds as a number, or a timedelta.")
    else:
        seconds = duration
    if not 0.001 <= seconds <= 10 * 365 * 86_400:
        raise CacheDeclarationError(f"{option}={duration!r}: must be between 1 millisecond and 10 years.")
    return int(seconds * 1000)


class Reason(Enum):
    """Why a call was answered by the database although its function is cached, or why its result was not kept."""

    OFF = "inside `with cache.off()`"
    NOT_CONNECTED = "the cache was not connected"
    NOT_WATCHED = "nobody watches the engine of the session, so its commits would not be seen, or it cannot say which"
    STORE_DOWN = "the store did not answer, or refused"
    UNSETTLED = "an earlier commit could not be told to the store yet"
    OWN_WRITES = "the session's transaction has written, or is about to write, what the function reads"
    SNAPSHOT = "the session's transaction reads from a snapshot (REPEATABLE READ or SERIALIZABLE)"
    DIRTY_READS = "the session's transaction reads what others have not committed (READ UNCOMMITTED)"
    IDENTITY_MAP = "the session already holds entities of these tables, and would return them as it holds them"
    MARKED = "a writer was between its mark and its bump"
    LOADER_WROTE = "the function itself wrote, or read in a transaction that had written"
    TOO_LARGE = "the packed result exceeds the policy's max_bytes"
    UNREADABLE = "the entry's bytes were not ours, or not of this shape"
    OVERTAKEN = "a writer changed the table while it was being found out on which of its rows the result depends"
    NOTHING_READ = "no statement was seen, so that nobody can tell what the result depends on: give tags"
    UNKNOWN_READS = "what a statement reads cannot be known: a view, a function or SQL text of which nobody has said it"
    VOLATILE = "a statement takes the time, a random number or a lock, so that its result is for one call only"
    NOT_JOINED = "the load of another caller failed, or waiting for it would not have ended"
