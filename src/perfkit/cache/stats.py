"""What a whole cache has done in one process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from perfkit.cache.reasons import Reason
from perfkit.cache.runtime import Runtime
from perfkit.cache.worth import FunctionStats, all_of


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """What a cache has done in this process since it was made.

    `calls` is the sum of `hits`, `fills`, `shared`, `stale`, `rescued` and `bypasses`: `fills` are those that found
    nothing and loaded, `shared` those that had the load of another caller, `stale` those that an older result
    answered while it was loaded again, `rescued` because the database did not. `bypasses` count those that did not
    look, by reason. `unkept` and `odd` count reasons beside those: loads among the fills that were not kept, entries
    that were not ours. Of the hits that were `verified`, `violations` differed from the database. `functions` has the
    same for each cached function, with what it has saved, the most first. Of the commits that changed something,
    `marked_commits` were announced beforehand, `unmarked_commits` only afterwards, and `refused_commits` not made; of
    the first two, `unbumped_commits` could not be told to the store when they came back, or their outcome is not
    known, and `unread_commits` made everything out of date, by SQL of which nobody can tell what it writes.
    `l1_entries` results with `l1_bytes` are held in the process, and `l1_evicted` had to go for want of room.
    """

    hits: int
    fills: int
    shared: int
    stale: int
    rescued: int
    verified: int
    violations: int
    bypasses: dict[Reason, int]
    unkept: dict[Reason, int]
    odd: dict[Reason, int]
    marked_commits: int
    unmarked_commits: int
    refused_commits: int
    unbumped_commits: int
    unread_commits: int
    l1_entries: int
    l1_bytes: int
    l1_evicted: int
    functions: tuple[FunctionStats, ...] = field(default=(), repr=False)

    @property
    def calls(self) -> int:
        return self.hits + self.fills + self.shared + self.stale + self.rescued + sum(self.bypasses.values())

    @property
    def hit_ratio(self) -> float:
        """Hits among all calls; 0.0 before the first."""
        return self.hits / self.calls if self.calls else 0.0


def stats_of(runtime: Runtime, functions: Iterable[FunctionStats]) -> CacheStats:
    """Totals so far."""
    ordered = sorted(functions, key=lambda each: -each.saved_s)
    commits = runtime.commits.totals()
    l1_entries, l1_bytes, l1_evicted = runtime.near.size()
    return CacheStats(
        hits=sum(each.hits for each in ordered),
        fills=sum(each.fills for each in ordered),
        shared=sum(each.shared for each in ordered),
        stale=sum(each.stale for each in ordered),
        rescued=sum(each.rescued for each in ordered),
        verified=sum(each.verified for each in ordered),
        violations=sum(each.violations for each in ordered),
        bypasses=all_of(each.bypasses for each in ordered),
        unkept=all_of(each.unkept for each in ordered),
        odd=all_of(each.odd for each in ordered),
        marked_commits=commits.get("marked", 0),
        unmarked_commits=commits.get("unmarked", 0),
        refused_commits=commits.get("refused", 0),
        unbumped_commits=commits.get("unbumped", 0),
        unread_commits=commits.get("unread", 0),
        l1_entries=l1_entries,
        l1_bytes=l1_bytes,
        l1_evicted=l1_evicted,
        functions=tuple(ordered),
    )
