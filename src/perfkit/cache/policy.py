"""Policy: what a cache promises, for how long it keeps things, and what it does when its store fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from difflib import get_close_matches
from math import inf
from typing import Literal, TypedDict
from uuid import UUID

from perfkit.cache.keeping import Keeping, Limits
from perfkit.errors import CacheDeclarationError

Mode = Literal["strict", "committed", "ttl"]
Stage = Literal["on", "off", "shadow"] | float
L1 = Literal["auto", "off", "validate"] | float | timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Options of a `Cache`, checked when the object is made.

    mode
        `"strict"`: a read that starts after a commit is visible never gets an older value. A writer waits for
        one round trip before COMMIT, and sends one command after it.
        `"committed"`: a read that starts after `commit()` returned never gets an older value; between the commit
        and its bump, and after a writer's crash until the TTL, one may. Two commands, of which a writer waits for none
        while the store is as quick as COMMIT; on a cluster, one round trip after COMMIT.
        `"ttl"`: an entry is served until it expires, whatever is written. Costs writers nothing.
    ttl
        Seconds or timedelta for which an entry is kept at most; a query may say its own.
    mark_hold
        Seconds or timedelta for which a writer's mark keeps readers at the database when the writer
        never reports back (it was killed, or the outcome of its COMMIT is unknown). In strict it must exceed the
        longest time between COMMIT being sent and the change being visible.
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
    jitter
        A part of `ttl`, from 0 to 0.9: every entry lives for between `(1 - jitter) * ttl` and `ttl`, so that what was
        kept at the same time does not end at the same time.
    early
        Above 0, some callers of an entry that nears its end load it again while the others have hits: one of many, in
        time, the earlier the longer a load takes. 1.0 fits most; more is earlier. In the background where the session
        passed can be made once more for that; else by the caller.
    negative
        Seconds or timedelta for which a result that is None or an empty collection is kept, instead of `ttl`.
    keep_errors
        Classes of exceptions that are kept like results, for `negative` or else `ttl`: `(NoResultFound,)`. Only these
        very classes; what they are made of must be their `args`.
    single_flight
        `"process"`: of callers in one process who miss the same, one loads. `"cluster"`: of all processes on the store,
        one does, and the others look for its result, for at most 5 s; a miss costs three round trips more. For loads
        that take longer than that: tenths of a second.
    stale
        Seconds or timedelta: a result that a change or its end has made out of date is served for so long while one
        load renews it, in the background or, where no session can be made for that, by the caller who comes first. For
        functions whose callers would rather have an answer of a moment ago than wait; a session that has written is
        answered by the database as ever. Counts from when this process last knew it to be current.
    fail_safe
        Seconds or timedelta: while the database cannot be reached, is overloaded, or takes longer than `soft_timeout`,
        a result that is no older than that is served in place of the exception. `Cache.noting_older` tells who wants to
        know.
    soft_timeout
        Seconds or timedelta after which a caller has waited enough if there is an older result for `fail_safe`. The
        load goes on, in a session of its own.
    hard_timeout
        Seconds or timedelta after which a caller gets `LoadTimeout`. The load goes on in a session of its own.
    stage
        `"on"`; `"off"`: as if it were not cached; `"shadow"`: every call is answered by the database, and what the
        cache would have answered is compared with that; a number from 0 to 1: the part of all keys that is on, the same
        ones in each process. Or a function that is asked at each call, to change it while the process runs.
    verify
        A part of all hits, from 0 to 1: after these the same is loaded in the background, in a session of its own, and
        compared. `CacheStats.violations` counts those that differed although nothing had been written.
    tenant
        Called at each call: whose results these are, for instance the `get` of a context variable. No tenant is ever
        answered by what another has loaded; those of None are one more. Without it, what decides a result is its
        arguments and its database.
    compress_above
        Results whose packed form has more bytes are compressed in the store.
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
    jitter: float = 0.0
    early: float = 0.0
    negative: float | timedelta | None = None
    keep_errors: tuple[type[Exception], ...] = ()
    compress_above: int | None = None
    single_flight: Literal["process", "cluster"] = "process"
    stale: float | timedelta | None = None
    fail_safe: float | timedelta | None = None
    soft_timeout: float | timedelta | None = None
    hard_timeout: float | timedelta | None = None
    stage: Stage | Callable[[], Stage] = "on"
    verify: float = 0.0
    tenant: Callable[[], str | int | UUID | None] | None = None
    l1: L1 = "auto"
    writer_waits: bool = False
    l1_bytes: int = 64 * 1024 * 1024
    # made once: each commit asks for them
    mark_hold_ms: int = field(init=False, repr=False, compare=False)
    wait_ms: int = field(init=False, repr=False, compare=False)
    """For how long a writer waits between its mark and COMMIT."""

    def __post_init__(self) -> None:
        if self.mode not in ("strict", "committed", "ttl"):
            raise CacheDeclarationError(f"mode={self.mode!r}: must be 'strict', 'committed' or 'ttl'.")
        if self.on_mark_failure not in ("proceed", "veto"):
            raise CacheDeclarationError(f"on_mark_failure={self.on_mark_failure!r}: must be 'proceed' or 'veto'.")
        if self.on_mark_failure == "veto" and self.mode != "strict":
            raise CacheDeclarationError(
                f"on_mark_failure='veto' with mode={self.mode!r}: only 'strict' waits for its marks, and could refuse."
            )
        for option, size in (("max_bytes", self.max_bytes), ("l1_bytes", self.l1_bytes)):
            if not isinstance(size, int) or not _is_between(size, 1, inf):
                raise CacheDeclarationError(f"{option}={size!r}: must be above 0, a number of bytes.")
        milliseconds("ttl", self.ttl)
        object.__setattr__(self, "mark_hold_ms", milliseconds("mark_hold", self.mark_hold))
        if self.tenant is not None and not callable(self.tenant):
            raise CacheDeclarationError(f"tenant={self.tenant!r}: give a function that says whose call it is.")
        if self.single_flight not in ("process", "cluster"):
            raise CacheDeclarationError(f"single_flight={self.single_flight!r}: must be 'process' or 'cluster'.")
        if not callable(self.stage):
            checked_stage(self.stage)
        if not _is_between(self.verify, 0.0, 1.0):
            raise CacheDeclarationError(f"verify={self.verify!r}: must be a part of all hits, from 0 to 1.")
        self._check_keeping()
        self._check_limits()
        self._check_lease()
        object.__setattr__(self, "wait_ms", (lease_of("l1", self.l1) or 0) if self.writer_waits else 0)
        if self.idle_timeout_ms is not None and self.idle_timeout_ms > self.mark_hold_ms / 2:
            raise CacheDeclarationError(
                f"idle_timeout={self.idle_timeout!r}: must be at most half of mark_hold={self.mark_hold!r}; the other "
                f"half is for COMMIT itself."
            )

    def _check_keeping(self) -> None:
        if not _is_between(self.jitter, 0.0, 0.9):
            raise CacheDeclarationError(f"jitter={self.jitter!r}: must be a part of ttl, from 0 to 0.9.")
        if not _is_between(self.early, 0.0, 100.0):
            raise CacheDeclarationError(f"early={self.early!r}: must be a factor, from 0 (never) to 100; try 1.0.")
        if self.negative is not None:
            milliseconds("negative", self.negative)
        above = self.compress_above
        if above is not None and not (isinstance(above, int) and _is_between(above, 0, inf)):
            raise CacheDeclarationError(f"compress_above={self.compress_above!r}: must be bytes, 0 or more, or None.")
        if not isinstance(self.keep_errors, tuple) or not all(map(_is_kind_of_error, self.keep_errors)):
            raise CacheDeclarationError(
                f"keep_errors={self.keep_errors!r}: must be a tuple of exception classes below Exception."
            )

    def _check_limits(self) -> None:
        limits = self.limits
        if limits.soft_s is not None and not limits.fail_safe_s:
            raise CacheDeclarationError(
                f"soft_timeout={self.soft_timeout!r}: after it an older result is served; say how old it may be with "
                f"fail_safe=."
            )
        if limits.soft_s is not None and limits.hard_s is not None and limits.soft_s > limits.hard_s:
            raise CacheDeclarationError(
                f"soft_timeout={self.soft_timeout!r} is longer than hard_timeout={self.hard_timeout!r}."
            )
        if self.l1 == "off" and (limits.stale_s or limits.fail_safe_s):
            raise CacheDeclarationError(
                "l1='off' with stale= or fail_safe=: older results are those that the process holds; leave l1 away."
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
    def keeping(self) -> Keeping:
        """What it says of the results themselves."""
        return Keeping(
            self.ttl_ms,
            self.max_bytes,
            self.jitter,
            self.early,
            None if self.negative is None else milliseconds("negative", self.negative),
            self.compress_above,
            self.verify,
            self.single_flight == "cluster",
        )

    @property
    def limits(self) -> Limits:
        """What it says of results that are not current, and of those that do not come."""

        def seconds(option: str, duration: float | timedelta | None) -> float | None:
            return None if duration is None else milliseconds(option, duration) / 1000

        return Limits(
            seconds("stale", self.stale) or 0.0,
            seconds("fail_safe", self.fail_safe) or 0.0,
            seconds("soft_timeout", self.soft_timeout),
            seconds("hard_timeout", self.hard_timeout),
        )

    @property
    def ttl_ms(self) -> int:
        return milliseconds("ttl", self.ttl)

    @property
    def idle_timeout_ms(self) -> int | None:
        return None if self.idle_timeout is None else milliseconds("idle_timeout", self.idle_timeout)


OF_FUNCTIONS = ("tags", "reads", "version", "when", "keep_if", "entities")
"""What a function says of itself that no policy could."""


class Own(TypedDict, total=False):
    """What one function may say for itself instead of its cache's `Policy`; the names mean the same."""

    ttl: float | timedelta
    max_bytes: int
    jitter: float
    early: float
    negative: float | timedelta | None
    keep_errors: tuple[type[Exception], ...]
    compress_above: int | None
    single_flight: Literal["process", "cluster"]
    stale: float | timedelta | None
    fail_safe: float | timedelta | None
    soft_timeout: float | timedelta | None
    hard_timeout: float | timedelta | None
    stage: Stage | Callable[[], Stage]
    verify: float
    tenant: Callable[[], str | int | UUID | None] | None
    l1: L1


