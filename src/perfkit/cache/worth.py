"""What each cached function has saved, and whether its decorator pays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from perfkit.cache.reasons import Reason
from perfkit.forks import begin_anew_after_a_fork, lock_of

MIN_CALLS = 100  # fewer say nothing about tomorrow


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionStats:
    """What one cached function has done in this process since it was declared.

    `calls` is the sum of `hits`, `fills`, `shared`, `stale`, `rescued` and `bypasses`. `refreshed` counts loads in the
    background, `verified` hits that were compared with the database and `violations` those of them that differed;
    `unkept` and `odd` count reasons beside those.
    `load_ms` is the mean time of its own work, None before the first load. `saved_s` is what the calls that did not
    load would have taken, less what the cache itself took: looking, packing, keeping. Below zero it has cost time.
    """

    name: str
    hits: int
    fills: int
    shared: int
    stale: int
    rescued: int
    refreshed: int
    verified: int
    violations: int
    bypasses: Mapping[Reason, int]
    unkept: Mapping[Reason, int]
    odd: Mapping[Reason, int]
    load_ms: float | None
    saved_s: float

    @property
    def calls(self) -> int:
        return self.hits + self.fills + self.shared + self.stale + self.rescued + sum(self.bypasses.values())

    @property
    def hit_ratio(self) -> float:
        """Hits among all calls; 0.0 before the first."""
        return self.hits / self.calls if self.calls else 0.0

    @property
    def advice(self) -> str:
        """One sentence on what to do about it; empty where it pays, or has not been called often enough to tell."""
        if self.calls < MIN_CALLS:
            return ""
        if self.fills and not self.hits and sum(self.unkept.values()) == self.fills:
            most = max(self.unkept, key=lambda reason: self.unkept[reason])
            return f"remove the decorator or mend this: no result was ever kept, because {most.value}"
        if self.saved_s >= 0 or self.load_ms is None:  # others have loaded all that was found here
            return ""
        if self.hit_ratio < 0.5 and self.fills:
            return (
                f"remove the decorator: {self.hit_ratio:.0%} of its calls are hits, and it has cost "
                f"{-self.saved_s:.3g} s more than it saved. Or give it tags that change less often."
            )
        return f"remove the decorator: loading takes {self.load_ms:.2g} ms, and asking the cache takes longer"


class Tally:
    """Counts the calls of one function, in one process. Owns a lock: a sum of several numbers must not lose any."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = lock_of(self)
        self._begin_anew()
        begin_anew_after_a_fork(self._begin_anew)

    def _begin_anew(self) -> None:
        self._counts: dict[tuple[str, Reason | None], int] = {}
        self._loads, self._load_s, self._overhead_s = 0, 0.0, 0.0

    def add(self, kind: str, reason: Reason | None = None, times: int = 1) -> None:
        with self._lock:
            self._counts[kind, reason] = self._counts.get((kind, reason), 0) + times

    def time(self, overhead_s: float, load_s: float | None) -> None:
        """One call's part that was the cache's own, and the function's own if it was called."""
        with self._lock:
            self._overhead_s += overhead_s
            if load_s is not None:
                self._loads += 1
                self._load_s += load_s

    def stats(self) -> FunctionStats:
        with self._lock:
            counts = dict(self._counts)
            loads, load_s, overhead_s = self._loads, self._load_s, self._overhead_s
        hits, shared, stale, rescued = (counts.get((kind, None), 0) for kind in ("hit", "shared", "stale", "rescued"))

        def by_reason(kind: str) -> dict[Reason, int]:
            return {reason: count for (name, reason), count in counts.items() if name == kind and reason is not None}

        mean_s = load_s / loads if loads else 0.0
        return FunctionStats(
            name=self._name,
            hits=hits,
            fills=counts.get(("fill", None), 0),
            shared=shared,
            stale=stale,
            rescued=rescued,
            refreshed=counts.get(("refreshed", None), 0),
            verified=counts.get(("verified", None), 0),
            violations=counts.get(("violation", None), 0),
            bypasses=by_reason("bypass"),
            unkept=by_reason("unkept"),
            odd=by_reason("odd"),
            load_ms=mean_s * 1000 if loads else None,
            saved_s=(hits + shared + stale + rescued) * mean_s - overhead_s,
        )


def all_of(counts: Iterable[Mapping[Reason, int]]) -> dict[Reason, int]:
    """Counts by reason, added up."""
    return dict(sum(map(Counter, counts), Counter()))
