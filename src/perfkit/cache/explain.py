"""Why a call is, or is not, answered by the cache: its key, its entry, and what the entry depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from perfkit.cache.bumps import Bump, Bumps
from perfkit.cache.cells import Compared, change_of, compared
from perfkit.cache.entries import Entry, unseal
from perfkit.cache.observe import Statement
from perfkit.cache.raised import Raised
from perfkit.cache.read import Question
from perfkit.cache.reasons import Reason
from perfkit.cache.store import Store
from perfkit.cache.tags import EVERYTHING
from perfkit.errors import StoreDown, Unreadable

if TYPE_CHECKING:
    from perfkit.cache.call import Call

R = TypeVar("R")

SHOWN_SQL = 100  # characters of a statement


@dataclass(frozen=True, slots=True)
class Peeked(Generic[R]):
    """A kept result that is valid now: its value, how old it is, and how long its load took."""

    value: R
    age_s: float
    load_ms: float
    tags: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class ExplainedTag:
    """One tag of an entry, or of what would be one.

    `state` is "current", "changed" since the entry was loaded, "marked" by a writer that is at work, "missing" from
    the store, or "new": read now, and not on the entry. `statements` read what it names. `bumped` is what changed it
    last, if that was in this process and not long ago. `version` is the one that the entry was loaded under, and `now`
    the one in the store; None without an entry, and while there is none. They can only be compared.
    """

    tag: str
    state: str
    statements: tuple[Statement, ...]
    bumped: Bump | None
    version: str | None = None
    now: str | None = None

    @property
    def versions(self) -> str:
        """Both for people: one, if it has not changed."""
        return change_of(self.version, self.now)


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `cache.explain` found. As text it is a report for people.

    `verdict` is "valid", "out of date", "not there", "unreadable", or "bypassed". `reason` says why the call is not
    answered by the cache at all, or why its result is not kept; None if neither is so. `age_s` and `load_ms` are of the
    entry, `bytes` its size; None without one. `ttl_s` is how long results of this function are kept at most.
    """

    function: str
    key: str
    verdict: str
    reason: Reason | None = None
    why: str = ""
    age_s: float | None = None
    load_ms: float | None = None
    bytes: int | None = None
    ttl_s: float | None = None
    tags: tuple[ExplainedTag, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.function}: {self.verdict}"]
        if self.key:
            lines.append(f"  key      {self.key}")
        if self.reason is not None:
            lines.append(f"  reason   {self.why or self.reason.value} ({self.reason.name})")
        if self.age_s is not None and self.ttl_s is not None:
            lines.append(
                f"  entry    {self.bytes} bytes, loaded {self.age_s:.1f} s ago in {self.load_ms or 0:.1f} ms, kept for "
                f"at most {self.ttl_s:g} s"
            )
        for tag in self.tags:
            if tag.tag == EVERYTHING and tag.state in ("current", "new"):
                continue  # every entry depends on it
            lines.append(f"  depends on {tag.tag}: {' '.join(filter(None, (tag.state, tag.versions)))}")
            if tag.bumped is not None:
                lines.append(f"    last bumped by {tag.bumped.where or 'a line that is not known'}")
            lines += [f"    {each.where}  {brief(each.sql)}" for each in tag.statements]
        return "\n".join(lines)


_NEW = Compared("new", "", None)


class _Found(NamedTuple):
    raw: bytes
    entry: Entry
    question: Question
    tags: dict[bytes, Compared]


async def peeked(call: Call) -> Peeked[Any] | None:
    """The entry of a call, if it is valid; nothing is loaded, and nothing counted."""
    try:
        found = await _entry(call.question, call.ports.store)
        if found is None or not _is_current(found):
            return None
        value = call.codec.unpack(found.entry.payload)
        value = value.error if type(value) is Raised else call.declared.handed_out(value, call.args, call.kwargs)
    except (StoreDown, Unreadable):
        return None
    age_s = max(0.0, (call.ports.clock.wall_ms() - found.entry.at_ms) / 1000)
    return Peeked(value, age_s, found.entry.took_us / 1000, _texts(found.entry.tags), len(found.raw))


async def explained(call: Call, name: str, bumps: Bumps) -> Explanation:
    """All about one call; loads its result once, to see by which statements, and keeps nothing."""
    question, ports = call.question, call.ports
    key = question.key.decode(errors="surrogatepass")
    try:
        found = await _entry(question, ports.store)
        verdict = "not there" if found is None else "valid" if _is_current(found) else "out of date"
    except StoreDown as down:
        return Explanation(name, key, "bypassed", Reason.STORE_DOWN, str(down))
    except Unreadable as strange:
        found, verdict = None, "unreadable"
        del strange
    reason, why = call.verdict(await ports.waiting.call(call.load))
    if reason is None and call.manner == "shadow":
        verdict, reason = "bypassed", Reason.SHADOW
    statements = call.statements()
    read_now = {tag.encode(errors="surrogateescape"): None for each in statements for tag in each.tags}
    kept = () if found is None else found.entry.tags
    tags = tuple(
        ExplainedTag(
            tag.decode(errors="replace"),
            version.state,
            tuple(each for each in statements if tag.decode(errors="replace") in each.tags),
            bumps.latest(tag.decode(errors="replace")),
            version.then or None,
            version.now,
        )
        for tag in dict.fromkeys([*kept, *question.known.tags, *(read_now if call.declared.learns else ())])
        for version in (_NEW if found is None else found.tags.get(tag, _NEW),)
    )
    if found is None:
        return Explanation(name, key, verdict, reason, why, ttl_s=question.keeping.ttl_ms / 1000, tags=tags)
    return Explanation(
        name,
        key,
        verdict,
        reason,
        why,
        age_s=max(0.0, (ports.clock.wall_ms() - found.entry.at_ms) / 1000),
        load_ms=found.entry.took_us / 1000,
        bytes=len(found.raw),
        ttl_s=question.keeping.ttl_ms / 1000,
        tags=tags,
    )


async def _entry(question: Question, store: Store) -> _Found | None:
    """The entry, and the versions that its tags have now.

    Raises:
        StoreDown, Unreadable
    """
    (raw,) = (await store.read([question.key])).values
    if raw is None:
        return None
    entry = unseal(raw, max_bytes=question.keeping.max_bytes, name=question.key, guard=question.guard)
    known = len(question.known.tags)
    if entry.tags[:known] != question.known.tags or len(entry.tags) != len(entry.versions):
        raise Unreadable("it bears other tags than the function declares")
    if any(type(version) is not bytes for version in entry.versions):
        raise Unreadable("its versions are none")
    more = entry.tags[known:]
    if more and question.extra is None:
        raise Unreadable("it bears tags that the function does not have")
    cells = question.known.cells + (question.extra.at(more).cells if question.extra is not None else ())
    if not cells:
        return _Found(raw, entry, question, {})
    # the entry first: a version that equals it afterwards has been the same all the time
    seen = await store.read(cells)
    tags = zip(entry.tags, map(compared, seen.values, seen.epochs, entry.versions), strict=True)
    return _Found(raw, entry, question, dict(tags))


def _is_current(found: _Found) -> bool:
    return all(version.state == "current" for version in found.tags.values())


def _texts(tags: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(tag.decode(errors="replace") for tag in tags)


def brief(sql: str) -> str:
    """`sql` in a line, cut off where it is long."""
    text = " ".join(sql.split())
    return text if len(text) <= SHOWN_SQL else f"{text[: SHOWN_SQL - 1]}…"