def own_policy(policy: Policy, own: Own) -> Policy:
    """`policy` with what a function says for itself.

    Raises:
        CacheDeclarationError: an option that no function has, or a value that cannot work.
    """
    check_names(own)
    # whether writers wait is for the cache as a whole to say
    alone = replace(policy, writer_waits=False, **own)
    lease_ms, waits_ms = lease_of("l1", alone.l1), policy.wait_ms
    if waits_ms and lease_ms is not None and lease_ms > waits_ms:
        raise CacheDeclarationError(
            f"l1={alone.l1!r}: writers wait for {waits_ms} ms only, the policy's l1, and all leases must be over then."
        )
    return alone


def check_names(own: Own, said: str = "query", known: Sequence[str] = (*OF_FUNCTIONS, *Own.__annotations__)) -> None:
    """Returns when all of `own` are among `known`, which `said` takes.

    Raises:
        CacheDeclarationError: one is not.
    """
    what = "function" if said == "query" else "statement"
    for name in own:
        if name in known:
            continue
        if name in Policy.__dataclass_fields__:
            raise CacheDeclarationError(
                f"{said}({name}=…): no {what} has this of its own; it is said for the whole cache, Policy({name}=…)."
            )
        close = get_close_matches(name, known, 1)
        hint = f" Did you mean {close[0]}=?" if close else f" There are {', '.join(known)}."
        raise CacheDeclarationError(f"{said}({name}=…): a {what} has no such option.{hint}")


def checked_stage(stage: Stage) -> Stage:
    """`stage`, if it is one.

    Raises:
        CacheDeclarationError: it is none.
    """
    if stage not in ("on", "off", "shadow") and not _is_between(stage, 0.0, 1.0):
        raise CacheDeclarationError(
            f"stage={stage!r}: must be 'on', 'off', 'shadow', or the part of keys that is on, from 0 to 1."
        )
    return stage


def _is_between(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_kind_of_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


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
